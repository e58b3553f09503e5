//! User namespaces without a pod: made for a container that stands alone, or for the ids of a mount, by a process that holds one for
//! a moment.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use husk_model::IdMaps;
use husk_sys::{clone, namespace, pidfd, procfs::Procfs};
use rustix::{
    process::Signal,
    thread::{ThreadNameSpaceType, UnshareFlags},
};

use crate::{
    Account, CgroupTarget, Error, Failure, Report, Result, Step,
    child::{self, Launch, Link, Succession},
    failure::At,
    userns,
};

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
            userns::furnish(pid, mappings, None)?;
            userns::of(pid)
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
        let read = |name| proc.read_of(pid, name).map(|text| userns::ranges(&text)).map_err(call);
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
        keep,
        tells_ready: true,
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
