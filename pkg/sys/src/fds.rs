//! Descriptor hygiene: nothing of the parent stays open in a child, nothing at all across execve.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::{
    Result,
    error::{Named, check},
};

/// Marks every descriptor from `first` on close-on-exec.
///
/// # Errors
/// Those of close_range(2); the flag needs Linux 5.11.
pub fn cloexec_from(first: u32) -> Result<()> {
    range(first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC as libc::c_uint)
}

/// Takes close-on-exec away from the `count` descriptors from `first` on. Numbers that are none are passed over.
///
/// # Errors
/// Those of fcntl(2).
pub fn keep_across_exec(first: u32, count: u32) -> Result<()> {
    for number in first..first.saturating_add(count) {
        // SAFETY: a number and two constants; the kernel says whether it is a descriptor.
        match check(unsafe { libc::syscall(libc::SYS_fcntl, number, libc::F_SETFD, 0) }) {
            Ok(_) | Err(rustix::io::Errno::BADF) => {}
            kept => kept.named("fcntl", || format!("{number}, F_SETFD, 0")).map(drop)?,
        }
    }
    Ok(())
}

/// Closes every descriptor from 3 on but those in `keep`.
///
/// For a freshly cloned child: the parent's other descriptors (sockets, other children's pipes) would otherwise stay
/// open for as long as the child waits, and peers would never see their end.
///
/// Owners of the closed descriptors must not be dropped afterwards; the child leaves by `_exit` or `execve`.
///
/// # Errors
/// Those of close_range(2).
pub fn close_all_but(keep: &mut [RawFd]) -> Result<()> {
    keep.sort_unstable();
    let mut first = 3_u32;
    for &fd in keep.iter() {
        let Ok(fd) = u32::try_from(fd) else { continue };
        if fd < first {
            continue;
        }
        if fd > first {
            range(first, fd - 1, 0)?;
        }
        first = fd + 1;
    }
    range(first, u32::MAX, 0)
}

/// A copy of a descriptor, at `lowest` or above, that a program executed from here has open: its number is told to that.
///
/// # Errors
/// Those of fcntl(2).
pub fn inheritable(fd: impl AsFd, lowest: RawFd) -> Result<OwnedFd> {
    // SAFETY: the descriptor is borrowed and open; the call touches no memory.
    let copy =
        check(unsafe { libc::syscall(libc::SYS_fcntl, fd.as_fd().as_raw_fd(), libc::F_DUPFD, lowest) })
            .named("fcntl", || format!("F_DUPFD, {lowest}"))?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy as RawFd) })
}

/// Takes over the descriptor of a number that whoever executed us has told us, at its start: a copy, close-on-exec. The number itself
/// is closed.
///
/// # Errors
/// `EBADF` when it is none.
pub fn adopt(number: RawFd) -> Result<OwnedFd> {
    if number < 3 {
        return Err(crate::Error::new(
            "fcntl",
            format!("{number}, which is a standard stream"),
            rustix::io::Errno::BADF,
        ));
    }
    // SAFETY: a number and two constants; the kernel says whether it is a descriptor.
    let copy = check(unsafe { libc::syscall(libc::SYS_fcntl, number, libc::F_DUPFD_CLOEXEC, 3) })
        .named("fcntl", || format!("{number}, F_DUPFD_CLOEXEC"))?;
    let number = number as u32;
    range(number, number, 0)?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy as RawFd) })
}

/// Whether a number is an open descriptor.
pub fn is_open(number: RawFd) -> bool {
    // SAFETY: a number and a constant; the kernel says whether it is a descriptor.
    check(unsafe { libc::syscall(libc::SYS_fcntl, number, libc::F_GETFD) }).is_ok()
}

fn range(first: u32, last: u32, flags: libc::c_uint) -> Result<()> {
    // SAFETY: close_range touches no memory of ours. Descriptors closed under their owners are those of frames that the
    // child, by the contract above, never returns to.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) })
        .named("close_range", || format!("{first}, {last}"))
        .map(drop)
}
