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

use std::os::fd::OwnedFd;

use husk_model::{IdMapping, IdMappings, ResolvedUser};
use husk_sys::{namespace, procfs::Procfs};
use rustix::{
    io::Errno,
    thread::{ThreadNameSpaceType, UnshareFlags},
};

use crate::{ContainerPlan, Error, Failure, PidNs, Result, Step, capabilities, failure::At};

/// Refuses a user whom the namespace does not know, in words better than the kernel's.
pub(crate) fn check_user(mappings: &IdMappings, user: &ResolvedUser) -> Result<(), Failure> {
    let refuse = |kind, id| {
        let detail = format!("{kind} {id} is not mapped in the pod's user namespace");
        Err(Failure::because(Step::ResolveUser, "", detail))
    };
    if !mappings.uids.maps(user.uid) {
        return refuse("uid", user.uid);
    }
    match user.groups.iter().chain([&user.gid]).find(|&&gid| !mappings.gids.maps(gid)) {
        Some(gid) => refuse("gid", *gid),
        None => Ok(()),
    }
}

/// Checks what everything else here relies on: id 0 is mapped, and no range overflows.
///
/// # Errors
/// [`Error::InvalidPlan`].
pub(crate) fn check(mappings: &IdMappings) -> Result<()> {
    for (kind, map) in [("uid", mappings.uids), ("gid", mappings.gids)] {
        let refuse = |why| Err(Error::InvalidPlan(format!("{kind} mappings: {why}")));
        if map.container_id != 0 || map.length == 0 {
            return refuse("id 0 of the container is not mapped");
        }
        if map.host_id.checked_add(map.length).is_none() {
            return refuse("a range ends beyond the last id");
        }
    }
    Ok(())
}

/// Writes the maps of a child that was born in a new user namespace and is not reaped, and what only the node's root can set for it.
pub(crate) fn furnish(pid: u32, mappings: &IdMappings, oom_score_adj: Option<i32>) -> Result<()> {
    let call = |intent| move |source| Error::Call { intent, source };
    let proc = Procfs::host().map_err(call("open /proc"))?;
    for (name, map) in [("uid_map", mappings.uids), ("gid_map", mappings.gids)] {
        proc.write_of(pid, name, &line(map)).map_err(call("map the ids of a user namespace"))?;
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
fn line(map: IdMapping) -> String {
    format!("{} {} {}\n", map.container_id, map.host_id, map.length)
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

/// Opens the user namespace of a child that is not reaped.
pub(crate) fn of(pid: u32) -> Result<OwnedFd> {
    Procfs::host()
        .and_then(|proc| proc.namespace_of(pid, "user"))
        .map_err(|source| Error::Call { intent: "open the user namespace of the pod", source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mappings(container_id: u32, host_id: u32, length: u32) -> IdMappings {
        let map = IdMapping { container_id, host_id, length };
        IdMappings { uids: map, gids: map }
    }

    #[test]
    fn a_map_is_one_line() {
        assert_eq!(line(mappings(0, 100_000, 65_536).uids), "0 100000 65536\n");
    }

    #[test]
    fn mappings_have_root_and_do_not_overflow() {
        assert!(check(&mappings(0, 100_000, 65_536)).is_ok());
        for bad in [mappings(1, 100_000, 10), mappings(0, 100_000, 0), mappings(0, u32::MAX, 2)] {
            assert!(check(&bad).is_err(), "{bad:?}");
        }
    }
}
