//! A bundle: a directory with a `config.json` (OCI runtime-spec, bundle), read as runc reads it.

use std::{
    collections::{BTreeSet, HashSet},
    fs::File,
    io::Read,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use oci_spec::runtime::{Process, Spec};
use rustix::fs::{Mode, OFlags};
use serde_json::Value;

use crate::{Error, Result, check, hooks, numa};

/// Longest `config.json`. Those of a privileged pod with all devices of a large node have some hundred kilobytes.
const MAX_CONFIG: u64 = 32 << 20;
/// Most unknown names that are said.
const MAX_NAMED: usize = 64;

/// A bundle that was read and makes sense.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// Its directory, absolute.
    pub path: PathBuf,
    /// Its `config.json`.
    pub spec: Spec,
    /// What was left out of it, one sentence each.
    pub warnings: Vec<String>,
}

impl Bundle {
    /// Reads the bundle in `path` and checks it.
    ///
    /// # Errors
    /// The file cannot be read, is not of the form that the specification gives, or asks for something that cannot be.
    pub fn load(path: &Path) -> Result<Self> {
        let path = path.canonicalize().map_err(Error::io("open bundle", path))?;
        let file = path.join("config.json");
        let (mut spec, warnings) = read(&file)?;
        check::spec(&spec)?;
        resolve_sources(&mut spec, &path);
        hooks::check(&spec)?;
        Ok(Self { path, spec, warnings })
    }

    /// The directory of the root filesystem, absolute and without links.
    ///
    /// # Errors
    /// There is none.
    pub fn rootfs(&self) -> Result<PathBuf> {
        let root = self.spec.root().as_ref().ok_or_else(|| Error::Invalid("no root in the config".into()))?;
        let path = self.path.join(root.path());
        path.canonicalize().map_err(Error::io("invalid rootfs:", path))
    }

    /// [`Self::rootfs`], opened.
    ///
    /// # Errors
    /// As [`Self::rootfs`].
    pub(crate) fn open_rootfs(&self) -> Result<(PathBuf, OwnedFd)> {
        let path = self.rootfs()?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::open(&path, flags, Mode::empty());
        let root = opened.map_err(|errno| Error::io("open rootfs", &path)(errno.into()))?;
        Ok((path, root))
    }
}

/// Sources of bind mounts are relative to the bundle (runtime-spec, config: Mounts), wherever we are called.
fn resolve_sources(spec: &mut Spec, bundle: &Path) {
    for mount in spec.mounts_mut().iter_mut().flatten() {
        let options = mount.options().as_deref().unwrap_or_default();
        let binds = matches!(mount.typ().as_deref(), Some("bind" | "rbind"))
            || options.iter().any(|option| option == "bind" || option == "rbind");
        let relative = mount.source().as_deref().filter(|source| binds && source.is_relative());
        if let Some(source) = relative.map(|source| bundle.join(source)) {
            mount.set_source(Some(source));
        }
    }
}

/// Reads a `config.json`.
fn read(path: &Path) -> Result<(Spec, Vec<String>)> {
    let file = File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            Error::Invalid(format!("JSON specification file {} not found", path.display()))
        }
        _ => Error::io("open", path)(error),
    })?;
    let text = bounded(file, path)?;
    parse(&text).map_err(|source| Error::Json { path: path.to_owned(), source })
}

/// Reads all of a text that somebody else wrote, as long as it is none that nobody would write.
///
/// # Errors
/// [`Error::Invalid`] for one that is too long; those of read(2).
pub fn bounded(from: impl Read, path: &Path) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    from.take(MAX_CONFIG + 1).read_to_end(&mut text).map_err(Error::io("read", path))?;
    if text.len() as u64 > MAX_CONFIG {
        return Err(Error::Invalid(format!("{} has more than {MAX_CONFIG} bytes", path.display())));
    }
    Ok(text)
}

