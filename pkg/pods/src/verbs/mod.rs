//! What can be asked of pods and containers, each verb with what it needs and no more.
//!
//! | module | concern |
//! | --- | --- |
//! | `run`, `undo` | RunPodSandbox, and taking back what an attempt made |
//! | `create`, `adjust`, `start` | CreateContainer with what plugins change, StartContainer |
//! | `stop`, `hang`, `remove` | the ends, also of pods whose monitor hangs |
//! | `update`, `limits`, `wishes` | limits, and what plugins want of containers |
//! | `follow`, `ends` | what monitors tell, and telling plugins of ends |
//! | `recover` | start-up |
//! | `doctor` | what belongs to nobody, at start-up and later |
//!
//! A verb depends only on those that it uses: `follow` ← `ends` ← `stop` ← `remove`, `wishes` ← `update`, `adjust` ← `create`;
//! `undo` ← `run`, `recover`, `doctor`.

mod adjust;
mod create;
mod doctor;
mod ends;
mod follow;
mod hang;
mod limits;
mod recover;
mod remove;
mod run;
mod start;
mod stop;
mod undo;
mod update;
mod wishes;

pub(crate) use adjust::Adjust;
pub(crate) use create::Create;
pub(crate) use doctor::Doctor;
pub use doctor::{Decide, Finding, Leak};
pub(crate) use ends::Ends;
pub(crate) use follow::Follow;
pub use hang::Hang;
pub(crate) use limits::Limits;
pub(crate) use recover::Recover;
pub(crate) use remove::Remove;
pub(crate) use run::Run;
pub(crate) use start::start;
pub(crate) use stop::Stop;
pub(crate) use undo::Undo;
pub(crate) use update::Updating;
pub(crate) use wishes::Wishes;
