//! The process's own memory.

/// Gives memory that was freed back to the kernel: without it, a long-lived process keeps what its largest request
/// needed. A walk over the heap, tens of microseconds for a small one.
pub fn trim() {
    // SAFETY: malloc_trim takes the allocator's own lock, touches free chunks only and has no precondition.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
