//! `husk migrate`: another runtime's configuration as husk's.

mod show;
mod write;

use std::{
    io::{self, Write as _},
    path::PathBuf,
};

use clap::{Args, ValueEnum};
use husk_migrate::{Keep, Peer, plan_keeping};

use crate::client::Result;

const HELP: &str = "\
Reads, of containerd: config.toml of versions 1 to 4 with its imports, certs.d directories, the mirrors and credentials of \
old. Of CRI-O: crio.conf, crio.conf.d, registries.conf, registries.conf.d, policy.json, policies of namespaces, mounts.conf, \
certs.d, auth files. Of both: proxies in drop-ins of the unit.

Writes /etc/husk/husk.toml, /etc/husk/certs.d/*, with credentials /etc/husk/auth.json (mode 0600, \
see docs/migration.md), and with proxies a drop-in of the unit husk.service. A file is written whole; what it replaces is \
kept beside it as *.before-migrate.

Every key that a file sets is listed once: taken, default (husk does the same), not needed, no counterpart, insecure, \
overridden by a later file, or unknown. Secrets are not printed.

Exit codes:
  0  there is a plan; with --write, all of it is written
  1  a file cannot be read or is not in its format, or nothing was written because files are there already (--force)
  2  the command line is wrong";

/// What is wanted.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Options {
    /// Whose configuration it is
    #[arg(value_enum)]
    peer: Whose,
    /// The root of the node, or of a copy of its files
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// The main file, as the node sees it [default: /etc/containerd/config.toml, /etc/crio/crio.conf]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Let huskd read /etc/containers/registries.conf and its drop-ins as they are, in place of translating them
    #[arg(long)]
    keep_registries_conf: bool,
    /// Write below this directory instead of the root
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Write the files
    #[arg(long)]
    write: bool,
    /// Replace files that are there already; they are kept as *.before-migrate
    #[arg(long, requires = "write")]
    force: bool,
    /// Print {"config", "files", "findings", "notes"} for programs
    #[arg(long)]
    json: bool,
    /// List what is default or not needed too
    #[arg(long, conflicts_with = "json")]
    all: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Whose {
    /// containerd 1.x and 2.x
    Containerd,
    /// CRI-O
    Crio,
}

/// Makes the plan, prints it, and writes it if it is wanted.
pub(crate) fn run(options: &Options) -> Result<()> {
    let peer = match options.peer {
        Whose::Containerd => Peer::Containerd,
        Whose::Crio => Peer::Crio,
    };
    if options.keep_registries_conf && peer == Peer::Containerd {
        return Err("--keep-registries-conf: containerd has no registries.conf; leave it away".into());
    }
    let keep = Keep { registries: options.keep_registries_conf };
    let plan = plan_keeping(peer, &options.root, options.config.as_deref(), keep)?;
    let shown = match options.json {
        true => format!("{}\n", show::json(&plan)),
        false => show::text(&plan, options.all, !options.write),
    };
    say(&shown)?;
    if options.write {
        let output = options.output.as_ref().unwrap_or(&options.root);
        let done = write::write(output, &plan.all_files(), options.force)?;
        // Programs read standard output.
        if !options.json {
            say(&done.iter().map(|line| format!("{line}\n")).collect::<String>())?;
        }
    } else if !options.json {
        say("\nnothing was changed; --write writes it\n")?;
    }
    Ok(())
}

/// Prints a text that may be long. Whoever stops reading (`| head`) does not stop the command.
fn say(text: &str) -> Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
