//! What a process keeps of the memory that its threads have freed. Alone in its process, without a harness: it measures that.

use std::fs;

/// What each thread takes: far more than what the rest of the test does.
const TAKEN: usize = 12 << 20;
/// Freed once, it lets the allocator keep twice as much at the end of each arena (mallopt(3), `M_TRIM_THRESHOLD`).
const LARGE: usize = 16 << 20;

/// Anonymous memory of this process, in bytes.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

/// Takes memory in pieces that come from an arena, and frees it, but for the first piece.
fn take_and_free() -> Vec<u8> {
    let mut pieces: Vec<_> = (0..TAKEN / 4096).map(|_| vec![1_u8; 4096]).collect();
    pieces.swap_remove(0)
}

fn main() {
    if cfg!(target_env = "gnu") {
        what_threads_have_freed_goes_back_to_the_kernel();
    }
}

fn what_threads_have_freed_goes_back_to_the_kernel() {
    husk_sys::memory::use_one_arena();
    drop(vec![1_u8; LARGE]);
    let before = resident();
    let threads: Vec<_> = (0..3).map(|_| std::thread::spawn(take_and_free)).collect();
    let kept: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    husk_sys::memory::trim();
    let after = resident();
    assert!(after < before + TAKEN, "{after} bytes instead of {before}");
    drop(kept);
}
