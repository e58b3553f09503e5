//! The six system calls pause makes.

use core::{arch::asm, ffi::CStr};

#[cfg(target_arch = "x86_64")]
mod number {
    //! From the kernel's syscall_64.tbl.
    pub const RT_SIGPROCMASK: usize = 14;
    pub const RT_SIGTIMEDWAIT: usize = 128;
    pub const WAIT4: usize = 61;
    pub const PRCTL: usize = 157;
    pub const EXIT_GROUP: usize = 231;
}

#[cfg(target_arch = "aarch64")]
mod number {
    //! From the kernel's asm-generic/unistd.h.
    pub const RT_SIGPROCMASK: usize = 135;
    pub const RT_SIGTIMEDWAIT: usize = 137;
    pub const WAIT4: usize = 260;
    pub const PRCTL: usize = 167;
    pub const EXIT_GROUP: usize = 94;
}

const SIG_BLOCK: usize = 0;
const WNOHANG: usize = 1;
const PR_SET_NAME: usize = 15;
/// Any child of whatever kind (`__WALL`): orphans may have been cloned without SIGCHLD.
const WALL: usize = 0x4000_0000;

/// A set of signals as the kernel has it: one bit each, signal 1 lowest.
pub struct Signals(u64);

impl Signals {
    /// The set of some signals.
    pub fn of(signals: &[u32]) -> Self {
        Self(signals.iter().fold(0, |set, signal| set | 1 << (signal - 1)))
    }

    /// Adds them to the blocked ones.
    pub fn block(&self) {
        // SAFETY: the kernel reads 8 bytes, which is the size of the u64 that lives in self.
        unsafe { call(number::RT_SIGPROCMASK, [SIG_BLOCK, &raw const self.0 as usize, 0, 8]) };
    }
}

/// Sleeps until one of the (blocked) signals is there; 0 when something else woke us.
pub fn wait_for(signals: &Signals) -> u32 {
    // SAFETY: the kernel reads 8 bytes of the set; no siginfo is written and no timeout read.
    let signal = unsafe { call(number::RT_SIGTIMEDWAIT, [&raw const signals.0 as usize, 0, 0, 8]) };
    u32::try_from(signal).unwrap_or(0)
}

/// Reaps every child that has ended.
pub fn reap_all() {
    // SAFETY: no status and no usage are written.
    while unsafe { call(number::WAIT4, [usize::MAX, 0, WNOHANG | WALL, 0]) } > 0 {}
}

/// Sets the name shown by ps.
pub fn set_name(name: &CStr) {
    // SAFETY: the kernel reads at most 16 bytes, up to the NUL.
    unsafe { call(number::PRCTL, [PR_SET_NAME, name.as_ptr() as usize, 0, 0]) };
}

/// Ends the process.
pub fn exit(code: usize) -> ! {
    loop {
        // SAFETY: ends the process; the loop is for the type only.
        unsafe { call(number::EXIT_GROUP, [code, 0, 0, 0]) };
    }
}

/// # Safety
/// The arguments must be what the system call of this number takes.
#[cfg(target_arch = "x86_64")]
unsafe fn call(number: usize, arguments: [usize; 4]) -> isize {
    let result;
    // SAFETY: the syscall instruction clobbers rcx and r11 only; memory is as the caller promises.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") arguments[0],
            in("rsi") arguments[1],
            in("rdx") arguments[2],
            in("r10") arguments[3],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// # Safety
/// The arguments must be what the system call of this number takes.
#[cfg(target_arch = "aarch64")]
unsafe fn call(number: usize, arguments: [usize; 4]) -> isize {
    let result;
    // SAFETY: svc clobbers nothing but x0; memory is as the caller promises.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") arguments[0] as isize => result,
            in("x1") arguments[1],
            in("x2") arguments[2],
            in("x3") arguments[3],
            options(nostack),
        );
    }
    result
}
