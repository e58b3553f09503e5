//! Leads what a pod sends to 127.0.0.11:53 to the port that its resolver has: a container may want port 53 for itself.
//!
//! Two rules a transport in an nftables table of the pod's own namespace rewrite the port of queries on their way out, and that of
//! answers on theirs. Without connection tracking, that is, which NAT would bring into every such pod; the checksum is mended by the
//! kernel. Where a container tracks connections by itself, it sees port 53 on both ways: queries are rewritten after its hook (-200),
//! answers before it.
//!
//! Who asks 127.0.0.11 does so from 127.0.0.1, unless it chooses another address, which gets no answer. An answer to any other address is one
//! for NAT that a container has made itself (the node of a kind cluster leads its own and its pods' queries to the resolver's port), which knows
//! it by its port: it stays as it is.
//!
//! One netlink transaction over a socket in the namespace, some tens of microseconds, where the nft command takes milliseconds.

use std::{io, net::Ipv4Addr};

use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
    nftables::{
        ChainAttribute, ChainMessage, ChecksumType, Cmp, DataAttribute, ExpressionAttribute, Expressions,
        Hook, HookNumber, Immediate, InetHookNumber, ListAttribute, Meta, MetaKey, NfTablesMessage, Operator,
        Payload, Register, RuleAttribute, RuleMessage, TableAttribute, TableMessage,
    },
    none::ControlMessage,
};
use rtnetlink::{
    packet_core::{NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER},
};

use crate::NAME_SERVER;

/// The table in the pod's namespace.
const TABLE: &str = "husk_names";
/// Its chains, with their priorities: see above.
const QUERIES: (&str, i32) = ("queries", -150);
const ANSWERS: (&str, i32) = ("answers", -400);
/// What clients call.
const PORT: u16 = 53;

/// `NFNL_SUBSYS_NFTABLES`, which a batch is of (linux/netfilter/nfnetlink.h).
const SUBSYSTEM: u16 = 10;
/// Bases of a payload expression (linux/netfilter/nf_tables.h).
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
/// `NF_ACCEPT`.
const ACCEPT: u32 = 1;

/// A transport: its number, and where its header has the checksum.
const TRANSPORTS: [(u8, u32); 2] = [(17, 6), (6, 16)];

/// A port, and the address in whose company it is meant: offsets in the headers.
struct Place {
    address: u32,
    port: u32,
}

const SOURCE: Place = Place { address: 12, port: 0 };
const DESTINATION: Place = Place { address: 16, port: 2 };

/// Makes it so in the caller's network namespace, in place of what was there before.
///
/// # Errors
/// The kernel's: `EOPNOTSUPP` or `EPROTONOSUPPORT` without nf_tables.
pub(super) fn redirect(port: u16) -> io::Result<()> {
    let mut batch = Vec::new();
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let last = write_batch(&mut batch, port);
    socket.send(&batch, 0)?;
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<NetfilterMessage>::deserialize(rest).map_err(io::Error::other)?;
            match &message.payload {
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                NetlinkPayload::Error(_) if message.header.sequence_number == last => return Ok(()),
                _ => {}
            }
            let length = usize::try_from(message.header.length).unwrap_or(usize::MAX).next_multiple_of(4);
            rest = rest.get(length..).unwrap_or_default();
        }
    }
}

/// Returns the number of the message that is acknowledged.
fn write_batch(batch: &mut Vec<u8>, port: u16) -> u32 {
    let mut messages = vec![
        batch_mark(ControlMessage::BatchBegin),
        // Made and deleted first, so that there is one to delete.
        of_tables(NfTablesMessage::NewTable(table()), NLM_F_CREATE),
        of_tables(NfTablesMessage::DeleteTable(table()), 0),
        of_tables(NfTablesMessage::NewTable(table()), NLM_F_CREATE),
    ];
    for chain in [QUERIES, ANSWERS] {
        messages.push(of_tables(NfTablesMessage::NewChain(output_chain(chain)), NLM_F_CREATE));
    }
    for transport in TRANSPORTS {
        for (chain, place, from, to) in [(QUERIES, DESTINATION, PORT, port), (ANSWERS, SOURCE, port, PORT)] {
            let rule = rule(chain, transport, &place, from, to);
            messages.push(of_tables(NfTablesMessage::NewRule(rule), NLM_F_CREATE | NLM_F_APPEND));
        }
    }
    let last = messages.len();
    if let Some(message) = messages.last_mut() {
        message.header.flags |= NLM_F_ACK;
    }
    messages.push(batch_mark(ControlMessage::BatchEnd));
    let mut number = 0;
    for mut message in messages {
        number += 1;
        message.header.sequence_number = number;
        message.finalize();
        let start = batch.len();
        batch.resize(start + message.buffer_len().next_multiple_of(4), 0);
        message.serialize(&mut batch[start..]);
    }
    u32::try_from(last).unwrap_or(u32::MAX)
}

