//! Drop-ins of the old runtime's unit: proxies are in its environment.

use std::path::Path;

use toml::Value;

use crate::{error::Result, finding::Kind, job::Job, leaf, plan::PlannedFile, source::Node};

/// Where husk's unit gets them from.
const FILE: &str = "/etc/systemd/system/husk.service.d/proxy.conf";

/// Reads `/etc/systemd/system/<unit>.service.d/*.conf`; proxies become a drop-in of husk's unit.
pub(crate) fn proxies(node: &mut Node, job: &mut Job, unit: &str) -> Result<()> {
    let dir = format!("/etc/systemd/system/{unit}.service.d");
    for name in node.list(Path::new(&dir))? {
        if name.ends_with(".conf") {
            let path = Path::new(&dir).join(name);
            let text = node.text(&path)?.unwrap_or_default();
            settings(&path, &text, job);
        }
    }
    settle(job);
    Ok(())
}

/// The settings of one drop-in: `key=value` below `[Section]` (systemd.syntax(7)). Variables of `Environment=` are one
/// each, since each is overridden by itself; other settings may come several times.
fn settings(path: &Path, text: &str, job: &mut Job) {
    let joined = text.replace("\\\n", " ");
    let mut section = String::new();
    for line in joined.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.to_owned();
        } else if let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with(['#', ';'])) {
            let (key, value) = (key.trim(), value.trim());
            if key == "Environment" && !value.is_empty() {
                for (name, value) in variables(value) {
                    let path_of = vec!["unit".into(), section.clone(), key.into(), name.clone()];
                    job.put(leaf::plain(
                        path,
                        format!("{section}.{key}.{name}"),
                        path_of,
                        Value::String(value),
                    ));
                }
            } else {
                let path_of = vec!["unit".into(), section.clone(), key.into()];
                let leaf =
                    leaf::plain(path, format!("{section}.{key}"), path_of, Value::String(value.into()));
                job.put_beside(leaf);
            }
        }
    }
}

/// The assignments of `Environment=` (systemd.exec(5)): words, in quotes where they have blanks.
fn variables(value: &str) -> Vec<(String, String)> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in value.chars() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if open == c => quote = None,
            (None, c) if c.is_whitespace() => words.push(String::new()),
            (_, c) => {
                if let Some(word) = words.last_mut() {
                    word.push(c);
                }
            }
        }
    }
    let assignments = words.iter().filter_map(|word| word.split_once('='));
    assignments.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn settle(job: &mut Job) {
    let mut lines = String::new();
    let mut secret = false;
    for at in job.find("unit/**") {
        let leaf = job.leaf(at);
        let (name, value) =
            (leaf.path.get(3).cloned().unwrap_or_default(), leaf.value.as_str().unwrap_or(""));
        let is_proxy =
            matches!(name.to_ascii_uppercase().as_str(), "HTTP_PROXY" | "HTTPS_PROXY" | "NO_PROXY");
        if is_proxy {
            secret |= value.contains('@');
            // What systemd would expand (`%h`, `\x20`) is as it was, and expanded again.
            lines.push_str(&format!("Environment=\"{name}={}\"\n", value.replace('"', "\\\"")));
            job.settle(at, Kind::Taken, FILE, "");
        } else {
            let means = match leaf.path.get(2).map(String::as_str) {
                Some("EnvironmentFile") => {
                    "is not read: proxies in it are to be in a drop-in of husk.service"
                }
                _ => "of the old runtime's unit alone: `systemctl edit husk` where huskd is to have it",
            };
            job.settle(at, Kind::NoCounterpart, "", means);
        }
    }
    if !lines.is_empty() {
        let contents = format!("# Written by `husk migrate`.\n[Service]\n{lines}").into_bytes();
        job.files.push(PlannedFile { path: FILE.into(), contents, secret });
        job.notes.push(
            "huskd's proxies are in a drop-in of its unit: `systemctl daemon-reload` makes systemd read it"
                .into(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_words_and_quotes_keep_blanks() {
        let found = variables(r#""HTTP_PROXY=http://p:3128" NO_PROXY=a,b 'X=y z' nothing"#);
        let expected = [("HTTP_PROXY", "http://p:3128"), ("NO_PROXY", "a,b"), ("X", "y z")];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}
