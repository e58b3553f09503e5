//! The command line: runc's commands and flags.
//!
//! Also used by cmd/husk, for the manual.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// As runc's own help is laid out, which scripts read.
const HELP: &str = "NAME:\n   {name} - {about}\n\nUSAGE:\n   {usage}\n\n{all-args}{after-help}";

/// Open Container Initiative runtime
///
/// Runs containers from bundles (a directory with a config.json and a root filesystem) on husk's own runtime, behind runc's command
/// line: containerd, Podman, Docker and BuildKit use it in runc's place.
#[derive(Debug, Parser)]
#[command(name = "husk-oci", about = "Open Container Initiative runtime", disable_version_flag = true, help_template = HELP)]
pub(crate) struct Cli {
    /// Log what is done, step by step
    #[arg(long)]
    pub(crate) debug: bool,
    /// Write the log to this file instead of standard error
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// Of the log
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT")]
    pub(crate) log_format: LogFormat,
    /// Where the state of containers is kept; it should be on a tmpfs
    #[arg(long, value_name = "DIR", default_value = "/run/husk-oci")]
    pub(crate) root: PathBuf,
    /// Refused: husk makes cgroups itself
    #[arg(long)]
    pub(crate) systemd_cgroup: bool,
    /// true is refused: only root can run containers
    #[arg(long, value_name = "true|false|auto", default_value = "auto")]
    pub(crate) rootless: String,
    /// Print the version
    #[arg(short = 'v', long)]
    pub(crate) version: bool,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a container, which waits for its start
    #[command(help_template = HELP)]
    Create(Create),
    /// Create and start a container, and wait for its end
    #[command(help_template = HELP)]
    Run(Run),
    /// Start a created container
    #[command(help_template = HELP)]
    Start(Id),
    /// Print the state of a container
    #[command(help_template = HELP)]
    State(Id),
    /// Send a signal to the init of a container (TERM unless another is given)
    #[command(help_template = HELP)]
    Kill(Kill),
    /// Delete a container that does not run
    #[command(help_template = HELP)]
    Delete(Delete),
    /// Run another process in a container
    #[command(help_template = HELP)]
    Exec(Exec),
    /// List the processes of a container
    #[command(help_template = HELP)]
    Ps(Ps),
    /// List the containers of this root
    #[command(help_template = HELP)]
    List(List),
    /// Stop all processes of a container for a while
    #[command(help_template = HELP)]
    Pause(Id),
    /// Let a paused container go on
    #[command(help_template = HELP)]
    Resume(Id),
    /// Print what a container uses, and when it runs out of memory
    #[command(help_template = HELP)]
    Events(Events),
    /// Change the limits of a container
    #[command(help_template = HELP)]
    Update(Box<Update>),
    /// Print what this runtime can do, as JSON
    #[command(help_template = HELP)]
    Features,
    /// Write a config.json to begin with
    #[command(help_template = HELP)]
    Spec(Spec),
    /// Not supported: husk does not checkpoint containers
    #[command(help_template = HELP)]
    Checkpoint(Refused),
    /// Not supported: husk does not checkpoint containers
    #[command(help_template = HELP)]
    Restore(Refused),
}

/// The name of a container.
#[derive(Debug, Args)]
pub(crate) struct Id {
    /// Name of the container
    #[arg(value_name = "CONTAINER")]
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    #[command(flatten)]
    pub(crate) id: Id,
    /// Directory with the config.json
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub(crate) bundle: PathBuf,
    #[command(flatten)]
    pub(crate) handover: Handover,
    /// Move the root over the node's instead of pivot_root(2), as on an initial RAM filesystem
    #[arg(long)]
    pub(crate) no_pivot: bool,
    /// Leave the container in the caller's session keyring
    #[arg(long)]
    pub(crate) no_new_keyring: bool,
}

