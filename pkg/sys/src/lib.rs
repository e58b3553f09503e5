//! The kernel edge: the only crate with unsafe code and raw system calls.

