//! The container's root filesystem, built in the child.
//!
//! 1. In the monitor's mount namespace ([`sources`], [`volumes`], [`overlay`]): the overlay, image volumes and a copy of each
//!    bind source are opened as detached mounts. Nothing is attached, so nobody on the node sees them.
//! 2. The child enters the mount namespace of the pod's pause process, which holds an empty sealed tmpfs and the pod's
//!    /dev/shm, and takes a copy of it. The node's mount table is never copied, however long it is.
//!    In a user namespace this is where the child enters it ([`crate::userns`]), with the flags of all those mounts locked
//!    ([`locked`]); the overlay's layers, the volumes and the devices of /dev have been made, and mapped to its ids, in step 1:
//!    all of them need the privileges of the node.
//!    Copies of volumes that take part in propagation are attached on a stage here, so that they miss nothing ([`follow`]).
//! 3. The overlay is attached at /root there, the mounts onto it in order ([`attach`]), devices, masks ([`dev`], [`mask`]).
//! 4. pivot_root; the copy of pause's root is dropped ([`pivot`]).
//!
//! The pod's own files ([`files`]) are on a tmpfs in pause's mount namespace, like its /dev/shm.
//!
//! A container that stands alone ([`crate::standalone`]) has a directory of the node for its root, and no pod: its mount namespace
//! is a copy of the node's until its root is entered, and what a pod would hold is on a tmpfs of its own ([`shelf`]).
//!
//! Every target is an open descriptor found with `husk_sys::root`.

pub(crate) mod attach;
pub(crate) mod cgroupfs;
pub(crate) mod dev;
pub(crate) mod files;
pub(crate) mod follow;
pub(crate) mod idmap;
pub(crate) mod locked;
pub(crate) mod mask;
pub(crate) mod options;
pub(crate) mod overlay;
pub(crate) mod pivot;
pub(crate) mod planned;
pub(crate) mod procfs;
pub(crate) mod relabel;
pub(crate) mod shelf;
pub(crate) mod sources;
pub(crate) mod stopped;
pub(crate) mod supplies;
pub(crate) mod tmpfs;
pub(crate) mod volumes;

/// Where things are in pause's root. The runtime makes it (`crate::sandbox`), the containers take from it.
pub(crate) mod pod {
    /// The pod's shared memory, a tmpfs of its own.
    pub(crate) const SHM: &str = "shm";
    /// Mount point for a container's root.
    pub(crate) const ROOT: &str = "root";
    /// A tmpfs with the pod's own /etc/hostname and the like, each bound into its containers.
    pub(crate) const FILES: &str = "files";
    /// An empty directory: what masked directories show.
    pub(crate) const EMPTY: &str = "empty";
    /// A null device: what masked files show.
    pub(crate) const NULL: &str = "null";
    /// The procfs of a pod with a PID namespace of its own.
    pub(crate) const PROC: &str = "proc";
    /// In a user namespace that owns the pod's network namespace: a sysfs, likewise.
    pub(crate) const SYS: &str = "sys";
}
