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
mod kube;
mod look;
mod manual;
mod migrate;
mod oci;
/// husk-oci's command line, whose definition alone is used here.
#[path = "../../oci/src/cli.rs"]
mod oci_cli;
mod table;
mod text;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

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
    /// List pods and containers of every door: the CRI's, Docker's, husk's own
    Ps(look::Ps),
    /// Show what containers use, again and again
    Top(look::Top),
    /// Show all that is known of a pod or container
    Inspect(look::Inspect),
    /// Print what a container wrote
    Logs(look::Logs),
    /// Print what happens to pods and containers
    Events(look::Events),
    /// How long each phase of a start took, what something waits for, what ended it
    Why(look::Why),
    /// Run a pod from a manifest until it ends
    Run(kube::Run),
    /// Pods from Kubernetes' YAML, without a kubelet
    Kube {
        #[command(subcommand)]
        command: kube::Kube,
    },
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

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let address = &cli.address;
    let done = |()| ExitCode::SUCCESS;
    let judged = |good| if good { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    let result = match cli.command {
        Command::Ps(options) => look::ps(address, options).await.map(done),
        Command::Top(options) => look::top(address, options).await.map(done),
        Command::Inspect(options) => look::inspect(address, options).await.map(done),
        Command::Logs(options) => look::logs(address, options).await.map(done),
        Command::Events(options) => look::events(address, options).await.map(done),
        Command::Why(options) => look::why(address, options).await.map(done),
        Command::Run(options) => Box::pin(kube::run(address, options)).await,
        Command::Kube { command } => Box::pin(kube::kube(address, command)).await,
        Command::Image { command } => image::run(address, command).await.map(done),
        Command::Check(options) => check::run(options).await.map(judged),
        Command::Migrate(options) => migrate::run(&options).map(done),
        Command::Completion(options) => manual::complete(Cli::command(), &options).map(done),
        Command::Manual(options) => manual::write(Cli::command(), &options).map(done),
        Command::Oci(oci) => oci::run(oci).map(judged),
        Command::Doctor(doctor) => doctor::run(address, doctor).await.map(judged),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            // What others wrote may be in it.
            for line in client::told(error.as_ref()).lines() {
                eprintln!("husk: {}", text::shown(line));
            }
            ExitCode::FAILURE
        }
    }
}
