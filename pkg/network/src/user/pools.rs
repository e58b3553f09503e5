//! Subnets for user networks that name none: the first of Docker's pools that nobody on the node has.
//!
//! Pools are Docker's own defaults, so that what people know of its addresses (firewalls, documentation) stays true. A subnet
//! that another network, a link, a route, a name server of the node or a configuration of another runtime has is passed over.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::spec::Pool;

/// A /16 each, then /20s of the last.
const FIRST: [u8; 2] = [172, 17];
const LAST_SECOND_BYTE: u8 = 31;

/// The first IPv4 pool that overlaps nothing of `taken`.
pub(super) fn free_ipv4(taken: &[IpNet]) -> Option<IpNet> {
    let [first, second] = FIRST;
    let large = (second..=LAST_SECOND_BYTE).map(|byte| (Ipv4Addr::new(first, byte, 0, 0), 16));
    let small = (0..16u8).map(|number| (Ipv4Addr::new(192, 168, number << 4, 0), 20));
    let pools = large.chain(small).filter_map(|(ip, length)| Ipv4Net::new(ip, length).ok());
    pools.map(IpNet::V4).find(|pool| is_free(*pool, taken))
}

/// Subnets of a pool that are looked at. A pool whose first are all somebody's is one that is somebody's as a whole.
const MOST_LOOKS: usize = 4096;

/// The first subnet of a pool that overlaps nothing of `taken`.
pub(super) fn free_of(pool: &Pool, taken: &[IpNet]) -> Option<IpNet> {
    let subnets = pool.nets.iter().filter_map(|net| net.subnets(pool.prefix).ok()).flatten();
    subnets.take(MOST_LOOKS).map(IpNet::V4).find(|subnet| is_free(*subnet, taken))
}

/// A unique local prefix (RFC 4193) of the network's own: its 40 random bits are those that its id begins with.
pub(super) fn free_ipv6(id: &str, taken: &[IpNet]) -> Option<IpNet> {
    (0..u16::MAX).find_map(|number| {
        let global = u64::from_str_radix(id.get(..10)?, 16).ok()?.wrapping_add(number.into());
        let bytes = global.to_be_bytes();
        let mut octets = [0; 16];
        octets[0] = 0xfd;
        octets[1..6].copy_from_slice(&bytes[3..]);
        let pool = IpNet::V6(Ipv6Net::new(Ipv6Addr::from(octets), 64).ok()?);
        is_free(pool, taken).then_some(pool)
    })
}

/// What the node's resolv.conf names is somebody's: a pod network over it would cut the node's names off.
pub(super) fn name_servers(resolv_conf: &str) -> impl Iterator<Item = IpNet> {
    resolv_conf.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let ip: IpAddr = words.next().filter(|word| *word == "nameserver").and(words.next())?.parse().ok()?;
        Some(ip.into())
    })
}

pub(super) fn is_free(pool: IpNet, taken: &[IpNet]) -> bool {
    !taken.iter().any(|net| overlap(pool, *net))
}

/// Whether two subnets have an address in common.
pub(super) fn overlap(one: IpNet, other: IpNet) -> bool {
    one.contains(&other.trunc()) || other.trunc().contains(&one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn ipv4(taken: &[&str]) -> Option<String> {
        free_ipv4(&nets(taken)).map(|net| net.to_string())
    }

    #[test]
    fn pools_are_taken_in_dockers_order_and_what_is_somebodys_is_passed_over() {
        assert_eq!(ipv4(&[]).as_deref(), Some("172.17.0.0/16"));
        assert_eq!(ipv4(&["172.17.0.1/16", "172.18.5.0/24"]).as_deref(), Some("172.19.0.0/16"));
        assert_eq!(ipv4(&["172.16.0.0/12", "192.168.0.0/19"]).as_deref(), Some("192.168.32.0/20"));
        assert_eq!(ipv4(&["172.16.0.0/12", "192.168.0.0/16"]), None);
    }

    #[test]
    fn a_pool_is_used_up_in_its_order() {
        let nets = ["10.0.0.0/23", "10.9.0.0/24"].iter().map(|text| text.parse().unwrap()).collect();
        let pool = Pool { nets, prefix: 24 };
        let free = |taken: &[&str]| free_of(&pool, &self::nets(taken)).map(|net| net.to_string());
        assert_eq!(free(&[]).as_deref(), Some("10.0.0.0/24"));
        assert_eq!(free(&["10.0.0.7/32"]).as_deref(), Some("10.0.1.0/24"));
        assert_eq!(free(&["10.0.0.0/16"]).as_deref(), Some("10.9.0.0/24"));
        assert_eq!(free(&["10.0.0.0/8"]), None);
    }

    #[test]
    fn ipv6_pools_come_of_the_networks_id() {
        let id = "0123456789".repeat(7);
        let first = free_ipv6(&id, &[]).unwrap();
        assert_eq!(first.to_string(), "fd01:2345:6789::/64");
        assert_eq!(free_ipv6(&id, &[first]).unwrap().to_string(), "fd01:2345:678a::/64");
    }

    #[test]
    fn name_servers_of_the_node_are_somebodys() {
        let text = "search x\nnameserver 172.17.0.53 # ours\n#nameserver 1.1.1.1\nnameserver fe80::1%eth0\n";
        assert_eq!(name_servers(text).collect::<Vec<_>>(), nets(&["172.17.0.53/32"]));
    }
}
