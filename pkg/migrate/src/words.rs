//! What is said of several keys.

/// Of snapshotters and storage drivers.
pub(crate) const OVERLAY: &str =
    "husk has overlay alone: images are pulled anew and kept as unpacked layers; lazy pulling is not there";
/// Of runtimes that a vendor of GPUs puts in place of runc.
pub(crate) const NVIDIA: &str = "GPUs come through CDI: `nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`, and the \
                                 device plugin with DEVICE_LIST_STRATEGY=cdi-cri";
/// Of the runtime's own seccomp profile.
pub(crate) const SECCOMP: &str =
    "RuntimeDefault is husk's own profile: give pods a Localhost profile where this one is needed";
/// Of checkpoints.
pub(crate) const CHECKPOINT: &str = "husk makes no checkpoints: CheckpointContainer is refused";
