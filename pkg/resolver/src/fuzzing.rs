//! Doors for test/fuzz: what reads the queries of containers and the answers of name servers, one function each.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{
    Names, Upstream,
    message::{self, Reaction, Refusal, Transport},
};

/// Every name that begins with `a` is known, and every address.
struct Some;

impl Names for Some {
    fn addresses(&self, name: &str) -> Option<Vec<IpAddr>> {
        let both: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        name.starts_with('a').then(|| both.repeat(50))
    }

    fn name_of(&self, ip: IpAddr) -> Option<String> {
        Option::Some(format!("n{}", ip.to_string().replace([':', '.'], "-")))
    }

    fn upstream(&self) -> Upstream {
        Upstream::default()
    }
}

/// Reads a query that came over UDP, or over TCP, and returns what it is answered with here.
pub fn query(bytes: &[u8], tcp: bool) -> Option<Vec<u8>> {
    let transport = if tcp { Transport::Tcp } else { Transport::Udp };
    match message::react(bytes, transport, &Some, bytes.len()) {
        Reaction::Nothing => None,
        Reaction::Answer(answer) => Option::Some(answer),
        Reaction::Forward(asked) => {
            for refusal in [Refusal::Failed, Refusal::Empty, Refusal::Truncated] {
                // A name of 255 bytes, which may have been shorter where it came from, and an OPT record.
                let most = asked.query.len().max(12 + 255 + 4) + 11;
                assert!(message::refuse(&asked.query, refusal).is_none_or(|answer| answer.len() <= most));
            }
            Option::Some(asked.query)
        }
    }
}

/// Reads what came from upstream in answer to `query`.
pub fn reply(bytes: &[u8], query: &[u8]) -> bool {
    let id = query.first_chunk().map_or(0, |id| u16::from_be_bytes(*id));
    message::answers(bytes, query, id) && !message::is_refused(bytes)
}
