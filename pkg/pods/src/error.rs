//! Why an operation on a pod or container failed.

use std::{io, path::PathBuf, sync::Arc};

use husk_cdi::CdiError;
use husk_life::Refusal;
use husk_lsm::LsmError;
use husk_model::{Classify, ContainerId, Kind, PodSandboxId};
use husk_monitor::MonitorError;
use husk_network::NetworkError;
use husk_nri::NriError;
use husk_spec::SpecError;

use crate::facilities::ImageFault;

/// Why an operation on a pod or container failed.
#[derive(Debug, thiserror::Error)]
pub enum PodsError {
    /// No sandbox with this id.
    #[error("no pod sandbox {id:?}")]
    NoSuchPod {
        /// As in the request.
        id: String,
    },
    /// Something that this version of husk does not do, or this node cannot.
    #[error("{field}: {what}")]
    Unsupported {
        /// Field of the request.
        field: &'static str,
        /// What was asked for.
        what: String,
    },
    /// A step on the node's files did not end; a filesystem hangs, most likely.
    #[error("{step} did not end within {seconds} s")]
    Stuck {
        /// What was attempted.
        step: &'static str,
        /// How long it was waited for.
        seconds: u64,
    },
    /// No container with this id.
    #[error("no container {id:?}")]
    NoSuchContainer {
        /// As in the request.
        id: String,
    },
    /// The name belongs to an object made from another request.
    #[error("{what} {name} exists already as {id} with a different configuration; remove it first")]
    NameTaken {
        /// `pod sandbox` or `container`.
        what: &'static str,
        /// The name.
        name: String,
        /// Who has it.
        id: String,
    },
    /// The sandbox was stopped or its pause process died.
    #[error("pod sandbox {id} is not ready")]
    PodNotReady {
        /// The sandbox.
        id: PodSandboxId,
    },
    /// The object is not in a state in which this can happen.
    #[error(transparent)]
    State(#[from] Refusal),
    /// The container is not in a state that allows the operation.
    #[error("container {id} is {state}; {operation} needs it {wanted}")]
    ContainerState {
        /// The container.
        id: ContainerId,
        /// What it is.
        state: &'static str,
        /// What was asked for.
        operation: &'static str,
        /// What it would have to be.
        wanted: &'static str,
    },
    /// The image is not on this node.
    #[error("{field}: no image {reference} on this node; pull it first")]
    NoSuchImage {
        /// Field of the request.
        field: String,
        /// As in the request.
        reference: String,
    },
    /// The source of a mount or device does not exist or is not what it should be.
    #[error("{field}: {path}: {reason}")]
    HostPath {
        /// Field of the request.
        field: String,
        /// Path on the node.
        path: String,
        /// Why it cannot be used.
        reason: String,
    },
    /// A seccomp profile cannot be used.
    #[error("config.linux.security_context.seccomp: {profile}: {reason}")]
    Seccomp {
        /// Profile.
        profile: String,
        /// Why.
        reason: String,
    },
    /// An AppArmor profile cannot be used.
    #[error("config.linux.security_context.apparmor")]
    AppArmor(#[source] LsmError),
    /// SELinux contexts cannot be made of what was asked for.
    #[error("config.linux.security_context.selinux_options")]
    SeLinux(#[source] LsmError),
    /// A CDI device cannot be given.
    #[error("config.CDI_devices")]
    Cdi(#[source] CdiError),
    /// A CDI device that NRI plugins ask for cannot be given.
    #[error("CDI devices of NRI plugin {plugins}")]
    PluginCdi {
        /// Names of the plugins, of which one named the device.
        plugins: String,
        /// Why.
        #[source]
        source: CdiError,
    },
    /// The container's target for a shared PID namespace cannot be used.
    #[error("config.linux.security_context.namespace_options.target_id: {reason}")]
    PidTarget {
        /// Why.
        reason: String,
    },
    /// A command did not end in time; it was killed with its descendants.
    #[error("command in container {id} did not end within {seconds} s and was killed")]
    ExecTimeout {
        /// The container.
        id: ContainerId,
        /// The limit.
        seconds: u64,
    },
    /// The limits cannot be applied.
    #[error("update resources of container {id}: {reason}")]
    Update {
        /// The container.
        id: ContainerId,
        /// Why.
        reason: String,
    },
    /// The pod's monitor died or does not answer.
    #[error("pod sandbox {id} has no monitor: {reason}")]
    NoMonitor {
        /// The sandbox.
        id: PodSandboxId,
        /// Why.
        reason: String,
    },
    /// A record that a newer huskd wrote. Nothing was changed.
    #[error(
        "{} has format {format} and was written by a newer huskd; this one reads formats up to {known}. Start the newer \
         huskd again, or drain the node and remove its pods with that one first", path.display()
    )]
    NewerRecord {
        /// The record.
        path: PathBuf,
        /// Its format.
        format: u32,
        /// What this huskd knows.
        known: u32,
    },
    /// A step on the node's files failed.
    #[error("{step} {}", path.display())]
    Files {
        /// What was attempted.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A user or group of the image that is neither a name nor an id.
    #[error("image user {user}: ids go from 0 to 4294967294")]
    ImageUser {
        /// As in the image.
        user: String,
    },
    /// A cgroup path that cannot be used.
    #[error("cgroup path {path}: {reason}")]
    CgroupPath {
        /// The path.
        path: String,
        /// Why.
        reason: String,
    },
    /// The parent cgroup of a request does not fit the driver.
    #[error(
        "config.linux.cgroup_parent: {reason}; husk uses the systemd cgroup driver: set cgroupDriver: systemd in the \
         kubelet's configuration, or driver = \"cgroupfs\" below [cgroup] in husk's"
    )]
    CgroupParent {
        /// What is wrong with it.
        reason: String,
    },
    /// Cgroups.
    #[error(transparent)]
    Cgroup(husk_cgroup::Error),
    /// The pod's systemd unit.
    #[error("make the pod's systemd unit")]
    Unit(#[source] husk_systemd::Error),
    /// Statistics.
    #[error(transparent)]
    Stats(husk_stats::Error),
    /// Images.
    #[error(transparent)]
    Image(#[from] ImageFault),
    /// Network.
    #[error("set up the network of the pod")]
    Network(#[source] NetworkError),
    /// Network, when the pod ends.
    #[error("take back the network of the pod")]
    NetworkTeardown(#[source] NetworkError),
    /// Spec.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A plugin.
    #[error(transparent)]
    Nri(#[from] NriError),
    /// Monitor.
    #[error(transparent)]
    Monitor(#[from] MonitorError),
    /// The outcome of an attempt that several callers waited for.
    #[error(transparent)]
    Shared(Arc<PodsError>),
    /// The attempt ended without an outcome: a bug.
    #[error("the attempt was lost; this is a bug in husk")]
    Lost,
}

impl PodsError {
    /// An I/O failure of `step` on `path`.
    pub(crate) fn files(step: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| PodsError::Files { step, path, source }
    }
}

impl Classify for PodsError {
    fn kind(&self) -> Kind {
        match self {
            PodsError::NoSuchPod { .. }
            | PodsError::NoSuchContainer { .. }
            | PodsError::NoSuchImage { .. } => Kind::NotFound,
            PodsError::NameTaken { .. } => Kind::AlreadyExists,
            PodsError::PodNotReady { .. } | PodsError::State(_) | PodsError::ContainerState { .. } => {
                Kind::FailedPrecondition
            }
            PodsError::HostPath { .. }
            | PodsError::Seccomp { .. }
            | PodsError::PidTarget { .. }
            | PodsError::ImageUser { .. }
            | PodsError::CgroupPath { .. }
            | PodsError::CgroupParent { .. } => Kind::InvalidArgument,
            PodsError::Update { .. } => Kind::FailedPrecondition,
            PodsError::ExecTimeout { .. } | PodsError::Stuck { .. } => Kind::DeadlineExceeded,
            PodsError::Unsupported { .. } => Kind::Unimplemented,
            PodsError::AppArmor(error) | PodsError::SeLinux(error) => error.kind(),
            PodsError::Cdi(error) | PodsError::PluginCdi { source: error, .. } => error.kind(),
            PodsError::Stats(error) => error.kind(),
            PodsError::Unit(error) => error.kind(),
            PodsError::NoMonitor { .. } => Kind::Unavailable,
            PodsError::NewerRecord { .. } => Kind::FailedPrecondition,
            PodsError::Files { source, .. } => Kind::of_io(source),
            PodsError::Lost | PodsError::Cgroup(_) => Kind::Internal,
            PodsError::Image(error) => error.kind(),
            PodsError::Network(error) | PodsError::NetworkTeardown(error) => error.kind(),
            PodsError::Spec(error) => error.kind(),
            PodsError::Nri(error) => error.kind(),
            PodsError::Monitor(error) => error.kind(),
            PodsError::Shared(error) => error.kind(),
        }
    }
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, PodsError>;
