//! Network configurations of CNI: the files administrators and network add-ons put into the configuration directory
//! (CNI spec 1.1, section 1).

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Versions whose results look the same to us: `ips[].address`. Older ones (0.1, 0.2) had another form; their last
/// plugins are from 2017.
const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// A configuration file is a page or two; this is somebody's mistake.
const MAX_FILE: u64 = 1 << 20;

/// One network: a chain of plugins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct NetworkList {
    /// Where it came from.
    pub(crate) file: PathBuf,
    /// Name of the network, unique on the node.
    pub(crate) name: String,
    /// Version all plugins are spoken to in.
    pub(crate) cni_version: String,
    /// No GC for this network (spec 1.1 `disableGC`).
    pub(crate) disable_gc: bool,
    /// The chain, in the order of ADD. Objects as they are in the file.
    pub(crate) plugins: Vec<Map<String, Value>>,
}

impl NetworkList {
    /// The `type` of a plugin of the chain: the name of its executable.
    pub(crate) fn plugin_type(plugin: &Map<String, Value>) -> &str {
        plugin.get("type").and_then(Value::as_str).unwrap_or_default()
    }

    /// Whether the version has STATUS and GC.
    pub(crate) fn has_status_and_gc(&self) -> bool {
        self.cni_version == "1.1.0"
    }

    /// Whether DEL gets the result of ADD: since 0.4.0.
    pub(crate) fn has_prev_result_for_del(&self) -> bool {
        !self.cni_version.starts_with("0.3.")
    }
}

/// What the directory says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Found {
    /// No configuration at all.
    Nothing,
    /// The first valid file by name.
    Network(Box<NetworkList>),
    /// There are files and none is valid; why.
    Invalid(String),
}

/// Reads the directory: of the files `*.conflist`, `*.conf` and `*.json`, the first by name that is valid wins, as with
/// containerd and CRI-O. A directory that is not there has nothing in it.
pub(crate) fn load_dir(dir: &Path) -> Found {
    let mut files = match candidates(dir) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Found::Nothing,
        Err(error) => return Found::Invalid(format!("{}: {error}", dir.display())),
    };
    files.sort();
    let mut reasons = Vec::new();
    for file in files {
        match load_file(&file) {
            Ok(list) => return Found::Network(Box::new(list)),
            Err(reason) => reasons.push(format!("{}: {reason}", file.display())),
        }
    }
    if reasons.is_empty() { Found::Nothing } else { Found::Invalid(reasons.join("; ")) }
}

fn candidates(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let wanted = path
            .extension()
            .is_some_and(|extension| extension == "conflist" || extension == "conf" || extension == "json");
        // Editors and add-ons write hidden or temporary files beside the real one.
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if wanted && !hidden && path.is_file() {
            files.push(path);
        }
    }
    Ok(files)
}

fn load_file(file: &Path) -> Result<NetworkList, String> {
    let size = fs::metadata(file).map_err(|error| error.to_string())?.len();
    if size > MAX_FILE {
        return Err(format!("{size} bytes are too many for a configuration"));
    }
    let text = fs::read(file).map_err(|error| error.to_string())?;
    let mut list = parse(&text)?;
    list.file = file.to_owned();
    Ok(list)
}

/// What the configuration `text` would run.
#[cfg(feature = "fuzzing")]
pub(crate) fn executables_of(text: &[u8]) -> Result<Vec<String>, String> {
    Ok(parse(text)?.plugins.iter().map(|plugin| NetworkList::plugin_type(plugin).to_owned()).collect())
}

/// Parses a list, or a lone plugin as a list of one.
fn parse(text: &[u8]) -> Result<NetworkList, String> {
    let Value::Object(top) = serde_json::from_slice(text).map_err(|error| error.to_string())? else {
        return Err("not a JSON object".to_owned());
    };
    let plugins = match top.get("plugins") {
        Some(Value::Array(plugins)) => plugins
            .iter()
            .map(|plugin| plugin.as_object().cloned().ok_or("a plugin is not an object".to_owned()))
            .collect::<Result<Vec<_>, _>>()?,
        Some(_) => return Err("`plugins` is not a list".to_owned()),
        None => vec![top.clone()],
    };
    if plugins.is_empty() {
        return Err("the list of plugins is empty".to_owned());
    }
    for plugin in &plugins {
        check_type(NetworkList::plugin_type(plugin))?;
    }
    Ok(NetworkList {
        file: PathBuf::new(),
        name: check_name(top.get("name").and_then(Value::as_str).unwrap_or_default())?.to_owned(),
        cni_version: version(&top)?,
        disable_gc: flag(&top, "disableGC"),
        plugins,
    })
}

