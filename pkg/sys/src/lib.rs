//! The kernel edge: the only crate with unsafe code and raw system calls.

#![allow(unsafe_code)]
#![deny(unsafe_op_in_unsafe_fn)]

pub mod bpf;
<<<<<<< HEAD
pub mod netns;
=======
pub mod memory;
>>>>>>> b5a2882 (sys: malloc_trim, and signals by number)
pub mod seccomp;
pub mod send;
