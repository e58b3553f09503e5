//! Checks of the repository itself: layers, circles of modules, rooms of proto types, skips, unsafe code.
//!
//! Each check is a function over a [`Tree`] that returns the offenders, one a line; `tests/` runs all of them over the
//! repository, and the tests beside each show it failing on a small made-up tree.
#![forbid(unsafe_code)]

pub mod bans;
pub mod circles;
pub mod layers;
pub mod machines;
mod outline;
pub mod rooms;
pub mod skips;
pub mod tree;
pub mod workspace;
pub mod wrappers;

pub use tree::Tree;
