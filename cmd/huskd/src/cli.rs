//! The command line. Every flag that names a path or a level overrides the configuration's key of that name.

use std::{error::Error, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use husk_config::{Config, Raw};

/// A Kubernetes container runtime: serves CRI v1 on a unix socket.
#[derive(Debug, Clone, Parser)]
#[command(name = "huskd", version, args_conflicts_with_subcommands = false)]
pub(crate) struct Cli {
    /// Configuration file; drop-ins in FILE.d/*.toml are read after it [default: /etc/husk/husk.toml, if it exists]
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Command {
    /// Print or check the configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Remove what huskd made on this node: images, writable layers, records, bridge and nftables table. Refused while huskd runs
    /// or pods are left; configuration and programs stay
    Uninstall {
        /// Remove it; without this, only say what would go
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print every key with its default and meaning
    Default,
    /// Read file, drop-ins and flags, and print what would be used or all that is wrong
    Check,
}

#[derive(Debug, Clone, Args)]
struct Flags {
    /// Images and writable layers
    #[arg(long, value_name = "DIR", global = true)]
    root: Option<String>,
    /// Pods and their records, on a tmpfs
    #[arg(long, value_name = "DIR", global = true)]
    state: Option<String>,
    /// The CRI socket, with or without unix://
    #[arg(long, value_name = "PATH", global = true)]
    address: Option<String>,
    /// CNI configurations
    #[arg(long, value_name = "DIR", global = true)]
    cni_conf_dir: Option<String>,
    /// CNI plugins
    #[arg(long, value_name = "DIR", global = true)]
    cni_bin_dir: Option<String>,
    /// Registry settings, HOST/hosts.toml
    #[arg(long, value_name = "DIR", global = true)]
    registry_config_dir: Option<String>,
    /// Level or filter of the log, such as info or husk_pods=debug,info
    #[arg(long, value_name = "FILTER", global = true)]
    log_level: Option<String>,
    /// text or json
    #[arg(long, value_name = "FORMAT", global = true)]
    log_format: Option<String>,
    /// Serve Prometheus metrics on this address
    #[arg(long, value_name = "IP:PORT", global = true)]
    metrics_address: Option<String>,
    /// Let NRI plugins connect to this socket
    #[arg(long, value_name = "PATH", global = true)]
    nri_socket: Option<String>,
    /// Serve the Docker Engine API on this socket; whoever may connect to it is root on the node
    #[arg(long, value_name = "PATH", global = true)]
    docker_address: Option<String>,
}

impl Cli {
    /// The configuration that file, drop-ins and flags add up to.
    pub(crate) fn load(&self) -> Result<Config, Box<dyn Error>> {
        let flags = &self.flags;
        let mut raw = Raw {
            root: flags.root.clone(),
            state: flags.state.clone(),
            address: flags.address.clone(),
            ..Raw::default()
        };
        raw.network.cni_conf_dir.clone_from(&flags.cni_conf_dir);
        raw.network.cni_bin_dir.clone_from(&flags.cni_bin_dir);
        raw.images.registry_config_dir.clone_from(&flags.registry_config_dir);
        raw.log.level.clone_from(&flags.log_level);
        raw.log.format.clone_from(&flags.log_format);
        raw.metrics.address.clone_from(&flags.metrics_address);
        raw.nri.socket.clone_from(&flags.nri_socket);
        raw.docker.address.clone_from(&flags.docker_address);
        raw.nri.enabled = flags.nri_socket.is_some().then_some(true);
        Ok(husk_config::load(self.config.as_deref(), raw)?)
    }
}
