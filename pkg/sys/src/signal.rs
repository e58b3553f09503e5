//! Signal dispositions and mask of the calling process.

use std::{mem::MaybeUninit, ptr};

/// Highest signal number of Linux.
const LAST: libc::c_int = 64;

/// Every signal back to its default, none blocked: what a new program expects. (execve itself resets handlers but keeps
/// ignored signals ignored, and Rust programs ignore SIGPIPE.)
pub fn reset() {
    // The kernel's struct sigaction, all zero: SIG_DFL, no flags, no restorer, nothing masked. Not through the C library,
    // which keeps signals 32 and 33 for itself and would leave them ignored.
    let default = [0_u64; 4];
    for signal in 1..=LAST {
        // SAFETY: the kernel reads 32 bytes, which `default` has, and writes nothing; a default disposition is valid for
        // every signal, and its change is refused for SIGKILL and SIGSTOP, which cannot have another.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), ptr::null_mut::<u64>(), 8) };
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
