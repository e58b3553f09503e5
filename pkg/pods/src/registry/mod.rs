//! Who exists: pods and containers, their names, and what is being made or undone.
//!
//! | module | concern |
//! | --- | --- |
//! | `pod`, `container` | one of them: its state, and the snapshot of it that readers take |
//! | `claims` | names that are taken, and retries that join |
//! | `table` | all of them |
//! | `snapshot` | a value that is replaced whole |

mod attempts;
mod chronicle;
mod claims;
mod container;
mod pod;
mod snapshot;
mod table;

pub(crate) use attempts::{Afterwards, Going};
pub use attempts::{AttemptView, Attempted};
pub(crate) use chronicle::Chronicle;
pub(crate) use claims::Claim;
pub(crate) use container::{Container, NewContainer};
pub(crate) use pod::{NewPod, Pod, shown};
pub(crate) use table::{Registry, shown as shown_name};
