//! The life of a container's init, as the pod's monitor sees it.
//!
//! ```text
//! Building ── Ready ──▶ Created ── Start ──▶ Opening ── LogOpened ──▶ Starting ── Executed ──▶ Running
//!    │                     ▲                    │                         │                       │
//!    │                     ├──── LogRefused ────┘                         │                       │
//!    │                     │                                              │                       │
//!    │ Ended               └────────────────── Ended ─────────────────────┴───────────────────────┘
//!    ▼                                           ▼
//! Discarded        Draining: the rest of the group is killed, output is read to its end or for a while
//!    │             Removing: the exit is on disk, the group is removed or waited for for a while
//!    ▼             Exited:   the end is published, everybody who waited is answered
//!   Gone  ◀── Remove ──┘
//! ```
//!
//! `state` has the states and what can be asked of them, `event` what can happen and what follows from it, `apply`
//! the transitions. What calls for an answer of the kernel's (is the log open, is the group empty) is an effect, and the
//! answer is the next event.

mod apply;
mod callers;
mod event;
mod state;
#[cfg(test)]
mod table;
#[cfg(test)]
mod walks;

pub use callers::Callers;
pub use event::{Cause, Effect, Event, Reply};
pub use state::{Group, InitLife};
