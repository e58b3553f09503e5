//! What the one table says of user networks: static rules over sets, of which each network has some elements. A node without
//! user networks has none of it.
//!
//! Why each rule is there:
//! - `user_from`: as `from_bridge`, for the bridges of user networks (CVE-2020-8558).
//! - `user_forward`: pods of one network reach each other. From anywhere else (another user network, pods of the embedded
//!   network, machines beyond the node) nothing reaches them but what was published. Of an internal network nothing
//!   leaves, and nothing comes in.
//! - `user_postrouting`: as `postrouting`; what stays in the network keeps its address.

use std::fmt::Write;

use ipnet::IpNet;

/// A user network, as the rules see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UserRules {
    pub(crate) bridge: String,
    pub(crate) subnets: Vec<IpNet>,
    pub(crate) internal: bool,
    /// Its pods reach each other.
    pub(crate) icc: bool,
    pub(crate) masquerade: bool,
}

/// The part of the table; empty without networks.
pub(super) fn section<'a>(networks: impl Iterator<Item = &'a UserRules> + Clone) -> String {
    if networks.clone().next().is_none() {
        return String::new();
    }
    let set = |name: &str, kind: &str, elements: Vec<String>| {
        let flags = if kind.contains("_addr") { " flags interval;" } else { "" };
        let elements = match elements.as_slice() {
            [] => String::new(),
            some => format!(" elements = {{ {} }}", some.join(", ")),
        };
        format!("set {name} {{ type {kind};{flags}{elements}\n}}\n")
    };
    let links = |wanted: fn(&UserRules) -> bool| {
        networks
            .clone()
            .filter(move |network| wanted(network))
            .map(|network| format!("\"{}\"", network.bridge))
    };
    let nets = |ipv4: bool, wanted: fn(&UserRules) -> bool| {
        let networks = networks.clone().filter(move |network| wanted(network));
        networks.flat_map(move |network| {
            let own = network.subnets.iter().filter(move |net| net.addr().is_ipv4() == ipv4);
            own.map(|net| (network.bridge.as_str(), *net))
        })
    };
    let local = |ipv4| nets(ipv4, |_| true).map(|(bridge, net)| format!("\"{bridge}\" . {net}")).collect();
    let masqueraded = |ipv4| {
        nets(ipv4, |network| network.masquerade && !network.internal)
            .map(|(_, net)| net.to_string())
            .collect()
    };
    let mut text = String::new();
    for part in [
        set("user", "ifname", links(|_| true).collect()),
        set("user_internal", "ifname", links(|network| network.internal).collect()),
        set(
            "user_icc",
            "ifname . ifname",
            links(|network| network.icc).map(|link| format!("{link} . {link}")).collect(),
        ),
        set("user_local4", "ifname . ipv4_addr", local(true)),
        set("user_local6", "ifname . ipv6_addr", local(false)),
        set("user_masquerade4", "ipv4_addr", masqueraded(true)),
        set("user_masquerade6", "ipv6_addr", masqueraded(false)),
    ] {
        text.push_str(&part);
    }
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "chain user_from {{ type filter hook prerouting priority -300; policy accept;\n\
         iifname @user ip daddr 127.0.0.0/8 drop\n\
         }}\n\
         chain user_forward {{ type filter hook forward priority 0; policy accept;\n\
         ct state established,related accept\n\
         iifname . oifname @user_icc accept\n\
         iifname @user_internal drop\n\
         oifname @user_internal drop\n\
         oifname @user ct status dnat accept\n\
         oifname @user drop\n\
         }}\n\
         chain user_postrouting {{ type nat hook postrouting priority 100; policy accept;\n\
         oifname @user ip saddr 127.0.0.0/8 masquerade\n\
         oifname . ip saddr @user_local4 ct status dnat masquerade\n\
         oifname . ip saddr @user_local4 accept\n\
         ip saddr @user_masquerade4 ip daddr != 224.0.0.0/4 masquerade\n\
         oifname . ip6 saddr @user_local6 ct status dnat masquerade\n\
         oifname . ip6 saddr @user_local6 accept\n\
         ip6 saddr @user_masquerade6 ip6 daddr != ff00::/8 masquerade\n\
         }}\n"
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(bridge: &str) -> UserRules {
        UserRules {
            bridge: bridge.to_owned(),
            subnets: vec!["172.18.0.0/16".parse().unwrap()],
            internal: false,
            icc: true,
            masquerade: true,
        }
    }

    fn elements<'t>(text: &'t str, set: &str) -> &'t str {
        let start = text.find(&format!("set {set} {{")).unwrap();
        text[start..].lines().next().unwrap()
    }

    #[test]
    fn a_node_without_user_networks_has_none_of_their_rules() {
        assert_eq!(section([].iter()), "");
    }

    #[test]
    fn each_network_is_an_element_of_the_sets_that_concern_it() {
        let inner = UserRules { internal: true, icc: false, ..rules("hd-b") };
        let text = section([rules("hd-a"), inner].iter());
        assert!(elements(&text, "user").contains("{ \"hd-a\", \"hd-b\" }"));
        assert!(elements(&text, "user_internal").contains("{ \"hd-b\" }"));
        assert!(elements(&text, "user_icc").contains("{ \"hd-a\" . \"hd-a\" }"));
        assert!(elements(&text, "user_local4").contains("\"hd-b\" . 172.18.0.0/16"));
        assert!(elements(&text, "user_masquerade4").ends_with("elements = { 172.18.0.0/16 }"));
        assert!(!elements(&text, "user_local6").contains("elements"));
        let open = UserRules { masquerade: false, ..rules("hd-a") };
        assert!(!elements(&section([open].iter()), "user_masquerade4").contains("elements"));
    }
}
