//! What a query is answered with, as far as that is known without asking anybody. Pure: bytes in, bytes out.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use domain::{
    base::{
        Message, MessageBuilder, Name, ParsedName, Question, Rtype, StaticCompressor, ToName, Ttl,
        iana::{Class, Opcode, Rcode},
        message_builder::{AnswerBuilder, PushError},
    },
    rdata::{A, Aaaa, Ptr},
};

use crate::{Names, limits::MAX_DATAGRAM};

/// How long an answer may be kept, in seconds: a pod that comes again has another address.
const TTL: Ttl = Ttl::from_secs(5);
/// What every client takes over UDP (RFC 1035, 4.2.1).
const SMALL_DATAGRAM: usize = 512;
/// What TCP carries: a length of two bytes.
pub(crate) const MAX_STREAMED: usize = 65535;
/// Room for an OPT record without options.
const OPT_LENGTH: usize = 11;

/// What a query came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// What is done about a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reaction {
    /// It is no query.
    Nothing,
    /// This is sent back.
    Answer(Vec<u8>),
    /// Somebody else knows.
    Forward(Asked),
}

/// A query for somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    /// As it came.
    pub(crate) query: Vec<u8>,
    /// Longest answer that the client takes.
    pub(crate) limit: usize,
    /// It asks for the address of a name of one word.
    pub(crate) single_word: bool,
}

/// Reads a message and answers it, if that can be done here.
pub(crate) fn react(bytes: &[u8], transport: Transport, names: &dyn Names, turn: usize) -> Reaction {
    let Ok(message) = Message::from_slice(bytes) else { return Reaction::Nothing };
    if message.header().qr() {
        return Reaction::Nothing;
    }
    if message.header().opcode() != Opcode::QUERY {
        return failure(message, Rcode::NOTIMP);
    }
    let Ok(question) = message.sole_question() else { return failure(message, Rcode::FORMERR) };
    let limit = match transport {
        Transport::Tcp => MAX_STREAMED,
        Transport::Udp => message.opt().map_or(SMALL_DATAGRAM, |opt| {
            usize::from(opt.udp_payload_size()).clamp(SMALL_DATAGRAM, MAX_DATAGRAM)
        }),
    };
    let known = if question.qclass() == Class::IN { records(&question, names, turn) } else { None };
    match known {
        Some(records) => answer(message, &records, limit).map_or(Reaction::Nothing, Reaction::Answer),
        None => Reaction::Forward(Asked {
            query: bytes.to_vec(),
            limit,
            single_word: question.qname().label_count() == 2
                && matches!(question.qtype(), Rtype::A | Rtype::AAAA),
        }),
    }
}

/// Something that a record says.
#[derive(Debug)]
enum Record {
    Address(IpAddr),
    Name(Name<Vec<u8>>),
}

/// The records that answer a question; none for a name of ours that has nothing of the type, `None` for a name that is not ours.
fn records(question: &Question<ParsedName<&[u8]>>, names: &dyn Names, turn: usize) -> Option<Vec<Record>> {
    let name = question.qname().to_string().to_ascii_lowercase();
    let name = name.trim_end_matches('.');
    if question.qtype() == Rtype::PTR
        && let Some(ip) = reversed(name)
    {
        // An address of ours without a name that DNS can say is still nobody else's to be asked for.
        let name = Name::from_str(&names.name_of(ip)?).ok().map(Record::Name);
        return Some(name.into_iter().collect());
    }
    let mut ips = names.addresses(name)?;
    let wanted = |ip: &IpAddr| match question.qtype() {
        Rtype::A => ip.is_ipv4(),
        Rtype::AAAA => ip.is_ipv6(),
        Rtype::ANY => true,
        _ => false,
    };
    ips.retain(wanted);
    if !ips.is_empty() {
        let first = turn % ips.len();
        ips.rotate_left(first);
    }
    Some(ips.into_iter().map(Record::Address).collect())
}

