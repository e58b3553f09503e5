//! Where exec, attach and port-forward are served: several keys that are of one thing.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use toml::Value;

use crate::{
    finding::Kind,
    job::{At, Job},
};

/// The peer's names.
pub(crate) struct Keys<'a> {
    pub(crate) address: &'a [&'a str],
    pub(crate) port: &'a [&'a str],
    pub(crate) tls: &'a [&'a str],
    pub(crate) certificate: &'a [&'a str],
    pub(crate) key: &'a [&'a str],
    pub(crate) client_ca: Option<&'a [&'a str]>,
    /// With TLS and without a certificate, the peer signs one itself.
    pub(crate) makes_its_own_certificate: bool,
}

/// What they are, where they are set to something.
struct Found {
    address: Option<At>,
    port: Option<At>,
    tls: Option<At>,
    certificate: Option<At>,
    key: Option<At>,
    client_ca: Option<At>,
}

pub(crate) fn settle(job: &mut Job, keys: &Keys<'_>) {
    let found = Found {
        address: job.get(keys.address),
        port: job.get(keys.port),
        tls: job.get(keys.tls),
        certificate: job.get(keys.certificate),
        key: job.get(keys.key),
        client_ca: keys.client_ca.and_then(|key| job.get(key)),
    };
    let has_tls = tls(job, &found, keys);
    address(job, &found, has_tls);
}

/// Takes certificate and key over; whether there is TLS then.
fn tls(job: &mut Job, found: &Found, keys: &Keys<'_>) -> bool {
    let wanted = found.tls.is_some_and(|at| job.is_true(at));
    let file = |job: &Job, at: Option<At>| {
        at.and_then(|at| job.text(at)).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let both = file(job, found.certificate).is_some() && file(job, found.key).is_some();
    let has_tls = wanted && both;
    if let Some(at) = found.tls {
        match (wanted, both) {
            (false, _) => job.settle(at, Kind::Default, "", ""),
            (true, true) => job.settle(at, Kind::Taken, "streaming.tls_certificate", ""),
            (true, false) if keys.makes_its_own_certificate => {
                let means = "husk signs no certificate itself: without one it serves on the loopback, where the kubelet \
                             on this node reaches it";
                job.settle(at, Kind::NoCounterpart, "", means);
            }
            (true, false) => job.settle(at, Kind::NoCounterpart, "", "certificate or key is not set"),
        }
    }
    let files = [
        (found.certificate, "streaming.tls_certificate"),
        (found.key, "streaming.tls_key"),
        (found.client_ca, "streaming.tls_client_ca"),
    ];
    for (at, husk) in files.into_iter().filter_map(|(at, husk)| Some((at?, husk))) {
        match file(job, Some(at)) {
            None => job.settle(at, Kind::Default, husk, ""),
            Some(path) if has_tls => job.take(at, husk, path.into(), ""),
            Some(_) => job.settle(at, Kind::NotNeeded, "", "TLS is off"),
        }
    }
    has_tls
}

/// Address and port are one key of husk's. Without TLS husk stays on the loopback.
fn address(job: &mut Job, found: &Found, has_tls: bool) {
    const HUSK: &str = "streaming.address";
    let port = match found.port.map(|at| job.leaf(at).value.clone()) {
        Some(Value::String(text)) if !text.is_empty() => text.parse().ok(),
        Some(Value::Integer(number)) => u16::try_from(number).ok(),
        _ => Some(0),
    };
    let text = found.address.and_then(|at| job.text(at)).unwrap_or("127.0.0.1").to_owned();
    let ip: Option<IpAddr> = match text.as_str() {
        "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
        // The peers then take an address of the node.
        "" => Some(Ipv4Addr::UNSPECIFIED.into()),
        text => text.parse().ok(),
    };
    let exposed = ip.is_none_or(|ip| !ip.is_loopback());
    let kept = match ip {
        Some(ip) if has_tls || !exposed => ip,
        _ => Ipv4Addr::LOCALHOST.into(),
    };
    let value = SocketAddr::new(kept, port.unwrap_or(0)).to_string();
    let origin = [found.address, found.port].into_iter().flatten().map(|at| {
        let leaf = job.leaf(at);
        format!("{} of {}", leaf.key, leaf.file)
    });
    let origin = origin.collect::<Vec<_>>().join(", ");
    let kind = if job.draft.set(HUSK, value.into(), origin) { Kind::Taken } else { Kind::Default };
    if let Some(at) = found.address {
        if ip.is_none() || (exposed && !has_tls) {
            let means = "husk serves beyond the loopback over TLS alone; the loopback is enough for the \
                         kubelet on this node";
            job.settle(at, Kind::NoCounterpart, HUSK, means);
        } else {
            job.settle(at, kind, HUSK, "");
        }
    }
    if let Some(at) = found.port {
        match port {
            Some(_) => job.settle(at, kind, HUSK, ""),
            None => job.settle(at, Kind::NoCounterpart, HUSK, "is not a port: a free one is taken"),
        }
    }
}
