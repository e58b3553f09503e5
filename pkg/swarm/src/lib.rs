//! Docker's swarm of one node: its objects, the rules for them, and where they are kept.
//!
//! Nothing here speaks HTTP, runs a container or waits: the Docker door asks, and does what is wished. Each of these knows only those above it:
//!
//! | module | concern |
//! | --- | --- |
//! | `error` | refusals and failures |
//! | `ids` | ids, tokens and keys |
//! | `spec` | how what clients want is read and shown: as Go does it |
//! | `object` | what all objects have: id, version, times, a name that is unique |
//! | `template` | `{{.Service.Name}}` in what clients want |
//! | `cluster` | the swarm itself: its settings, tokens, pools of addresses |
//! | `node` | the one node |
//! | `payload` | secrets and configs |
//! | `vault` | sealed files |
//! | `state` | all of it in memory, each change written before it is seen |
//! | `swarm` | whether there is one: init, lock, unlock, leave |
#![forbid(unsafe_code)]

mod cluster;
mod error;
mod ids;
mod node;
mod object;
mod payload;
mod spec;
mod state;
mod swarm;
mod template;
mod vault;

pub use cluster::{Cluster, ClusterSpec, Driver, Init, Rotate};
pub use error::{Result, SwarmError};
pub use ids::id;
pub use node::{Availability, Node, NodeSpec, Role};
pub use object::{Meta, find};
pub use payload::{Payload, PayloadKind, PayloadSpec};
pub use state::State;
pub use swarm::{Left, Status, Swarm};
pub use template::{Context, Template};
