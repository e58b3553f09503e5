//! The internal OCI runtime: namespaces, rootfs, cgroup, capabilities, seccomp, exec.
#![forbid(unsafe_code)]
