//! The husk daemon: serves the Kubernetes CRI.
//!
//! Start-up is a chain: configuration → log → directories → socket → images → network → pods of a former daemon → serving.
//! Each step needs the one before it, and nothing is answered before all pods are known again.
#![forbid(unsafe_code)]

mod admin;
mod cgroup;
mod cli;
mod daemon;
mod directories;
mod docker;
mod doctor;
mod images;
mod incoming;
mod nri;
mod reload;
mod serve;
mod settings;
mod socket;
mod systemd;
mod uninstall;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command, ConfigCommand};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == husk_build::LAUNCH) {
        return match husk_build::launch(arguments) {
            Err(error) => {
                eprintln!("huskd cannot become the builder: {error}");
                ExitCode::FAILURE
            }
        };
    }
    husk_sys::memory::use_one_arena();
    let cli = Cli::parse();
    let result = match &cli.command {
        Some(Command::Config { command: ConfigCommand::Default }) => {
            print!("{}", husk_config::DEFAULT_TOML);
            Ok(())
        }
        Some(Command::Config { command: ConfigCommand::Check }) => {
            cli.load().and_then(|config| settings::check(&config).map(|()| println!("{config:#?}")))
        }
        Some(Command::Uninstall { yes }) => cli.load().and_then(|config| uninstall::run(&config, *yes)),
        None => cli.load().and_then(|config| daemon::run(&cli, config)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The log may not exist yet, so this goes to standard error as it is.
            eprintln!("huskd: {}", husk_model::chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}
