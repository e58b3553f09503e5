//! Namespaces of processes, as descriptors.

use std::os::fd::OwnedFd;

use husk_sys::procfs::Procfs;

use crate::{Error, Result};

/// Opens the user namespace of a child that is not reaped.
pub(crate) fn user_of(pid: u32) -> Result<OwnedFd> {
    Procfs::host()
        .and_then(|proc| proc.namespace_of(pid, "user"))
        .map_err(|source| Error::Call { intent: "open the user namespace of the pod", source })
}
