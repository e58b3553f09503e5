//! A container's cgroup.

use std::{os::fd::OwnedFd, time::Duration};

use husk_cgroup::{Cgroup, CgroupPath, Hierarchy, Version};
use husk_model::Process;
use husk_node::process;
use husk_runtime::CgroupTarget;
use husk_sys::procfs::Procfs;
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType, LinuxResources, Spec};

use crate::{Error, Result};

/// How long a container may take to stop, or its processes to end.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The path of a container's cgroup: `linux.cgroupsPath`, or the container's name below the root. A relative path is taken from the
/// root as well.
pub(crate) fn path(spec: &Spec, id: &str) -> Result<CgroupPath> {
    let given = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_ref());
    let given = given.map(|path| path.to_string_lossy().into_owned()).filter(|path| !path.is_empty());
    let path = given.unwrap_or_else(|| id.to_owned());
    if path.contains(".slice:") || path.matches(':').count() == 2 {
        return Err(Error::Invalid(format!(
            "cgroupsPath {path:?} is one of systemd's: husk makes cgroups itself, tell its caller to use cgroupfs"
        )));
    }
    let path = if path.starts_with('/') { path } else { format!("/{path}") };
    let path = CgroupPath::parse(&path).map_err(|error| Error::Invalid(error.to_string()))?;
    match path.is_root() {
        true => Err(Error::Invalid("cgroupsPath is the root of the node's cgroups".into())),
        false => Ok(path),
    }
}

/// The limits of a spec with the device rules that every container has.
///
/// # Errors
/// Keys of cgroup v2 on a node that has v1's controllers.
pub(crate) fn resources(spec: &Spec) -> Result<LinuxResources> {
    let linux = spec.linux().as_ref();
    let resources = linux.and_then(|linux| linux.resources().clone()).unwrap_or_default();
    let unified = resources.unified().as_ref().is_some_and(|keys| !keys.is_empty());
    if unified && Hierarchy::detect()?.version() != Version::V2 {
        let text = "invalid configuration: resources.unified needs a node with cgroup v2 alone";
        return Err(Error::Invalid(text.into()));
    }
    let mut resources = with_limits_of_zero(resources);
    let mut devices = resources.devices().clone().unwrap_or_default();
    devices.extend(allowed());
    resources.set_devices(Some(devices));
    Ok(resources)
}

/// No process beyond the first, for a limit of 0: the specification's is one, and the CRI's, which husk-cgroup follows, is none.
pub(crate) fn with_limits_of_zero(mut resources: LinuxResources) -> LinuxResources {
    if let Some(mut pids) = resources.pids().filter(|pids| pids.limit() == 0) {
        pids.set_limit(1);
        resources.set_pids(Some(pids));
    }
    resources
}

