//! Cgroups: layout, controllers, and whether a group can be made.

use husk_cgroup::{CgroupPath, Controller, Hierarchy, Version};
use husk_model::chain;

use crate::Check;

const NO_POD: &str = "no pod can be started";
const SWITCH: &str = "boot with cgroup v2: systemd.unified_cgroup_hierarchy=1 on the kernel's command line";

pub(crate) fn checks() -> Vec<Check> {
    let hierarchy = match Hierarchy::detect() {
        Ok(hierarchy) => hierarchy,
        Err(error) => {
            return vec![Check::missing("cgroups", chain(&error), NO_POD, "mount cgroup2 at /sys/fs/cgroup")];
        }
    };
    vec![layout(&hierarchy), controllers(&hierarchy), group(&hierarchy)]
}

fn layout(hierarchy: &Hierarchy) -> Check {
    let version = hierarchy.version();
    let found =
        format!("{}{}", version.as_str(), if hierarchy.has_kill() { ", with cgroup.kill" } else { "" });
    match version {
        Version::V2 => Check::ok("cgroup layout", found),
        Version::V1 | Version::Hybrid => Check::warning(
            "cgroup layout",
            found,
            "kubelets from 1.35 on refuse to start on v1, and memory QoS, swap limits and PSI do not work",
            SWITCH,
        ),
    }
}

fn controllers(hierarchy: &Hierarchy) -> Check {
    let lacking = |wanted: &[(Controller, &str)]| -> Vec<String> {
        wanted
            .iter()
            .filter(|(controller, _)| !hierarchy.has(*controller))
            .map(|(_, name)| (*name).to_owned())
            .collect()
    };
    let needed = lacking(&[
        (Controller::Cpu, "cpu"),
        (Controller::Memory, "memory"),
        (Controller::Pids, "pids"),
        (Controller::Devices, "devices"),
    ]);
    let wanted =
        lacking(&[(Controller::CpuSet, "cpuset"), (Controller::Io, "io"), (Controller::HugeTlb, "hugetlb")]);
    let remedy =
        "enable them on the kernel's command line (cgroup_enable=memory) or in the kernel's configuration";
    if !needed.is_empty() {
        let found = format!("without {}", needed.join(", "));
        return Check::missing("cgroup controllers", found, "containers with limits are refused", remedy);
    }
    if !wanted.is_empty() {
        let found = format!("without {}", wanted.join(", "));
        return Check::warning("cgroup controllers", found, "limits of these kinds are not set", remedy);
    }
    Check::ok("cgroup controllers", "cpu, memory, pids, devices, cpuset, io, hugetlb")
}

/// Makes a group of this process's own name and removes it.
fn group(hierarchy: &Hierarchy) -> Check {
    let tried = CgroupPath::parse(&format!("/husk-check-{}", std::process::id()))
        .map_err(husk_cgroup::Error::from)
        .and_then(|path| hierarchy.create(&path))
        .and_then(|group| group.remove());
    match tried {
        Ok(()) => Check::ok("cgroup", "a group was made and removed"),
        Err(error) => Check::missing(
            "cgroup",
            chain(&error),
            NO_POD,
            "run as root, with the cgroup hierarchy mounted read-write",
        ),
    }
}