fn parse(text: &[u8]) -> Result<(Spec, Vec<String>), serde_json::Error> {
    let mut value: Value = serde_json::from_slice(text)?;
    let mut warnings = Vec::new();
    if let Some(process) = value.get_mut("process") {
        repair_process(process, &mut warnings);
    }
    repair_resources(value.pointer_mut("/linux/resources"));
    if let Some(policy) = value.pointer("/linux/memoryPolicy").filter(|policy| !policy.is_null()) {
        numa::check_words(policy).map_err(serde::de::Error::custom)?;
    }
    Ok((serde_json::from_value(value)?, warnings))
}

/// Reads a `process` as of `exec --process`.
///
/// # Errors
/// As [`Bundle::load`].
pub(crate) fn read_process(path: &Path) -> Result<(Process, Vec<String>)> {
    let json = |source| Error::Json { path: path.to_owned(), source };
    let text = bounded(File::open(path).map_err(Error::io("open", path))?, path)?;
    let mut value: Value = serde_json::from_slice(&text).map_err(json)?;
    let mut warnings = Vec::new();
    repair_process(&mut value, &mut warnings);
    Ok((serde_json::from_value(value).map_err(json)?, warnings))
}

/// What runc takes and our types do not: no user (root), names of capabilities that nobody knows (they are left out), and of an
/// environment the last entry of each name alone.
fn repair_process(process: &mut Value, warnings: &mut Vec<String>) {
    let Some(process) = process.as_object_mut() else { return };
    let user = process.entry("user").or_insert_with(|| Value::Object(Default::default()));
    if let Some(user) = user.as_object_mut() {
        user.entry("uid").or_insert_with(|| 0.into());
        user.entry("gid").or_insert_with(|| 0.into());
    }
    if let Some(sets) = process.get_mut("capabilities").and_then(Value::as_object_mut) {
        let mut unknown = BTreeSet::new();
        for set in sets.values_mut().filter_map(Value::as_array_mut) {
            set.retain(|name| {
                let known = serde_json::from_value::<oci_spec::runtime::Capability>(name.clone()).is_ok();
                if !known && unknown.len() < MAX_NAMED {
                    unknown.insert(name.to_string());
                }
                known
            });
        }
        let warning = |name| format!("ignoring unknown or unavailable capabilities: [{name}]");
        warnings.extend(unknown.into_iter().map(warning));
    }
    if let Some(flags) = process.get_mut("scheduler").and_then(|scheduler| scheduler.get_mut("flags")) {
        // Two that our types have under other names than the specification.
        for flag in flags.as_array_mut().into_iter().flatten() {
            match flag.as_str() {
                Some("SCHED_FLAG_RESET_ON_FORK") => *flag = "SCHED_RESET_ON_FORK".into(),
                Some("SCHED_FLAG_DL_OVERRUN") => *flag = "SCHED_FLAG_D_L_OVERRUN".into(),
                _ => {}
            }
        }
    }
    if let Some(env) = process.get_mut("env").and_then(Value::as_array_mut) {
        *env = last_of_each_name(std::mem::take(env), |entry| entry.as_str().unwrap_or_default());
    }
}

/// Of an environment the last entry of each name. What has no name stays.
pub fn last_of_each_name<T>(env: Vec<T>, text: impl Fn(&T) -> &str) -> Vec<T> {
    let mut names = HashSet::new();
    let stays: Vec<bool> = env
        .iter()
        .rev()
        .map(|entry| text(entry).split_once('=').is_none_or(|(name, _)| names.insert(name)))
        .collect();
    env.into_iter().zip(stays.into_iter().rev()).filter_map(|(entry, stays)| stays.then_some(entry)).collect()
}