/// Making any device, and using those of config-linux (Default Devices), the terminals and their multiplexer.
fn allowed() -> Vec<LinuxDeviceCgroup> {
    let rule = |major: Option<i64>, minor: Option<i64>, kind, access: &str| {
        let mut rule = LinuxDeviceCgroupBuilder::default().allow(true).typ(kind).access(access);
        if let Some(major) = major {
            rule = rule.major(major);
        }
        if let Some(minor) = minor {
            rule = rule.minor(minor);
        }
        rule.build().ok()
    };
    let character = |major, minor| rule(Some(major), minor, LinuxDeviceType::C, "rwm");
    [
        rule(None, None, LinuxDeviceType::C, "m"),
        rule(None, None, LinuxDeviceType::B, "m"),
        character(1, Some(3)),
        character(1, Some(5)),
        character(1, Some(7)),
        character(1, Some(8)),
        character(1, Some(9)),
        character(5, Some(0)),
        character(5, Some(1)),
        character(5, Some(2)),
        character(136, None),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Refuses a cgroup that somebody else is in: what runs in it would be ended with the container.
///
/// # Errors
/// Those of husk-cgroup; a group with processes, or one that is frozen.
pub(crate) fn check_vacant(path: &CgroupPath) -> Result<()> {
    if let Ok(there) = Hierarchy::detect()?.open(path) {
        let pids = there.pids()?;
        if !pids.is_empty() {
            let text = format!("container's cgroup is not empty: {} process(es) found", pids.len());
            return Err(Error::WrongState(text));
        }
        if there.is_paused()? {
            return Err(Error::WrongState("container's cgroup unexpectedly frozen".into()));
        }
    }
    Ok(())
}

/// Makes the cgroup.
///
/// # Errors
/// Those of husk-cgroup, and of [`check_vacant`].
pub(crate) fn make(path: &CgroupPath) -> Result<Cgroup> {
    check_vacant(path)?;
    Ok(Hierarchy::detect()?.create(path)?)
}

/// Where a child is cloned to.
pub(crate) fn target(group: &Cgroup) -> Result<CgroupTarget> {
    let unified = group.unified_dir().map(|dir| dir.try_clone_to_owned()).transpose();
    let unified = unified.map_err(Error::io("open", group.path().as_str()))?;
    Ok(CgroupTarget { procs: group.legacy_join_fds()?, unified })
}

/// Where a container's init is in the v2 tree now, opened: in its group, or in one below that it has made. `None` where that cannot be
/// told, or is elsewhere.
pub(crate) fn of_init(init: Process, group: &Cgroup) -> Option<OwnedFd> {
    let table = Procfs::host().and_then(|proc| proc.read_of(init.pid, "cgroup")).ok()?;
    let path = below(&table, group.path())?;
    // Read of that very process, and not of one that has its number by now.
    process::is_alive(init).then_some(())?;
    let found = group.hierarchy().open(&path).ok()?;
    found.unified_dir()?.try_clone_to_owned().ok()
}

/// The path of a process in the v2 tree by its /proc/<pid>/cgroup (cgroups(7)), if it is `group` or below it.
fn below(table: &str, group: &CgroupPath) -> Option<CgroupPath> {
    let path = table.lines().find_map(|line| line.strip_prefix("0::"))?;
    let rest = path.strip_prefix(group.as_str())?;
    (rest.is_empty() || rest.starts_with('/')).then(|| CgroupPath::parse(path).ok())?
}

/// The cgroup at a recorded path; `None` when it is gone.
pub(crate) fn at(path: Option<&str>) -> Result<Option<Cgroup>> {
    let Some(path) = path else { return Ok(None) };
    let path = CgroupPath::parse(path).map_err(|error| Error::Invalid(error.to_string()))?;
    match Hierarchy::detect()?.open(&path) {
        Err(husk_cgroup::Error::NotFound { .. }) => Ok(None),
        opened => Ok(Some(opened?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    fn of_config(path: Option<&str>) -> Result<String> {
        let mut config = serde_json::to_value(example(false)).unwrap();
        if let Some(given) = path {
            config["linux"]["cgroupsPath"] = given.into();
        }
        path_of(&config)
    }

    fn path_of(config: &serde_json::Value) -> Result<String> {
        path(&serde_json::from_value(config.clone()).unwrap(), "c1").map(|path| path.to_string())
    }

    #[test]
    fn a_cgroup_is_where_the_config_says_and_never_the_node_s_root() {
        assert_eq!(of_config(None).unwrap(), "/c1");
        assert_eq!(of_config(Some("/a/b")).unwrap(), "/a/b");
        assert_eq!(of_config(Some("a/b")).unwrap(), "/a/b");
        for bad in ["/", "/a/../..", "system.slice:runc:c1", "a/../../b"] {
            assert!(of_config(Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_init_is_in_its_group_or_below_it_or_it_is_not_looked_for() {
        let group = CgroupPath::parse("/a/c1").unwrap();
        let of = |path: &str| {
            let table = format!("9:name=systemd:/a/c1/no\n0::{path}\n");
            below(&table, &group).map(|path| path.to_string())
        };
        assert_eq!(of("/a/c1").as_deref(), Some("/a/c1"));
        assert_eq!(of("/a/c1/init").as_deref(), Some("/a/c1/init"));
        for elsewhere in ["/", "/a/c10", "/a", "/a/c1/../../b", "/../b"] {
            assert_eq!(of(elsewhere), None, "{elsewhere}");
        }
        assert_eq!(below("9:name=systemd:/a/c1\n", &group), None);
    }

    #[test]
    fn every_container_may_use_the_default_devices_whatever_its_config_denies() {
        let resources = resources(&example(false)).unwrap();
        let rules = resources.devices().as_ref().unwrap();
        assert!(!rules[0].allow());
        assert!(rules.iter().any(|rule| rule.allow() && (rule.major(), rule.minor()) == (Some(1), Some(3))));
        assert_eq!(rules.len(), 12);
    }
}
