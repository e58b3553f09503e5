//! What client and server agree on before the first byte of a session: carrier and sub-protocol. Pure.

use hyper::{
    HeaderMap, StatusCode,
    header::{CONNECTION, HeaderName, HeaderValue, UPGRADE},
};

pub(crate) use crate::websocket::Format;
use crate::websocket::derive_accept_key;

/// Offers and choices over SPDY.
pub(crate) const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
/// What a refusing server would accept.
pub(crate) const ACCEPTED_PROTOCOLS: HeaderName =
    HeaderName::from_static("x-accepted-stream-protocol-versions");
pub(crate) const WEBSOCKET_PROTOCOL: HeaderName = HeaderName::from_static("sec-websocket-protocol");
const WEBSOCKET_KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
const WEBSOCKET_VERSION: HeaderName = HeaderName::from_static("sec-websocket-version");
pub(crate) const WEBSOCKET_ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");

/// What a session is for, as its path says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Exec,
    Attach,
    PortForward,
}

/// Version of the protocol of exec and attach.
///
/// From 3 on a terminal can be resized, from 4 on the error stream carries a status as JSON, from 5 on a WebSocket client
/// can end its input. On SPDY, where every stream can be ended, 5 is 4 by another name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) u8);

impl Version {
    pub(crate) fn resizes(self) -> bool {
        self.0 >= 3
    }

    pub(crate) fn has_status(self) -> bool {
        self.0 >= 4
    }
}

/// How a session is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carriage {
    /// SPDY streams; the version means nothing to a port-forward.
    Spdy(Version),
    /// WebSocket channels.
    Channels(Version, Format),
    /// SPDY streams in WebSocket messages.
    Tunnel,
}

/// An agreement, and the headers that announce it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Agreement {
    pub(crate) carriage: Carriage,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

/// A request that cannot be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: StatusCode,
    pub(crate) reason: String,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

pub(crate) fn refuse(code: StatusCode, reason: impl Into<String>) -> Refusal {
    Refusal { code, reason: reason.into(), headers: Vec::new() }
}

const COMMANDS_ON_SPDY: [(&str, Version); 5] = [
    ("v5.channel.k8s.io", Version(5)),
    ("v4.channel.k8s.io", Version(4)),
    ("v3.channel.k8s.io", Version(3)),
    ("v2.channel.k8s.io", Version(2)),
    ("channel.k8s.io", Version(1)),
];

const BINARY: Format = Format { base64: false, closes: false };
const BASE64: Format = Format { base64: true, closes: false };

const COMMANDS_ON_WEBSOCKET: [(&str, Carriage); 6] = [
    ("v5.channel.k8s.io", Carriage::Channels(Version(5), Format { base64: false, closes: true })),
    ("v4.channel.k8s.io", Carriage::Channels(Version(4), BINARY)),
    ("v4.base64.channel.k8s.io", Carriage::Channels(Version(4), BASE64)),
    ("channel.k8s.io", Carriage::Channels(Version(1), BINARY)),
    ("base64.channel.k8s.io", Carriage::Channels(Version(1), BASE64)),
    // No offer at all.
    ("", Carriage::Channels(Version(1), BINARY)),
];

const FORWARDS_ON_SPDY: [(&str, Version); 1] = [("portforward.k8s.io", Version(1))];

const FORWARDS_ON_WEBSOCKET: [(&str, Carriage); 4] = [
    ("SPDY/3.1+portforward.k8s.io", Carriage::Tunnel),
    ("v4.channel.k8s.io", Carriage::Channels(Version(4), BINARY)),
    ("v4.base64.channel.k8s.io", Carriage::Channels(Version(4), BASE64)),
    ("", Carriage::Channels(Version(4), BINARY)),
];

