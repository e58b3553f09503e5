//! Where the network keeps its files and how the embedded network looks. Several daemons run side by side when
//! these differ: bridge name, subnets, table name, root and state directory.

use std::{path::PathBuf, time::Duration};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Everything [`crate::Network`] needs to know.
#[derive(Debug, Clone)]
pub struct NetworkConfig {
    /// Directory that outlives a reboot: reservations and records (with the results of CNI plugins) are below
    /// `<root>/network`.
    pub root: PathBuf,
    /// Directory that dies with a reboot; pinned namespaces are expected below `<state>/netns`.
    pub state: PathBuf,
    /// The embedded network.
    pub bridge: BridgeConfig,
    /// Take a free IPv4 subnet instead of `bridge.subnet`, and keep it.
    pub choose_subnet: bool,
    /// Directory of CNI configurations (`*.conflist`, `*.conf`, `*.json`). It need not exist.
    pub cni_conf_dir: PathBuf,
    /// Directories searched for CNI plugins, in order.
    pub cni_bin_dirs: Vec<PathBuf>,
    /// How long one CNI plugin may run before its process group is killed.
    pub cni_timeout: Duration,
    /// How many namespaces are kept ready, about 270 KiB of kernel memory each. 0 makes them on demand.
    pub netns_pool: usize,
}

impl NetworkConfig {
    /// The defaults below the two given directories.
    pub fn new(root: impl Into<PathBuf>, state: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            state: state.into(),
            bridge: BridgeConfig::default(),
            choose_subnet: false,
            cni_conf_dir: "/etc/cni/net.d".into(),
            cni_bin_dirs: vec!["/opt/cni/bin".into()],
            cni_timeout: Duration::from_secs(120),
            netns_pool: 8,
        }
    }

    /// Where namespaces are pinned.
    pub fn netns_dir(&self) -> PathBuf {
        self.state.join("netns")
    }

    /// What setup leaves for teardown: one file a pod.
    pub(crate) fn record_dir(&self) -> PathBuf {
        self.root.join("network/pods")
    }

    /// What there is of user networks.
    pub(crate) fn user_dir(&self) -> PathBuf {
        self.root.join("network/user")
    }

    /// Where the kubelet's pod CIDR is kept.
    pub(crate) fn pod_cidr_file(&self) -> PathBuf {
        self.root.join("network/pod-cidr.json")
    }

    /// Where the subnet is kept that was chosen for want of a configured one.
    pub(crate) fn subnet_file(&self) -> PathBuf {
        self.root.join("network/subnet.json")
    }

    /// The `dataDir` of the reservations, in the format of the host-local IPAM plugin.
    pub(crate) fn ipam_dir(&self) -> PathBuf {
        self.root.join("network/ipam")
    }
}

/// The embedded bridge network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeConfig {
    /// Name of the bridge, at most 15 bytes. Also the name of the network in the reservations directory.
    pub name: String,
    /// IPv4 addresses of the pods. The first one is the bridge's own.
    pub subnet: Ipv4Net,
    /// IPv6 addresses of the pods, for dual stack; usually a ULA prefix (RFC 4193).
    pub subnet6: Option<Ipv6Net>,
    /// MTU of bridge and pods; `None` takes that of the node's default route, or 1500.
    pub mtu: Option<u32>,
    /// Name of the nftables table (family inet) that holds masquerade and host ports.
    pub table: String,
    /// Subnets of earlier times: pods that came then still have their addresses.
    pub former: Vec<IpNet>,
}

impl Default for BridgeConfig {
    fn default() -> Self {
        Self {
            name: "husk0".into(),
            subnet: Ipv4Net::new_assert(std::net::Ipv4Addr::new(10, 88, 0, 0), 16),
            subnet6: None,
            mtu: None,
            table: "husk".into(),
            former: Vec::new(),
        }
    }
}

impl BridgeConfig {
    /// All that is wrong with it, in words for the operator; empty when it can be used.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let plain = |text: &str| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if !plain(&self.name) || self.name.len() > 15 {
            problems.push(format!("bridge name {:?} is not 1-15 letters, digits, - or _", self.name));
        }
        // nft reads a name that starts with a digit as a number.
        if !plain(&self.table) || !self.table.starts_with(|c: char| c.is_ascii_alphabetic()) {
            problems.push(format!("nftables table {:?} is not letters, digits, - or _", self.table));
        }
        if self.subnet.prefix_len() > 29 || self.subnet.prefix_len() < 8 {
            problems.push(format!("subnet {} is not between /8 and /29", self.subnet));
        }
        if let Some(subnet6) = self.subnet6
            && (subnet6.prefix_len() > 120 || subnet6.prefix_len() < 16)
        {
            problems.push(format!("IPv6 subnet {subnet6} is not between /16 and /120"));
        }
        if let Some(mtu) = self.mtu
            && !(576..=65535).contains(&mtu)
        {
            problems.push(format!("MTU {mtu} is not between 576 and 65535"));
        }
        // IPv6 requires 1280 on every link (RFC 8200, section 5); below it the kernel turns IPv6 off.
        if self.subnet6.is_some() && self.mtu.is_some_and(|mtu| mtu < 1280) {
            problems.push("IPv6 needs an MTU of at least 1280".into());
        }
        problems
    }

    /// The subnets of today and of earlier times.
    pub(crate) fn all_subnets(&self) -> impl Iterator<Item = IpNet> {
        self.subnets().chain(self.former.iter().copied())
    }

    /// The subnets, IPv4 first.
    pub(crate) fn subnets(&self) -> impl Iterator<Item = IpNet> {
        [Some(IpNet::V4(self.subnet.trunc())), self.subnet6.map(|net| IpNet::V6(net.trunc()))]
            .into_iter()
            .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_has_no_problems() {
        assert_eq!(BridgeConfig::default().problems(), Vec::<String>::new());
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let config = BridgeConfig {
            name: "a-name-longer-than-15".into(),
            subnet: "10.0.0.0/30".parse().unwrap(),
            subnet6: Some("fd00::/127".parse().unwrap()),
            mtu: Some(12),
            table: "x;flush ruleset".into(),
            former: Vec::new(),
        };
        assert_eq!(config.problems().len(), 6);
    }
}
