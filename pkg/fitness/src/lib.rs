//! Whether a node is fit for husk.
//!
//! What can be tried is tried (a mount is cloned, an overlay written to, a bridge and a veth pair made, the nftables table
//! loaded, a cgroup made), in namespaces of its own or under names of its own, so that nothing is left and nothing that runs
//! notices; what cannot be tried is read. Works with and without a running huskd.
//!
//! | module | looks at |
//! | --- | --- |
//! | `kernel` | version, system calls, seccomp, capabilities |
//! | `storage` | the file systems of root and state, overlay, user namespaces |
//! | `groups` | cgroups |
//! | `network` | links, nftables, subnet, forwarding |
//! | `node` | LSM, clock, limits, swap, other runtimes, husk's own programs |
#![forbid(unsafe_code)]

mod check;
mod groups;
mod kernel;
mod network;
mod node;
mod storage;
mod words;

use husk_config::Config;

pub use check::{Check, State};

/// Looks at everything that `config` needs. Blocks for as long as it takes, a second or two.
pub async fn check(config: &Config) -> Vec<Check> {
    let mut checks = kernel::checks();
    checks.extend(groups::checks());
    checks.extend(storage::checks(config).await);
    checks.extend(network::checks(config));
    checks.extend(node::checks(config));
    checks
}

/// Whether husk can run pods on the node: nothing is missing.
pub fn is_fit(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.state != State::Missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_makes_a_node_unfit() {
        let ok = Check::ok("kernel", "Linux 6.1");
        let warning = Check::warning("swap", "on", "the kubelet refuses to start", "swapoff -a");
        let missing = Check::missing("overlay", "ENODEV", "no container starts", "modprobe overlay");
        assert!(is_fit(&[ok.clone(), warning.clone()]));
        assert!(!is_fit(&[ok, warning.clone(), missing]));
        let json = serde_json::to_value(warning).unwrap();
        assert_eq!((json["state"].as_str(), json["remedy"].as_str()), (Some("warning"), Some("swapoff -a")));
    }
}
