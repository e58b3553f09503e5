//! Namespaces of the calling thread.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use rustix::thread::{self, LinkNameSpaceType, ThreadNameSpaceType, UnshareFlags};

use crate::{
    Result,
    error::{Named, check},
};

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

/// The user namespace that owns a namespace (ioctl_ns(2)).
///
/// # Errors
/// `EPERM` when it is none the caller can see, `ENOTTY` for what is no namespace.
pub fn owner(namespace: impl AsFd) -> Result<OwnedFd> {
    /// `_IO(0xb7, 0x1)`
    const NS_GET_USERNS: libc::c_ulong = 0xb701;
    // SAFETY: the ioctl takes no argument and touches no memory of ours.
    let fd = check(unsafe { libc::syscall(libc::SYS_ioctl, namespace.as_fd().as_raw_fd(), NS_GET_USERNS) })
        .named("ioctl", || "fd, NS_GET_USERNS".into())?;
    // SAFETY: the ioctl succeeded, so the kernel made this descriptor for us and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}
