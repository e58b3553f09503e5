//! Fuzz targets: every parser that reads a stranger's bytes, with what must hold for whatever they are.
//!
//! A [`Target`] is a function of bytes. It panics when something is wrong: not only where husk itself would panic, but also
//! when two readings of the same bytes differ, when something printed is not read again as what it was, when another
//! implementation reads a well-formed input otherwise, or when something outside of the unpacker's directory has changed.
//! [`check`] adds bounds on memory and processor time.
//!
//! Three things run the targets: `tests/corpus.rs` (part of `make test`) replays seeds and corpus and mutates them for a
//! bounded time; `hack/fuzz` runs them under libFuzzer, guided by coverage; a found input goes to `corpus/<target>/` and
//! is replayed ever after.
#![forbid(unsafe_code)]

mod mutate;
mod podmon;
mod target;
mod targets;

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use peak_alloc::PeakAlloc;
use rustix::time::{ClockId, clock_gettime};

pub use mutate::Mutator;
pub use target::Target;
pub use targets::TARGETS;

/// Counts what is allocated, of the whole process: run one target at a time.
#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Processor time that one input may take. The slowest known ones take a twentieth of it in a debug build.
const PROCESSOR: Duration = Duration::from_secs(10);

/// Panics so far, on whatever thread: a task's panic does not reach who runs it.
pub static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Counts panics from now on.
pub fn count_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        usual(info);
    }));
}

/// Runs a target on an input, within its bounds.
///
/// # Panics
/// When anything is wrong.
pub fn check(target: &Target, bytes: &[u8]) {
    let panics = PANICS.load(Ordering::SeqCst);
    let (before, begin) = (MEMORY.current_usage(), processor());
    MEMORY.reset_peak_usage();
    (target.run)(bytes);
    let (peak, took) = (MEMORY.peak_usage().saturating_sub(before), processor().saturating_sub(begin));
    let bound = target.memory + target.factor * bytes.len();
    assert!(
        peak <= bound,
        "{} bytes of {} took {peak} bytes of memory; {bound} is the bound",
        bytes.len(),
        target.name
    );
    assert!(took <= PROCESSOR, "{} bytes of {} took {took:?} of a processor", bytes.len(), target.name);
    assert_eq!(PANICS.load(Ordering::SeqCst), panics, "a thread or task of {} panicked", target.name);
}

fn processor() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}
