//! The lifecycle of pod sandboxes and containers: joins of retries, recovery, garbage.
//!
//! [`Engine`] is the whole API. Reads ([`Engine::list_pods`], [`Engine::container_status`]…) take snapshots that writers replace
//! whole, so they never wait for work. Writes run in tasks of their own: a caller that goes away changes nothing, and a
//! retry joins the running attempt.
//!
//! The rooms, each of which knows only those above it:
//!
//! | room | what is in it |
//! | --- | --- |
//! | [`facilities`] | what the engine needs of the crates below it |
//! | `records` | what huskd writes down, and where |
//! | `registry` | who exists, with the state of each (`husk_life`) |
//! | `node` | what the node has for pods, and looking at it, which may hang |
//! | `observing` | the one way by which things change; events, plugins, what is measured |
//! | `planning` | what is to be made, decided by pure functions |
//! | `verbs` | run, create, start, stop, remove, update, follow, recover, examine: each with what it needs |
//! | `engine` | the calls, and the order in which an engine comes to be |
#![forbid(unsafe_code)]

mod engine;
mod error;
pub mod facilities;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod node;
mod observing;
mod planning;
mod records;
mod registry;
mod verbs;

pub use engine::{Collected, Engine, EngineConfig, Pulling, Recovered};
pub use error::{PodsError, Result};
pub use husk_monitor::{ExecOutput, MonitorConfig};
pub use node::CgroupDriver;
pub use observing::{
    ContainerCounters, ContainerMetrics, Follower, Lifecycle, MetricGroups, NodeMetrics, PodEvent,
    PodMetrics, PodStats, Unfollowed,
};
pub use registry::{AttemptView, Attempted};
pub use verbs::{Decide, Finding, Hang, Leak};
