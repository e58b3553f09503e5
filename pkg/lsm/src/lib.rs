//! Mandatory access control: AppArmor profiles and SELinux labels.
//!
//! This crate knows what the node has and decides what a container gets; that is written down in the OCI spec
//! (`process.apparmorProfile`, `process.selinuxLabel`, `linux.mountLabel`), and the runtime applies it just before execve.
//! On a node without either, [`AppArmor`] and [`selinux::SeLinux`] say so and give nothing.
#![forbid(unsafe_code)]

mod apparmor;
mod error;
mod profile;
pub mod selinux;

pub use apparmor::{AppArmor, Availability};
pub use error::LsmError;
