//! husk's runtime behind runc's command line: containers from OCI bundles, for containerd, Podman, Docker and BuildKit.
//!
//! One process a command, with one thread; nothing runs between two commands but the containers. What a command does is in
//! `husk_oci`; here are the command line ([`cli`]), the log ([`log`]) and the wait for a container in the foreground
//! ([`foreground`]).
#![forbid(unsafe_code)]

mod cli;
mod foreground;
mod log;
mod program;
mod relay;
mod show;
mod terminal;
mod update;
mod verbs;

use std::{ffi::OsString, io::Write as _, path::Path, process::ExitCode};

use clap::{CommandFactory as _, FromArgMatches as _, error::ErrorKind};
use husk_model::chain;
use husk_oci::Error;
use husk_runtime::Step;

use cli::{Cli, Command};
use log::{Level, Log};

/// The specification's version that `--version` names.
const SPEC: &str = "1.2.1";

fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    let name = own_name(&arguments);
    if let Err(error) = program::settle(&mut arguments) {
        return give_up(&name, &format!("take the own program out of reach: {error}"), 1);
    }
    let given = verbs::given();
    // clap keeps names for the life of the program.
    let shown: &'static str = Box::leak(name.clone().into_boxed_str());
    let command = Cli::command().name(shown).bin_name(shown).mut_subcommands(|verb| {
        let name = format!("{shown} {}", verb.get_name());
        verb.display_name(name)
    });
    let parsed = command.try_get_matches_from(&arguments).and_then(|found| Cli::from_arg_matches(&found));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return refused(&name, &error),
    };
    if cli.version {
        println!("{name} version {}\ncommit: husk\nspec: {SPEC}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    let log = match Log::open(cli.log.as_deref(), cli.log_format, cli.debug) {
        Ok(log) => log,
        Err(error) => return give_up(&name, &format!("open the log: {error}"), 1),
    };
    let of_exec = matches!(cli.command, Some(Command::Exec(_)));
    match verbs::run(cli, &log, &name, given) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            tell(&log, &error, if of_exec { "exec failed: " } else { "" });
            // As runc: what fails in `exec` itself is told from the codes of what it runs.
            ExitCode::from(if of_exec { 255 } else { 1 })
        }
    }
}

/// As what we were called: `runc` where we stand in for it.
fn own_name(arguments: &[OsString]) -> String {
    let name = arguments.first().and_then(|own| Path::new(own).file_name());
    name.map_or_else(|| "husk-oci".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// A command line that is none, or one that asks for help.
fn refused(name: &str, error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // A reader that has gone has read enough.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let topic = error.get(clap::error::ContextKind::InvalidSubcommand);
    if let Some(topic) = topic {
        return give_up(name, &format!("No help topic for '{topic}'"), 3);
    }
    let _ = error.print();
    ExitCode::FAILURE
}

fn give_up(name: &str, why: &str, code: u8) -> ExitCode {
    // With nobody left to read it there is nothing else to do.
    let _ = writeln!(std::io::stderr(), "{name}: {why}");
    ExitCode::from(code)
}

/// Logs what went wrong, and says it on standard error in any case.
fn tell(log: &Log, error: &Error, prefix: &str) {
    let (text, plain) = match error {
        // The line that people know, whoever wrote it.
        Error::Process(failure) if failure.step == Step::Execute => {
            let reason = failure.errno.map(|errno| husk_sys::reason_in_sentence(errno.raw_os_error()));
            (format!("exec {}: {}", failure.object, reason.unwrap_or_default()), true)
        }
        error => (format!("{prefix}{}", chain(error)), false),
    };
    if plain || log.is_elsewhere() {
        let _ = writeln!(std::io::stderr(), "{text}");
    }
    if !plain || log.is_elsewhere() {
        log.say(Level::Error, &text);
    }
}
