//! What is seen of the node: changes and their announcement, plugins that are told, and what is measured.
//!
//! | module | concern |
//! | --- | --- |
//! | `changes` | the one way by which a pod or container changes: recorded, seen, announced, told |
//! | `events` | events for followers of the node |
//! | `plugins` | NRI plugins: asking and telling them |
//! | `stats`, `metrics` | what is measured |

mod changes;
mod events;
mod metrics;
mod plugins;
mod stats;

pub(crate) use changes::Changes;
pub(crate) use events::Events;
pub use events::{Follower, Lifecycle, PodEvent, Unfollowed};
pub use metrics::{ContainerMetrics, MetricGroups, NodeMetrics, PodMetrics};
pub(crate) use plugins::Plugins;
pub(crate) use stats::Measuring;
pub use stats::{ContainerCounters, PodStats};
