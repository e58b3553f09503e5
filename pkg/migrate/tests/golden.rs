//! Whole configurations against files that people have read: `HUSK_GOLDEN=update cargo test -p husk-migrate` writes them anew.
//!
//! The samples have the shape of the peers' own defaults, and of nodes that people described in public issues: `gpu-node` of
//! NVIDIA/nvidia-docker#1788, `mirror-proxy` of containerd/containerd#8053, `crio-disconnected` of containers/image#2497,
//! cri-o/cri-o#7713 and containers/skopeo#739.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use husk_migrate::{Keep, Kind, Peer, Plan, plan, plan_keeping};
use toml::Value;

const CONTAINERD: [&str; 5] =
    ["containerd-1.7", "containerd-2.0", "containerd-2.4", "gpu-node", "mirror-proxy"];
const CRIO: [&str; 3] = ["crio-1.28", "crio-1.37", "crio-disconnected"];

fn samples() -> impl Iterator<Item = (Peer, &'static str)> {
    let containerd = CONTAINERD.into_iter().map(|name| (Peer::Containerd, name));
    containerd.chain(CRIO.into_iter().map(|name| (Peer::Crio, name)))
}

fn root(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples").join(name)
}

fn made(peer: Peer, name: &str) -> Plan {
    plan(peer, &root(name), None).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// All of a plan as text: notes, findings, files.
fn text(plan: &Plan) -> String {
    let mut text = String::new();
    for note in &plan.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    let mut file = "";
    for finding in &plan.findings {
        if finding.file != file {
            file = &finding.file;
            text.push_str(&format!("\n== {file}\n"));
        }
        let (key, value) = (&finding.key, &finding.value);
        let husk = if finding.husk.is_empty() { String::new() } else { format!(" -> {}", finding.husk) };
        let means = if finding.means.is_empty() { String::new() } else { format!("\n    {}", finding.means) };
        text.push_str(&format!("{}: {key} = {value}{husk}{means}\n", finding.kind.as_str()));
    }
    for file in plan.all_files() {
        let secret = if file.secret { " (secret)" } else { "" };
        let contents = String::from_utf8(file.contents).unwrap();
        text.push_str(&format!("\n== writes {}{secret}\n{contents}", file.path.display()));
    }
    text
}

#[test]
fn samples_become_what_was_read_and_found_right() {
    for (peer, name) in samples() {
        let text = text(&made(peer, name));
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.txt"));
        if std::env::var_os("HUSK_GOLDEN").is_some_and(|value| value == "update") {
            fs::write(&file, &text).unwrap();
        }
        let golden = fs::read_to_string(&file).unwrap();
        assert_eq!(text, golden, "{name}: HUSK_GOLDEN=update writes it anew; then read what changed");
    }
}

#[test]
fn every_key_of_every_file_is_in_exactly_one_finding() {
    for (peer, name) in samples() {
        let plan = made(peer, name);
        let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
        for finding in &plan.findings {
            *counts.entry((finding.file.clone(), finding.key.clone())).or_default() += 1;
        }
        let repeated: Vec<_> = counts.iter().filter(|(_, count)| **count != 1).collect();
        assert!(repeated.is_empty(), "{name}: {repeated:?}");
        for file in files(&root(name)) {
            let shown = format!("/{}", file.strip_prefix(root(name)).unwrap().display());
            let (text, expected) = (fs::read_to_string(&file).unwrap(), &mut Vec::new());
            match keys(&shown, &text) {
                Some(value) => names(&value, String::new(), expected),
                None if shown.ends_with("README") => continue,
                None => expected.push(String::new()),
            }
            for key in expected {
                assert!(
                    counts.contains_key(&(shown.clone(), key.clone())),
                    "{name}: {shown}: {key} is in no finding"
                );
            }
        }
    }
}

/// The keys of a file that has some. Files whose format is TOML's or JSON's only by name have none.
fn keys(name: &str, text: &str) -> Option<Value> {
    match name.rsplit('.').next()? {
        "json" => serde_json::from_str(text).ok(),
        "toml" => text.parse().ok().map(Value::Table),
        "conf" if name.contains("/crio") || name.contains("registries") => {
            text.parse().ok().map(Value::Table)
        }
        // A unit's and mounts.conf, whose keys a test of their own has.
        "conf" => Some(Value::Table(toml::Table::new())).filter(|_| false).or(Some(Value::Array(Vec::new()))),
        _ => None,
    }
}

/// Written apart from the crate's own, so that one cannot forget what the other forgets.
fn names(value: &Value, name: String, found: &mut Vec<String>) {
    match value {
        Value::Table(table) if !table.is_empty() => {
            for (key, value) in table {
                let is_bare =
                    key.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)) && !key.is_empty();
                let key = if is_bare { key.clone() } else { format!("\"{key}\"") };
                let dot = if name.is_empty() { "" } else { "." };
                names(value, format!("{name}{dot}{key}"), found);
            }
        }
        Value::Array(list) if list.iter().any(Value::is_table) => {
            for (index, value) in list.iter().enumerate() {
                names(value, format!("{name}[{index}]"), found);
            }
        }
        _ if name.is_empty() => {}
        _ => found.push(name),
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn no_secret_is_shown() {
    let secrets = ["hunter2", "JG9hdXRodG9rZW46c2VjcmV0", "c2VjcmV0", "user:pass", "bWlycm9yOnNlY3JldA"];
    for (peer, name) in samples() {
        let plan = made(peer, name);
        let mut shown = serde_json::to_string(&plan).unwrap();
        for file in plan.files.iter().filter(|file| !file.secret) {
            shown.push_str(&String::from_utf8_lossy(&file.contents));
        }
        for secret in secrets {
            assert!(!shown.contains(secret), "{name} shows {secret}");
        }
    }
}

#[test]
fn keys_that_nobody_knows_are_named_as_unknown() {
    for (peer, name, unknown) in [
        (Peer::Containerd, "containerd-2.4", "enable_cid"),
        (Peer::Crio, "crio-1.37", "logs_level"),
        (Peer::Containerd, "mirror-proxy", "proxy"),
    ] {
        let plan = made(peer, name);
        let named: Vec<_> = plan.findings.iter().filter(|finding| finding.kind == Kind::Unknown).collect();
        assert_eq!(named.len(), 1, "{name}: {named:?}");
        assert!(named[0].key.ends_with(unknown), "{name}: {named:?}");
    }
}

#[test]
fn a_registries_conf_that_is_kept_is_pointed_to_and_nothing_is_made_of_it() {
    let keep = Keep { registries: true };
    let plan = plan_keeping(Peer::Crio, &root("crio-disconnected"), None, keep).unwrap();
    assert!(plan.config.contains("registries_conf = \"/etc/containers/registries.conf\""), "{}", plan.config);
    let of_registries =
        |finding: &&husk_migrate::Finding| finding.file.contains("/containers/registries.conf");
    for finding in plan.findings.iter().filter(of_registries) {
        assert!(
            matches!(finding.kind, Kind::Taken | Kind::Insecure | Kind::Default | Kind::NotNeeded),
            "{finding:?}"
        );
    }
    assert!(plan.findings.iter().filter(of_registries).count() > 5);
    // Certificates stay those of their hosts, and what policy.json rejects stays refused.
    assert!(plan.files.iter().any(|file| file.path.ends_with("ca.crt")));
    let none = plan_keeping(Peer::Crio, &root("crio-1.28"), None, keep).unwrap();
    assert!(none.notes.iter().any(|note| note.contains("nothing to point to")), "{:?}", none.notes);
}