/// What a caller gets and gives.
#[derive(Debug, Args)]
pub(crate) struct Handover {
    /// Unix socket that gets the terminal
    #[arg(long, value_name = "SOCKET")]
    pub(crate) console_socket: Option<PathBuf>,
    /// Unix socket that gets a pidfd of the process
    #[arg(long, value_name = "SOCKET")]
    pub(crate) pidfd_socket: Option<PathBuf>,
    /// File that gets the process id
    #[arg(long, value_name = "FILE")]
    pub(crate) pid_file: Option<PathBuf>,
    /// Pass this many descriptors from 3 on (after those of socket activation)
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) preserve_fds: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) create: Create,
    /// Do not wait for its end
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Keep the container after its end
    #[arg(long)]
    pub(crate) keep: bool,
    /// Leave orphans of the container to the node's init
    #[arg(long)]
    pub(crate) no_subreaper: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Kill {
    #[command(flatten)]
    pub(crate) id: Id,
    /// By name or number
    #[arg(default_value = "SIGTERM")]
    pub(crate) signal: String,
    /// Obsolete: only makes a container that does not run no error
    #[arg(short, long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Delete {
    #[command(flatten)]
    pub(crate) id: Id,
    /// Kill it if it runs; that there is none is no error
    #[arg(short, long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// Name of the container, and what is run in it
    #[arg(
        value_name = "CONTAINER [COMMAND]",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub(crate) words: Vec<String>,
    #[command(flatten)]
    pub(crate) handover: Handover,
    /// Working directory
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<PathBuf>,
    /// NAME=value to add to the environment
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<String>,
    /// Give it a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Who it runs as
    #[arg(short, long, value_name = "UID[:GID]")]
    pub(crate) user: Option<String>,
    /// Groups to add
    #[arg(short = 'g', long, value_name = "GID")]
    pub(crate) additional_gids: Vec<u32>,
    /// File with an OCI process, instead of a command
    #[arg(short, long, value_name = "FILE")]
    pub(crate) process: Option<PathBuf>,
    /// Do not wait for its end
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// SELinux context
    #[arg(long, value_name = "LABEL")]
    pub(crate) process_label: Option<String>,
    /// AppArmor profile
    #[arg(long, value_name = "PROFILE")]
    pub(crate) apparmor: Option<String>,
    /// Let it gain no privileges
    #[arg(long)]
    pub(crate) no_new_privs: bool,
    /// Capabilities to add
    #[arg(short, long, value_name = "CAP")]
    pub(crate) cap: Vec<String>,
    /// Not supported but for /: a group of the container's that it runs in
    #[arg(long, value_name = "GROUP")]
    pub(crate) cgroup: Vec<String>,
    /// Also in a paused container, where it stops at once
    #[arg(long)]
    pub(crate) ignore_paused: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// Form of the list
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) format: Format,
    /// Name of the container, and options of ps(1)
    #[arg(
        value_name = "CONTAINER [OPTIONS]",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub(crate) words: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Form of the list
    #[arg(short, long, value_enum, default_value = "table")]
    pub(crate) format: Format,
    /// Names alone
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Events {
    #[command(flatten)]
    pub(crate) id: Id,
    /// Once, and no more
    #[arg(long)]
    pub(crate) stats: bool,
    /// Between two, as 500ms, 5s or 1m
    #[arg(long, value_name = "TIME", default_value = "5s")]
    pub(crate) interval: String,
}

#[derive(Debug, Args)]
pub(crate) struct Update {
    #[command(flatten)]
    pub(crate) id: Id,
    /// File with an OCI linux.resources, or - for standard input; all other options are ignored then
    #[arg(short, long, value_name = "FILE")]
    pub(crate) resources: Option<PathBuf>,
    /// Weight of block I/O, 10 to 1000
    #[arg(long, value_name = "N")]
    pub(crate) blkio_weight: Option<u16>,
    /// Microseconds
    #[arg(long, value_name = "N")]
    pub(crate) cpu_period: Option<u64>,
    /// Microseconds in a period
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) cpu_quota: Option<i64>,
    /// Microseconds that may be saved up
    #[arg(long, value_name = "N")]
    pub(crate) cpu_burst: Option<u64>,
    /// Relative weight
    #[arg(long, value_name = "N")]
    pub(crate) cpu_share: Option<u64>,
    /// Microseconds
    #[arg(long, value_name = "N")]
    pub(crate) cpu_rt_period: Option<u64>,
    /// Microseconds in a period of real time
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) cpu_rt_runtime: Option<i64>,
    /// CPUs to use
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_cpus: Option<String>,
    /// Memory nodes to use
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_mems: Option<String>,
    /// 1 is SCHED_IDLE
    #[arg(long, value_name = "0|1")]
    pub(crate) cpu_idle: Option<i64>,
    /// Bytes, or with k, M, G
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub(crate) memory: Option<String>,
    /// Bytes, or with k, M, G
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub(crate) memory_reservation: Option<String>,
    /// Memory and swap together: bytes, or with k, M, G; -1 is no limit
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    pub(crate) memory_swap: Option<String>,
    /// Most processes
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) pids_limit: Option<i64>,
    /// Not supported
    #[arg(long, value_name = "SCHEMA", hide = true)]
    pub(crate) l3_cache_schema: Option<String>,
    /// Not supported
    #[arg(long, value_name = "SCHEMA", hide = true)]
    pub(crate) mem_bw_schema: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Spec {
    /// Directory to write it to
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub(crate) bundle: PathBuf,
    /// For a user namespace of one id
    #[arg(long)]
    pub(crate) rootless: bool,
}

/// Whatever else is said.
#[derive(Debug, Args)]
pub(crate) struct Refused {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    pub(crate) words: Vec<String>,
}
