//! The pod's sysctls: only those of a namespace that the pod has for itself.

use std::os::fd::OwnedFd;

use husk_model::{Sysctl, SysctlOwner};
use husk_sys::procfs::Procfs;

use crate::{Error, Failure, NetNs, Result, SandboxNamespaces, Step, failure::At};

/// Refuses what would change the node.
pub(crate) fn check(sysctls: &[(Sysctl, String)], namespaces: &SandboxNamespaces) -> Result<()> {
    for (name, _) in sysctls {
        let (own, kind) = match name.owner() {
            SysctlOwner::Network => (namespaces.net != NetNs::Host, "network"),
            SysctlOwner::Ipc => (namespaces.ipc, "IPC"),
            SysctlOwner::Uts => (namespaces.uts, "UTS"),
        };
        if !own {
            return Err(Error::InvalidPlan(format!(
                "sysctl {name} needs a {kind} namespace of the pod's own; it would change the node"
            )));
        }
    }
    Ok(())
}

/// Writes them, in the namespaces of the calling process: those of whoever opens a file of `procfs`, whichever that is. Without
/// one, one is made.
pub(crate) fn apply(sysctls: &[(Sysctl, String)], procfs: Option<&OwnedFd>) -> Result<(), Failure> {
    if sysctls.is_empty() {
        return Ok(());
    }
    let procfs = procfs.map_or_else(Procfs::private, Procfs::at).at(Step::Sysctl, "procfs")?;
    sysctls.iter().try_for_each(|(name, value)| procfs.set_sysctl(name.path(), value).at(Step::Sysctl, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(name: &str, own: bool) -> bool {
        let namespaces = SandboxNamespaces {
            net: if own { NetNs::Path("/ns".into()) } else { NetNs::Host },
            pid: own,
            ipc: own,
            uts: own,
            user: None,
        };
        check(&[(name.parse().unwrap(), "1".to_owned())], &namespaces).is_ok()
    }

    #[test]
    fn only_sysctls_of_the_pods_own_namespaces_are_set() {
        for name in
            ["net.ipv4.ip_forward", "kernel.shm_rmid_forced", "fs.mqueue.msg_max", "kernel.domainname"]
        {
            assert!(allowed(name, true), "{name}");
            assert!(!allowed(name, false), "{name}");
        }
    }
}
