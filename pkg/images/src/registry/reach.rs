//! Where a registry may send this node: redirects, token services ("realms") and the addresses of foreign layers.
//!
//! The registry itself may be anywhere, for an administrator or a user named it: loopback, a private network, a link-local
//! address. Whom it names in turn is a stranger's word, by which the node could be made to ask what only the node can
//! reach: the metadata service of its cloud, services on loopback (the class of CVE-2020-15157's neighbours: server-side
//! request forgery). So:
//!
//! - link-local, unspecified and multicast addresses and the metadata services of clouds are never followed to;
//! - loopback is followed to only from a host that is itself reached on loopback;
//! - foreign layers, whose addresses come with the image, must not be at any address of this node either;
//! - the registry's own origin is always allowed.
//!
//! Private networks are allowed: storage behind a registry is often there. The address is checked where it is used: names
//! are resolved by [`Guarded`], and the connection is made to what it returns, so a name that changes its mind between a
//! check and the connection (DNS rebinding) gains nothing. Behind a proxy it is the proxy that connects; then only
//! addresses that stand in the URL itself are checked.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::Arc,
};

use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};

use super::{
    error::{Refused, RegistryError},
    proxy::Proxies,
};

/// How far a request may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Reach {
    /// The configured host itself.
    Anywhere,
    /// Whom a host on loopback names.
    NodeToo,
    /// Whom any other host names.
    Outside,
    /// Whom an image names.
    Strangers,
}

impl Reach {
    /// The reach of what the answer to a request for `url` names. `peer` is who answered, unless a proxy was between.
    pub(super) fn behind(self, url: &Url, peer: Option<SocketAddr>) -> Self {
        let local = url.host_str().is_some_and(is_loopback)
            || peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback());
        match self {
            Self::Strangers => Self::Strangers,
            _ if local => Self::NodeToo,
            _ => Self::Outside,
        }
    }

    /// Checks what can be seen in the URL.
    pub(super) fn check(self, url: &Url, proxies: &Proxies) -> Result<(), RegistryError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(RegistryError::Redirect(format!("{} is neither http nor https", url.scheme())));
        }
        let host = url.host_str().unwrap_or_default();
        // The URL's parser has brought addresses of any spelling into the usual one.
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let reason = match literal {
            Ok(address) => self.refuses(address),
            // The resolver lets the proxy's own name pass, so it is not a way around.
            Err(_) if self != Self::Anywhere && proxies.is_proxy(host) => Some("this node's proxy"),
            Err(_) if is_localhost(host) => self.refuses(Ipv4Addr::LOCALHOST.into()),
            Err(_) => None,
        };
        reason.map_or(Ok(()), |reason| {
            Err(RegistryError::Address(Refused { host: host.to_owned(), reason }.to_string()))
        })
    }

    /// Why `address` is out of reach.
    fn refuses(self, address: IpAddr) -> Option<&'static str> {
        if self == Self::Anywhere {
            return None;
        }
        let address = embedded(address);
        if address.is_unspecified() || is_this_network(address) {
            return Some("an unspecified address");
        }
        if address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST) {
            return Some("a multicast address");
        }
        if is_link_local(address) {
            return Some("a link-local address");
        }
        if METADATA.contains(&address) {
            return Some("the metadata service of a cloud");
        }
        if address.is_loopback() && self != Self::NodeToo {
            return Some("a loopback address of this node");
        }
        if self == Self::Strangers && is_own(address) {
            return Some("an address of this node");
        }
        None
    }
}

/// Metadata services that are not at link-local addresses: AWS (IPv6), Alibaba, Azure, Oracle.
const METADATA: [IpAddr; 4] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
];

/// The IPv4 address that an IPv6 one stands for (mapped, compatible, NAT64 of RFC 6052), else the address itself.
fn embedded(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address.to_canonical() else { return address.to_canonical() };
    let segments = v6.segments();
    let [.., high, low] = segments;
    let [a, b] = high.to_be_bytes();
    let [c, d] = low.to_be_bytes();
    let is_nat64 = segments[..6] == [0x64, 0xff9b, 0, 0, 0, 0];
    let is_compatible = segments[..6] == [0; 6] && high != 0;
    if is_nat64 || is_compatible { Ipv4Addr::new(a, b, c, d).into() } else { v6.into() }
}

/// 0.0.0.0/8: Linux connects to itself by it.
fn is_this_network(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if v4.octets()[0] == 0)
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

