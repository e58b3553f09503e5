//! What a container is made of besides its spec: layers, a filter, contexts.

use std::path::PathBuf;

/// An overlay of image layers and a writable layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rootfs {
    /// Directory that holds the layers.
    pub base: PathBuf,
    /// Names relative to `base`, topmost first.
    pub lowers: Vec<String>,
    /// Writable layer.
    pub upper: PathBuf,
    /// overlayfs work directory, on the filesystem of `upper`.
    pub work: PathBuf,
    /// The root is mounted read-only.
    pub readonly: bool,
    /// The writable layer outlives the boot: it is written back as files are, instead of left to its end.
    pub durable: bool,
}

/// An image mounted as a volume, read-only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageVolume {
    /// Directory that holds the layers.
    pub base: PathBuf,
    /// Names relative to `base`, topmost first.
    pub lowers: Vec<String>,
    /// What of it is mounted, looked up inside the image; empty is all.
    pub sub_path: PathBuf,
}

/// A compiled seccomp program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeccompFilter {
    /// Packed array of `struct sock_filter` in the byte order of this machine.
    pub program: Vec<u8>,
    /// Flags of seccomp(2), `SECCOMP_SET_MODE_FILTER`.
    pub flags: u32,
}

/// The SELinux contexts of a pod or a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeLinuxContexts {
    /// Of its processes.
    pub process: String,
    /// Of its files.
    pub mount: String,
}