/// Chooses among what the request offers: the first that is known, as the client prefers it.
pub(crate) fn negotiate(purpose: Purpose, headers: &HeaderMap) -> Result<Agreement, Refusal> {
    if !list(headers, &CONNECTION).iter().any(|token| token.eq_ignore_ascii_case("upgrade")) {
        return Err(refuse(StatusCode::BAD_REQUEST, "streams need an upgrade to SPDY/3.1 or websocket"));
    }
    let upgrades = list(headers, &UPGRADE);
    if upgrades.iter().any(|name| name.eq_ignore_ascii_case("websocket")) {
        websocket(purpose, headers)
    } else if upgrades.iter().any(|name| name.eq_ignore_ascii_case("SPDY/3.1")) {
        spdy(purpose, headers)
    } else {
        let offered = upgrades.join(", ");
        let reason = format!("cannot upgrade to {offered:?}; SPDY/3.1 and websocket are served");
        Err(refuse(StatusCode::BAD_REQUEST, reason))
    }
}

fn spdy(purpose: Purpose, headers: &HeaderMap) -> Result<Agreement, Refusal> {
    let known = match purpose {
        Purpose::PortForward => &FORWARDS_ON_SPDY[..],
        Purpose::Exec | Purpose::Attach => &COMMANDS_ON_SPDY,
    };
    let offered = list(headers, &STREAM_PROTOCOL);
    if offered.is_empty() {
        let reason = format!("the header {STREAM_PROTOCOL} is missing or empty");
        return Err(refuse(StatusCode::BAD_REQUEST, reason));
    }
    let Some((name, version)) = choose(&offered, known) else {
        return Err(no_common(&offered, known));
    };
    Ok(Agreement {
        carriage: Carriage::Spdy(version),
        headers: vec![
            (UPGRADE, HeaderValue::from_static("SPDY/3.1")),
            (STREAM_PROTOCOL, HeaderValue::from_static(name)),
        ],
    })
}

fn websocket(purpose: Purpose, headers: &HeaderMap) -> Result<Agreement, Refusal> {
    if headers.get(WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        let mut refusal = refuse(StatusCode::UPGRADE_REQUIRED, "only version 13 of WebSocket is served");
        refusal.headers.push((WEBSOCKET_VERSION, HeaderValue::from_static("13")));
        return Err(refusal);
    }
    let key = headers.get(WEBSOCKET_KEY).filter(|key| key.len() == 24);
    let key = key.ok_or_else(|| refuse(StatusCode::BAD_REQUEST, "sec-websocket-key is missing or wrong"))?;
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()))
        .map_err(|_| refuse(StatusCode::BAD_REQUEST, "sec-websocket-key is wrong"))?;
    let known = match purpose {
        Purpose::PortForward => &FORWARDS_ON_WEBSOCKET[..],
        Purpose::Exec | Purpose::Attach => &COMMANDS_ON_WEBSOCKET,
    };
    let mut offered = list(headers, &WEBSOCKET_PROTOCOL);
    if offered.is_empty() {
        offered.push("");
    }
    let Some((name, carriage)) = choose(&offered, known) else {
        return Err(no_common(&offered, known));
    };
    let mut headers = vec![(UPGRADE, HeaderValue::from_static("websocket")), (WEBSOCKET_ACCEPT, accept)];
    if !name.is_empty() {
        headers.push((WEBSOCKET_PROTOCOL, HeaderValue::from_static(name)));
    }
    Ok(Agreement { carriage, headers })
}

/// All values of a header that is a comma-separated list, however many lines it takes.
fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|value| !value.is_empty())
        .collect()
}