/// The address that a name below `in-addr.arpa` (RFC 1035, 3.5) or `ip6.arpa` (RFC 3596, 2.5) stands for.
fn reversed(name: &str) -> Option<IpAddr> {
    if let Some(bytes) = name.strip_suffix(".in-addr.arpa") {
        let mut octets = [0; 4];
        let mut parts = bytes.split('.');
        for octet in octets.iter_mut().rev() {
            *octet = parts.next()?.parse().ok()?;
        }
        return parts.next().is_none().then(|| Ipv4Addr::from(octets).into());
    }
    let mut bits: u128 = 0;
    let mut parts = name.strip_suffix(".ip6.arpa")?.split('.');
    for place in 0..32 {
        let part = parts.next().filter(|part| part.len() == 1)?;
        bits |= u128::from(u8::from_str_radix(part, 16).ok()?) << (4 * place);
    }
    parts.next().is_none().then(|| Ipv6Addr::from(bits).into())
}

type Answer = AnswerBuilder<StaticCompressor<Vec<u8>>>;

fn begin(message: &Message<[u8]>, rcode: Rcode) -> Option<Answer> {
    let mut builder = MessageBuilder::from_target(StaticCompressor::new(Vec::new())).ok()?;
    builder.header_mut().set_ra(true);
    builder.start_answer(message, rcode).ok()
}

fn answer(message: &Message<[u8]>, records: &[Record], limit: usize) -> Option<Vec<u8>> {
    let mut answer = begin(message, Rcode::NOERROR)?;
    let question = message.sole_question().ok()?;
    let extended = message.opt().is_some();
    answer.set_push_limit(limit.saturating_sub(if extended { OPT_LENGTH } else { 0 }));
    for record in records {
        if push(&mut answer, question.qname(), record).is_err() {
            // The client asks again over TCP.
            answer.header_mut().set_tc(true);
            break;
        }
    }
    answer.clear_push_limit();
    Some(end(answer, extended))
}

fn push(answer: &mut Answer, name: &impl ToName, record: &Record) -> Result<(), PushError> {
    match record {
        Record::Address(IpAddr::V4(ip)) => answer.push((name, Class::IN, TTL, A::new(*ip))),
        Record::Address(IpAddr::V6(ip)) => answer.push((name, Class::IN, TTL, Aaaa::new(*ip))),
        Record::Name(target) => answer.push((name, Class::IN, TTL, Ptr::new(target))),
    }
}

fn end(answer: Answer, extended: bool) -> Vec<u8> {
    if !extended {
        return answer.finish().into_target();
    }
    // Whoever speaks EDNS is answered in it (RFC 6891, 6.1.1).
    let mut additional = answer.additional();
    let size = u16::try_from(MAX_DATAGRAM).unwrap_or(u16::MAX);
    let _ = additional.opt(|opt| {
        opt.set_udp_payload_size(size);
        Ok(())
    });
    additional.finish().into_target()
}

/// Without the questions: there may be hundreds, and each may be longer here than where it came from.
fn failure(message: &Message<[u8]>, rcode: Rcode) -> Reaction {
    let mut builder = MessageBuilder::new_vec();
    let (header, asked) = (builder.header_mut(), message.header());
    header.set_id(asked.id());
    header.set_qr(true);
    header.set_opcode(asked.opcode());
    header.set_rd(asked.rd());
    header.set_ra(true);
    header.set_rcode(rcode);
    Reaction::Answer(builder.finish())
}

/// Answers a query with a failure, without anything else or with nothing that there is.
pub(crate) fn refuse(query: &[u8], refusal: Refusal) -> Option<Vec<u8>> {
    let message = Message::from_slice(query).ok()?;
    let rcode = match refusal {
        Refusal::Failed => Rcode::SERVFAIL,
        Refusal::Empty | Refusal::Truncated => Rcode::NOERROR,
    };
    let mut answer = begin(message, rcode)?;
    answer.header_mut().set_tc(refusal == Refusal::Truncated);
    Some(end(answer, message.opt().is_some()))
}

/// Why a query is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Nobody could be asked, or nobody answered.
    Failed,
    /// There is nothing of that.
    Empty,
    /// It is to be asked for over TCP.
    Truncated,
}

/// Whether a message from upstream answers this query, which was sent with this id.
pub(crate) fn answers(reply: &[u8], query: &[u8], id: u16) -> bool {
    let (Ok(reply), Ok(query)) = (Message::from_slice(reply), Message::from_slice(query)) else {
        return false;
    };
    if reply.header().id() != id || !reply.header().qr() {
        return false;
    }
    match (reply.sole_question(), query.sole_question()) {
        (Ok(of_reply), Ok(asked)) => {
            of_reply.qname().name_eq(asked.qname())
                && of_reply.qtype() == asked.qtype()
                && of_reply.qclass() == asked.qclass()
        }
        // A server that did not understand the query need not repeat it.
        _ => reply.header_counts().qdcount() == 0 && reply.header().rcode() != Rcode::NOERROR,
    }
}

