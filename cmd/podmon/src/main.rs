//! The pod monitor: one per pod, runs containers, writes logs, keeps exits.
//!
//! One thread, one epoll loop, no async runtime. It is started by the daemon with a listening socket as descriptor 0,
//! outlives it, and ends by the Shutdown call only. It never waits for what it supervises: children report over
//! nonblocking descriptors, and whatever may not come has a deadline.
//!
//! With `--anchor` alone it is no monitor but the process that a systemd scope begins with: it waits for the end of its
//! standard input.
//!
//! Read [`server`] first, then [`container`] and the machines of `husk-life`; `proto/podmon/v1/podmon.proto` says what each call means.
#![forbid(unsafe_code)]

mod attach;
mod clients;
mod container;
mod core;
mod exec;
mod failure;
mod fault;
mod frame;
mod group;
mod journal;
mod life;
mod log;
mod plan;
mod poll;
mod record;
mod sandbox;
mod server;
mod setup;
mod stdio;

use std::{
    env,
    io::{self, Read as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use journal::journal;

/// What the daemon started us with.
struct Arguments {
    pod_dir: PathBuf,
    pause: PathBuf,
    nofile_soft: Option<u64>,
    /// Standard output is the mount that we were started from.
    lent: bool,
}

/// Tells the daemon whether pods can have user namespaces: it has too many threads to try itself.
const PROBE: &str = "--probe-user-namespaces";

fn main() -> ExitCode {
    if env::args().skip(1).eq(["--anchor"]) {
        return anchor();
    }
    let mut arguments = env::args_os().skip(1);
    if let (Some(PROBE), Some(dir)) =
        (arguments.next().as_ref().and_then(|first| first.to_str()), arguments.next())
    {
        return probe(Path::new(&dir));
    }
    let Some(arguments) = parse(env::args().skip(1)) else {
        eprintln!(
            "usage: husk-podmon [--lent] --state-dir DIR --pause FILE [--nofile-soft N] <listening-socket"
        );
        eprintln!("       husk-podmon --anchor <pipe");
        eprintln!("       husk-podmon {PROBE} DIR");
        return ExitCode::from(2);
    };
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            journal!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Waits for whoever holds the other end of standard input to let go of it.
fn anchor() -> ExitCode {
    let mut byte = [0];
    loop {
        match io::stdin().read(&mut byte) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(count) if count > 0 => {}
            Ok(_) | Err(_) => return ExitCode::SUCCESS,
        }
    }
}

fn probe(dir: &Path) -> ExitCode {
    match husk_runtime::probe_user_namespaces(dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> io::Result<()> {
    if arguments.lent {
        setup::withdraw_program()?;
    }
    let signals = setup::signals()?;
    setup::detach(arguments.nofile_soft)?;
    let listener = setup::take_listener()?;
    setup::announce(&arguments.pod_dir)?;
    server::Server::new(arguments.pod_dir, arguments.pause, listener, signals)?.run()
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Arguments> {
    let (mut pod_dir, mut pause, mut nofile_soft, mut lent) = (None, None, None, false);
    while let Some(name) = arguments.next() {
        if name == "--lent" {
            lent = true;
            continue;
        }
        let value = arguments.next()?;
        match name.as_str() {
            "--state-dir" => pod_dir = Some(PathBuf::from(value)),
            "--pause" => pause = Some(PathBuf::from(value)),
            "--nofile-soft" => nofile_soft = Some(value.parse().ok()?),
            _ => return None,
        }
    }
    let absolute = |path: &PathBuf| path.is_absolute();
    Some(Arguments { pod_dir: pod_dir.filter(absolute)?, pause: pause.filter(absolute)?, nofile_soft, lent })
}
