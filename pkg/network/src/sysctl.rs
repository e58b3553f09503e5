//! Kernel parameters of the network. `/proc/sys/net` is that of the calling thread's namespace.

use std::{fs, io, path::Path};

use crate::NetworkError;

/// Sets `net/<key>`; a value that is there already is not written again, so a read-only /proc/sys that is set up
/// right (husk inside a container) is good enough.
///
/// # Errors
/// [`NetworkError::Sysctl`].
pub(crate) fn set(key: &str, value: &'static str) -> Result<(), NetworkError> {
    let path = Path::new("/proc/sys/net").join(key);
    let fail = |source| NetworkError::Sysctl { path: key.to_owned(), value, source };
    if fs::read_to_string(&path).map_err(fail)?.trim() == value {
        return Ok(());
    }
    fs::write(&path, value).map_err(fail)
}

/// Like [`set`]; a parameter this kernel does not have is fine.
///
/// # Errors
/// [`NetworkError::Sysctl`].
pub(crate) fn set_if_known(key: &str, value: &'static str) -> Result<(), NetworkError> {
    match set(key, value) {
        Err(NetworkError::Sysctl { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Prepares a fresh pod namespace for the embedded bridge; to be called inside it.
///
/// A neighbour on the bridge must not become the pod's router by sending advertisements (CVE-2020-10749), and an
/// address that a reservation guards needs no duplicate detection.
///
/// # Errors
/// [`NetworkError::Sysctl`].
pub(crate) fn harden_pod(ipv6: bool) -> Result<(), NetworkError> {
    for scope in ["all", "default"] {
        set_if_known(&format!("ipv6/conf/{scope}/accept_ra"), "0")?;
        set_if_known(&format!("ipv6/conf/{scope}/accept_dad"), "0")?;
        if ipv6 {
            set_if_known(&format!("ipv6/conf/{scope}/disable_ipv6"), "0")?;
        }
    }
    Ok(())
}
