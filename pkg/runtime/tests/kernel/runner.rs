//! A test runner without threads: one cloned process per case, output as libtest prints it.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use husk_sys::{
    clone,
    mount::{self, Change, Propagation},
    namespace, pidfd,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags},
    process::Signal,
    thread::UnshareFlags,
};

use crate::world::World;

/// A case: its name is the sentence it proves.
pub type Case = (&'static str, fn(&World));

/// Longest a case may take before it counts as hung.
const LIMIT: Duration = Duration::from_secs(60);

/// Lists functions as cases.
#[macro_export]
macro_rules! cases {
    ($($name:ident,)*) => {
        /// The cases of this file.
        pub const CASES: &[$crate::runner::Case] = &[$((stringify!($name), $name),)*];
    };
}

/// Runs the cases whose names contain one of the arguments (all, without arguments).
pub fn main(cases: &[Case]) -> ExitCode {
    let filters: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    if std::env::args().any(|argument| argument == "--list") {
        cases.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let chosen: Vec<_> = cases
        .iter()
        .filter(|(name, _)| filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str())))
        .collect();
    println!("\nrunning {} tests", chosen.len());
    let world = match World::new() {
        Ok(world) => world,
        Err(reason) => {
            println!("{reason}");
            chosen.iter().for_each(|_| husk_test_support::skip("root, busybox and cgroups"));
            println!("\ntest result: ok. 0 passed; 0 failed; {} ignored; 0 measured", chosen.len());
            return ExitCode::SUCCESS;
        }
    };
    let start = Instant::now();
    let failed = chosen.iter().filter(|case| !passes(case, &world)).count();
    let (word, passed) = (if failed == 0 { "ok" } else { "FAILED" }, chosen.len() - failed);
    println!(
        "\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; {} filtered out; finished in {:.2}s",
        cases.len() - chosen.len(),
        start.elapsed().as_secs_f32()
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A mount namespace of the case's own, in which whatever is attached to any mount spreads: what a node under systemd
/// looks like, and what would show a mount that leaks.
fn shared_mounts() {
    namespace::unshare(UnshareFlags::NEWNS).unwrap();
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
    for propagation in [Propagation::Private, Propagation::Shared] {
        mount::change(&root, true, Change::propagation(propagation)).unwrap();
    }
}

fn passes((name, case): &Case, world: &World) -> bool {
    let child = clone::clone(clone::CloneOptions::default(), |_| {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
        shared_mounts();
        case(world);
        clone::exit(0)
    })
    .unwrap();
    let limit = Timespec { tv_sec: LIMIT.as_secs() as i64, tv_nsec: 0 };
    let ended = poll(&mut [PollFd::new(&child.pidfd, PollFlags::IN)], Some(&limit)).unwrap() == 1;
    if !ended {
        pidfd::signal(&child.pidfd, Signal::KILL).unwrap();
    }
    let exit = pidfd::reap(&child.pidfd).unwrap();
    let ok = ended && exit == pidfd::Exit::Code(0);
    let note = if ended { format!("{exit:?}") } else { "hung".to_owned() };
    println!("test {name} ... {}", if ok { "ok".to_owned() } else { format!("FAILED ({note})") });
    ok
}