fn is_localhost(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// Whether `address` is one of this node's: then the kernel sends to it from itself. Nothing is sent for that.
fn is_own(address: IpAddr) -> bool {
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let source = || {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((address, 9))?;
        socket.local_addr()
    };
    // What cannot be routed to cannot be connected to either.
    source().is_ok_and(|source| source.ip() == address)
}

/// Resolves names to the addresses that are within reach.
pub(super) struct Guarded {
    pub(super) reach: Reach,
    pub(super) proxies: Arc<Proxies>,
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let (reach, host) = (self.reach, name.as_str().to_owned());
        // The URL's own host was checked not to be the proxy's.
        let reach = if self.proxies.is_proxy(&host) { Reach::Anywhere } else { reach };
        Box::pin(async move {
            let (mut allowed, mut refused) = (Vec::new(), None);
            for address in tokio::net::lookup_host((host.as_str(), 0)).await? {
                match reach.refuses(address.ip()) {
                    None => allowed.push(address),
                    Some(reason) => {
                        refused = Some(Refused { host: format!("{host} ({})", address.ip()), reason })
                    }
                }
            }
            match refused {
                Some(refused) if allowed.is_empty() => Err(refused.into()),
                _ => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

/// Whether `host` (without a port) is this node.
pub(super) fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(reach: Reach, url: &str) -> Result<(), String> {
        reach.check(&Url::parse(url).unwrap(), &Proxies::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn nobody_sends_this_node_to_link_local_addresses_in_any_spelling() {
        for url in [
            "http://169.254.169.254/latest/meta-data",
            "http://2852039166/",
            "http://0xa9fea9fe/",
            "http://[::ffff:169.254.169.254]/",
            "http://[64:ff9b::a9fe:a9fe]/",
            "http://[::a9fe:a9fe]/",
            "http://[fe80::1]/",
            "http://[fd00:ec2::254]/",
            "http://100.100.100.200/",
            "http://0.0.0.0:8080/",
            "http://0.1.2.3/",
            "http://[::]/",
            "http://224.0.0.1/",
            "http://255.255.255.255/",
            "file:///etc/passwd",
            "ftp://a.example/",
        ] {
            for reach in [Reach::NodeToo, Reach::Outside, Reach::Strangers] {
                assert!(check(reach, url).is_err(), "{url} {reach:?}");
            }
        }
    }

    #[test]
    fn loopback_is_for_those_who_are_there_and_private_networks_are_for_all() {
        for url in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://[::1]:5/",
            "http://localhost/",
            "http://a.localhost./",
        ] {
            assert!(check(Reach::Outside, url).unwrap_err().contains("loopback"), "{url}");
            assert!(check(Reach::Strangers, url).is_err(), "{url}");
            assert_eq!(check(Reach::NodeToo, url), Ok(()), "{url}");
        }
        for url in [
            "http://10.1.2.3/",
            "https://192.168.7.7/",
            "http://8.8.8.8/",
            "https://[2001:db8::1]/",
            "https://a.example/",
        ] {
            assert_eq!(check(Reach::Outside, url), Ok(()), "{url}");
        }
        let here =
            |text: &str, peer: &str| Reach::Anywhere.behind(&Url::parse(text).unwrap(), peer.parse().ok());
        assert_eq!(here("http://127.0.0.1:5000/", ""), Reach::NodeToo);
        assert_eq!(here("https://registry.example/", "[::ffff:127.0.0.1]:443"), Reach::NodeToo);
        assert_eq!(here("https://registry.example/", "10.0.0.1:443"), Reach::Outside);
        assert_eq!(
            Reach::Strangers.behind(&Url::parse("http://127.0.0.1/").unwrap(), None),
            Reach::Strangers
        );
    }

    #[test]
    fn images_do_not_send_this_node_to_itself() {
        // Whatever address this machine has on the way out; none without a network.
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let own = socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr());
        if let Ok(own) = own.map(|own| own.ip()) {
            assert_eq!(Reach::Strangers.refuses(own), Some("an address of this node"), "{own}");
            assert_eq!(Reach::Outside.refuses(own), None, "{own}");
        }
        assert_eq!(Reach::Strangers.refuses("192.0.2.7".parse().unwrap()), None);
    }

    #[tokio::test]
    async fn names_that_lead_to_this_node_are_refused_where_they_are_resolved() {
        let resolver = |reach| Guarded { reach, proxies: Arc::default() };
        let found = resolver(Reach::Outside).resolve("localhost".parse().unwrap()).await.err().unwrap();
        assert!(found.downcast_ref::<Refused>().is_some(), "{found}");
        assert!(resolver(Reach::NodeToo).resolve("localhost".parse().unwrap()).await.is_ok());
    }
}