fn choose<T: Copy>(offered: &[&str], known: &[(&'static str, T)]) -> Option<(&'static str, T)> {
    offered.iter().find_map(|offer| known.iter().find(|(name, _)| name == offer).copied())
}

fn no_common<T>(offered: &[&str], known: &[(&'static str, T)]) -> Refusal {
    let names: Vec<_> = known.iter().map(|(name, _)| *name).filter(|name| !name.is_empty()).collect();
    let reason = format!(
        "no protocol in common: the client offers {}, served are {}",
        offered.join(", "),
        names.join(", ")
    );
    let mut refusal = refuse(StatusCode::FORBIDDEN, reason);
    refusal
        .headers
        .extend(names.into_iter().map(|name| (ACCEPTED_PROTOCOLS, HeaderValue::from_static(name))));
    refusal
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    const KEY: (&str, &str) = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");

    fn spdy_offers(purpose: Purpose, offers: &[&str]) -> Result<Agreement, Refusal> {
        let mut all = headers(&[("connection", "Upgrade"), ("upgrade", "SPDY/3.1")]);
        for offer in offers {
            all.append(STREAM_PROTOCOL, offer.parse().unwrap());
        }
        negotiate(purpose, &all)
    }

    fn websocket_offers(purpose: Purpose, offers: &str) -> Result<Agreement, Refusal> {
        let mut all = headers(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            KEY,
        ]);
        if !offers.is_empty() {
            all.append(WEBSOCKET_PROTOCOL, offers.parse().unwrap());
        }
        negotiate(purpose, &all)
    }

    fn announced(agreement: &Agreement, name: &HeaderName) -> Option<String> {
        let found = agreement.headers.iter().find(|(key, _)| key == name)?;
        Some(found.1.to_str().unwrap().to_owned())
    }

    #[test]
    fn the_first_offer_that_is_known_is_taken() {
        for (offers, version) in [
            (&["v5.channel.k8s.io", "v4.channel.k8s.io"][..], 5),
            (&["v9.channel.k8s.io", "v3.channel.k8s.io, v4.channel.k8s.io"], 3),
            (&["channel.k8s.io"], 1),
        ] {
            let agreement = spdy_offers(Purpose::Exec, offers).unwrap();
            assert_eq!(agreement.carriage, Carriage::Spdy(Version(version)), "{offers:?}");
        }
        let agreement = spdy_offers(Purpose::PortForward, &["portforward.k8s.io"]).unwrap();
        assert_eq!(announced(&agreement, &STREAM_PROTOCOL).unwrap(), "portforward.k8s.io");
        assert_eq!(announced(&agreement, &UPGRADE).unwrap(), "SPDY/3.1");
    }

    #[test]
    fn without_a_common_protocol_the_client_learns_what_is_served() {
        let refusal = spdy_offers(Purpose::Attach, &["v9.channel.k8s.io"]).unwrap_err();
        assert_eq!(refusal.code, StatusCode::FORBIDDEN);
        assert_eq!(refusal.headers.len(), 5);
        assert_eq!(spdy_offers(Purpose::Exec, &[]).unwrap_err().code, StatusCode::BAD_REQUEST);
        assert_eq!(websocket_offers(Purpose::Exec, "chat").unwrap_err().code, StatusCode::FORBIDDEN);
        let crossed = websocket_offers(Purpose::Exec, "SPDY/3.1+portforward.k8s.io");
        assert_eq!(crossed.unwrap_err().code, StatusCode::FORBIDDEN);
    }

    #[test]
    fn the_key_is_answered_as_in_the_example_of_rfc_6455() {
        let agreement = websocket_offers(Purpose::Attach, "v5.channel.k8s.io").unwrap();
        assert_eq!(announced(&agreement, &WEBSOCKET_ACCEPT).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(announced(&agreement, &WEBSOCKET_PROTOCOL).unwrap(), "v5.channel.k8s.io");
    }

    #[test]
    fn a_websocket_without_an_offer_speaks_the_first_version_and_is_told_none() {
        let agreement = websocket_offers(Purpose::Exec, "").unwrap();
        assert_eq!(agreement.carriage, Carriage::Channels(Version(1), BINARY));
        assert_eq!(announced(&agreement, &WEBSOCKET_PROTOCOL), None);
        let tunnel = websocket_offers(Purpose::PortForward, "SPDY/3.1+portforward.k8s.io").unwrap();
        assert_eq!(tunnel.carriage, Carriage::Tunnel);
    }

    #[test]
    fn requests_that_are_no_upgrade_are_told_so() {
        for (pairs, code) in [
            (&[][..], 400),
            (&[("upgrade", "SPDY/3.1")], 400),
            (&[("connection", "upgrade"), ("upgrade", "h2c")], 400),
            (&[("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "8")], 426),
            (&[("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13")], 400),
        ] {
            let refusal = negotiate(Purpose::Exec, &headers(pairs)).unwrap_err();
            assert_eq!(refusal.code.as_u16(), code, "{pairs:?}");
        }
    }
}
