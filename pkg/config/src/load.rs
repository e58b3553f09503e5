//! Reading files in their order and collecting what is wrong with them.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use toml::{Table, Value};

use crate::{Config, ConfigError, DEFAULT_PATH, Problem, Raw, raw, resolve};

/// Reads `path` (or the default file, which may be absent), its drop-ins, and puts `flags` on top.
///
/// # Errors
/// All mistakes of all places at once.
pub fn load(path: Option<&Path>, flags: Raw) -> Result<Config, ConfigError> {
    let mut problems = Vec::new();
    let mut raw = Raw::default();
    let file = path.unwrap_or(Path::new(DEFAULT_PATH));
    if let Some(part) = read(file, path.is_some(), &mut problems) {
        raw.merge(part);
    }
    for drop_in in drop_ins(file, &mut problems) {
        if let Some(part) = read(&drop_in, true, &mut problems) {
            raw.merge(part);
        }
    }
    raw.merge(flags);
    let config = resolve::resolve(raw, &mut problems);
    if problems.is_empty() { Ok(config) } else { Err(ConfigError { problems }) }
}

/// What holds if `text` is the whole configuration, which `place` names in what is wrong with it.
///
/// # Errors
/// All mistakes at once.
pub fn parse(place: &Path, text: &str) -> Result<Config, ConfigError> {
    let mut problems = Vec::new();
    let raw = read_text(place, text, &mut problems).unwrap_or_default();
    let config = resolve::resolve(raw, &mut problems);
    if problems.is_empty() { Ok(config) } else { Err(ConfigError { problems }) }
}

/// `<file>.d/*.toml`, sorted by name.
fn drop_ins(file: &Path, problems: &mut Vec<Problem>) -> Vec<PathBuf> {
    let mut directory = file.as_os_str().to_owned();
    directory.push(".d");
    let directory = PathBuf::from(directory);
    let mut files: Vec<PathBuf> = match fs::read_dir(&directory) {
        Ok(entries) => entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
            .collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            problems.push(problem(&directory, "", error));
            Vec::new()
        }
    };
    files.sort();
    files
}

fn problem(path: &Path, key: &str, reason: impl fmt::Display) -> Problem {
    Problem {
        place: path.display().to_string(),
        key: key.to_owned(),
        reason: reason.to_string().trim().to_owned(),
    }
}

fn read(path: &Path, required: bool, problems: &mut Vec<Problem>) -> Option<Raw> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !required => return None,
        Err(error) => {
            problems.push(problem(path, "", error));
            return None;
        }
    };
    read_text(path, &text, problems)
}

fn read_text(path: &Path, text: &str, problems: &mut Vec<Problem>) -> Option<Raw> {
    match text.parse::<Table>() {
        Ok(table) => Some(take_apart(path, table, problems)),
        Err(error) => {
            problems.push(problem(path, "", error));
            None
        }
    }
}

/// Takes a table apart key by key, so that one wrong value does not hide the next.
fn take_apart(path: &Path, table: Table, problems: &mut Vec<Problem>) -> Raw {
    let mut raw = Raw::default();
    for (name, value) in table {
        match value {
            Value::Table(section) if raw::keys(&name).is_some() && !name.is_empty() => {
                for (key, value) in section {
                    take(path, &name, &key, value, &mut raw, problems);
                }
            }
            value => take(path, "", &name, value, &mut raw, problems),
        }
    }
    raw
}

fn take(path: &Path, section: &str, key: &str, value: Value, raw: &mut Raw, problems: &mut Vec<Problem>) {
    let full = if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") };
    let known = raw::keys(section).unwrap_or_default();
    if !known.contains(&key) {
        let reason = match nearest(key, known) {
            Some(other) => format!("unknown key; did you mean {other}?"),
            None => format!("unknown key; known are {}", known.join(", ")),
        };
        return problems.push(problem(path, &full, reason));
    }
    let mut table = Table::new();
    if section.is_empty() {
        table.insert(key.to_owned(), value);
    } else {
        table.insert(section.to_owned(), Value::Table(Table::from_iter([(key.to_owned(), value)])));
    }
    match Raw::deserialize(Value::Table(table)) {
        Ok(part) => raw.merge(part),
        Err(error) => problems.push(problem(path, &full, error.message())),
    }
}

