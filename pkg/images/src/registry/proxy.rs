//! `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` as Go's net/http reads them, since nodes are set up for Go programs.
//!
//! A request for `localhost` or a loopback address never goes through a proxy. An entry of `NO_PROXY` is `*` (no proxy at
//! all), an address, a network (`10.0.0.0/8`), a domain with its subdomains (`a.example`), or subdomains alone
//! (`.a.example`, `*.a.example`); addresses and domains may have a port. Names in lower case count where those in upper
//! case are unset or empty.

use std::net::IpAddr;

use reqwest::Url;

/// The proxies of this process.
#[derive(Debug, Clone, Default)]
pub(super) struct Proxies {
    http: Option<Url>,
    https: Option<Url>,
    without: Vec<Without>,
}

/// A rule by which no proxy is used.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Without {
    All,
    Network(IpAddr, u32),
    Address(IpAddr, Option<u16>),
    /// `.a.example`, its port, and whether `a.example` itself is meant too.
    Domain {
        suffix: String,
        port: Option<u16>,
        itself: bool,
    },
}

impl Proxies {
    /// As the environment says.
    pub(super) fn from_environment() -> Self {
        Self::read(|name| std::env::var(name).ok())
    }

    fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let get = |upper: &str| {
            let found = |name: &str| variable(name).filter(|value| !value.is_empty());
            found(upper).or_else(|| found(&upper.to_ascii_lowercase()))
        };
        let proxy = |name: &str| {
            let value = get(name)?;
            let url = parse(&value);
            if url.is_none() {
                // The value may hold a password.
                tracing::warn!(variable = name, "not the URL of an HTTP proxy; it is not used");
            }
            url
        };
        let without = get("NO_PROXY").map(|text| text.split(',').filter_map(rule).collect());
        Self {
            // In a CGI program that variable is a header of the request ("httpoxy").
            http: proxy("HTTP_PROXY").filter(|_| get("REQUEST_METHOD").is_none()),
            https: proxy("HTTPS_PROXY"),
            without: without.unwrap_or_default(),
        }
    }

    /// The proxy for a request.
    pub(super) fn for_url(&self, url: &Url) -> Option<&Url> {
        let proxy = match url.scheme() {
            "http" => self.http.as_ref(),
            "https" => self.https.as_ref(),
            _ => None,
        }?;
        let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let port = url.port_or_known_default()?;
        let address = host.parse::<IpAddr>().ok();
        if host == "localhost" || address.is_some_and(|address| address.to_canonical().is_loopback()) {
            return None;
        }
        (!self.without.iter().any(|rule| rule.covers(&host, address, port))).then_some(proxy)
    }

    /// Whether `host` is the name of a proxy.
    pub(super) fn is_proxy(&self, host: &str) -> bool {
        [&self.http, &self.https]
            .into_iter()
            .flatten()
            .any(|proxy| proxy.host_str().is_some_and(|name| name.eq_ignore_ascii_case(host)))
    }
}

impl Without {
    fn covers(&self, host: &str, address: Option<IpAddr>, port: u16) -> bool {
        let is_port = |wanted: &Option<u16>| wanted.is_none_or(|wanted| wanted == port);
        match self {
            Self::All => true,
            Self::Network(network, bits) => address.is_some_and(|address| contains(*network, *bits, address)),
            Self::Address(wanted, wanted_port) => {
                address.is_some_and(|address| address.to_canonical() == *wanted) && is_port(wanted_port)
            }
            Self::Domain { suffix, port, itself } => {
                let covered = host.ends_with(suffix.as_str()) || (*itself && host == &suffix[1..]);
                covered && is_port(port)
            }
        }
    }
}

/// `host:port` means HTTP.
fn parse(value: &str) -> Option<Url> {
    let is_proxy = |url: &Url| matches!(url.scheme(), "http" | "https") && url.host_str().is_some();
    let with_scheme = || Url::parse(&format!("http://{value}")).ok().filter(is_proxy);
    match Url::parse(value) {
        Ok(url) if value.contains("://") => Some(url).filter(is_proxy),
        _ => with_scheme(),
    }
}

