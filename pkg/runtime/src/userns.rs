//! A pod's user namespace: made with pause, which is born in it, and entered by every container and exec of the pod.
//!
//! ```text
//! monitor                                  pause, born unmapped
//!   uid_map, gid_map, oom_score_adj           waits at its gate: an unmapped process can own nothing
//!   (the pod's network is set up)
//!   open_gate ──────────────────────────────▶ becomes root of the namespace, builds the pod's tree, execve
//!
//! monitor                                  a container's child, with all privileges of the node
//!   clone ──────────────────────────────────▶ sources, devices, overlay: all that needs the node
//!                                             setns(user), root of the namespace
//!   read_report ◀─ Moved ───────────────────┤ with a PID namespace of its own: clones its successor into one, exits
//!   read_report ◀─ Ready ───────────────────┘ mounts, pivot_root... as any container
//! ```
//!
//! A PID namespace belongs to the user namespace of whoever makes it, and only its owner may mount its /proc. That is why
//! the process that enters the user namespace makes it, as its monitor's child (`CLONE_PARENT`) and not its own.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use husk_model::{IdMapping, IdMaps, ResolvedUser};
use husk_sys::{clone, namespace, pidfd, procfs::Procfs};
use rustix::{
    io::Errno,
    process::Signal,
    thread::{ThreadNameSpaceType, UnshareFlags},
};

use crate::{
    Account, CgroupTarget, ContainerPlan, Error, Failure, PidNs, Report, Result, Step, capabilities,
    child::{self, Launch, Link, Succession},
    failure::At,
    nsfd,
};

/// Most ranges of a map (UID_GID_MAP_MAX_EXTENTS, Linux 4.15).
const MAX_RANGES: usize = 340;

/// Refuses a user whom the namespace does not know, in words better than the kernel's.
pub(crate) fn check_user(mappings: &IdMaps, user: &ResolvedUser) -> Result<(), Failure> {
    let refuse = |kind, id| {
        let detail = format!("{kind} {id} is not mapped in the user namespace");
        Err(Failure::because(Step::ResolveUser, "", detail))
    };
    if !mappings.maps_user(user.uid) {
        return refuse("uid", user.uid);
    }
    match user.groups.iter().chain([&user.gid]).find(|&&gid| !mappings.maps_group(gid)) {
        Some(gid) => refuse("gid", *gid),
        None => Ok(()),
    }
}

/// Checks what everything else here relies on: id 0 is mapped, and no range overflows.
///
/// # Errors
/// [`Error::InvalidPlan`].
pub(crate) fn check(mappings: &IdMaps) -> Result<()> {
    for (kind, ranges) in [("uid", &mappings.uids), ("gid", &mappings.gids)] {
        let refuse = |why| Err(Error::InvalidPlan(format!("{kind} mappings: {why}")));
        if ranges.len() > MAX_RANGES {
            return refuse("more ranges than the kernel takes");
        }
        if !ranges.iter().any(|range| range.maps(0)) {
            return refuse("id 0 of the container is not mapped");
        }
        let fits = |first: u32, length: u32| first.checked_add(length).is_some();
        if ranges
            .iter()
            .any(|range| !fits(range.host_id, range.length) || !fits(range.container_id, range.length))
        {
            return refuse("a range ends beyond the last id");
        }
    }
    Ok(())
}

/// Writes the maps of a child that was born in a new user namespace and is not reaped, and what only the node's root can set for it.
pub(crate) fn furnish(pid: u32, mappings: &IdMaps, oom_score_adj: Option<i32>) -> Result<()> {
    let call = |intent| move |source| Error::Call { intent, source };
    let proc = Procfs::host().map_err(call("open /proc"))?;
    for (name, ranges) in [("uid_map", &mappings.uids), ("gid_map", &mappings.gids)] {
        proc.write_of(pid, name, &lines(ranges)).map_err(call("map the ids of a user namespace"))?;
    }
    let Some(score) = oom_score_adj else { return Ok(()) };
    match proc.write_of(pid, "oom_score_adj", &score.to_string()) {
        // As in `sandbox`: without CAP_SYS_RESOURCE the inherited score is the best there is.
        Err(error) if !matches!(error.errno(), Errno::ACCESS | Errno::PERM) => {
            Err(call("set the OOM score of pause")(error))
        }
        _ => Ok(()),
    }
}

/// The text of a `uid_map`.
fn lines(ranges: &[IdMapping]) -> String {
    ranges.iter().map(|map| format!("{} {} {}\n", map.container_id, map.host_id, map.length)).collect()
}

/// The ranges in the text of a `uid_map`; what is no range is left out.
fn ranges(text: &str) -> Vec<IdMapping> {
    let range = |line: &str| {
        let mut numbers = line.split_ascii_whitespace().map(|number| number.parse().ok());
        let (container_id, host_id, length) = (numbers.next()??, numbers.next()??, numbers.next()??);
        Some(IdMapping { host_id, container_id, length })
    };
    text.lines().filter_map(range).collect()
}

