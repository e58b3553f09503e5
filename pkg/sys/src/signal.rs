//! Signal dispositions and mask of the calling process.

use std::{mem::MaybeUninit, ptr, sync::OnceLock};

/// Highest signal number of Linux.
const LAST: libc::c_int = 64;

/// The kernel's struct sigaction (rt_sigaction(2)). Not through the C library, which keeps signals 32 and 33 for itself and
/// would leave them ignored.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Action {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

/// Those that this process ignores, as of the first [`survey`].
static IGNORED: OnceLock<Vec<libc::c_int>> = OnceLock::new();

/// Finds out which signals this process ignores, once: a parent does it before it clones, so that each of its children makes
/// few calls instead of one for each signal. Whoever ignores another one later must do so for itself alone.
pub fn survey() {
    IGNORED.get_or_init(|| (1..=LAST).filter(|&signal| is_ignored(signal)).collect());
}

fn is_ignored(signal: libc::c_int) -> bool {
    let mut now = Action::default();
    // SAFETY: without a new action the kernel only writes the present one, of the size that is passed, which lives across
    // the call.
    let read =
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, ptr::null::<Action>(), &raw mut now, 8) };
    read == 0 && now.handler == libc::SIG_IGN
}

/// Every signal as a new program expects it: its default, and none blocked. execve itself resets handlers and keeps what is
/// ignored, and Rust programs ignore SIGPIPE; so what was found ignored ([`survey`]) is reset here. Handlers are for
/// the clone to clear (`CLONE_CLEAR_SIGHAND`) and for execve.
pub fn reset() {
    survey();
    let default = Action::default();
    for &signal in IGNORED.get().into_iter().flatten() {
        // SAFETY: the kernel reads a whole `Action`, all zero (SIG_DFL, no flags, no restorer, nothing masked), and writes
        // nothing; a default disposition is valid for every signal.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, &raw const default, ptr::null_mut::<Action>(), 8)
        };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_test_runner_ignores_is_found() {
        assert!(is_ignored(libc::SIGPIPE), "as every Rust program does");
        assert!(!is_ignored(libc::SIGKILL));
    }
}
