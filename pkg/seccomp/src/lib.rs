//! Seccomp profiles compiled to BPF once per profile.
//!
//! A profile is an OCI `linux.seccomp` section: husk's default one ([`runtime_default`]) or a file on the node
//! ([`parse`]). [`compile`] turns it into the bytes that seccomp(2) takes, as a balanced tree over the syscall numbers of
//! each architecture: about 230 instructions for the default profile, loaded in less than a tenth of a millisecond, where a
//! linear filter of the same profile takes ten times that in every start and exec. [`Cache`] keeps the bytes, so that a
//! container start copies a few hundred bytes and compiles nothing.
//!
//! Where profile and kernel leave room, libseccomp and runc are the model; docs/decisions/0003-seccomp.md has the
//! choices that differ.
#![forbid(unsafe_code)]

mod arch;
mod cache;
mod compile;
mod error;
mod profile;
mod program;
mod table;

pub use arch::Family;
pub use cache::Cache;
pub use compile::{compile, compile_for, compile_listening};
pub use error::Error;
pub use profile::{Context, parse, runtime_default};
pub use program::Program;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