/// Booleans may be the strings "true" and "false" (libcni accepts both).
fn flag(top: &Map<String, Value>, key: &str) -> bool {
    match top.get(key) {
        Some(Value::Bool(flag)) => *flag,
        Some(Value::String(text)) => text.eq_ignore_ascii_case("true"),
        _ => false,
    }
}

/// The greatest of `cniVersions` that we speak, else `cniVersion`.
fn version(top: &Map<String, Value>) -> Result<String, String> {
    let listed = top.get("cniVersions").and_then(Value::as_array);
    let offered: Vec<&str> = listed.into_iter().flatten().filter_map(Value::as_str).collect();
    if let Some(best) = VERSIONS.iter().rev().find(|known| offered.contains(known)) {
        return Ok((*best).to_owned());
    }
    match top.get("cniVersion").and_then(Value::as_str) {
        Some(version) if VERSIONS.contains(&version) => Ok(version.to_owned()),
        Some(version) => Err(format!("cniVersion {version:?} is none of {}", VERSIONS.join(", "))),
        None => Err("cniVersion is missing".to_owned()),
    }
}

/// Spec: "must start with an alphanumeric character, optionally followed by any combination of one or more alphanumeric
/// characters, underscore, dot or hyphen".
fn check_name(name: &str) -> Result<&str, String> {
    let valid = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if valid { Ok(name) } else { Err(format!("network name {name:?} is missing or not valid")) }
}

/// The type is joined to a directory and executed as root: it must be a plain file name.
fn check_type(plugin: &str) -> Result<(), String> {
    if plugin.is_empty() || plugin.contains(['/', '\0']) || plugin == "." || plugin == ".." {
        return Err(format!("plugin type {plugin:?} is missing or not a file name"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    fn found(files: &[(&str, &str)]) -> Found {
        load_dir(dir(files).path())
    }

    fn list(name: &str) -> String {
        format!(r#"{{"cniVersion":"1.0.0","name":"{name}","plugins":[{{"type":"bridge"}}]}}"#)
    }

    #[test]
    fn a_directory_that_is_absent_or_empty_has_nothing() {
        assert_eq!(load_dir(Path::new("/nonexistent/net.d")), Found::Nothing);
        assert_eq!(found(&[("README", "x"), (".10-hidden.conflist", "{}")]), Found::Nothing);
    }

    #[test]
    fn the_first_valid_file_by_name_wins() {
        let files = [("20-b.conflist", &*list("b")), ("05-bad.conf", "{"), ("10-a.conflist", &*list("a"))];
        let Found::Network(network) = found(&files) else { panic!("nothing found") };
        assert_eq!(network.name, "a");
    }

    #[test]
    fn a_lone_plugin_is_a_list_of_one() {
        let text = r#"{"cniVersion":"0.4.0","name":"solo","type":"ptp","ipam":{}}"#;
        let Found::Network(network) = found(&[("1.conf", text)]) else { panic!("nothing found") };
        assert_eq!((network.plugins.len(), network.name.as_str()), (1, "solo"));
    }

    #[test]
    fn the_greatest_common_version_is_spoken() {
        let text = r#"{"cniVersion":"0.4.0","cniVersions":["1.0.0","1.1.0","9.9.9"],"name":"n","type":"x"}"#;
        let Found::Network(network) = found(&[("1.conf", text)]) else { panic!("nothing found") };
        assert_eq!(network.cni_version, "1.1.0");
    }

    #[test]
    fn what_is_wrong_is_said_with_the_file() {
        for (text, reason) in [
            ("[]", "not a JSON object"),
            (r#"{"name":"n","type":"x"}"#, "cniVersion is missing"),
            (r#"{"cniVersion":"0.2.0","name":"n","type":"x"}"#, "cniVersion \"0.2.0\" is none of"),
            (r#"{"cniVersion":"1.0.0","type":"x"}"#, "network name \"\""),
            (r#"{"cniVersion":"1.0.0","name":"../n","type":"x"}"#, "network name"),
            (r#"{"cniVersion":"1.0.0","name":"n","type":"../../bin/sh"}"#, "plugin type"),
            (r#"{"cniVersion":"1.0.0","name":"n","plugins":[]}"#, "empty"),
            (r#"{"cniVersion":"1.0.0","name":"n","plugins":[3]}"#, "not an object"),
        ] {
            let Found::Invalid(message) = found(&[("1.conf", text)]) else { panic!("{text} was accepted") };
            assert!(message.contains("1.conf: ") && message.contains(reason), "{message}");
        }
    }
}
