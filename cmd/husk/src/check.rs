//! `husk check`: is this node fit?

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use husk_config::Raw;
use husk_fitness::{Check, State};

use crate::client::Result;

/// What is wanted.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// huskd's configuration [default: /etc/husk/husk.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// As huskd's --root
    #[arg(long, value_name = "DIR")]
    root: Option<String>,
    /// As huskd's --state
    #[arg(long, value_name = "DIR")]
    state: Option<String>,
    /// For people or for programs
    #[arg(long, short, value_enum, default_value = "table")]
    output: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// A line for each thing, and what to do about it
    Table,
    /// {"fit": true, "checks": [...]}
    Json,
}

/// Prints the answer; true if the node is fit.
pub(crate) async fn run(options: Options) -> Result<bool> {
    let flags = Raw { root: options.root, state: options.state, ..Raw::default() };
    let config = husk_config::load(options.config.as_deref(), flags)?;
    let checks = husk_fitness::check(&config).await;
    let fit = husk_fitness::is_fit(&checks);
    match options.output {
        Format::Table => print(&checks, fit),
        Format::Json => println!("{}", serde_json::json!({ "fit": fit, "checks": checks })),
    }
    Ok(fit)
}

fn print(checks: &[Check], fit: bool) {
    let wide = checks.iter().map(|check| check.subject.len()).max().unwrap_or(0);
    for Check { subject, state, found, consequence, remedy } in checks {
        println!("{:<7}  {subject:<wide$}  {found}", state.as_str());
        if *state != State::Ok {
            println!("{:<7}  {:<wide$}  -> {consequence}", "", "");
            println!("{:<7}  {:<wide$}     remedy: {remedy}", "", "");
        }
    }
    let count = |wanted: State| checks.iter().filter(|check| check.state == wanted).count();
    let (warnings, missing) = (count(State::Warning), count(State::Missing));
    let verdict = if fit { "this node is fit for husk" } else { "this node is not fit for husk" };
    println!("\n{verdict}: {missing} missing, {warnings} warnings");
}
