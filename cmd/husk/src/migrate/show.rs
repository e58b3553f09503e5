//! A plan for people and for programs. Files with secrets are named and not shown.

use std::fmt::Write as _;

use husk_migrate::{Finding, Kind, Plan};
use serde_json::json;

/// The plan as JSON; `contents` of a file with secrets is null.
pub(crate) fn json(plan: &Plan) -> serde_json::Value {
    let files = plan.all_files().into_iter().map(|file| {
        let contents = (!file.secret).then(|| String::from_utf8_lossy(&file.contents).into_owned());
        json!({ "path": file.path, "secret": file.secret, "contents": contents })
    });
    json!({
        "config": plan.config,
        "files": files.collect::<Vec<_>>(),
        "findings": plan.findings,
        "notes": plan.notes,
    })
}

/// The plan as text: findings by file, then the files. With `all`, what is as before is listed too.
pub(crate) fn text(plan: &Plan, all: bool, with_files: bool) -> String {
    let mut text = String::new();
    let mut file = "";
    for finding in &plan.findings {
        if !all && matches!(finding.kind, Kind::Default | Kind::NotNeeded) {
            continue;
        }
        if finding.file != file {
            file = &finding.file;
            let _ = writeln!(text, "{}{}", if text.is_empty() { "" } else { "\n" }, printable(file));
        }
        row(&mut text, finding);
    }
    for note in &plan.notes {
        let _ = writeln!(text, "\nnote: {note}");
    }
    if with_files {
        for file in plan.all_files() {
            let _ = writeln!(text, "\n--- {}", printable(&file.path.display().to_string()));
            text.push_str(&if file.secret {
                "(secret, mode 0600)\n".to_owned()
            } else {
                contents(&file.contents)
            });
        }
    }
    let _ = writeln!(text, "\n{}", summary(plan, all));
    text
}

fn row(text: &mut String, finding: &Finding) {
    let Finding { key, value, kind, husk, means, .. } = finding;
    let what = if key.is_empty() { "(the file)".to_owned() } else { format!("{key} = {value}") };
    let to = if husk.is_empty() { String::new() } else { format!("  ->  {husk}") };
    let _ = writeln!(text, "  {:<14}  {}", kind.as_str(), printable(&format!("{what}{to}")));
    if !means.is_empty() && *kind != Kind::Default {
        let _ = writeln!(text, "  {:<14}    {}", "", printable(means));
    }
}

fn summary(plan: &Plan, all: bool) -> String {
    let count = |kind: Kind| plan.findings.iter().filter(|finding| finding.kind == kind).count();
    let kinds = [
        Kind::Taken,
        Kind::Default,
        Kind::NotNeeded,
        Kind::NoCounterpart,
        Kind::Insecure,
        Kind::Overridden,
        Kind::Unknown,
    ];
    let counts = kinds.map(|kind| format!("{} {}", count(kind), kind.as_str())).join(", ");
    let hidden = if all { "" } else { " (--all lists what is default and not needed)" };
    format!("{} keys: {counts}{hidden}", plan.findings.len())
}

fn contents(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().map(|line| format!("{}\n", printable(line)));
    lines.collect()
}

/// Without what a terminal would obey: names and values are those of files.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use husk_migrate::PlannedFile;

    use super::*;

    fn plan() -> Plan {
        let finding = |key: &str, kind| Finding {
            file: "/etc/x.toml".into(),
            key: key.into(),
            value: "\"\u{1b}[31m\"".into(),
            kind,
            husk: String::new(),
            means: "why".into(),
        };
        let secret = PlannedFile { path: PathBuf::from("/s"), contents: b"hunter2".to_vec(), secret: true };
        Plan {
            config: "root = \"/r\"\n".into(),
            files: vec![secret],
            findings: vec![finding("a", Kind::Default), finding("b", Kind::NoCounterpart)],
            notes: vec!["a note".into()],
        }
    }

    #[test]
    fn what_somebody_must_read_is_shown_and_secrets_are_not() {
        let shown = text(&plan(), false, true);
        assert!(
            shown.contains("no counterpart") && shown.contains("why") && shown.contains("root = \"/r\""),
            "{shown}"
        );
        assert!(
            !shown.contains("a = ") && !shown.contains("hunter2") && !shown.contains('\u{1b}'),
            "{shown}"
        );
        assert!(text(&plan(), true, true).contains("a = "));
        let json = json(&plan());
        assert_eq!(json["files"][1]["contents"], serde_json::Value::Null);
        assert_eq!(json["findings"][1]["kind"], "no-counterpart");
    }
}
