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
mod targets;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use peak_alloc::PeakAlloc;
use rustix::time::{ClockId, clock_gettime};

pub use mutate::Mutator;
pub use targets::TARGETS;

/// Counts what is allocated, of the whole process: run one target at a time.
#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Processor time that one input may take. The slowest known ones take a twentieth of it in a debug build.
const PROCESSOR: Duration = Duration::from_secs(10);

/// One parser, or a few that belong together.
#[derive(Debug)]
pub struct Target {
    /// Its name, and its folder in `corpus`.
    pub name: &'static str,
    /// Longest input.
    pub length: usize,
    /// Memory that an input may take, in bytes: this, and [`Target::factor`] times its length.
    pub memory: usize,
    /// See [`Target::memory`].
    pub factor: usize,
    /// Well-formed inputs, made by husk's own code or another's.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Reads the bytes; panics when something is wrong.
    pub run: fn(&[u8]),
}

impl Target {
    /// The target called `name`.
    pub fn named(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }

    /// Inputs that are kept in the repository.
    pub fn corpus(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(self.name);
        let mut files: Vec<PathBuf> =
            fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        files.sort();
        files.into_iter().filter_map(|path| fs::read(&path).ok().map(|bytes| (path, bytes))).collect()
    }
}

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
