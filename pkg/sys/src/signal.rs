//! Signal dispositions and mask of the calling process.

use std::{mem::MaybeUninit, ptr};

/// Highest signal number of Linux.
const LAST: libc::c_int = 64;

/// Every signal back to its default, none blocked: what a new program expects. (execve itself resets handlers but keeps
/// ignored signals ignored, and Rust programs ignore SIGPIPE.)
pub fn reset() {
    for signal in 1..=LAST {
        // SAFETY: SIG_DFL is a valid disposition for every signal; the kernel refuses the change of SIGKILL, SIGSTOP and
        // those glibc reserves with EINVAL, which leaves them at their default.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    unblock_all();
}

/// Unblocks all signals.
pub fn unblock_all() {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set before sigprocmask reads it.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigprocmask(libc::SIG_SETMASK, set.as_ptr(), ptr::null_mut());
    }
}