/// Makes a user namespace that nobody is in. The caller has one thread.
///
/// # Errors
/// When there are more or other ranges than the kernel takes, or a call fails.
pub fn make_user_namespace(mappings: &IdMaps) -> Result<OwnedFd> {
    with_holder(
        UnshareFlags::NEWUSER,
        Vec::new(),
        |_| Ok(()),
        |pid| {
            furnish(pid, mappings, None)?;
            nsfd::user_of(pid)
        },
    )
}

/// The mappings of a user namespace. The caller has one thread.
///
/// # Errors
/// `EINVAL` when `namespace` is none, or one that the caller is in; else those of the calls.
pub fn user_namespace_mappings(namespace: &OwnedFd) -> Result<IdMaps> {
    let join = |_: &Link| namespace::join(namespace, ThreadNameSpaceType::USER).at(Step::Namespaces, "user");
    with_holder(UnshareFlags::empty(), vec![namespace.as_raw_fd()], join, |pid| {
        let call = |source| Error::Call { intent: "read the mappings of a user namespace", source };
        let proc = Procfs::host().map_err(call)?;
        let read = |name| proc.read_of(pid, name).map(|text| ranges(&text)).map_err(call);
        Ok(IdMaps { uids: read("uid_map")?, gids: read("gid_map")? })
    })
}

/// Runs `work` with the pid of a process that is in the namespace meanwhile, and ends that.
fn with_holder<T>(
    namespaces: UnshareFlags,
    keep: Vec<RawFd>,
    enter: impl FnOnce(&Link) -> Result<(), Failure>,
    work: impl FnOnce(u32) -> Result<T>,
) -> Result<T> {
    let cgroup = CgroupTarget::default();
    let launch = Launch {
        namespaces,
        pid_namespace_of: None,
        cgroup: &cgroup,
        elsewhere: &mut child::nowhere_else,
        keep,
        tells_ready: true,
        listens: false,
        succession: Succession::No,
    };
    let mut child = child::launch(launch, |link| {
        enter(link)?;
        link.ready(&Account::default(), Vec::new(), None)?;
        link.wait_gate()?;
        clone::exit(0)
    })?;
    let outcome = match child.await_report() {
        Ok(Report::Ready(_)) => work(child.pid),
        Ok(Report::Failed(failure)) => Err(Error::InvalidPlan(failure.to_string())),
        Ok(_) => Err(Error::InvalidPlan("the holder of a user namespace ended".to_owned())),
        Err(error) => Err(error),
    };
    let _ = pidfd::signal(&child.pidfd, Signal::KILL);
    let _ = pidfd::reap(&child.pidfd);
    outcome
}

/// Makes the process, which has just come into its user namespace, root there. Its capabilities are full already; what
/// it makes shall belong to somebody whom the namespace knows.
pub(crate) fn become_root() -> Result<(), Failure> {
    capabilities::change_user(&ResolvedUser::default())
}

/// Enters the pod's user namespace together with those it may share with the node, which takes the node's privileges.
pub(crate) fn enter(plan: &ContainerPlan) -> Result<(), Failure> {
    let namespaces = &plan.namespaces;
    let kinds = ThreadNameSpaceType::USER | namespaces.shared();
    namespace::join(&namespaces.sandbox, kinds).at(Step::Namespaces, "of the pod")?;
    become_root()
}

/// The PID namespace that has to be made from inside the user namespace.
pub(crate) fn late_namespaces(plan: &ContainerPlan) -> UnshareFlags {
    match (&plan.namespaces.user, &plan.namespaces.pid) {
        (Some(_), PidNs::Own) => UnshareFlags::NEWPID,
        _ => UnshareFlags::empty(),
    }
}

#[cfg(test)]
mod tests {
    use husk_model::IdMappings;

    use super::*;

    fn mappings(container_id: u32, host_id: u32, length: u32) -> IdMaps {
        let map = IdMapping { container_id, host_id, length };
        IdMappings { uids: map, gids: map }.into()
    }

    #[test]
    fn a_map_is_a_line_for_each_range() {
        let of = mappings(0, 100_000, 65_536).uids;
        assert_eq!(lines(&of), "0 100000 65536\n");
        assert_eq!(ranges(&lines(&of)), of);
        assert_eq!(ranges("         0     100000      65536\nx\n"), of, "as the kernel aligns it");
    }

    #[test]
    fn mappings_have_root_and_do_not_overflow() {
        assert!(check(&mappings(0, 100_000, 65_536)).is_ok());
        for bad in [mappings(1, 100_000, 10), mappings(0, 100_000, 0), mappings(0, u32::MAX, 2)] {
            assert!(check(&bad).is_err(), "{bad:?}");
        }
    }
}
