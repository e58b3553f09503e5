//! The configuration of containerd or CRI-O as husk's, and by name what has no counterpart.
//!
//! [`plan`] reads a node's files, or a copy of them, and writes nothing. What it answers is complete: every key that a file
//! sets is in exactly one [`Finding`]. Inside, files become keys with one value each, in layers that follow the
//! peer's precedence; rules settle them one by one into a draft of husk.toml and files beside it; what no rule knows is
//! named as unknown.
#![forbid(unsafe_code)]

mod auth;
mod containerd;
mod crio;
mod draft;
mod duration;
mod error;
mod finding;
mod finish;
mod glob;
mod hosts;
mod job;
mod keep;
mod leaf;
mod plan;
mod rules;
mod shown;
mod source;
mod streaming;
mod unit;
mod words;

pub use error::MigrateError;
pub use finding::{Finding, Kind};
pub use keep::Keep;
pub use plan::{Plan, PlannedFile};

use std::path::{Path, PathBuf};

/// Whose configuration is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// containerd, config.toml of versions 1 to 4.
    Containerd,
    /// CRI-O, crio.conf with what containers' libraries read beside it.
    Crio,
}

/// Reads the configuration of `peer` below `root` and says what husk makes of it. `config` is the main file as the node
/// sees it; without it, the peer's default file, which may be absent.
///
/// # Errors
/// A file that the peer itself could not use, or one that is past the bounds of what is read: see [`MigrateError`].
pub fn plan(peer: Peer, root: &Path, config: Option<&Path>) -> Result<Plan, MigrateError> {
    plan_keeping(peer, root, config, Keep::default())
}

/// As [`plan`], with files that stay the peer's and that huskd reads as they are.
///
/// # Errors
/// As [`plan`].
pub fn plan_keeping(
    peer: Peer,
    root: &Path,
    config: Option<&Path>,
    keep: Keep,
) -> Result<Plan, MigrateError> {
    let mut node = source::Node::open(root)?;
    let main = config.map(PathBuf::from);
    let job = match peer {
        Peer::Containerd => containerd::translate(&mut node, main)?,
        Peer::Crio => crio::translate(&mut node, main, keep)?,
    };
    finish::finish(job)
}
