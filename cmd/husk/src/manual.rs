//! `husk completion` and `husk manual`: what a shell and man(1) know of the programs, made from the definitions of their command
//! lines. huskd's is made here too, so that the daemon does not carry what makes it.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use clap::{Args, Command, CommandFactory as _, ValueEnum};
use clap_complete::Shell;
use clap_mangen::Man;
use husk_node::file::{self, Outlives};

use crate::{client::Result, huskd, oci_cli};

/// What huskd's page has beyond its command line, in roff.
const OF_HUSKD: &str = r#".SH SIGNALS
.TP
SIGHUP
reads the configuration again, takes over what can change meanwhile, and names in the log what needs a restart.
.TP
SIGTERM, SIGINT
end the daemon. Pods run on; the next huskd takes them over.
.SH FILES
.TP
/etc/husk/husk.toml, /etc/husk/husk.toml.d/*.toml
the configuration; every key with its meaning: huskd config default.
.TP
/run/husk/husk.sock
the CRI socket.
.TP
/run/husk, /var/lib/husk
records of pods; images and writable layers.
"#;

/// As [`OF_HUSKD`], of husk-oci.
const OF_OCI: &str = r#".SH FILES
.TP
/run/husk\-oci/\fICONTAINER\fR
what is kept of a container: state.json, and exec.fifo until it is started.
.SH "EXIT STATUS"
That of the container's program for run and exec, 128 and the signal where one ended it; 1 for what failed before, 255 in exec.
"#;

/// What `husk completion` is asked for.
#[derive(Debug, Args)]
pub(crate) struct Completion {
    /// Who reads it
    shell: Shell,
    /// Whose command line is completed
    #[arg(long, value_name = "PROGRAM", value_enum, default_value = "husk")]
    of: Program,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
enum Program {
    Husk,
    Huskd,
    HuskOci,
}

/// Where `husk manual` writes.
#[derive(Debug, Args)]
pub(crate) struct Manual {
    /// Of the pages, YYYY-MM-DD
    #[arg(long)]
    date: String,
    /// Gets man1/*.1 and man8/*.8
    dir: PathBuf,
}

/// Prints the completion; `husk` is our own command line.
pub(crate) fn complete(husk: Command, options: &Completion) -> Result<()> {
    let (mut command, name) = match options.of {
        Program::Husk => (husk, "husk"),
        Program::Huskd => (huskd::Cli::command(), "huskd"),
        Program::HuskOci => (oci_cli::Cli::command(), "husk-oci"),
    };
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut command, name, &mut script);
    Ok(io::stdout().write_all(&script)?)
}

/// Writes a page for each command of husk, section 1, of huskd and of husk-oci, section 8; `husk` is our own command line.
pub(crate) fn write(husk: Command, options: &Manual) -> Result<()> {
    let also = ".SH \"SEE ALSO\"\nhusk(1), huskd(8), husk\\-oci(8), husk\\-podmon(8)\n";
    pages(husk, options, "1", also)?;
    pages(huskd::Cli::command(), options, "8", &format!("{OF_HUSKD}{also}"))?;
    pages(
        oci_cli::Cli::command().version(env!("CARGO_PKG_VERSION")),
        options,
        "8",
        &format!("{OF_OCI}{also}"),
    )
}

fn pages(command: Command, Manual { date, dir }: &Manual, section: &str, end: &str) -> Result<()> {
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let source = format!("husk {}", command.get_version().unwrap_or_default());
    let dir = dir.join(format!("man{section}"));
    fs::create_dir_all(&dir).map_err(|error| format!("make {}: {error}", dir.display()))?;
    let dressed = |command| Man::new(command).section(section).date(date).source(&source).manual("husk");
    page(command, &dir, &dressed, end)
}

/// Writes the page of a command that was built, which ends with `end`, and those of its subcommands.
fn page(command: Command, dir: &Path, dressed: &dyn Fn(Command) -> Man, end: &str) -> Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        page(below.clone(), dir, dressed, "")?;
    }
    let page = dressed(command);
    let path = dir.join(page.get_filename());
    let mut text = Vec::new();
    page.render(&mut text)?;
    text.extend_from_slice(end.as_bytes());
    file::replace(&path, &text, Outlives::Process)
        .map_err(|error| format!("write {}: {error}", path.display()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_that_is_shown_has_a_page_and_the_daemon_those_of_section_8() {
        let dir = tempfile::tempdir().unwrap();
        let options = Manual { date: "2026-01-31".to_owned(), dir: dir.path().to_owned() };
        write(crate::Cli::command(), &options).unwrap();
        let there = |page: &str| dir.path().join(page).exists();
        assert!(there("man1/husk.1") && there("man1/husk-image-import.1") && there("man1/husk-check.1"));
        assert!(there("man8/huskd.8") && there("man8/huskd-config-default.8"));
        assert!(there("man8/husk-oci.8") && there("man8/husk-oci-create.8"));
        assert!(there("man1/husk-why.1") && there("man1/husk-kube-play.1") && there("man1/husk-run.1"));
        assert!(!there("man1/husk-manual.1"), "hidden");
        let daemon = fs::read_to_string(dir.path().join("man8/huskd.8")).unwrap();
        for part in [
            "huskd 8 2026-01-31",
            "serves CRI v1",
            "\\-\\-registry\\-config\\-dir",
            "SIGHUP",
            "husk\\-podmon(8)",
        ] {
            assert!(daemon.contains(part), "{part} in {daemon}");
        }
    }
}