/// Whether another server may know better.
pub(crate) fn is_refused(reply: &[u8]) -> bool {
    Message::from_slice(reply)
        .is_ok_and(|reply| matches!(reply.header().rcode(), Rcode::SERVFAIL | Rcode::REFUSED))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Upstream;

    /// `web` has two addresses of IPv4 and one of IPv6, `db` one of IPv4, `many` a hundred.
    pub(crate) struct Few;

    impl Names for Few {
        fn addresses(&self, name: &str) -> Option<Vec<IpAddr>> {
            let list: &[&str] = match name {
                "web" | "web.front" => &["10.1.0.2", "fd01::2", "10.1.0.3"],
                "db" => &["10.1.0.4"],
                "many" => return Some((0..100).map(|n| Ipv4Addr::new(10, 2, 0, n).into()).collect()),
                _ => return None,
            };
            Some(list.iter().map(|ip| ip.parse().unwrap()).collect())
        }

        fn name_of(&self, ip: IpAddr) -> Option<String> {
            match ip.to_string().as_str() {
                "10.1.0.2" | "fd01::2" => Some("web.front".to_owned()),
                "10.1.0.8" => Some("of no..dns".to_owned()),
                _ => None,
            }
        }

        fn upstream(&self) -> Upstream {
            Upstream::default()
        }
    }

    fn query(name: &str, qtype: Rtype, size: Option<u16>) -> Vec<u8> {
        let mut builder = MessageBuilder::new_vec();
        builder.header_mut().set_id(0x1234);
        builder.header_mut().set_rd(true);
        let mut question = builder.question();
        question.push((Name::<Vec<u8>>::from_str(name).unwrap(), qtype)).unwrap();
        let mut additional = question.additional();
        if let Some(size) = size {
            additional
                .opt(|opt| {
                    opt.set_udp_payload_size(size);
                    Ok(())
                })
                .unwrap();
        }
        additional.finish()
    }

    fn answered(query: &[u8], transport: Transport, turn: usize) -> (Message<Vec<u8>>, Vec<String>) {
        let Reaction::Answer(bytes) = react(query, transport, &Few, turn) else { panic!("no answer") };
        let message = Message::from_octets(bytes).unwrap();
        let records = message.answer().unwrap().limit_to::<domain::rdata::AllRecordData<_, _>>();
        let texts = records.map(|record| record.unwrap().data().to_string()).collect();
        (message, texts)
    }

    fn texts(name: &str, qtype: Rtype, turn: usize) -> Vec<String> {
        answered(&query(name, qtype, None), Transport::Udp, turn).1
    }

    #[test]
    fn names_of_the_networks_are_answered_by_family_and_in_turn() {
        assert_eq!(texts("web", Rtype::A, 0), ["10.1.0.2", "10.1.0.3"]);
        assert_eq!(texts("WEB.front", Rtype::A, 1), ["10.1.0.3", "10.1.0.2"]);
        assert_eq!(texts("web", Rtype::AAAA, 7), ["fd01::2"]);
        let (message, _) = answered(&query("web", Rtype::A, None), Transport::Udp, 0);
        assert_eq!(message.header().id(), 0x1234);
        assert!(message.header().ra() && message.header().rd() && message.header().qr());
    }

    #[test]
    fn a_name_of_ours_without_that_type_is_answered_with_nothing_and_never_asked_for() {
        for qtype in [Rtype::AAAA, Rtype::MX, Rtype::TXT, Rtype::HTTPS, Rtype::SRV] {
            let (message, texts) = answered(&query("db", qtype, None), Transport::Udp, 0);
            assert_eq!(message.header().rcode(), Rcode::NOERROR);
            assert!(texts.is_empty());
        }
    }

    #[test]
    fn addresses_of_ours_have_names() {
        assert_eq!(texts("2.0.1.10.in-addr.arpa", Rtype::PTR, 0), ["web.front."]);
        let reverse = format!("2.{}1.0.d.f.ip6.arpa", "0.".repeat(27));
        assert_eq!(texts(&reverse, Rtype::PTR, 0), ["web.front."]);
        assert!(texts("8.0.1.10.in-addr.arpa", Rtype::PTR, 0).is_empty(), "not asked for elsewhere");
        for other in ["9.0.1.10.in-addr.arpa", "1.10.in-addr.arpa", "x.0.1.10.in-addr.arpa", "1.ip6.arpa"] {
            let reaction = react(&query(other, Rtype::PTR, None), Transport::Udp, &Few, 0);
            assert!(matches!(reaction, Reaction::Forward(_)), "{other}");
        }
    }

    #[test]
    fn what_is_not_ours_is_forwarded_as_it_came() {
        for (name, single_word) in [("db2", true), ("example.com", false), ("web.other", false)] {
            let query = query(name, Rtype::A, None);
            let Reaction::Forward(asked) = react(&query, Transport::Udp, &Few, 0) else { panic!("{name}") };
            assert_eq!((asked.query, asked.limit, asked.single_word), (query, 512, single_word));
        }
        let Reaction::Forward(asked) = react(&query("db2", Rtype::MX, None), Transport::Tcp, &Few, 0) else {
            panic!()
        };
        assert_eq!((asked.limit, asked.single_word), (MAX_STREAMED, false));
    }

    #[test]
    fn an_answer_that_does_not_fit_says_so_and_tcp_has_it_whole() {
        let (small, some) = answered(&query("many", Rtype::A, None), Transport::Udp, 0);
        assert!(small.header().tc() && small.as_slice().len() <= 512 && some.len() < 100);
        let (large, all) = answered(&query("many", Rtype::A, Some(4096)), Transport::Udp, 0);
        assert!(!large.header().tc() && all.len() == 100 && large.opt().is_some());
        let (stream, all) = answered(&query("many", Rtype::A, None), Transport::Tcp, 0);
        assert!(!stream.header().tc() && all.len() == 100);
        let (exact, _) = answered(&query("many", Rtype::A, Some(600)), Transport::Udp, 0);
        assert!(exact.header().tc() && exact.as_slice().len() <= 600 && exact.opt().is_some());
    }

    #[test]
    fn what_is_no_query_of_one_question_is_refused_or_passed_over() {
        let nothing = |bytes: &[u8]| react(bytes, Transport::Udp, &Few, 0) == Reaction::Nothing;
        assert!(nothing(b"") && nothing(b"short"));
        let mut reply = query("web", Rtype::A, None);
        reply[2] |= 0x80;
        assert!(nothing(&reply), "an answer to an answer is a loop");
        let rcode = |bytes: &[u8]| match react(bytes, Transport::Udp, &Few, 0) {
            Reaction::Answer(answer) => Message::from_octets(answer).unwrap().header().rcode(),
            other => panic!("{other:?}"),
        };
        let mut notify = query("web", Rtype::A, None);
        notify[2] |= 4 << 3;
        assert_eq!(rcode(&notify), Rcode::NOTIMP);
        let mut none = query("web", Rtype::A, None);
        none[5] = 0;
        assert_eq!(rcode(&none), Rcode::FORMERR);
        let name = [&[63; 64][..], &[63; 64], &[63; 64], &[0]].concat();
        let mut many = [&[0x12, 0x34, 1, 0, 2, 0x58, 0, 0, 0, 0, 0, 0][..], &name, &[0, 1, 0, 1]].concat();
        for turn in 0..=255 {
            many.extend_from_slice(&[1, turn, 0xc0, 12, 0, 1, 0, 1]);
        }
        let Reaction::Answer(answer) = react(&many, Transport::Tcp, &Few, 0) else { panic!() };
        assert_eq!(answer.len(), 12, "it is not repeated what was asked");
    }

    #[test]
    fn only_an_answer_to_what_was_asked_is_one() {
        let asked = query("example.com", Rtype::A, None);
        let mut reply = refuse(&asked, Refusal::Empty).unwrap();
        assert!(answers(&reply, &asked, 0x1234));
        assert!(!answers(&reply, &asked, 0x1235), "another id");
        assert!(!answers(&reply, &query("example.org", Rtype::A, None), 0x1234), "another name");
        assert!(!answers(&reply, &query("example.com", Rtype::AAAA, None), 0x1234), "another type");
        reply[2] &= 0x7f;
        assert!(!answers(&reply, &asked, 0x1234), "a query");
    }
}
