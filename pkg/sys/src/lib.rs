//! The kernel edge: the only crate with unsafe code and raw system calls.
//!
//! What rustix offers safely is used from there, here and elsewhere; this crate holds the rest, and the few compositions
//! that everything depends on: [`root`] (paths inside a root filesystem) and [`procfs`] (a procfs nobody else can touch).

#![allow(unsafe_code)]
#![deny(unsafe_op_in_unsafe_fn)]

pub mod bpf;
pub mod clone;
pub mod confine;
mod errno;
mod error;
pub mod exec;
pub mod fds;
pub mod keyring;
pub mod memory;
pub mod mount;
pub mod namespace;
pub mod netns;
pub mod pidfd;
pub mod procfs;
pub mod program;
pub mod root;
pub mod scheduling;
pub mod seccomp;
pub mod send;
pub mod signal;
pub mod socket;
pub mod tree;

pub use errno::{Refusal, reason, reason_in_sentence};
pub use error::{Error, Result};
