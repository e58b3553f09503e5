//! What a user network is asked to be, what it is, and the checks between the two. No I/O.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use husk_model::UnixNanos;
use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use crate::NetworkError;

/// Bytes of the longest name.
const MAX_NAME: usize = 255;
/// Most of labels, options and auxiliary addresses each.
const MAX_WORDS: usize = 1024;
/// And most bytes of one.
const MAX_WORD: usize = 64 << 10;

/// A user network that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSpec {
    /// Unique among the user networks: at most 255 bytes without control characters, and no blank at either end. It is for people and
    /// never becomes part of a path, a rule or a link's name: those have the id.
    pub name: String,
    /// Echoed.
    pub labels: BTreeMap<String, String>,
    /// Options of Docker's bridge driver; [`Options`] has those that mean something, all are echoed.
    pub options: BTreeMap<String, String>,
    /// At most one of each family. A family that is enabled and has none gets a free one.
    pub subnets: Vec<SubnetSpec>,
    /// Whether pods get IPv4 addresses.
    pub ipv4: bool,
    /// Whether pods get IPv6 addresses.
    pub ipv6: bool,
    /// No way out of the network, and none in but from the node itself.
    pub internal: bool,
    /// Echoed.
    pub attachable: bool,
    /// Whether its pods find each other by name.
    pub names: bool,
    /// Of Docker's swarm; echoed. On one node it is a bridge like all others.
    pub overlay: Option<Overlay>,
    /// Where the IPv4 subnet of one that names none is looked for first; Docker's pools come after it.
    pub pool: Option<Pool>,
}

/// A network of Docker's swarm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlay {
    /// It is the one in which published ports are.
    pub ingress: bool,
}

/// Where subnets are taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// All addresses, in the order in which they are tried.
    pub nets: Vec<Ipv4Net>,
    /// Length of a subnet's prefix.
    pub prefix: u8,
}

impl NetworkSpec {
    /// An ordinary IPv4 network of this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            labels: BTreeMap::new(),
            options: BTreeMap::new(),
            subnets: Vec::new(),
            ipv4: true,
            ipv6: false,
            internal: false,
            attachable: false,
            names: true,
            overlay: None,
            pool: None,
        }
    }

    /// Docker's network `bridge`, which those get that ask for none: no names are served in it.
    pub fn default_bridge() -> Self {
        Self { names: false, ..Self::new("bridge") }
    }
}

/// A subnet that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubnetSpec {
    /// The addresses of the network.
    pub subnet: IpNet,
    /// Those of them that pods get unasked; `None` is all.
    pub ip_range: Option<IpNet>,
    /// The node's; `None` is the first that is not auxiliary.
    pub gateway: Option<IpAddr>,
    /// Addresses that nobody gets, by what they are for.
    pub auxiliary: BTreeMap<String, IpAddr>,
}

impl From<IpNet> for SubnetSpec {
    fn from(subnet: IpNet) -> Self {
        Self { subnet, ip_range: None, gateway: None, auxiliary: BTreeMap::new() }
    }
}

/// A user network that there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserNetwork {
    /// 64 lower-case hex characters.
    pub id: String,
    /// See [`NetworkSpec::name`].
    pub name: String,
    /// When it was made.
    pub created: UnixNanos,
    /// Echoed.
    pub labels: BTreeMap<String, String>,
    /// As they were given.
    pub options: BTreeMap<String, String>,
    /// IPv4 first.
    pub subnets: Vec<Subnet>,
    /// No way out.
    pub internal: bool,
    /// Echoed.
    pub attachable: bool,
    /// Whether its pods find each other by name.
    pub names: bool,
    /// Name of its bridge on the node.
    pub bridge: String,
    /// See [`NetworkSpec::overlay`].
    #[serde(default)]
    pub overlay: Option<Overlay>,
    /// Its removal has begun, and is finished by whoever comes next.
    #[serde(default)]
    pub(crate) removing: bool,
}

/// A subnet of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// Its addresses.
    pub net: IpNet,
    /// See [`SubnetSpec::ip_range`].
    pub ip_range: Option<IpNet>,
    /// The node's address.
    pub gateway: IpAddr,
    /// Nobody's.
    pub auxiliary: BTreeMap<String, IpAddr>,
}

impl UserNetwork {
    /// Whether its pods get addresses of this family.
    pub fn has_family(&self, ipv4: bool) -> bool {
        self.subnets.iter().any(|subnet| subnet.net.addr().is_ipv4() == ipv4)
    }

