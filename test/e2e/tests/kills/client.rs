//! A client that outlives huskd: calls that were cut off are repeated, as a kubelet does, and only answers count.

use std::{
    collections::HashSet,
    error::Error,
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use husk_e2e::{Cri, patience};
use tonic::{Code, Status};

/// What workers and the killer share.
#[derive(Debug)]
pub struct Shared {
    /// huskd's socket.
    pub address: PathBuf,
    /// The daemon's own directory.
    pub dir: PathBuf,
    /// No new life begins any more.
    pub over: AtomicBool,
    /// A worker gave up: the killer stops too.
    pub failed: AtomicBool,
    /// Every pod may be hurt, at a moment that nobody here knows.
    pub all_hurt: AtomicBool,
    /// Pods of which something was killed but huskd.
    hurt: Mutex<HashSet<String>>,
    /// How often something was hurt, known or not.
    hits: AtomicU64,
    /// Answers that callers got.
    answers: AtomicU64,
    /// What was counted, by name.
    counts: Mutex<std::collections::BTreeMap<&'static str, u64>>,
}

impl Shared {
    pub fn new(address: PathBuf, dir: PathBuf) -> Self {
        Self {
            address,
            dir,
            over: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            all_hurt: AtomicBool::new(false),
            hurt: Mutex::default(),
            hits: AtomicU64::new(0),
            answers: AtomicU64::new(0),
            counts: Mutex::default(),
        }
    }

    /// Notes that a pod is about to be hurt, before it is.
    pub fn hurt(&self, pod: &str) {
        self.hurt.lock().unwrap().insert(pod.to_owned());
        self.hits.fetch_add(1, Ordering::SeqCst);
    }

    pub fn is_hurt(&self, pod: &str) -> bool {
        self.all_hurt.load(Ordering::SeqCst) || self.hurt.lock().unwrap().contains(pod)
    }

    /// Whether something was hurt since there were so many hits.
    pub fn was_hit_since(&self, hits: u64) -> bool {
        self.all_hurt.load(Ordering::SeqCst) || self.hits() > hits
    }

    /// How many answers callers got.
    pub fn answers(&self) -> u64 {
        self.answers.load(Ordering::SeqCst)
    }

    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::SeqCst)
    }

    pub fn count(&self, what: &'static str, by: u64) {
        *self.counts.lock().unwrap().entry(what).or_default() += by;
    }

    pub fn report(&self) -> String {
        let counts = self.counts.lock().unwrap();
        counts.iter().map(|(what, count)| format!("  {what}: {count}\n")).collect()
    }
}

/// A client of one worker.
#[derive(Debug)]
pub struct Client<'a> {
    cri: Cri,
    pub shared: &'a Shared,
}

/// Longest time that huskd may be away or busy with one call.
const LIMIT: Duration = Duration::from_secs(600);

impl<'a> Client<'a> {
    pub fn new(shared: &'a Shared) -> Self {
        Self { cri: Cri::connect_lazily(&shared.address), shared }
    }

    /// Calls until there is an answer of huskd's.
    #[allow(clippy::disallowed_methods, reason = "no event tells a client that a daemon is back")]
    pub fn call<T>(&self, mut call: impl FnMut(&Cri) -> Result<T, Status>) -> Result<T, Status> {
        let deadline = Instant::now() + patience(LIMIT);
        loop {
            match call(&self.cri) {
                Err(status) if was_cut_off(&status) => {
                    self.shared.count("calls cut off", 1);
                    assert!(Instant::now() < deadline, "huskd does not come back: {status}");
                    std::thread::sleep(Duration::from_millis(5));
                }
                answer => {
                    self.shared.answers.fetch_add(1, Ordering::SeqCst);
                    self.shared.count("answers", 1);
                    return answer;
                }
            }
        }
    }
}

/// Whether an error was made on this side, because the connection ended, and not by huskd.
fn was_cut_off(status: &Status) -> bool {
    status.source().is_some() && status.code() != Code::OutOfRange
}
