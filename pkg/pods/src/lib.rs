//! The lifecycle of pod sandboxes and containers: joins of retries, recovery, garbage.
//!
//! [`Engine`] is the whole API. Reads ([`Engine::list_pods`], [`Engine::container_status`]…) take snapshots that writers replace
//! whole, so they never wait for work. Writes run in tasks of their own: a caller that goes away changes nothing, and a
//! retry joins the running attempt (`claims`).
//!
//! | module | concern |
//! | --- | --- |
//! | `run` | RunPodSandbox and its undoing |
//! | `create` | CreateContainer and StartContainer |
//! | `sources` | directories made for mount sources, and their undoing |
//! | `stop` | StopContainer, RemoveContainer, StopPodSandbox, RemovePodSandbox |
//! | `hang` | monitors that hang while their pod is to end |
//! | `update` | UpdateContainerResources |
//! | `streams` | what streaming sessions need: commands on descriptors, attaching, a pod's network |
//! | `stats` | statistics of containers and pods |
//! | `metrics` | all that can be counted of them |
//! | `plugins` | NRI: when plugins are told of what, and what becomes of their answers |
//! | `watch` | events of the monitors |
//! | `events` | events for followers of the node |
//! | `recovery` | start-up |
//! | `doctor` | what belongs to nobody, at start-up and later |
//! | `store` | files of huskd |
//! | `trash` | deleting in the background |
//! | `life` | a container's states, pure |
//! | [`facilities`] | what the engine needs of the crates below it |
#![forbid(unsafe_code)]

mod claims;
mod create;
mod devices;
mod doctor;
mod driver;
mod engine;
mod error;
mod events;
pub mod facilities;
mod files;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod hang;
mod life;
mod metrics;
mod plugins;
mod pod;
mod recovery;
mod run;
mod seccomp;
mod selinux;
mod sources;
mod stats;
mod stop;
mod store;
mod streams;
mod trash;
mod update;
mod user;
mod volumes;
mod watch;

pub use doctor::{Decide, Finding, Leak};
pub use driver::CgroupDriver;
pub use engine::{Engine, EngineConfig};
pub use error::{PodsError, Result};
pub use events::{Follower, Lifecycle, PodEvent, Unfollowed};
pub use husk_monitor::{ExecIo, ExecOutput, MonitorConfig};
pub use metrics::{ContainerMetrics, MetricGroups, NodeMetrics, PodMetrics};
pub use stats::PodStats;