    /// What its options say; they were checked when it was made.
    pub(crate) fn settings(&self) -> Options {
        Options::read(&self.options).unwrap_or_default()
    }
}

/// The options of Docker's bridge driver that mean something here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// `com.docker.network.bridge.name`.
    pub bridge: Option<String>,
    /// `com.docker.network.bridge.enable_icc`: pods of the network reach each other.
    pub icc: bool,
    /// `com.docker.network.bridge.enable_ip_masquerade`: they appear outside under the node's address.
    pub masquerade: bool,
    /// `com.docker.network.bridge.host_binding_ipv4`: where published ports are that name no address of the node.
    pub host_ip: Option<Ipv4Addr>,
    /// `com.docker.network.driver.mtu`.
    pub mtu: Option<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Self { bridge: None, icc: true, masquerade: true, host_ip: None, mtu: None }
    }
}

impl Options {
    /// # Errors
    /// In words: a value that means nothing, or an option that would make the network less closed than was asked for if it were
    /// passed over.
    fn read(options: &BTreeMap<String, String>) -> Result<Self, String> {
        let mut read = Self::default();
        for (key, value) in options {
            let bad = |wanted: &str| Err(format!("option {key}={value:?} is not {wanted}"));
            match key.as_str() {
                "com.docker.network.bridge.name" => {
                    if !is_link_name(value) {
                        return bad("1-15 letters, digits, -, _ and .");
                    }
                    read.bridge = Some(value.clone());
                }
                "com.docker.network.bridge.enable_icc" => match flag(value) {
                    Some(flag) => read.icc = flag,
                    None => return bad("true or false"),
                },
                "com.docker.network.bridge.enable_ip_masquerade" => match flag(value) {
                    Some(flag) => read.masquerade = flag,
                    None => return bad("true or false"),
                },
                "com.docker.network.bridge.host_binding_ipv4" => match value.parse::<Ipv4Addr>() {
                    Ok(ip) => read.host_ip = Some(ip).filter(|ip| !ip.is_unspecified()),
                    Err(_) => return bad("an IPv4 address"),
                },
                "com.docker.network.driver.mtu" => match value.parse() {
                    Ok(0) => {}
                    Ok(mtu) if (576..=65535).contains(&mtu) => read.mtu = Some(mtu),
                    _ => return bad("between 576 and 65535"),
                },
                "com.docker.network.bridge.gateway_mode_ipv4"
                | "com.docker.network.bridge.gateway_mode_ipv6"
                    if value != "nat" =>
                {
                    return bad("nat, the one mode that there is here");
                }
                _ => {}
            }
        }
        Ok(read)
    }
}

/// A spec that was found good.
#[derive(Debug, Clone)]
pub(super) struct Checked {
    pub(super) spec: NetworkSpec,
    pub(super) options: Options,
    pub(super) subnets: Vec<Subnet>,
}

impl Checked {
    /// Where an IPv4 subnet is looked for first.
    pub(super) fn pool(&self) -> Option<&Pool> {
        self.spec.pool.as_ref()
    }

    /// Whether a subnet of this family is still to be chosen.
    pub(super) fn lacks(&self, ipv4: bool) -> bool {
        let wanted = if ipv4 { self.spec.ipv4 } else { self.spec.ipv6 };
        wanted && !self.subnets.iter().any(|subnet| subnet.net.addr().is_ipv4() == ipv4)
    }

    /// The network, IPv4 first.
    pub(super) fn network(self, id: String, created: UnixNanos, chosen: Vec<Subnet>) -> UserNetwork {
        let mut subnets = self.subnets;
        subnets.extend(chosen);
        subnets.sort_by_key(|subnet| subnet.net.addr().is_ipv6());
        let bridge = self.options.bridge.unwrap_or_else(|| own_bridge_name(&id));
        let NetworkSpec { name, labels, options, internal, attachable, names, overlay, .. } = self.spec;
        UserNetwork {
            id,
            name,
            created,
            labels,
            options,
            subnets,
            internal,
            attachable,
            names,
            bridge,
            overlay,
            removing: false,
        }
    }
}

/// Checks all that can be checked without a look at the node.
///
/// # Errors
/// [`NetworkError::Wish`].
pub(super) fn check(spec: NetworkSpec) -> Result<Checked, NetworkError> {
    checked(spec).map_err(NetworkError::Wish)
}

