//! Typed ids, validated domain types and error kinds; no I/O.
//!
//! What the kubelet, an image or a container says is an allegation until `pkg/cri` has turned it into one of these
//! types. What a monitor writes to disk is here too (`record`), since huskd reads it.
#![forbid(unsafe_code)]

mod bytes;
mod command;
mod container;
mod error;
mod history;
mod id;
mod network;
mod networking;
mod pod;
mod process;
mod record;
mod resources;
mod rootfs;
mod security;
mod signal;
mod status;
mod stdio;
mod sysctl;
mod user;
mod userns;

pub use command::Command;
pub use container::{
    ContainerConfig, ContainerMetadata, Device, DeviceRule, EnvVar, KeptLayer, LogLimits, Mount, MountSource,
    Propagation, Rlimit,
};
pub use error::{Blame, Classify, Kind, chain};
pub use history::{AskedEnd, Ending, History, Phase};
pub use id::{ContainerId, Digest, ImageId, InvalidId, NetworkId, PodSandboxId};
pub use network::{DnsConfig, HostPort, Protocol};
pub use networking::{Attachment, PodNetworking};
pub use pod::{Door, PodConfig, PodMetadata};
pub use process::Process;
pub use record::{ContainerRecord, MonitorRecord, SandboxRecord, group_mark};
pub use resources::{BlockIo, DeviceRate, HugepageLimit, Resources};
pub use rootfs::{ImageVolume, Rootfs, SeLinuxContexts, SeccompFilter};
pub use security::{
    ALL_CAPABILITIES, AppArmor, Capabilities, CgroupNamespace, DEFAULT_CAPABILITIES, NamespaceMode,
    Namespaces, SeLinuxLabel, SeccompProfile, SecurityContext,
};
pub use signal::Signal;
pub use status::{
    ContainerState, ContainerStatus, CpuStats, Exit, ExitReason, FilesystemStats, IoStats, MemoryStats,
    NetworkStats, PodState, PodStatus, Pressure, PressureStats, ResourceStats, SwapStats, UnixNanos,
};
pub use stdio::{Stdio, Streams, WindowSize};
pub use sysctl::{InvalidSysctl, Sysctl, SysctlOwner};
pub use user::{GroupSpec, GroupsPolicy, ResolvedUser, UserRequest, UserSpec};
pub use userns::{IdMapping, IdMappings, IdMaps, UserNamespace};
