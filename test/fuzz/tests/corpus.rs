//! Replays the seeds and the kept corpus of every target, then mutates them: a bounded time, and the same inputs each run.
//!
//! `HUSK_FUZZ_SECONDS` is the time for mutations of each target (2; 0 replays alone), `HUSK_FUZZ_SEED` where they begin. An
//! input that fails is written to `target/fuzz/<target>`.
#![forbid(unsafe_code)]

use std::{
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Mutex, Once, PoisonError},
    time::{Duration, Instant},
};

use husk_fuzz::{Mutator, TARGETS, Target, check, count_panics};

/// Mutations of one target at most unless a time is given, so that fast machines make the same ones in every run.
const MUTATIONS: usize = 20_000;

/// Memory is counted for the whole process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
static HOOK: Once = Once::new();

fn number(variable: &str, default: u64) -> u64 {
    env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Runs an input; a failure names the file that has it.
fn run(target: &Target, bytes: &[u8], origin: &str) {
    if catch_unwind(AssertUnwindSafe(|| check(target, bytes))).is_ok() {
        return;
    }
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/fuzz").join(target.name);
    fs::create_dir_all(&dir).unwrap();
    let path: PathBuf = dir.join(format!("failed-{}", bytes.len()));
    fs::write(&path, bytes).unwrap();
    panic!("{} fails on {origin}; the input is in {}", target.name, path.display());
}

fn exercise(name: &str) {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    HOOK.call_once(count_panics);
    let target = Target::named(name).unwrap();
    let mut pool = (target.seeds)();
    assert!(!pool.is_empty(), "{name} has no seeds");
    // The first run fills caches that are not the input's.
    (target.run)(&pool[0]);
    for (at, seed) in pool.iter().enumerate() {
        run(target, seed, &format!("seed {at}"));
    }
    for (path, bytes) in target.corpus() {
        run(target, &bytes, &path.display().to_string());
        pool.push(bytes);
    }
    let (seed, end) =
        (number("HUSK_FUZZ_SEED", 1), Instant::now() + Duration::from_secs(number("HUSK_FUZZ_SECONDS", 2)));
    let mut mutator = Mutator::new(seed);
    let most = if env::var_os("HUSK_FUZZ_SECONDS").is_some() { usize::MAX } else { MUTATIONS };
    for count in 0..most {
        if Instant::now() >= end {
            break;
        }
        run(target, &mutator.next(&pool, target.length), &format!("mutation {count} of seed {seed}"));
    }
}

macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        $(#[test] fn $name() { exercise(stringify!($name)); })*

        #[test]
        fn every_target_is_exercised_here() {
            let here = [$(stringify!($name)),*];
            assert_eq!(here.to_vec(), TARGETS.iter().map(|target| target.name).collect::<Vec<_>>());
        }
    };
}

targets!(
    tar,
    made_archive,
    layer,
    put,
    inflate,
    manifest,
    child_config,
    reference,
    hosts,
    signature,
    policy,
    credentials,
    registries_conf,
    challenge,
    docker_archive,
    users,
    child,
    bolt,
    tar_split,
    names,
    rewritten,
    spdy,
    websocket,
    upgrade,
    cni,
    monitor,
    nri,
    cri,
    seccomp,
    cdi,
    records,
    kernel,
    config,
);
