//! BuildKit's daemon as a process of huskd.
//!
//! It is PID 1 of a PID namespace of its own, with a mount namespace of its own and the network namespace of the builder. So when it ends, however it
//! ends, the kernel ends every step of every build and takes every mount away; and it ends with huskd.
//!
//! | module | concern |
//! | --- | --- |
//! | `launch` | what the new process does before it becomes buildkitd: huskd, executed again |
//! | `settings` | buildkitd's configuration |
//! | `running` | starting it, waiting until it answers, its end |

mod launch;
mod running;
mod settings;

pub use launch::{LAUNCH, launch};
pub(crate) use running::Running;
pub(crate) use settings::Settings;
