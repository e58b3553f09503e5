//! The runtime's side of the Node Resource Interface: plugins, their events and what they change.
//!
//! [`Nri`] is the whole API: the engine tells it what happens and applies what comes back; through [`Runtime`] plugins reach the
//! engine. Without a plugin every call returns after reading one number.
//!
//! | module | concern |
//! | --- | --- |
//! | `frame` | bytes on the socket |
//! | `connection` | calls in both directions |
//! | `join`, `launch` | how plugins get in |
//! | `plugin` | one plugin: subscriptions, what follows when it does not answer |
//! | `nri` | asking all of them |
//! | `merge`, `updates`, `owners`, `claims` | putting together what they want |
//! | `refuse` | what husk does not do for them |
//! | `facts`, `limits`, `seccomp` | translation |
#![forbid(unsafe_code)]

mod claims;
mod connection;
mod doors;
mod error;
mod events;
mod facts;
mod frame;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod join;
mod launch;
mod limits;
mod merge;
mod nri;
mod owners;
mod plugin;
mod refuse;
mod runtime;
mod seccomp;
mod updates;

pub use error::{NriError, StartError};
pub use events::Event;
pub use facts::{ContainerFacts, PodFacts};
pub use limits::Limits;
pub use merge::Adjusted;
pub use nri::{Nri, NriConfig, Turn, Updated};
pub use runtime::{Everything, Runtime};
pub use updates::{Eviction, Update};
