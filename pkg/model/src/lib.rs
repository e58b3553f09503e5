//! Typed ids, validated domain types, error kinds and state machines; no I/O.
//!
//! What the kubelet, an image or a container says is an allegation until `pkg/cri` has turned it into one of these
//! types. Everything that is written to disk derives serde here, so the formats live in one place.
#![forbid(unsafe_code)]

mod bytes;
mod container;
mod error;
mod id;
mod network;
mod pod;
mod record;
mod resources;
mod security;
mod signal;
mod status;

pub use container::{ContainerConfig, ContainerMetadata, Device, EnvVar, Mount, MountSource, Propagation};
pub use error::{Classify, Kind, chain};
pub use id::{ContainerId, Digest, ImageId, InvalidId, PodSandboxId};
pub use network::{DnsConfig, HostPort, Protocol};
pub use pod::{PodConfig, PodMetadata};
pub use record::{ContainerRecord, MonitorRecord, Process, SandboxRecord, group_mark};
pub use resources::{HugepageLimit, Resources};
pub use security::{
    AppArmor, Capabilities, GroupsPolicy, IdMapping, NamespaceMode, Namespaces, SeLinuxLabel, SeccompProfile,
    SecurityContext, UserSpec,
};
pub use signal::Signal;
pub use status::{
    ContainerState, ContainerStatus, CpuStats, Exit, ExitReason, FilesystemStats, IoStats, MemoryStats,
    NetworkStats, PodState, PodStatus, Pressure, PressureStats, ResolvedUser, ResourceStats, SwapStats,
    UnixNanos,
};
