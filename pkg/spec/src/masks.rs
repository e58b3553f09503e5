//! Which paths of /proc and /sys are hidden, and which can only be read.
//!
//! The kubelet sends complete lists, empty ones for `procMount: Unmasked`, which it allows in pods with a user namespace alone: there the
//! files belong to the node and are out of reach. Other clients (crictl) send none, and on the wire that is the same. So a request
//! with neither list gets the defaults, as containerd gives them, unless its pod has a user namespace.

use husk_model::SecurityContext;

/// Hidden by default: the kubelet's list, which is Docker's.
const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
/// Read-only by default.
const READONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Masked and read-only paths of a container.
pub(crate) fn masks(security: &SecurityContext, in_user_namespace: bool) -> (Vec<String>, Vec<String>) {
    if security.privileged {
        return (Vec::new(), Vec::new());
    }
    let silent = security.masked_paths.is_empty() && security.readonly_paths.is_empty();
    if silent && !in_user_namespace {
        let owned = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
        return (owned(MASKED), owned(READONLY));
    }
    (security.masked_paths.clone(), security.readonly_paths.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(masked: &[&str], privileged: bool) -> SecurityContext {
        let masked_paths = masked.iter().map(|path| (*path).to_owned()).collect();
        SecurityContext { masked_paths, privileged, ..Default::default() }
    }

    #[test]
    fn a_request_without_lists_leaves_proc_sys_read_only() {
        let (masked, readonly) = masks(&with(&[], false), false);
        assert!(masked.contains(&"/proc/kcore".to_owned()) && readonly.contains(&"/proc/sys".to_owned()));
        assert_eq!(masks(&with(&[], true), false), (Vec::new(), Vec::new()));
        assert_eq!(masks(&with(&["/x"], false), false), (vec!["/x".to_owned()], Vec::new()));
    }

    #[test]
    fn unmasked_is_what_it_says_in_a_user_namespace() {
        assert_eq!(masks(&with(&[], false), true), (Vec::new(), Vec::new()));
    }
}
