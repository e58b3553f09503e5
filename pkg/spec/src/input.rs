//! What the spec of a container is computed from.

use std::path::PathBuf;

use husk_model::{ContainerConfig, PodConfig};

use crate::DeviceNode;

/// What an image says about running it.
#[derive(Debug, Clone, Default)]
pub struct ImageDefaults {
    /// ENTRYPOINT.
    pub entrypoint: Vec<String>,
    /// CMD.
    pub cmd: Vec<String>,
    /// ENV, `NAME=value`.
    pub env: Vec<String>,
    /// WORKDIR; may be empty.
    pub working_dir: String,
}

/// Files that the pod brings into its containers, on the node.
#[derive(Debug, Clone)]
pub struct PodFiles {
    /// /etc/hostname.
    pub hostname: PathBuf,
    /// /etc/hosts.
    pub hosts: PathBuf,
    /// /etc/resolv.conf.
    pub resolv_conf: PathBuf,
}

/// Labels of mandatory access control; `None` sets none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    /// AppArmor profile, loaded.
    pub apparmor: Option<String>,
    /// SELinux context of the processes.
    pub selinux_process: Option<String>,
    /// SELinux context of what is mounted.
    pub selinux_mount: Option<String>,
}

/// Everything the spec of a container depends on.
#[derive(Debug)]
pub struct SpecInput<'a> {
    /// The request.
    pub container: &'a ContainerConfig,
    /// The pod's request.
    pub pod: &'a PodConfig,
    /// The image's part.
    pub image: &'a ImageDefaults,
    /// The image's name, for errors.
    pub image_name: &'a str,
    /// The pod's files.
    pub files: &'a PodFiles,
    /// Devices of the request and, for a privileged container, of the node.
    pub devices: &'a [DeviceNode],
    /// Profiles and contexts.
    pub labels: &'a Labels,
    /// Host name of the node, for pods in its UTS namespace.
    pub node_hostname: &'a str,
    /// Whether the node has the unified cgroup hierarchy only.
    pub cgroup_v2: bool,
    /// Path relative to the cgroup root.
    pub cgroup_path: &'a str,
}
