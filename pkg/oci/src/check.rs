//! What a bundle must not ask for: contradictions, what would change the node, and what husk does not do. Everything else is judged
//! by the kernel.

use husk_model::Sysctl;
use oci_spec::runtime::{Linux, LinuxNamespace, LinuxNamespaceType as Kind, PosixRlimit, Process, Spec};

use crate::{Error, Result, devices};

/// Checks a spec as a whole.
///
/// # Errors
/// [`Error::Invalid`].
pub(crate) fn spec(spec: &Spec) -> Result<()> {
    version(spec.version())?;
    let process = spec.process().as_ref().ok_or_else(|| invalid("process property must not be empty"))?;
    self::process(process)?;
    let linux = spec.linux().as_ref().ok_or_else(|| invalid("no linux section in the config"))?;
    namespaces(linux, spec)?;
    absent(linux)?;
    devices::check(spec)?;
    sysctls(linux)
}

/// Checks a process, of a spec or of an exec.
///
/// # Errors
/// [`Error::Invalid`].
pub(crate) fn process(process: &Process) -> Result<()> {
    if process.cwd().as_os_str().is_empty() {
        return Err(invalid("Cwd property must not be empty"));
    }
    if !process.cwd().is_absolute() {
        return Err(invalid("Cwd must be an absolute path"));
    }
    if process.args().as_deref().unwrap_or_default().is_empty() {
        return Err(invalid("args must not be empty"));
    }
    let mut kinds = Vec::new();
    for kind in process.rlimits().iter().flatten().map(PosixRlimit::typ) {
        // The specification's word (config, POSIX process: rlimits).
        if kinds.contains(&kind) {
            return Err(invalid(format!("duplicated rlimit {kind}")));
        }
        kinds.push(kind);
    }
    Ok(())
}

/// Versions of one major number are compatible (runtime-spec, Specification version).
fn version(version: &str) -> Result<()> {
    match version.split('.').next() {
        Some("1") => Ok(()),
        _ => Err(invalid(format!("unsupported OCI runtime-spec version {version:?}: this is for 1.x"))),
    }
}

fn namespaces(linux: &Linux, spec: &Spec) -> Result<()> {
    let all = linux.namespaces().as_deref().unwrap_or_default();
    let of = |kind: Kind| all.iter().find(|namespace| namespace.typ() == kind);
    let mut kinds = Vec::new();
    for kind in all.iter().map(LinuxNamespace::typ) {
        // There are few kinds, however many are listed.
        if kinds.contains(&kind) {
            return Err(invalid(format!("duplicated ns {kind:?}")));
        }
        kinds.push(kind);
    }
    match of(Kind::Mount) {
        Some(mount) if path(mount).is_none() => {}
        Some(_) => return Err(invalid("a mount namespace of somebody else's has no root of the bundle's")),
        None if has_paths(linux) => {
            return Err(invalid("unable to restrict sys entries without a private MNT namespace"));
        }
        None => return Err(invalid("a container without a mount namespace of its own is not run")),
    }
    let named = [("hostname", spec.hostname()), ("domainname", spec.domainname())];
    if let Some((name, _)) = named.iter().find(|(_, value)| value.as_ref().is_some_and(|v| !v.is_empty()))
        && of(Kind::Uts).is_none()
    {
        return Err(invalid(format!("unable to set {name} without a private UTS namespace")));
    }
    if linux.net_devices().as_ref().is_some_and(|devices| !devices.is_empty()) && of(Kind::Network).is_none()
    {
        return Err(invalid("unable to move network devices without a private NET namespace"));
    }
    let maps = [linux.uid_mappings(), linux.gid_mappings()].map(|maps| maps.as_deref().unwrap_or_default());
    let mapped = maps.iter().any(|map| !map.is_empty());
    match of(Kind::User) {
        None if mapped => {
            Err(invalid("user namespace mappings specified, but user namespace isn't enabled in the config"))
        }
        Some(user) if path(user).is_none() && maps.iter().any(|map| map.is_empty()) => Err(invalid(
            "user namespaces enabled, but no namespace path to join nor mappings to apply specified",
        )),
        _ => time(linux, of(Kind::Time)),
    }
}

fn time(linux: &Linux, time: Option<&LinuxNamespace>) -> Result<()> {
    let offsets = linux.time_offsets().as_ref().is_some_and(|offsets| !offsets.is_empty());
    match time {
        None if offsets => {
            Err(invalid("time namespace offsets specified, but time namespace isn't enabled in the config"))
        }
        Some(time) if offsets && path(time).is_some() => Err(invalid(
            "time namespace enabled, but both namespace path and time offsets specified -- you may only provide one",
        )),
        _ => Ok(()),
    }
}

fn has_paths(linux: &Linux) -> bool {
    [linux.masked_paths(), linux.readonly_paths()].into_iter().flatten().any(|paths| !paths.is_empty())
}

