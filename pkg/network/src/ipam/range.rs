//! The addresses that pods may have, as numbers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// A subnet of which pods get addresses.
#[derive(Debug, Clone)]
pub(crate) struct Addresses {
    pub(crate) subnet: IpNet,
    /// Only these of it, unless a pod asks for another one.
    pub(crate) within: Option<IpNet>,
    /// The gateway's and what else is nobody's.
    pub(crate) taken: Vec<IpAddr>,
}

/// The addresses of a subnet that pods may have: not the network's, not the broadcast address, not those that are taken.
#[derive(Debug, Clone)]
pub(super) struct Range {
    pub(super) subnet: IpNet,
    first: u128,
    last: u128,
    taken: Vec<u128>,
}

impl Range {
    pub(super) fn new(addresses: Addresses) -> Self {
        let Addresses { subnet, within, taken } = addresses;
        let (network, end) = (number(subnet.network()), number(subnet.broadcast()));
        // IPv6 has no broadcast, but host-local leaves the last address out there as well.
        let (mut first, mut last) = (network + 1, end - 1);
        if let Some(within) = within {
            first = first.max(number(within.network()));
            last = last.min(number(within.broadcast()));
        }
        Self { subnet, first, last, taken: taken.into_iter().map(number).collect() }
    }

    /// Every address once, beginning behind `last`.
    pub(super) fn after(&self, last: Option<IpAddr>) -> impl Iterator<Item = IpAddr> {
        let start = match last.filter(|ip| self.subnet.contains(ip)).map(number) {
            Some(last) if (self.first..self.last).contains(&last) => last + 1,
            _ => self.first,
        };
        let ipv4 = self.subnet.addr().is_ipv4();
        let numbers = (start..=self.last).chain(self.first..start);
        numbers.filter(|n| !self.taken.contains(n)).map(move |n| address(n, ipv4))
    }

    /// Whether a pod that asks for this address may have it, of the whole subnet.
    pub(super) fn may_have(&self, ip: IpAddr) -> bool {
        let ends = [self.subnet.network(), self.subnet.broadcast()];
        self.subnet.contains(&ip) && !ends.contains(&ip) && !self.taken.contains(&number(ip))
    }
}

/// The gateway: the first address of the subnet.
pub(crate) fn gateway(subnet: IpNet) -> IpAddr {
    address(number(subnet.network()) + 1, subnet.addr().is_ipv4())
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

fn address(number: u128, ipv4: bool) -> IpAddr {
    if ipv4 {
        // Numbers come from `number` of an IPv4 subnet and stay inside it, so the cut loses nothing.
        #[allow(clippy::cast_possible_truncation)]
        Ipv4Addr::from(number as u32).into()
    } else {
        Ipv6Addr::from(number).into()
    }
}
