//! Forgets UDP flows that a change of host ports leaves pointing the wrong way.
//!
//! Translation is decided by a flow's first packet. A client that goes on sending to a UDP host port (DNS, syslog,
//! games) keeps its flow alive, so without this it would reach the pod that is gone, or, when it began before the pod
//! was there, nobody. TCP and SCTP flows end by themselves: their peer answers with a reset.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use futures_util::StreamExt;
use husk_model::Protocol;
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    conntrack::{ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Protocol as IpProtocol, Tuple},
};
use rtnetlink::{
    packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    proto::{ConnectionHandle, sys::SocketAddr as NetlinkAddress},
};

use super::mapping::Mapping;

/// The kernel's side of the netlink socket.
const KERNEL: (u32, u32) = (0, 0);

/// A UDP flow as the kernel sees it.
#[derive(Debug, Clone)]
struct Flow {
    /// Where the client sends to.
    called: SocketAddr,
    /// Who answers.
    answers: SocketAddr,
    /// What names it when it is to be deleted.
    original: Vec<Tuple>,
}

/// Which flows go.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stale<'a> {
    /// Those that are led to the targets of mappings which are gone.
    Led(&'a [Mapping]),
    /// Those that call a mapped port of the node (which has these addresses) and are not led anywhere.
    Unled(&'a [Mapping], &'a [IpAddr]),
}

impl Stale<'_> {
    fn is(&self, flow: &Flow) -> bool {
        let calls = |mapping: &Mapping| {
            mapping.protocol == Protocol::Udp
                && mapping.host_port == flow.called.port()
                && mapping.host_ip.is_none_or(|ip| ip == flow.called.ip())
        };
        match self {
            Self::Led(mappings) => {
                mappings.iter().any(|mapping| calls(mapping) && mapping.target == flow.answers)
            }
            Self::Unled(mappings, own) => {
                flow.called == flow.answers && own.contains(&flow.called.ip()) && mappings.iter().any(calls)
            }
        }
    }

    /// Whether there is a UDP mapping at all: reading the table of flows is not free.
    pub(crate) fn is_possible(&self) -> bool {
        let (Self::Led(mappings) | Self::Unled(mappings, _)) = self;
        mappings.iter().any(|mapping| mapping.protocol == Protocol::Udp)
    }
}

/// Deletes the stale flows and says how many there were.
///
/// # Errors
/// What the kernel said; a flow that ended by itself meanwhile is fine.
pub(super) async fn forget(
    connection: ConnectionHandle<NetfilterMessage>,
    stale: Stale<'_>,
) -> io::Result<usize> {
    let mut flows = Vec::new();
    for family in [NetfilterProtoFamily::IPv4, NetfilterProtoFamily::IPv6] {
        let get = message(family, ConntrackMessage::Get(Vec::new()), NLM_F_REQUEST | NLM_F_DUMP);
        let mut answers = request(&connection, get)?;
        while let Some(answer) = answers.next().await {
            if let Some(flow) = flow(answer)?.filter(|flow| stale.is(flow)) {
                flows.push((family, flow));
            }
        }
    }
    let count = flows.len();
    for (family, flow) in flows {
        let attributes = vec![ConntrackAttribute::CtaTupleOrig(flow.original)];
        let delete = message(family, ConntrackMessage::Delete(attributes), NLM_F_REQUEST | NLM_F_ACK);
        let mut answers = request(&connection, delete)?;
        while let Some(answer) = answers.next().await {
            match outcome(&answer) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(count)
}

fn message(
    family: NetfilterProtoFamily,
    inner: ConntrackMessage,
    flags: u16,
) -> NetlinkMessage<NetfilterMessage> {
    let mut message = NetlinkMessage::from(NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), inner));
    message.header.flags = flags;
    message
}

fn request(
    connection: &ConnectionHandle<NetfilterMessage>,
    message: NetlinkMessage<NetfilterMessage>,
) -> io::Result<impl futures_util::Stream<Item = NetlinkMessage<NetfilterMessage>> + Unpin> {
    connection.clone().request(message, NetlinkAddress::new(KERNEL.0, KERNEL.1)).map_err(io::Error::other)
}

