//! The kernel edge: the only crate with unsafe code and raw system calls.

#![allow(unsafe_code)]
#![deny(unsafe_op_in_unsafe_fn)]

pub mod bpf;
pub mod memory;
pub mod netns;
pub mod seccomp;
pub mod send;