fn checked(spec: NetworkSpec) -> Result<Checked, String> {
    if !is_name(&spec.name) {
        let shown: String = spec.name.chars().take(80).collect();
        return Err(format!(
            "network name {shown:?} is not 1 to {MAX_NAME} bytes without control characters and without a blank at either end"
        ));
    }
    for (what, words) in [("labels", &spec.labels), ("options", &spec.options)] {
        let long = |(key, value): (&String, &String)| key.len() > MAX_WORD || value.len() > MAX_WORD;
        if words.len() > MAX_WORDS || words.iter().any(long) {
            return Err(format!(
                "the {what} are more than {MAX_WORDS}, or one is longer than {MAX_WORD} bytes"
            ));
        }
    }
    if !spec.ipv4 && !spec.ipv6 {
        return Err("a network needs IPv4, IPv6 or both".to_owned());
    }
    let options = Options::read(&spec.options)?;
    // IPv6 requires 1280 on every link (RFC 8200, section 5).
    if spec.ipv6 && options.mtu.is_some_and(|mtu| mtu < 1280) {
        return Err("IPv6 needs an MTU of at least 1280".to_owned());
    }
    let mut subnets: Vec<Subnet> = Vec::new();
    for wanted in &spec.subnets {
        let ipv4 = wanted.subnet.addr().is_ipv4();
        if !(if ipv4 { spec.ipv4 } else { spec.ipv6 }) {
            return Err(format!("subnet {} is of a family that is not enabled", wanted.subnet));
        }
        if subnets.iter().any(|subnet| subnet.net.addr().is_ipv4() == ipv4) {
            return Err("a bridge has one subnet of a family at most".to_owned());
        }
        subnets.push(subnet(wanted)?);
    }
    Ok(Checked { spec, options, subnets })
}

/// What people may call a network. Docker takes anything that is not blank; what a terminal would act on, and names that look like another, are no
/// names here.
fn is_name(text: &str) -> bool {
    let unseen = |c: char| {
        c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    !text.is_empty() && text.len() <= MAX_NAME && text.trim() == text && !text.contains(unseen)
}

/// A subnet with its gateway.
pub(super) fn subnet(wanted: &SubnetSpec) -> Result<Subnet, String> {
    let net = wanted.subnet.trunc();
    let (shortest, longest) = if net.addr().is_ipv4() { (8, 30) } else { (16, 126) };
    if !(shortest..=longest).contains(&net.prefix_len()) {
        return Err(format!("subnet {net} is not between /{shortest} and /{longest}"));
    }
    let usable = |ip: &IpAddr| net.contains(ip) && *ip != net.network() && *ip != net.broadcast();
    if let Some(range) = wanted.ip_range
        && !net.contains(&range.trunc())
    {
        return Err(format!("IP range {range} is not within subnet {net}"));
    }
    if wanted.auxiliary.len() > MAX_WORDS {
        return Err(format!("the auxiliary addresses are more than {MAX_WORDS}"));
    }
    if let Some((name, ip)) = wanted.auxiliary.iter().find(|(_, ip)| !usable(ip)) {
        return Err(format!("auxiliary address {name}={ip} is not within subnet {net}"));
    }
    let auxiliary = |ip: &IpAddr| wanted.auxiliary.values().any(|other| other == ip);
    let gateway = match wanted.gateway {
        Some(ip) if !usable(&ip) => {
            return Err(format!("gateway {ip} is not a host's address within subnet {net}"));
        }
        Some(ip) if auxiliary(&ip) => return Err(format!("gateway {ip} is an auxiliary address too")),
        Some(ip) => ip,
        None => {
            let first = net.hosts().filter(usable).find(|ip| !auxiliary(ip));
            first.ok_or_else(|| format!("subnet {net} has no address left for the gateway"))?
        }
    };
    Ok(Subnet {
        net,
        ip_range: wanted.ip_range.map(|range| range.trunc()),
        gateway,
        auxiliary: wanted.auxiliary.clone(),
    })
}

/// What the bridge of a network is called that names none: 48 random bits.
pub(super) fn own_bridge_name(id: &str) -> String {
    format!("hd-{}", id.get(..12).unwrap_or(id))
}

/// What the kernel and nft both take for the name of a link.
pub(super) fn is_link_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    (1..=15).contains(&text.len())
        && text.bytes().all(plain)
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
}

