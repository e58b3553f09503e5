//! huskd's handle on a husk-podmon: spawn, reconnect, calls and events.
//!
//! [`Monitor`] is the handle: clone it, call it from anywhere. Behind it one task reads and one writes the unix socket
//! of the pod's monitor, so a caller that goes away never leaves half a frame behind. Requests ([`SandboxRequest`],
//! [`ContainerRequest`]) and what comes back are of the domain; the protocol's messages stay in here.
#![forbid(unsafe_code)]

mod convert;
mod error;
mod events;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod link;
mod monitor;
mod nursery;
mod process;
mod record;
mod request;
mod spawn;
mod wire;

pub use error::{MonitorError, RemoteError};
pub use events::{Event, Events};
pub use monitor::{Created, ExecOutput, Monitor, Rejoined};
pub use nursery::Nursery;
pub use process::{kill_recorded, network_namespace};
pub use record::{Snapshot, read_records, record_exit, record_sandbox_exit};
pub use request::{
    ContainerRequest, IpcNamespace, PidNamespace, PodNetwork, SandboxRequest, Scope, Stdin, UtsNamespace,
};
pub use spawn::MonitorConfig;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, MonitorError>;
