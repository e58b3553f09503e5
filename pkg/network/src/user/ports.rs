//! Which ports of the node a pod of user networks gets: those it asks for, if nobody has them, or free ones.

use std::{
    fs,
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    ops::RangeInclusive,
    sync::atomic::{AtomicU16, Ordering},
};

use husk_model::{HostPort, PodSandboxId, Protocol};

use crate::{
    NetworkError,
    embedded::{
        hostports::HostPorts,
        mapping::{Mapping, mappings},
    },
};

/// Where the search for a free port goes on: a port that was just given back is not the next one's.
static NEXT: AtomicU16 = AtomicU16::new(0);

/// What a pod gets.
#[derive(Debug, Default)]
pub(super) struct Chosen {
    /// The ports that were asked for, each with the port of the node that it got; 0 where nothing leads to the pod.
    pub(super) ports: Vec<HostPort>,
    pub(super) mappings: Vec<Mapping>,
}

/// Chooses ports for a pod that is reached at `ips`, one of each family at most. Those of `own` it has already. Has to be called in
/// the node's network namespace.
///
/// # Errors
/// [`NetworkError::HostPortTaken`], [`NetworkError::HostPortBusy`], [`NetworkError::NoFreeHostPort`], or [`NetworkError::Wish`] for
/// two that cannot both be.
pub(super) fn choose(
    taken: &HostPorts,
    id: &PodSandboxId,
    wanted: &[HostPort],
    ips: &[IpAddr],
    own: &[Mapping],
) -> Result<Chosen, NetworkError> {
    let mut chosen = Chosen::default();
    for port in wanted {
        let (port, led) = if port.host_port == 0 {
            free(taken, id, port, ips, &chosen.mappings)?
        } else {
            let led = mappings(std::slice::from_ref(port), ips);
            check(taken, id, &led, &chosen.mappings, own)?;
            (port.clone(), led)
        };
        let new = led.into_iter().filter(|mapping| !chosen.mappings.contains(mapping)).collect::<Vec<_>>();
        chosen.mappings.extend(new);
        chosen.ports.push(port);
    }
    Ok(chosen)
}

fn free(
    taken: &HostPorts,
    id: &PodSandboxId,
    port: &HostPort,
    ips: &[IpAddr],
    chosen: &[Mapping],
) -> Result<(HostPort, Vec<Mapping>), NetworkError> {
    let range = local_ports();
    let count = range.end() - range.start();
    for _ in 0..=count {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed) % count.saturating_add(1).max(1);
        let port = HostPort { host_port: range.start() + offset, ..port.clone() };
        let led = mappings(std::slice::from_ref(&port), ips);
        if led.is_empty() {
            return Ok((HostPort { host_port: 0, ..port }, led));
        }
        let apart = led.iter().all(|mapping| chosen.iter().all(|other| other.key() != mapping.key()));
        if apart && check(taken, id, &led, &[], &[]).is_ok() {
            return Ok((port, led));
        }
    }
    Err(NetworkError::NoFreeHostPort { protocol: port.protocol })
}

fn check(
    taken: &HostPorts,
    id: &PodSandboxId,
    led: &[Mapping],
    chosen: &[Mapping],
    own: &[Mapping],
) -> Result<(), NetworkError> {
    taken.check_free(id, led)?;
    for mapping in led {
        if let Some(other) = chosen.iter().find(|other| other.key() == mapping.key() && *other != mapping) {
            return Err(NetworkError::Wish(format!(
                "host port {} is to lead to {} and to {}",
                mapping.host_port, other.target, mapping.target
            )));
        }
        if !own.iter().any(|own| own.key() == mapping.key()) {
            try_bind(mapping).map_err(|source| NetworkError::HostPortBusy {
                protocol: mapping.protocol,
                port: mapping.host_port,
                source,
            })?;
        }
    }
    Ok(())
}

/// Whether a program of the node has the port: it would be called no more.
fn try_bind(mapping: &Mapping) -> io::Result<()> {
    let any =
        if mapping.target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let address = SocketAddr::new(mapping.host_ip.unwrap_or(any), mapping.host_port);
    let bound = match mapping.protocol {
        Protocol::Tcp => TcpListener::bind(address).map(drop),
        Protocol::Udp => UdpSocket::bind(address).map(drop),
        // The standard library has no such sockets, and a program that has one is rare.
        Protocol::Sctp => Ok(()),
    };
    match bound {
        // A node without IPv6 has nobody there.
        Err(error) if mapping.host_ip.is_none() && error.kind() != ErrorKind::AddrInUse => Ok(()),
        bound => bound,
    }
}

/// As the node's own programs get them.
fn local_ports() -> RangeInclusive<u16> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut words = text.split_ascii_whitespace().map(str::parse::<u16>);
    match (words.next(), words.next()) {
        (Some(Ok(first)), Some(Ok(last))) if first > 0 && first < last => first..=last,
        _ => 32768..=60999,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(host_port: u16, container_port: u16) -> HostPort {
        HostPort {
            protocol: Protocol::Tcp,
            container_port,
            host_port,
            host_ip: Some(Ipv4Addr::LOCALHOST.into()),
        }
    }

    fn ips() -> Vec<IpAddr> {
        vec!["172.18.0.2".parse().unwrap()]
    }

    fn pod(number: usize) -> PodSandboxId {
        format!("{number:064x}").parse().unwrap()
    }

    #[test]
    fn free_ports_are_all_different_and_nobodys() {
        let mut taken = HostPorts::default();
        let wanted = vec![port(0, 80); 3];
        let first = choose(&taken, &pod(1), &wanted, &ips(), &[]).unwrap();
        taken.adopt(&pod(1), &first.mappings);
        let second = choose(&taken, &pod(2), &wanted, &ips(), &[]).unwrap();
        let mut all: Vec<u16> = first.ports.iter().chain(&second.ports).map(|port| port.host_port).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 6, "{all:?}");
        assert_eq!(first.mappings.len(), 3);
    }

    #[test]
    fn a_port_that_a_program_of_the_node_listens_on_is_refused() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let busy = port(listener.local_addr().unwrap().port(), 80);
        let chosen = choose(&HostPorts::default(), &pod(1), &[busy], &ips(), &[]);
        assert!(matches!(chosen, Err(NetworkError::HostPortBusy { .. })), "{chosen:?}");
    }

    #[test]
    fn one_port_cannot_lead_to_two_places_and_may_be_asked_for_twice() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let number = listener.local_addr().unwrap().port();
        drop(listener);
        let choose = |wanted: &[HostPort]| choose(&HostPorts::default(), &pod(1), wanted, &ips(), &[]);
        assert!(matches!(choose(&[port(number, 80), port(number, 81)]), Err(NetworkError::Wish(_))));
        assert_eq!(choose(&[port(number, 80), port(number, 80)]).unwrap().mappings.len(), 1);
    }

    #[test]
    fn a_pod_that_nothing_leads_to_gets_no_port() {
        let chosen = choose(&HostPorts::default(), &pod(1), &[port(0, 80)], &[], &[]).unwrap();
        assert_eq!(chosen.ports[0].host_port, 0);
        assert!(chosen.mappings.is_empty());
    }
}
