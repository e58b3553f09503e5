//! The sandbox process of a pod: it holds the namespaces that the containers join, and waits.
//!
//! As PID 1 of a shared PID namespace it also reaps the orphans of the pod. SIGTERM and SIGINT end it, and with PID 1
//! every process of the namespace. It has no configuration, no output and no memory of its own but one page.
//!
//! With `panic = "abort"` (the `monitor` profile) it is freestanding: no libstd, no C library, one kilobyte. In other
//! profiles the same code is an ordinary program, so that the workspace builds and checks as one.
#![cfg_attr(panic = "abort", no_std, no_main)]
#![allow(unsafe_code)]

mod syscall;

use syscall::{Signals, exit, reap_all, set_name, wait_for};

const SIGINT: u32 = 2;
const SIGTERM: u32 = 15;
const SIGCHLD: u32 = 17;

/// Waits for ever.
fn pause() -> ! {
    set_name(c"husk-pause");
    // Blocked signals are queued even for PID 1, which without handlers is deaf to everything else; and a blocked
    // SIGCHLD cannot be lost between the reaping and the waiting.
    let signals = Signals::of(&[SIGINT, SIGTERM, SIGCHLD]);
    signals.block();
    loop {
        // Also when we are not PID 1: a subreaper's child may have left us its children.
        reap_all();
        if matches!(wait_for(&signals), SIGINT | SIGTERM) {
            exit(0);
        }
    }
}

#[cfg(not(panic = "abort"))]
fn main() {
    pause()
}

#[cfg(panic = "abort")]
mod freestanding {
    //! What the C library would bring: the entry point and the panic handler.

    // The kernel enters with the stack pointer at argc; the ABI wants it aligned at a call.
    #[cfg(target_arch = "x86_64")]
    core::arch::global_asm!(
        ".globl _start",
        "_start:",
        "xor ebp, ebp",
        "and rsp, -16",
        "call {start}",
        "ud2",
        start = sym start,
    );

    #[cfg(target_arch = "aarch64")]
    core::arch::global_asm!(".globl _start", "_start:", "mov x29, #0", "bl {start}", "brk #1", start = sym start);

    extern "C" fn start() -> ! {
        super::pause()
    }

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        super::exit(101)
    }
}
