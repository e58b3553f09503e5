//! The node itself, for all who ask: its clock, its boot and its kernel, its cgroup mounts, processes by identity, files written whole.
//!
//! Small mechanisms with one home. The monitor links this crate too, so nothing here is asynchronous, and nothing is kept
//! between two calls.
#![forbid(unsafe_code)]

mod boot;
pub mod cgroups;
mod clock;
pub mod file;
mod kernel;
pub mod process;
mod stamp;

pub use boot::{BOOT_ID, boot_id};
pub use clock::now;
pub use kernel::{KernelVersion, kernel_release};
pub use stamp::Stamp;
