//! Descriptor hygiene: nothing of the parent stays open in a child, nothing at all across execve.

use std::os::fd::RawFd;

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

fn range(first: u32, last: u32, flags: libc::c_uint) -> Result<()> {
    // SAFETY: close_range touches no memory of ours. Descriptors closed under their owners are those of frames that the
    // child, by the contract above, never returns to.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) })
        .named("close_range", || format!("{first}, {last}"))
        .map(drop)
}
