//! What a container is asked to be.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{IdMappings, Resources, SecurityContext, Signal};

/// The kubelet's name for a container within its pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContainerMetadata {
    /// Container name.
    pub name: String,
    /// How often it was made before.
    pub attempt: u32,
}

/// One environment variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvVar {
    /// Name, without `=` and NUL.
    pub key: String,
    /// Value, without NUL. Any other bytes: CRI v0.37 says `bytes value`, and the kernel asks for no more.
    #[serde(with = "crate::bytes")]
    pub value: Vec<u8>,
}

impl EnvVar {
    /// `NAME=value`, as execve(2) takes it.
    pub fn entry(&self) -> Vec<u8> {
        [self.key.as_bytes(), b"=", &self.value].concat()
    }
}

/// How mounts travel between the node and the container (mount_namespaces(7)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// Neither way.
    #[default]
    Private,
    /// From the node to the container (rslave).
    HostToContainer,
    /// Both ways (rshared).
    Bidirectional,
}

/// Where a mount's content comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A path of the node, absolute.
    HostPath(String),
    /// What is at a path below a directory of the node whose content is not trusted: links in it lead nowhere out of that directory.
    Below {
        /// The directory, absolute.
        root: String,
        /// The path below it, which has to be there.
        sub_path: String,
    },
    /// An image by reference, with an optional path inside it.
    Image {
        /// Reference as requested.
        reference: String,
        /// Sub path inside the image; empty is its root.
        sub_path: String,
    },
    /// Memory that ends with the container: options of tmpfs(5), `size=64m`.
    Tmpfs {
        /// Options.
        options: Vec<String>,
    },
}

/// One resource limit of the container's processes (setrlimit(2)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// Name in lower case, without `RLIMIT_`: `nofile`.
    pub name: String,
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

impl MountSource {
    /// Its path, if it is one of the node, or the directory that it is below: only that is made, relabelled and shown to plugins as a path.
    pub fn host_path(&self) -> Option<&str> {
        match self {
            MountSource::HostPath(path) | MountSource::Below { root: path, .. } => Some(path),
            MountSource::Image { .. } | MountSource::Tmpfs { .. } => None,
        }
    }

    /// Its reference and the path inside, if it is an image, whose layers a container holds on to.
    pub fn image(&self) -> Option<(&str, &str)> {
        match self {
            MountSource::Image { reference, sub_path } => Some((reference, sub_path)),
            MountSource::HostPath(_) | MountSource::Below { .. } | MountSource::Tmpfs { .. } => None,
        }
    }
}

/// One requested mount, echoed in the status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path in the container.
    pub container_path: String,
    /// Source.
    pub source: MountSource,
    /// Read-only (this mount, not its submounts).
    pub readonly: bool,
    /// Read-only with all submounts.
    pub recursive_readonly: bool,
    /// Relabel for SELinux; ignored without it.
    pub selinux_relabel: bool,
    /// Propagation.
    pub propagation: Propagation,
    /// Mount options of v0.37: `noexec`, `nodev`, `nosuid`.
    pub options: Vec<String>,
    /// Give its files the ids of the pod's user namespace: the pod's own mappings, or none.
    #[serde(default)]
    pub id_mapping: Option<IdMappings>,
}

/// One device of the node made visible in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Path in the container.
    pub container_path: String,
    /// Path on the node; a directory stands for all devices below it.
    pub host_path: String,
    /// Any of `r`, `w`, `m`.
    pub permissions: String,
}

/// Device nodes that a container may use, if it gets at any: a rule of the device cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// Which kind; `None` is both.
    pub block: Option<bool>,
    /// Major number; `None` is any.
    pub major: Option<u32>,
    /// Minor number; `None` is any.
    pub minor: Option<u32>,
    /// Any of `r`, `w`, `m`.
    pub access: String,
}

/// How much of a log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLimits {
    /// Bytes of a file at which the next one is begun, at least 1.
    pub size: u64,
    /// Files that are kept, at least 1: `log`, and before it `log.1`, `log.2`, ...
    pub files: u32,
}

/// A writable layer of whoever asks for the container: it is theirs to make and to remove.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptLayer {
    /// Absolute path of the directory that has it as `upper`, and overlayfs' own `work` beside it.
    pub dir: PathBuf,
    /// It outlives the boot: it is written back as files are.
    pub durable: bool,
}

/// A validated CRI `ContainerConfig`, or what another door makes of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerConfig {
    /// The kubelet's name for it.
    pub metadata: ContainerMetadata,
    /// Image as the request names it: an id or a reference.
    pub image: String,
    /// Image as the user wrote it in the pod, echoed; empty when the client does not say.
    pub user_specified_image: String,
    /// Replaces the image's ENTRYPOINT when not empty.
    pub command: Vec<String>,
    /// Replaces the image's CMD when not empty.
    pub args: Vec<String>,
    /// Working directory; empty leaves it to the image, then `/`.
    pub working_dir: String,
    /// Environment, after the image's.
    pub envs: Vec<EnvVar>,
    /// Mounts of the request, in order.
    pub mounts: Vec<Mount>,
    /// Devices.
    pub devices: Vec<Device>,
    /// More devices that it may use, without nodes of them.
    #[serde(default)]
    pub device_rules: Vec<DeviceRule>,
    /// CDI device names, `vendor.com/class=name`.
    pub cdi_devices: Vec<String>,
    /// Labels, echoed.
    pub labels: BTreeMap<String, String>,
    /// Annotations, echoed.
    pub annotations: BTreeMap<String, String>,
    /// Log file relative to the pod's log directory; empty when no log is wanted.
    pub log_path: String,
    /// Keep stdin open for attach.
    pub stdin: bool,
    /// Close stdin after the first attach ended.
    pub stdin_once: bool,
    /// Run on a pseudo terminal.
    pub tty: bool,
    /// Limits.
    pub resources: Resources,
    /// Security context.
    pub security: SecurityContext,
    /// Stop signal of the request, before the image's.
    pub stop_signal: Option<Signal>,
    /// Who it runs as where the security context says nothing, in the form of an image's USER; empty leaves it to the image.
    #[serde(default)]
    pub user: String,
    /// Limits of its processes.
    #[serde(default)]
    pub rlimits: Vec<Rlimit>,
    /// A writable layer that is there before the container and outlives it; `None` is one that comes and goes with it.
    #[serde(default)]
    pub kept_layer: Option<KeptLayer>,
    /// When the monitor begins another file of the log; `None` leaves that to whoever asks for the container.
    #[serde(default)]
    pub log_limits: Option<LogLimits>,
}

impl ContainerConfig {
    /// A request that says nothing but a name and an image, which is to run what it says itself.
    pub fn named(metadata: ContainerMetadata, image: String) -> Self {
        Self {
            metadata,
            image,
            user_specified_image: String::new(),
            command: Vec::new(),
            args: Vec::new(),
            working_dir: String::new(),
            envs: Vec::new(),
            mounts: Vec::new(),
            devices: Vec::new(),
            device_rules: Vec::new(),
            cdi_devices: Vec::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            log_path: String::new(),
            stdin: false,
            stdin_once: false,
            tty: false,
            resources: Resources::default(),
            security: SecurityContext::default(),
            stop_signal: None,
            user: String::new(),
            rlimits: Vec::new(),
            kept_layer: None,
            log_limits: None,
        }
    }
}
