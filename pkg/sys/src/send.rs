//! Signals by number: a request may name a real-time one (`STOPSIGNAL SIGRTMIN+3`), which rustix has no name for.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
    ptr,
};

/// Highest signal number of Linux.
const LAST: u32 = 64;

/// Sends signal `number` to a process. One that has ended is success: there is nothing left to signal.
///
/// # Errors
/// `EINVAL` for a number outside 1-64, and those of pidfd_send_signal(2).
pub fn signal(pidfd: impl AsFd, number: u32) -> io::Result<()> {
    if !(1..=LAST).contains(&number) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let (fd, info, flags) = (pidfd.as_fd().as_raw_fd(), ptr::null::<libc::siginfo_t>(), 0);
    // SAFETY: the descriptor is borrowed and open; a null siginfo is allowed (the kernel fills in that of kill(2)).
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, number, info, flags) };
    match result {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            error => Err(error),
        },
    }
}
