//! huskd's handle on a husk-podmon: spawn, reconnect, calls and events.
//!
//! [`Monitor`] is the handle: clone it, call it from anywhere. Behind it one task reads and one writes the unix socket
//! of the pod's monitor, so a caller that goes away never leaves half a frame behind. Requests are plain protocol
//! messages ([`proto`]); what comes back is of `husk_model`.
#![forbid(unsafe_code)]

mod convert;
mod error;
mod events;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod link;
mod monitor;
mod process;
mod record;
mod spawn;
mod wire;

/// Messages of the protocol, to build requests from.
pub use husk_proto::podmon as proto;

pub use error::{MonitorError, RemoteError};
pub use events::{Event, Events};
pub use monitor::{Created, ExecIo, ExecOutput, Monitor};
pub use process::{kill_recorded, network_namespace};
pub use record::{Snapshot, read_records, record_exit, record_sandbox_exit};
pub use spawn::MonitorConfig;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, MonitorError>;