/// An object without the one number that it is for (`"pids": {}`) says nothing.
fn repair_resources(resources: Option<&mut Value>) {
    let Some(resources) = resources.and_then(Value::as_object_mut) else { return };
    let says_nothing = |pids: &Value| pids.get("limit").is_none_or(Value::is_null);
    if resources.get("pids").is_some_and(says_nothing) {
        resources.remove("pids");
    }
    for device in resources.get_mut("devices").and_then(Value::as_array_mut).into_iter().flatten() {
        // What names no type means every one (config-linux, Allowed Device list); an empty text is as good.
        let Some(device) = device.as_object_mut() else { continue };
        if device.get("type").is_some_and(|kind| kind == "") {
            device.remove("type");
        }
        // Letters that mean nothing are no access, as in runc.
        if let Some(Value::String(access)) = device.get_mut("access") {
            access.retain(|letter| matches!(letter, 'r' | 'w' | 'm'));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(process: &str) -> (Spec, Vec<String>) {
        parse(format!(r#"{{"ociVersion":"1.2.0","process":{process}}}"#).as_bytes()).unwrap()
    }

    #[test]
    fn unknown_capabilities_are_left_out_and_named_once() {
        let (spec, warnings) =
            spec(r#"{"cwd":"/","capabilities":{"bounding":["CAP_KILL","CAP_FLY"],"permitted":["CAP_FLY"]}}"#);
        let process = spec.process().as_ref().unwrap();
        assert_eq!(process.capabilities().as_ref().unwrap().bounding().as_ref().unwrap().len(), 1);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert_eq!((process.user().uid(), process.user().gid()), (0, 0), "without a user it is root's");
    }

    #[test]
    fn of_an_environment_the_last_entry_of_a_name_stays() {
        let (spec, _) = spec(r#"{"cwd":"/","env":["A=1","B=2","A=3","odd","odd"]}"#);
        let process = spec.process().as_ref().unwrap();
        assert_eq!(process.env().as_ref().unwrap(), &["B=2", "A=3", "odd", "odd"]);
    }

    /// As many as fit in a config: by comparing each with all of them this would not end today.
    #[test]
    fn what_a_config_has_very_many_of_takes_no_longer_than_it_is_long() {
        let names: Vec<String> = (0..200_000).map(|number| format!("N{number}=v")).collect();
        let unknown: Vec<String> = (0..200_000).map(|number| format!("CAP_{number}")).collect();
        let process = serde_json::json!({"cwd": "/", "env": names, "capabilities": {"bounding": unknown}});
        let (spec, warnings) = spec(&process.to_string());
        assert_eq!(spec.process().as_ref().unwrap().env().as_ref().unwrap(), &names);
        assert_eq!(warnings.len(), MAX_NAMED);
    }

    #[test]
    fn flags_of_a_scheduler_have_the_specification_s_names() {
        let scheduler =
            r#"{"policy":"SCHED_DEADLINE","flags":["SCHED_FLAG_RESET_ON_FORK","SCHED_FLAG_DL_OVERRUN"]}"#;
        let (spec, _) = spec(&format!(r#"{{"cwd":"/","scheduler":{scheduler}}}"#));
        let process = spec.process().as_ref().unwrap();
        assert_eq!(process.scheduler().as_ref().unwrap().flags().as_ref().unwrap().len(), 2);
    }

    #[test]
    fn a_bind_mount_s_source_is_relative_to_the_bundle_and_no_other_is() {
        let (mut spec, _) = spec(r#"{"cwd":"/"}"#);
        let mounts = serde_json::json!([
            {"destination": "/a", "type": "bind", "source": "data"},
            {"destination": "/b", "source": "../x", "options": ["rbind"]},
            {"destination": "/c", "type": "bind", "source": "/data"},
            {"destination": "/d", "type": "tmpfs", "source": "tmpfs"},
        ]);
        spec.set_mounts(serde_json::from_value(mounts).unwrap());
        resolve_sources(&mut spec, Path::new("/bundle"));
        let sources =
            spec.mounts().iter().flatten().map(|mount| mount.source().as_ref().unwrap().to_str().unwrap());
        assert_eq!(sources.collect::<Vec<_>>(), ["/bundle/data", "/bundle/../x", "/data", "tmpfs"]);
    }

    #[test]
    fn a_config_that_is_not_there_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = Bundle::load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("config.json not found"), "{error}");
    }
}