fn batch_mark(mark: ControlMessage) -> NetlinkMessage<NetfilterMessage> {
    message(NetfilterProtoFamily::Unspec, SUBSYSTEM, mark, 0)
}

fn of_tables(inner: NfTablesMessage, flags: u16) -> NetlinkMessage<NetfilterMessage> {
    message(NetfilterProtoFamily::IPv4, 0, inner, flags)
}

fn message(
    family: NetfilterProtoFamily,
    resource: u16,
    inner: impl Into<NetfilterMessageInner>,
    flags: u16,
) -> NetlinkMessage<NetfilterMessage> {
    let header = NetfilterHeader::new(family, 0, resource);
    let mut message = NetlinkMessage::from(NetfilterMessage::new(header, inner));
    message.header.flags = NLM_F_REQUEST | flags;
    message
}

fn table() -> TableMessage {
    TableMessage { attributes: vec![TableAttribute::Name(TABLE.to_owned())] }
}

fn output_chain((name, priority): (&str, i32)) -> ChainMessage {
    let hook = vec![
        Hook::Number(HookNumber::Inet(InetHookNumber::LocalOut)),
        // Signed in the kernel.
        Hook::Priority(priority.cast_unsigned()),
    ];
    ChainMessage {
        attributes: vec![
            ChainAttribute::Table(TABLE.to_owned()),
            ChainAttribute::Name(name.to_owned()),
            ChainAttribute::Hook(hook),
            ChainAttribute::Policy(ACCEPT),
            ChainAttribute::Type("filter".to_owned()),
        ],
    }
}

/// `ip <place> 127.0.0.11 <transport> <place's port> <from> <place's port> set <to>`, of answers those to 127.0.0.0/8.
fn rule(
    (chain, _): (&str, i32),
    (protocol, checksum): (u8, u32),
    place: &Place,
    from: u16,
    to: u16,
) -> RuleMessage {
    let address: Ipv4Addr = NAME_SERVER;
    let mut expressions: Vec<ListAttribute<ExpressionAttribute>> = Vec::new();
    let mut add = |expression: Expressions| expressions.push(expression.into());
    if chain == ANSWERS.0 {
        add(load(NETWORK_HEADER, DESTINATION.address, 1));
        add(equals(vec![127]));
    }
    add(load(NETWORK_HEADER, place.address, 4));
    add(equals(address.octets().to_vec()));
    add(Expressions::Meta(vec![Meta::Key(MetaKey::L4Proto), Meta::DestinationRegister(Register::Reg1)]));
    add(equals(vec![protocol]));
    add(load(TRANSPORT_HEADER, place.port, 2));
    add(equals(from.to_be_bytes().to_vec()));
    add(Expressions::Immediate(vec![
        Immediate::DestinationRegister(Register::Reg1),
        Immediate::Data(DataAttribute::Value(to.to_be_bytes().to_vec())),
    ]));
    add(Expressions::Payload(vec![
        Payload::SourceRegister(Register::Reg1),
        Payload::Base(TRANSPORT_HEADER),
        Payload::Offset(place.port),
        Payload::Len(2),
        Payload::CsumType(ChecksumType::Inet),
        Payload::CsumOffset(checksum),
    ]));
    RuleMessage {
        attributes: vec![
            RuleAttribute::Table(TABLE.to_owned()),
            RuleAttribute::Chain(chain.to_owned()),
            RuleAttribute::Expressions(expressions),
        ],
    }
}

fn load(base: u32, offset: u32, length: u32) -> Expressions {
    Expressions::Payload(vec![
        Payload::DestinationRegister(Register::Reg1),
        Payload::Base(base),
        Payload::Offset(offset),
        Payload::Len(length),
    ])
}

fn equals(value: Vec<u8>) -> Expressions {
    Expressions::Cmp(vec![
        Cmp::SourceRegister(Register::Reg1),
        Cmp::Op(Operator::Equal),
        Cmp::Data(DataAttribute::Value(value)),
    ])
}
