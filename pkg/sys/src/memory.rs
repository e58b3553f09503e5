//! The process's own memory.

/// Makes all threads allocate from one arena (mallopt(3), `M_ARENA_MAX`). Each of the others would keep its largest extent for ever:
/// [`trim`] does not shorten them. For a process that allocates little at once; called before it has a second thread.
pub fn use_one_arena() {
    // SAFETY: it sets a number of the allocator's and has no precondition. Another libc has no arenas, or its own means.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives memory that was freed back to the kernel: without it, a long-lived process keeps what its largest request
/// needed. A walk over the heap, tens of microseconds for a small one.
pub fn trim() {
    // SAFETY: malloc_trim takes the allocator's own lock, touches free chunks only and has no precondition.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}
