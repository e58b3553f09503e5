//! Seccomp profiles compiled to BPF once per profile.
#![forbid(unsafe_code)]