fn flag(text: &str) -> Option<bool> {
    // As Go's strconv.ParseBool, which Docker's driver reads them with.
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_subnet(text: &str) -> SubnetSpec {
        SubnetSpec::from(text.parse::<IpNet>().unwrap())
    }

    fn made(spec: NetworkSpec) -> UserNetwork {
        check(spec).unwrap().network("ab".repeat(32), 0, Vec::new())
    }

    #[test]
    fn the_gateway_is_the_first_address_that_is_nothing_else() {
        assert_eq!(subnet(&with_subnet("10.5.0.7/24")).unwrap().gateway.to_string(), "10.5.0.1");
        let mut wanted = with_subnet("10.5.0.0/24");
        wanted.auxiliary.insert("router".to_owned(), "10.5.0.1".parse().unwrap());
        assert_eq!(subnet(&wanted).unwrap().gateway.to_string(), "10.5.0.2");
        assert_eq!(subnet(&with_subnet("fd00:5::/64")).unwrap().gateway.to_string(), "fd00:5::1");
    }

    #[test]
    fn addresses_outside_of_the_subnet_are_refused() {
        let spec = |change: fn(&mut SubnetSpec)| {
            let mut wanted = with_subnet("10.5.0.0/24");
            change(&mut wanted);
            subnet(&wanted)
        };
        assert!(spec(|wanted| wanted.gateway = Some("10.6.0.1".parse().unwrap())).is_err());
        assert!(spec(|wanted| wanted.gateway = Some("10.5.0.0".parse().unwrap())).is_err());
        assert!(spec(|wanted| wanted.gateway = Some("10.5.0.255".parse().unwrap())).is_err());
        assert!(spec(|wanted| wanted.ip_range = Some("10.6.0.0/28".parse().unwrap())).is_err());
        assert!(spec(|wanted| wanted.ip_range = Some("10.5.0.0/16".parse().unwrap())).is_err());
        assert!(
            spec(|wanted| wanted.auxiliary = [("x".to_owned(), "10.6.0.1".parse().unwrap())].into()).is_err()
        );
        assert!(subnet(&with_subnet("10.5.0.0/31")).is_err());
        assert!(subnet(&with_subnet("0.0.0.0/0")).is_err());
    }

    #[test]
    fn a_bridge_is_called_by_the_networks_id_or_as_the_option_says() {
        assert_eq!(made(NetworkSpec::new("web")).bridge, "hd-abababababab");
        let mut spec = NetworkSpec::new("web");
        spec.options.insert("com.docker.network.bridge.name".into(), "br-web".into());
        assert_eq!(made(spec).bridge, "br-web");
    }

    #[test]
    fn a_name_is_what_people_read_and_no_part_of_the_bridge() {
        for name in ["web", "-x", "front end", "a\"", "a;flush ruleset", "../b", "ü", &"a".repeat(255)] {
            let network = made(NetworkSpec::new(name));
            assert_eq!((network.name.as_str(), network.bridge.as_str()), (name, "hd-abababababab"));
        }
        for name in
            ["", " ", " a", "a ", "a\nb", "a\u{1b}[2Jb", "a\u{7f}", "a\u{202e}b", "\u{a0}a", &"a".repeat(256)]
        {
            assert!(check(NetworkSpec::new(name)).is_err(), "{name:?}");
        }
    }

    #[test]
    fn options_that_could_become_rules_are_refused() {
        for (key, value) in [
            ("com.docker.network.bridge.name", "x\" accept"),
            ("com.docker.network.bridge.name", "longer-than-fifteen"),
            ("com.docker.network.bridge.name", ".."),
            ("com.docker.network.bridge.enable_icc", "no"),
            ("com.docker.network.bridge.host_binding_ipv4", "::1"),
            ("com.docker.network.driver.mtu", "12"),
            ("com.docker.network.bridge.gateway_mode_ipv4", "routed"),
        ] {
            let mut spec = NetworkSpec::new("web");
            spec.options.insert(key.to_owned(), value.to_owned());
            assert!(check(spec).is_err(), "{key}={value}");
        }
    }

    #[test]
    fn each_family_has_one_subnet_and_only_if_it_is_enabled() {
        let spec = |subnets: &[&str], ipv6: bool| {
            let subnets = subnets.iter().map(|text| with_subnet(text)).collect();
            check(NetworkSpec { subnets, ipv6, ..NetworkSpec::new("web") })
        };
        assert!(spec(&["10.5.0.0/24", "10.6.0.0/24"], false).is_err());
        assert!(spec(&["fd00:5::/64"], false).is_err());
        let both = spec(&["fd00:5::/64"], true).unwrap();
        assert!(both.lacks(true) && !both.lacks(false));
    }
}
