//! Defaults, TOML file, drop-ins and flags resolved into one checked configuration.
//!
//! [`Raw`] is what somebody wrote, every key optional; [`Config`] is what holds, every value present and checked. Between them
//! is [`load`], which collects every mistake before it gives up, so that one start shows them all.
#![forbid(unsafe_code)]

mod changes;
mod defaults;
mod error;
mod load;
mod raw;
mod resolve;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

pub use changes::{Change, changes};
pub use defaults::DEFAULT_TOML;
pub use error::{ConfigError, Problem};
pub use ipnet;
pub use load::{load, parse};
pub use raw::{
    Raw, RawCgroup, RawDocker, RawDoctor, RawImages, RawLog, RawMetrics, RawNetwork, RawNri, RawRuntime,
    RawStreaming, RawTracing,
};

/// Where the configuration is looked for without `--config`.
pub const DEFAULT_PATH: &str = "/etc/husk/husk.toml";

/// The configuration in force.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Images and writable layers; survives a reboot.
    pub root: PathBuf,
    /// Pods; dies with the boot.
    pub state: PathBuf,
    /// The CRI socket.
    pub address: PathBuf,
    /// Pod network.
    pub network: NetworkConfig,
    /// Images.
    pub images: ImagesConfig,
    /// Cgroups.
    pub cgroup: CgroupConfig,
    /// Logging.
    pub log: LogConfig,
    /// Where metrics are served; `None` is nowhere.
    pub metrics_address: Option<SocketAddr>,
    /// Where traces go; `None` is nowhere.
    pub tracing: Option<TracingConfig>,
    /// The search for what belongs to nobody.
    pub doctor: DoctorConfig,
    /// How pods run.
    pub runtime: RuntimeConfig,
    /// NRI plugins; `None` without them.
    pub nri: Option<NriConfig>,
    /// Exec, attach and port-forward.
    pub streaming: StreamingConfig,
    /// The Docker Engine API; `None` without it.
    pub docker: Option<DockerConfig>,
}

/// Traces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracingConfig {
    /// A collector: `http://host:port` or `https://host:port`.
    pub endpoint: String,
    /// Of a million calls that come without a trace, how many begin one.
    pub sampling_rate_per_million: u32,
    /// PEM of the authorities of the collector's certificate; `None` is the node's.
    pub tls_ca: Option<PathBuf>,
}

/// The Docker Engine API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerConfig {
    /// Its socket.
    pub address: PathBuf,
    /// Who may connect besides root: a group's name or number. `None` is the group `docker` where there is one.
    pub group: Option<String>,
    /// The socket's permissions.
    pub mode: u32,
    /// BuildKit's daemon: a path, or a name that is looked for in `PATH`.
    pub buildkitd: PathBuf,
    /// husk-oci, which runs the steps of builds.
    pub oci: PathBuf,
}

/// NRI plugins.
#[derive(Debug, Clone, PartialEq)]
pub struct NriConfig {
    /// Where plugins connect.
    pub socket: PathBuf,
    /// Plugins to launch.
    pub plugin_dir: PathBuf,
    /// Their configurations.
    pub plugin_config_dir: PathBuf,
    /// Time for each step of getting in.
    pub registration_timeout: Duration,
    /// Time for the answer to anything else.
    pub request_timeout: Duration,
}

/// Exec, attach and port-forward.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamingConfig {
    /// Where they are served; port 0 takes a free one.
    pub address: SocketAddr,
    /// Serve HTTPS.
    pub tls: Option<StreamingTls>,
    /// A session on which nothing moves for this long ends.
    pub idle_timeout: Duration,
    /// How long a client may take to open its streams.
    pub creation_timeout: Duration,
    /// Sessions at once.
    pub max_sessions: usize,
}

/// Files in PEM.
#[derive(Debug, Clone, PartialEq)]
pub struct StreamingTls {
    /// Certificate and those that lead to its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Authorities of the certificates that clients must have.
    pub client_ca: Option<PathBuf>,
}

/// Pod network.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkConfig {
    /// CNI configurations; as soon as there is one, it replaces the embedded network.
    pub cni_conf_dir: PathBuf,
    /// CNI plugins.
    pub cni_bin_dir: PathBuf,
    /// Bridge of the embedded network.
    pub bridge: String,
    /// Its IPv4 addresses; `None` takes a free subnet and keeps it.
    pub subnet: Option<ipnet::Ipv4Net>,
    /// Its IPv6 addresses.
    pub subnet6: Option<ipnet::Ipv6Net>,
    /// MTU; `None` takes that of the default route.
    pub mtu: Option<u32>,
    /// nftables table of masquerade and host ports.
    pub nft_table: String,
    /// Network namespaces kept ready.
    pub netns_pool: usize,
}

/// Images.
#[derive(Debug, Clone, PartialEq)]
pub struct ImagesConfig {
    /// `<host>/hosts.toml` files.
    pub registry_config_dir: PathBuf,
    /// A registries.conf of the containers libraries, with its drop-ins beside it; `None` reads none.
    pub registries_conf: Option<PathBuf>,
    /// Layers fetched at once: of one pull, and of all together besides the first of each.
    pub max_parallel_layers: usize,
    /// A pull without a byte for this long fails.
    pub pull_progress_timeout: Duration,
    /// Which images may be pulled (containers-policy.json(5)); `None` is all.
    pub signature_policy: Option<PathBuf>,
    /// Credentials of registries, in the format of docker's config.json.
    pub auth_file: Option<PathBuf>,
    /// Where docker-credential-* programs are; `None` is `PATH`.
    pub credential_helper_dir: Option<PathBuf>,
    /// Names, or patterns of them, of images that the kubelet shall not remove.
    pub pinned_images: Vec<String>,
}

/// Cgroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupConfig {
    /// Who makes the cgroups of pods.
    pub driver: CgroupDriver,
    /// Parent of pods whose request names none: a path with the cgroupfs driver, a slice with systemd's. `None` is the
    /// driver's own default.
    pub parent: Option<String>,
}

/// Who makes the cgroups of pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupDriver {
    /// systemd where it is PID 1 and cgroup v2 is mounted, otherwise husk itself.
    Auto,
    /// husk itself.
    Cgroupfs,
    /// systemd makes a delegated scope for every pod.
    Systemd,
}

/// Logging.
#[derive(Debug, Clone, PartialEq)]
pub struct LogConfig {
    /// A filter as `tracing-subscriber` takes it: `info`, `husk_pods=debug,info`.
    pub level: String,
    /// Text or JSON.
    pub format: LogFormat,
}

/// Shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// The search for what belongs to nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoctorConfig {
    /// How often; `None` is at start only.
    pub interval: Option<Duration>,
    /// Whether the searches in between remove what they find. The one at start always does.
    pub repair: bool,
}

/// How pods run.
#[derive(Debug, Clone, PartialEq)]
pub struct RuntimeConfig {
    /// The husk-podmon binary.
    pub podmon: PathBuf,
    /// The husk-pause binary.
    pub pause: PathBuf,
    /// CDI specs of device vendors; a later directory wins.
    pub cdi_dirs: Vec<PathBuf>,
    /// Names of handlers, as a RuntimeClass has them, that pods may ask for; all mean the same as the unnamed one.
    pub handlers: Vec<String>,
    /// Pods may bind ports below 1024 without a capability.
    pub unprivileged_ports: bool,
    /// Pods may ping without a capability.
    pub unprivileged_icmp: bool,
}