fn rule(text: &str) -> Option<Without> {
    let text = text.trim().to_ascii_lowercase();
    if text == "*" {
        return Some(Without::All);
    }
    if let Some((network, bits)) = text.split_once('/') {
        let (network, bits) = (network.parse::<IpAddr>().ok()?, bits.parse().ok()?);
        return (bits <= if network.is_ipv4() { 32 } else { 128 }).then_some(Without::Network(network, bits));
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(Without::Address(address.to_canonical(), None));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok()?)),
        None => (text.as_str(), None),
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Some(Without::Address(address.to_canonical(), port));
    }
    let host = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
    match host.strip_prefix('.') {
        Some("") => None,
        Some(_) => Some(Without::Domain { suffix: host.to_owned(), port, itself: false }),
        None if host.is_empty() => None,
        None => Some(Without::Domain { suffix: format!(".{host}"), port, itself: true }),
    }
}

fn contains(network: IpAddr, bits: u32, address: IpAddr) -> bool {
    match (network, address.to_canonical()) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let differing = u32::from(network) ^ u32::from(address);
            differing.checked_shr(32 - bits).unwrap_or(0) == 0
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let differing = u128::from(network) ^ u128::from(address);
            differing.checked_shr(128 - bits).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Proxies {
        Proxies::read(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn proxied(no_proxy: &str, url: &str) -> bool {
        let proxies = proxies(&[
            ("HTTP_PROXY", "http://p.example:3128"),
            ("https_proxy", "p.example:3129"),
            ("NO_PROXY", no_proxy),
        ]);
        proxies.for_url(&Url::parse(url).unwrap()).is_some()
    }

    #[test]
    fn loopback_never_goes_through_a_proxy() {
        for url in [
            "http://127.0.0.1:5000/",
            "https://127.9.9.9/",
            "http://[::1]/",
            "http://localhost:1/",
            "http://[::ffff:127.0.0.1]/",
        ] {
            assert!(!proxied("", url), "{url}");
        }
        assert!(proxied("", "http://registry.example/") && proxied("", "https://10.0.0.1/"));
    }

    #[test]
    fn exceptions_are_read_as_go_reads_them() {
        for (rule, through, direct) in [
            ("*", "", "http://a.example/"),
            ("a.example", "http://xa.example/", "http://a.example/"),
            ("a.example", "http://example/", "https://b.A.example/"),
            (".a.example", "http://a.example/", "http://b.a.example/"),
            ("*.a.example", "http://a.example/", "http://b.a.example/"),
            (" x , A.EXAMPLE:5000,", "http://a.example/", "http://a.example:5000/"),
            ("a.example:443", "http://a.example/", "https://a.example/"),
            ("10.0.0.0/8", "http://11.0.0.1/", "http://10.255.0.1:99/"),
            ("0.0.0.0/0", "http://a.example/", "http://8.8.8.8/"),
            ("10.0.0.1", "http://10.0.0.2/", "http://10.0.0.1:5000/"),
            ("10.0.0.1:80", "https://10.0.0.1/", "http://10.0.0.1/"),
            ("2001:db8::/32", "http://[2001:db9::1]/", "http://[2001:db8::1]/"),
            ("[2001:db8::1]:5000", "http://[2001:db8::1]/", "http://[2001:db8::1]:5000/"),
            ("2001:db8::1", "http://[2001:db8::2]/", "http://[2001:db8::1]/"),
        ] {
            assert!(through.is_empty() || proxied(rule, through), "{rule} {through}");
            assert!(!proxied(rule, direct), "{rule} {direct}");
        }
        for nonsense in ["", ",", ".", ":80", "/", "10.0.0.0/99", "a:b:c", "[", "*."] {
            assert!(proxied(nonsense, "http://a.example/"), "{nonsense}");
        }
    }

    #[test]
    fn the_scheme_of_the_request_chooses_the_proxy() {
        let found = proxies(&[
            ("HTTP_PROXY", "user:secret@p.example:1"),
            ("HTTPS_PROXY", ""),
            ("https_proxy", "https://q.example"),
        ]);
        let proxy = |url: &str| found.for_url(&Url::parse(url).unwrap()).map(Url::to_string);
        assert_eq!(proxy("http://a.example/").as_deref(), Some("http://user:secret@p.example:1/"));
        assert_eq!(proxy("https://a.example/").as_deref(), Some("https://q.example/"));
        assert!(found.is_proxy("P.example") && !found.is_proxy("a.example"));
        let cgi = proxies(&[("HTTP_PROXY", "http://p.example"), ("REQUEST_METHOD", "GET")]);
        assert!(cgi.for_url(&Url::parse("http://a.example/").unwrap()).is_none());
        assert!(
            proxies(&[("HTTP_PROXY", "socks5://p.example")])
                .for_url(&Url::parse("http://a.example/").unwrap())
                .is_none()
        );
    }
}
