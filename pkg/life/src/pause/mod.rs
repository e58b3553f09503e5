//! The life of a pod's pause process, as the pod's monitor sees it.
//!
//! ```text
//! Starting ── Executed ──▶ Running ── Reaped ──▶ Ended
//!    │                        │ Stop               │ Stop
//!    │ Reaped                 ▼                    ▼
//!    ├──▶ Gone             Stopping ── Reaped ──▶ Emptying ── GroupGone ──▶ Stopped
//!    └──▶ Stillborn ── Release ──▶ Gone
//! ```

mod apply;
mod event;
mod state;
#[cfg(test)]
mod table;
#[cfg(test)]
mod walks;

pub use event::{Cause, Effect, Event, Reply};
pub use state::PauseLife;
