//! The pod's sysctls: only those of a namespace that the pod has for itself.

use husk_sys::procfs::{Procfs, sysctl_path};

use crate::{Error, Failure, NetNs, Result, SandboxNamespaces, Step, failure::At};

/// Sysctls of an IPC namespace (ipc_namespaces(7)); `fs.mqueue` is one as a whole.
const IPC: &[&str] = &[
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
];

/// Refuses what would change the node. The test is on the very path that is written, so no spelling gets around it
/// (CVE-2022-0811 smuggled a second sysctl into the first).
pub(crate) fn check(sysctls: &[(String, String)], namespaces: &SandboxNamespaces) -> Result<()> {
    for (name, _) in sysctls {
        let path =
            sysctl_path(name).ok_or_else(|| Error::InvalidPlan(format!("sysctl {name:?} is malformed")))?;
        let path = path.to_string_lossy();
        let path = path.strip_prefix("sys/").unwrap_or_default();
        let (own, kind) = if path.starts_with("net/") {
            (namespaces.net != NetNs::Host, "network")
        } else if path.starts_with("fs/mqueue/") || IPC.contains(&path) {
            (namespaces.ipc, "IPC")
        } else if path == "kernel/domainname" {
            (namespaces.uts, "UTS")
        } else {
            return Err(Error::InvalidPlan(format!(
                "sysctl {name:?} is not of a namespace: it would change the node"
            )));
        };
        if !own {
            return Err(Error::InvalidPlan(format!(
                "sysctl {name:?} needs a {kind} namespace of the pod's own; it would change the node"
            )));
        }
    }
    Ok(())
}

/// Writes them, in the namespaces of the calling process.
pub(crate) fn apply(sysctls: &[(String, String)]) -> Result<(), Failure> {
    if sysctls.is_empty() {
        return Ok(());
    }
    let proc = Procfs::private().at(Step::Sysctl, "procfs")?;
    sysctls.iter().try_for_each(|(name, value)| proc.set_sysctl(name, value).at(Step::Sysctl, name))
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
        check(&[(name.to_owned(), "1".to_owned())], &namespaces).is_ok()
    }

    #[test]
    fn only_sysctls_of_the_pods_own_namespaces_are_set() {
        for name in ["net.ipv4.ip_forward", "kernel.shm_rmid_forced", "kernel/sem", "fs.mqueue.msg_max"] {
            assert!(allowed(name, true), "{name}");
            assert!(!allowed(name, false), "{name}");
        }
    }

    #[test]
    fn no_spelling_reaches_a_sysctl_of_the_node() {
        for name in [
            "kernel.core_pattern",
            "net/../kernel/core_pattern",
            "kernel.shm_rmid_forced+kernel.core_pattern",
            "kernel.sem\nkernel.core_pattern",
            "vm.overcommit_memory",
            "net",
            "/proc/sys/net/x",
        ] {
            assert!(!allowed(name, true), "{name:?}");
        }
    }
}
