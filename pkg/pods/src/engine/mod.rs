//! The engine: what `pkg/cri` calls. Each method finds the object, lets the verb of its name do the work in a task of its own,
//! and waits: a caller that goes away changes nothing.
//!
//! | module | concern |
//! | --- | --- |
//! | `calls` | the calls |
//! | `streams` | those that the monitor alone answers: commands, attaching |
//! | `history` | how things came to be and why they ended, for people |
//! | `startup` | the order in which an engine comes to be |
//! | `parts` | which verb gets what |
//! | `back` | the engine as plugins see it |

mod back;
mod calls;
mod config;
mod history;
mod parts;
mod startup;
mod streams;

pub use calls::Engine;
pub use config::EngineConfig;
pub use history::Pulling;
pub use startup::{Collected, Recovered};