/// The known key that differs from `key` in at most two places.
fn nearest<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    known
        .iter()
        .copied()
        .map(|other| (distance(key, other), other))
        .min()
        .filter(|(distance, _)| *distance <= 2)
        .map(|(_, other)| other)
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let cost = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(text: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("husk.toml"), text).unwrap();
        dir
    }

    #[test]
    fn the_printed_default_means_the_same_as_an_empty_file() {
        let (empty, full) = (write(""), write(crate::DEFAULT_TOML));
        let load =
            |dir: &tempfile::TempDir| load(Some(&dir.path().join("husk.toml")), Raw::default()).unwrap();
        assert_eq!(load(&empty), load(&full));
    }

    #[test]
    fn the_printed_default_has_every_key() {
        let table: Table = crate::DEFAULT_TOML.parse().unwrap();
        for section in
            ["network", "images", "cgroup", "log", "metrics", "tracing", "runtime", "nri", "streaming"]
        {
            let mut keys: Vec<&str> = table[section].as_table().unwrap().keys().map(String::as_str).collect();
            // Another crate's features decide whether the table keeps the file's order.
            keys.sort_unstable();
            let mut expected = raw::keys(section).unwrap().to_vec();
            expected.sort_unstable();
            assert_eq!(keys, expected, "{section}");
        }
    }

    #[test]
    fn every_mistake_is_reported_at_once_with_its_place() {
        let dir = write(
            "rooot = \"/x\"\nstate = 5\n[network]\nsubnet = \"nonsense\"\nbridg = \"x\"\n[log]\nformat = \"xml\"\n",
        );
        let error = load(Some(&dir.path().join("husk.toml")), Raw::default()).unwrap_err();
        let text = error.to_string();
        for part in [
            "rooot: unknown key; did you mean root?",
            "state: ",
            "network.subnet: ",
            "bridg: unknown key; did you mean bridge?",
            "log.format: ",
        ] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        assert_eq!(error.problems.len(), 5, "{text}");
    }

    #[test]
    fn streams_leave_the_node_only_over_tls_and_a_key_needs_its_certificate() {
        for (text, problem) in [
            ("address = \"0.0.0.0:1\"", Some("streaming.address: 0.0.0.0:1 is not on the loopback")),
            ("address = \"0.0.0.0:1\"\ntls_certificate = \"/c\"\ntls_key = \"/k\"", None),
            ("address = \"[::1]:0\"", None),
            ("tls_key = \"/k\"", Some("need each other")),
            ("tls_client_ca = \"/ca\"", Some("streaming.tls_client_ca")),
            ("tls_certificate = \"c\"\ntls_key = \"/k\"", Some("not an absolute path")),
            ("idle_timeout = \"soon\"", Some("streaming.idle_timeout")),
            ("max_sessions = 0", Some("streaming.max_sessions")),
        ] {
            let dir = write(&format!("[streaming]\n{text}\n"));
            let loaded = load(Some(&dir.path().join("husk.toml")), Raw::default());
            match problem {
                None => drop(loaded.unwrap()),
                Some(part) => {
                    let shown = loaded.unwrap_err().to_string();
                    assert!(shown.contains(part), "{part:?} is not in {shown}");
                }
            }
        }
    }

    #[test]
    fn a_collector_is_an_address_with_a_port_and_tls_is_what_https_says() {
        let load = |text: &str| {
            let dir = write(&format!("[tracing]\n{text}\n"));
            load(Some(&dir.path().join("husk.toml")), Raw::default())
        };
        for (endpoint, wanted) in [
            ("localhost:4317", "http://localhost:4317"),
            ("http://10.0.0.1:4317", "http://10.0.0.1:4317"),
            ("[::1]:4317", "http://[::1]:4317"),
            ("https://otel-collector.tools:4317", "https://otel-collector.tools:4317"),
        ] {
            let config = load(&format!("endpoint = {endpoint:?}")).unwrap().tracing.unwrap();
            assert_eq!((config.endpoint.as_str(), config.sampling_rate_per_million), (wanted, 0));
        }
        assert_eq!(load("endpoint = \"\"\nsampling_rate_per_million = 5").unwrap().tracing, None);
        for (text, problem) in [
            ("endpoint = \"collector\"", "tracing.endpoint"),
            ("endpoint = \"collector:0\"", "tracing.endpoint"),
            ("endpoint = \"collector:99999\"", "tracing.endpoint"),
            ("endpoint = \"collector:+5\"", "tracing.endpoint"),
            ("endpoint = \"http://user:word@collector:4317\"", "tracing.endpoint"),
            ("endpoint = \"http://collector:4317/v1/traces\"", "tracing.endpoint"),
            ("endpoint = \"unix:///run/otel.sock\"", "tracing.endpoint"),
            ("endpoint = \"[::1:4317\"", "tracing.endpoint"),
            (
                "endpoint = \"c:4317\"\nsampling_rate_per_million = 1000001",
                "tracing.sampling_rate_per_million",
            ),
            ("endpoint = \"c:4317\"\nsampling_rate_per_million = -1", "tracing.sampling_rate_per_million"),
            ("endpoint = \"c:4317\"\ntls_ca = \"/ca\"", "tracing.tls_ca"),
            ("endpoint = \"https://c:4317\"\ntls_ca = \"ca\"", "tracing.tls_ca"),
        ] {
            let shown = load(text).unwrap_err().to_string();
            assert!(shown.contains(problem), "{problem:?} is not in {shown}");
        }
    }

    #[test]
    fn drop_ins_beat_the_file_and_flags_beat_both() {
        let dir = write("root = \"/a\"\nstate = \"/a\"\n[log]\nlevel = \"warn\"\n");
        fs::create_dir(dir.path().join("husk.toml.d")).unwrap();
        fs::write(dir.path().join("husk.toml.d/10.toml"), "root = \"/b\"\nstate = \"/b\"\n").unwrap();
        let flags = Raw { state: Some("/c".into()), ..Raw::default() };
        let config = load(Some(&dir.path().join("husk.toml")), flags).unwrap();
        assert_eq!((config.root, config.state), ("/b".into(), "/c".into()));
        assert_eq!(config.log.level, "warn");
    }

    #[test]
    fn a_cgroup_parent_fits_its_driver() {
        for (driver, parent, fits) in [
            ("systemd", "husk.slice", true),
            ("systemd", "/husk", false),
            ("cgroupfs", "/husk", true),
            ("cgroupfs", "husk.slice", false),
            ("auto", "/husk", true),
            ("auto", "husk.slice", true),
            ("auto", "husk", false),
            ("cgroupfs", "/", false),
            ("cgroupfs", "/a/../b", false),
            ("runc", "/husk", false),
        ] {
            let dir = write(&format!("[cgroup]\ndriver = {driver:?}\nparent = {parent:?}\n"));
            let loaded = load(Some(&dir.path().join("husk.toml")), Raw::default());
            assert_eq!(loaded.is_ok(), fits, "{driver} {parent}");
        }
    }

    #[test]
    fn a_handler_has_a_name_that_a_runtime_class_can_have_and_only_once() {
        let long = format!("[{:?}]", "a".repeat(64));
        for (handlers, problem) in [
            ("[]", None),
            (r#"["runc", "test-handler", "2"]"#, None),
            (r#"[""]"#, Some("runtime.handlers: \"\" is no name")),
            (r#"["Runc"]"#, Some("is no name")),
            (r#"["-runc"]"#, Some("is no name")),
            (r#"["runc-"]"#, Some("is no name")),
            (r#"["a/b"]"#, Some("is no name")),
            (long.as_str(), Some("at most 63")),
            (r#"["runc", "runc"]"#, Some("is there twice")),
        ] {
            let loaded = parse(Path::new("/husk.toml"), &format!("[runtime]\nhandlers = {handlers}\n"));
            match problem {
                None => drop(loaded.unwrap()),
                Some(part) => {
                    let shown = loaded.unwrap_err().to_string();
                    assert!(shown.contains(part), "{part:?} is not in {shown}");
                }
            }
        }
    }

    #[test]
    fn a_text_is_checked_as_a_file_is() {
        let place = Path::new("/planned/husk.toml");
        assert_eq!(parse(place, "root = \"/a\"").unwrap().root, Path::new("/a"));
        let shown = parse(place, "rot = 1").unwrap_err().to_string();
        assert!(shown.contains("/planned/husk.toml: rot: unknown key; did you mean root?"), "{shown}");
    }

    #[test]
    fn a_named_file_must_exist() {
        assert!(load(Some(Path::new("/no/such/husk.toml")), Raw::default()).is_err());
    }
}