fn outcome(message: &NetlinkMessage<NetfilterMessage>) -> io::Result<()> {
    match &message.payload {
        NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io()),
        _ => Ok(()),
    }
}

fn flow(message: NetlinkMessage<NetfilterMessage>) -> io::Result<Option<Flow>> {
    outcome(&message)?;
    let NetlinkPayload::InnerMessage(inner) = message.payload else { return Ok(None) };
    let NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) = inner.inner else {
        return Ok(None);
    };
    let (mut original, mut reply) = (None, None);
    for attribute in attributes {
        match attribute {
            ConntrackAttribute::CtaTupleOrig(tuple) => original = Some(tuple),
            ConntrackAttribute::CtaTupleReply(tuple) => reply = Some(tuple),
            _ => {}
        }
    }
    let (Some(original), Some(reply)) = (original, reply) else { return Ok(None) };
    Ok(ends(&original).zip(ends(&reply)).map(|((_, called), (answers, _))| Flow {
        called,
        answers,
        original,
    }))
}

/// Source and destination of a UDP tuple.
fn ends(tuple: &[Tuple]) -> Option<(SocketAddr, SocketAddr)> {
    let (mut source, mut destination) = ((None, None), (None, None));
    let mut udp = false;
    for part in tuple {
        match part {
            Tuple::Ip(ips) => ips.iter().for_each(|ip| match ip {
                IPTuple::SourceAddress(ip) => source.0 = Some(*ip),
                IPTuple::DestinationAddress(ip) => destination.0 = Some(*ip),
                _ => {}
            }),
            Tuple::Proto(parts) => parts.iter().for_each(|part| match part {
                ProtoTuple::Protocol(protocol) => udp = *protocol == IpProtocol::Udp,
                ProtoTuple::SourcePort(port) => source.1 = Some(*port),
                ProtoTuple::DestinationPort(port) => destination.1 = Some(*port),
                _ => {}
            }),
            _ => {}
        }
    }
    let end = |(ip, port): (Option<IpAddr>, Option<u16>)| Some(SocketAddr::new(ip?, port?));
    if udp { end(source).zip(end(destination)) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(called: &str, answers: &str) -> Flow {
        Flow { called: called.parse().unwrap(), answers: answers.parse().unwrap(), original: Vec::new() }
    }

    fn mapping(protocol: Protocol, host_ip: Option<&str>) -> [Mapping; 1] {
        [Mapping {
            protocol,
            host_ip: host_ip.map(|ip| ip.parse().unwrap()),
            host_port: 53,
            target: "10.1.0.2:5353".parse().unwrap(),
        }]
    }

    #[test]
    fn flows_to_a_pod_that_went_are_stale_and_others_are_not() {
        let gone = mapping(Protocol::Udp, None);
        let stale = Stale::Led(&gone);
        assert!(stale.is(&flow("192.0.2.1:53", "10.1.0.2:5353")));
        assert!(!stale.is(&flow("192.0.2.1:53", "10.1.0.3:5353")), "another pod");
        assert!(!stale.is(&flow("10.1.0.2:5353", "10.1.0.2:5353")), "called directly");
        assert!(!Stale::Led(&mapping(Protocol::Tcp, None)).is_possible());
    }

    #[test]
    fn flows_that_called_the_port_before_the_pod_came_are_stale() {
        let (own, new) = (["192.0.2.1".parse().unwrap()], mapping(Protocol::Udp, None));
        let stale = Stale::Unled(&new, &own);
        assert!(stale.is(&flow("192.0.2.1:53", "192.0.2.1:53")));
        assert!(!stale.is(&flow("8.8.8.8:53", "8.8.8.8:53")), "a call to somebody else");
        let elsewhere = mapping(Protocol::Udp, Some("127.0.0.1"));
        assert!(!Stale::Unled(&elsewhere, &own).is(&flow("192.0.2.1:53", "192.0.2.1:53")));
    }
}
