//! The operator's command line for husk. It asks a running huskd, over the socket that the kubelet uses; `husk check`,
//! `husk migrate`, `husk oci`, `husk completion` and `husk manual` work without one.
#![forbid(unsafe_code)]

mod check;
mod client;
mod doctor;
/// huskd's command line, whose definition alone is used here.
#[path = "../../huskd/src/cli.rs"]
#[expect(dead_code, reason = "huskd uses the rest")]
mod huskd;
mod image;
mod manual;
mod migrate;
mod oci;
/// husk-oci's command line, whose definition alone is used here.
#[path = "../../oci/src/cli.rs"]
mod oci_cli;
mod table;

use std::{error::Error, process::ExitCode};

use clap::{CommandFactory as _, Parser, Subcommand};
use husk_model::chain;

/// Work with a running husk.
#[derive(Debug, Parser)]
#[command(name = "husk", version, about)]
struct Cli {
    /// Socket of huskd, with or without unix://
    #[arg(
        long,
        value_name = "PATH",
        global = true,
        default_value = "/run/husk/husk.sock",
        env = "HUSK_ADDRESS"
    )]
    address: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Images: pull, import, export, list, tag, remove
    Image {
        #[command(subcommand)]
        command: image::Command,
    },
    /// Is this node fit for husk? Works without huskd; exits with 1 when something is missing
    Check(check::Options),
    /// Find what belongs to nobody (processes, cgroups, links, layers...) and remove it; exits with 1 when something is left
    Doctor(doctor::Doctor),
    /// Translate the configuration of containerd or CRI-O; without --write nothing is changed
    Migrate(migrate::Options),
    /// husk-oci: containers from OCI bundles, behind runc's command line
    #[command(disable_help_flag = true)]
    Oci(oci::Oci),
    /// Print the completion for a shell
    Completion(manual::Completion),
    /// Write the pages of man(1), huskd's too
    #[command(hide = true)]
    Manual(manual::Manual),
}

/// What a person should read of an error: of a status its message, not its wire form.
fn shown(error: &(dyn Error + 'static)) -> String {
    match error.downcast_ref::<tonic::Status>() {
        Some(status) => format!("{} ({:?})", status.message(), status.code()),
        None => chain(error),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Image { command } => image::run(&cli.address, command).await.map(|()| true),
        Command::Check(options) => check::run(options).await,
        Command::Migrate(options) => migrate::run(&options).map(|()| true),
        Command::Completion(options) => manual::complete(Cli::command(), &options).map(|()| true),
        Command::Manual(options) => manual::write(Cli::command(), &options).map(|()| true),
        Command::Oci(oci) => oci::run(oci),
        Command::Doctor(doctor) => doctor::run(&cli.address, doctor).await,
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("husk: {}", shown(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}
