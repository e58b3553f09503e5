//! Namespaces of the calling thread.

use std::os::fd::AsFd;

use rustix::thread::{self, LinkNameSpaceType, ThreadNameSpaceType, UnshareFlags};

use crate::{Result, error::Named};

/// Joins namespaces of the process behind a pidfd, all or none.
///
/// # Errors
/// `ESRCH` when the process has been reaped or is a zombie, else those of setns(2).
pub fn join(pidfd: impl AsFd, kinds: ThreadNameSpaceType) -> Result<()> {
    thread::move_into_thread_name_spaces(pidfd.as_fd(), kinds).named("setns", || format!("pidfd, {kinds:?}"))
}

/// Joins one namespace by a descriptor of it.
///
/// # Errors
/// `EINVAL` when it is of another kind or no namespace, else those of setns(2).
pub fn join_one(namespace: impl AsFd, kind: LinkNameSpaceType) -> Result<()> {
    thread::move_into_link_name_space(namespace.as_fd(), Some(kind))
        .named("setns", || format!("fd, {kind:?}"))
}

/// Leaves namespaces for new ones.
///
/// # Errors
/// `EINVAL` if `kinds` asks to unshare descriptors, which this function does not do; else those of unshare(2).
pub fn unshare(kinds: UnshareFlags) -> Result<()> {
    if kinds.contains(UnshareFlags::FILES) {
        return Err(crate::Error::new("unshare", "CLONE_FILES", rustix::io::Errno::INVAL));
    }
    // SAFETY: the one hazard rustix names is CLONE_FILES, which was refused above.
    unsafe { thread::unshare_unsafe(kinds) }.named("unshare", || format!("{kinds:?}"))
}
