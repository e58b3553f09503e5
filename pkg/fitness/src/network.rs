//! The pod network: links, nftables, subnet, forwarding.

use std::path::Path;

use husk_config::Config;
use husk_network::{BridgeConfig, NetworkConfig, probe};

use crate::{Check, words::read};

pub(crate) fn checks(config: &Config) -> Vec<Check> {
    let wanted = &config.network;
    let kept = || NetworkConfig::new(&config.root, &config.state).chosen_subnet();
    let known = wanted.subnet.or_else(kept);
    let bridge = BridgeConfig {
        name: wanted.bridge.clone(),
        subnet: known.unwrap_or(BridgeConfig::default().subnet),
        subnet6: wanted.subnet6,
        mtu: wanted.mtu,
        table: wanted.nft_table.clone(),
        former: Vec::new(),
    };
    let tried = probe(&bridge);
    let links = match tried.links {
        Ok(()) => Check::ok("network links", "a namespace, a bridge and a veth pair were made"),
        Err(error) => Check::missing(
            "network links",
            error,
            "no pod with a network of its own can be started",
            "modprobe bridge veth (CONFIG_BRIDGE, CONFIG_VETH, CONFIG_NET_NS), run with CAP_NET_ADMIN",
        ),
    };
    let table = match tried.table {
        Ok(()) => Check::ok("nftables", "the table was loaded in a namespace of its own"),
        Err(error) => Check::warning(
            "nftables",
            error,
            "with the embedded network pods reach nothing beyond the node, and host ports do not work",
            "install nftables; modprobe nf_tables nft_nat nft_masq nft_fib_inet nft_ct",
        ),
    };
    let subnet = match (known, tried.subnet) {
        (None, _) => Check::ok("subnet", "none is configured: the first start takes a free one"),
        (Some(subnet), Ok(())) => Check::ok("subnet", format!("{subnet} is free for the embedded network")),
        (Some(_), Err(error)) => Check::warning(
            "subnet",
            error,
            "with the embedded network no pod gets an address",
            "set network.subnet to a subnet that nothing on the node uses",
        ),
    };
    vec![links, table, subnet, cni(config), forwarding(), bridge_filter()]
}

fn cni(config: &Config) -> Check {
    let (conf, bin) = (&config.network.cni_conf_dir, &config.network.cni_bin_dir);
    let is_conf = |name: &str| [".conf", ".conflist", ".json"].iter().any(|end| name.ends_with(end));
    let configured = std::fs::read_dir(conf)
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| entry.file_name().to_str().is_some_and(is_conf));
    let plugins = std::fs::read_dir(bin).is_ok_and(|mut entries| entries.next().is_some());
    match (configured, plugins) {
        (false, _) => {
            Check::ok("CNI", format!("no configuration in {}: the embedded network", conf.display()))
        }
        (true, true) => Check::ok("CNI", format!("configured in {}", conf.display())),
        (true, false) => Check::missing(
            "CNI",
            format!("configured in {}, but {} has no plugins", conf.display(), bin.display()),
            "no pod with a network of its own can be started",
            "install the plugins that the configuration names, or remove it for the embedded network",
        ),
    }
}

fn forwarding() -> Check {
    match read("/proc/sys/net/ipv4/ip_forward").as_deref() {
        Some("1") => Check::ok("forwarding", "net.ipv4.ip_forward is 1"),
        found => Check::warning(
            "forwarding",
            format!("net.ipv4.ip_forward is {}", found.unwrap_or("not there")),
            "with CNI plugins pods reach nothing beyond the node (the embedded network turns it on itself)",
            "sysctl -w net.ipv4.ip_forward=1, and in /etc/sysctl.d",
        ),
    }
}

fn bridge_filter() -> Check {
    let subject = "bridge filter";
    if !Path::new("/proc/sys/net/bridge").exists() {
        return Check::warning(
            subject,
            "br_netfilter is not loaded",
            "pods do not reach services whose answer comes from a pod on the same bridge (kube-proxy)",
            "modprobe br_netfilter, and in /etc/modules-load.d",
        );
    }
    match read("/proc/sys/net/bridge/bridge-nf-call-iptables").as_deref() {
        Some("1") => Check::ok(subject, "net.bridge.bridge-nf-call-iptables is 1"),
        _ => Check::warning(
            subject,
            "net.bridge.bridge-nf-call-iptables is not 1",
            "pods do not reach services whose answer comes from a pod on the same bridge (kube-proxy)",
            "sysctl -w net.bridge.bridge-nf-call-iptables=1, and in /etc/sysctl.d",
        ),
    }
}