/// What husk does not do, by the name that it has in the config.
fn absent(linux: &Linux) -> Result<()> {
    let asked = [("linux.intelRdt", linux.intel_rdt().is_some())];
    match asked.iter().find(|(_, asked)| *asked) {
        Some((name, _)) => {
            Err(invalid(format!("{name} is not supported by husk: take it out of the config")))
        }
        None => Ok(()),
    }
}

/// Only parameters of the container's own namespaces; a namespace that is joined by its path counts as its own, as in runc.
fn sysctls(linux: &Linux) -> Result<()> {
    use husk_model::SysctlOwner;
    let all = linux.namespaces().as_deref().unwrap_or_default();
    for name in linux.sysctl().iter().flatten().map(|(name, _)| name) {
        let refuse = |why: &str| Err(invalid(format!("sysctl {name:?} {why}")));
        let Ok(sysctl) = name.parse::<Sysctl>() else {
            if name == "kernel.hostname" || name == "kernel/hostname" {
                return refuse("is not allowed as it conflicts with the OCI \"hostname\" field");
            }
            return refuse("is not in a separate kernel namespace");
        };
        let (kind, why) = match sysctl.owner() {
            SysctlOwner::Network => (Kind::Network, "not allowed in host network namespace"),
            SysctlOwner::Ipc => (Kind::Ipc, "is not allowed in the hosts ipc namespace"),
            SysctlOwner::Uts => (Kind::Uts, "is not in a separate kernel namespace"),
        };
        let Some(namespace) = all.iter().find(|namespace| namespace.typ() == kind) else {
            return refuse(why);
        };
        if let Some(path) = path(namespace)
            && is_ours(path, kind)
        {
            return refuse(why);
        }
    }
    Ok(())
}

/// Whether it is the very namespace that we are in: a path of its own makes it nobody else's.
fn is_ours(path: &std::path::Path, kind: Kind) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let id = |path: &std::path::Path| std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    let name = match kind {
        Kind::Network => "net",
        Kind::Ipc => "ipc",
        _ => "uts",
    };
    let own = id(&std::path::Path::new("/proc/self/ns").join(name));
    own.is_some() && id(path) == own
}

/// A namespace's path; an empty one is none.
pub(crate) fn path(namespace: &LinuxNamespace) -> Option<&std::path::Path> {
    namespace.path().as_deref().filter(|path| !path.as_os_str().is_empty())
}

fn invalid(text: impl Into<String>) -> Error {
    Error::Invalid(text.into())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::example;

    fn refusal(change: impl FnOnce(&mut Value)) -> String {
        let mut config = serde_json::to_value(example(false)).unwrap();
        change(&mut config);
        match spec(&serde_json::from_value(config).unwrap()) {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_example_is_in_order_and_each_contradiction_is_named() {
        assert_eq!(refusal(|_| ()), "");
        let no = |kind: &'static str| {
            move |config: &mut Value| {
                let list = config["linux"]["namespaces"].as_array_mut().unwrap();
                list.retain(|namespace| namespace["type"] != kind);
            }
        };
        assert!(refusal(no("uts")).contains("unable to set hostname"));
        assert!(refusal(no("mount")).contains("private MNT namespace"));
        let maps = |config: &mut Value| {
            config["linux"]["uidMappings"] = json!([{"hostID":1,"containerID":0,"size":1}])
        };
        assert!(refusal(maps).contains("isn't enabled"));
        assert!(refusal(|config| config["ociVersion"] = json!("2.0.0")).contains("version"));
        assert!(refusal(|config| config["process"]["cwd"] = json!("x")).contains("absolute"));
        let twice = |config: &mut Value| {
            let limit = json!({"type": "RLIMIT_CORE", "soft": 1, "hard": 1});
            config["process"]["rlimits"] = json!([limit, limit]);
        };
        assert!(refusal(twice).contains("duplicated rlimit"));
        let namespaces = |config: &mut Value| {
            config["linux"]["namespaces"] = vec![json!({"type": "mount"}); 100_000].into();
        };
        assert!(refusal(namespaces).contains("duplicated ns"));
    }

    #[test]
    fn a_sysctl_of_the_node_is_refused_however_it_is_written() {
        let with = |name: &'static str| {
            refusal(move |config| {
                config["linux"]["sysctl"] = json!({ name: "1" });
            })
        };
        assert_eq!(with("net.ipv4.ip_forward"), "");
        assert_eq!(with("net/ipv4/ip_forward"), "");
        for name in ["vm.swappiness", "kernel.core_pattern", "net/../kernel/core_pattern", "kernel.hostname"]
        {
            assert!(with(name).contains("sysctl"), "{name}");
        }
        let joined = refusal(|config| {
            config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
            for namespace in config["linux"]["namespaces"].as_array_mut().unwrap() {
                if namespace["type"] == "network" {
                    namespace["path"] = json!("/proc/self/ns/net");
                }
            }
        });
        assert!(joined.contains("host network namespace"), "{joined}");
    }
}
