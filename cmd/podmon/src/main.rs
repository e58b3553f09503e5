//! The pod monitor: one per pod, runs containers, writes logs, keeps exits.
//!
//! One thread, one epoll loop, no async runtime. It is started by the daemon, ahead of its pod if there is time
//! ([`standby`]); from when it has one it outlives the daemon and ends by the Shutdown call only. It never waits for what it
//! supervises: children report over nonblocking descriptors, and whatever may not come has a deadline.
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
mod standby;
mod stdio;
mod steps;

use std::{
    env,
    io::{self, Read as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use journal::journal;
use standby::Pod;

/// What the daemon started us with.
struct Arguments {
    pod_dir: PathBuf,
    pause: PathBuf,
    nofile_soft: Option<u64>,
    /// Standard output is the mount that we were started from.
    lent: bool,
    /// Standard input is where the pod will come from, and `pod_dir` keeps a place for it; otherwise that is the pod's, and
    /// standard input its listening socket, as husk 0.1 started monitors.
    standby: bool,
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
            "usage: husk-podmon [--lent] [--standby] --state-dir DIR --pause FILE [--nofile-soft N] <socket"
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
    let (hierarchy, pod) = if arguments.standby {
        let hierarchy = standby::prepare()?;
        (hierarchy, standby::await_pod(&setup::take_stdin()?, &arguments.pod_dir)?)
    } else {
        (None, Some(Pod { dir: arguments.pod_dir, listener: setup::take_stdin()? }))
    };
    // Nobody needs a monitor any more.
    let Some(Pod { dir, listener }) = pod else { return Ok(()) };
    setup::check_listener(&listener)?;
    setup::announce(&dir)?;
    server::Server::new(dir, arguments.pause, listener, signals, hierarchy)?.run()
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Arguments> {
    let (mut pod_dir, mut pause, mut nofile_soft) = (None, None, None);
    let (mut lent, mut standby) = (false, false);
    while let Some(name) = arguments.next() {
        match name.as_str() {
            "--lent" => lent = true,
            "--standby" => standby = true,
            "--state-dir" => pod_dir = Some(PathBuf::from(arguments.next()?)),
            "--pause" => pause = Some(PathBuf::from(arguments.next()?)),
            "--nofile-soft" => nofile_soft = Some(arguments.next()?.parse().ok()?),
            _ => return None,
        }
    }
    let absolute = |path: &PathBuf| path.is_absolute();
    let (pod_dir, pause) = (pod_dir.filter(absolute)?, pause.filter(absolute)?);
    Some(Arguments { pod_dir, pause, nofile_soft, lent, standby })
}
