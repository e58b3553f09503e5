//! Who is called what in user networks, for the resolvers of their pods.

use std::{
    fs::File,
    io::Read,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Weak},
};

use husk_model::{DnsConfig, PodSandboxId};
use husk_resolver::{Names, Resolver, Server, Sockets, Upstream};

use super::{
    User,
    pod::gateway_plug,
    resolvers::{failed, listen},
};
use crate::{
    NAME_SERVER, NetworkError,
    record::{Plug, Record, UserAttachment},
};

/// As much of the node's resolv.conf as is read.
const MAX_RESOLV_CONF: u64 = 64 << 10;
/// Where name servers listen.
const PORT: u16 = 53;

impl User {
    /// Whether names are served in a pod with these places.
    pub(super) fn serves_names(&self, places: &UserAttachment) -> bool {
        let state = self.state();
        places
            .plugs
            .iter()
            .any(|plug| state.networks.get(&plug.wanted.network).is_some_and(|network| network.names))
    }

    /// Serves names in a pod, whose queries `listening` takes.
    ///
    /// # Errors
    /// [`NetworkError::Names`].
    pub(super) fn serve_names(
        self: &Arc<Self>,
        id: &PodSandboxId,
        dns: Option<&DnsConfig>,
        listening: Sockets,
        ns: Arc<OwnedFd>,
    ) -> Result<(), NetworkError> {
        let names = PodNames { user: Arc::downgrade(self), id: id.clone(), wanted: Wanted::of(dns) };
        let resolver = Resolver::start(&self.resolvers.runtime, listening, ns, Arc::new(names))
            .map_err(failed("serve names"))?;
        self.resolvers.running().insert(id.clone(), resolver);
        Ok(())
    }

    pub(super) fn has_resolver(&self, id: &PodSandboxId) -> bool {
        self.resolvers.running().contains_key(id)
    }

    /// Starts the resolvers of pods that a former daemon had, in namespaces that are still there.
    ///
    /// # Errors
    /// As [`User::serve_names`], or those of the namespace or the record.
    pub(super) fn serve_names_again(self: &Arc<Self>, mut record: Record) -> Result<(), NetworkError> {
        let crate::record::Attachment::User(places) = &record.attachment else { return Ok(()) };
        let mut places = places.clone();
        let path = record.request.netns.clone();
        if !self.serves_names(&places) || !path.exists() {
            return Ok(());
        }
        let ns = husk_sys::netns::open(&path).map_err(NetworkError::netns("open", &path))?;
        let former = places.name_port;
        let listening = husk_sys::netns::with(ns.as_fd(), || listen(former));
        let (listening, port) = listening.map_err(NetworkError::netns("enter", &path))??;
        self.serve_names(&record.request.id, record.request.dns.as_ref(), listening, Arc::new(ns))?;
        if places.name_port == Some(port) {
            return Ok(());
        }
        places.name_port = Some(port);
        self.write(&mut record, &places)
    }

    fn lookup(&self, id: &PodSandboxId, name: &str) -> Option<Vec<IpAddr>> {
        let state = self.state();
        let own = state.pods.get(id)?;
        let served = own.plugs.iter().filter_map(|plug| {
            let network = state.networks.get(&plug.wanted.network).filter(|network| network.names)?;
            Some((network, &plug.wanted.links))
        });
        // `web`, or `web` of the network `front` as `web.front`.
        served.into_iter().find_map(|(network, links)| {
            let name = links
                .iter()
                .find(|(own, _)| own.eq_ignore_ascii_case(name))
                .map_or(name, |(_, theirs)| theirs);
            let suffix = format!(".{}", network.name.to_ascii_lowercase());
            let short = name.strip_suffix(&suffix);
            let is_called = |plug: &Plug| {
                let called = |alias: &String| {
                    alias.eq_ignore_ascii_case(name)
                        || short.is_some_and(|short| alias.eq_ignore_ascii_case(short))
                };
                plug.wanted.network == network.id && !plug.unsettled && plug.wanted.aliases.iter().any(called)
            };
            let mut found: Vec<(&PodSandboxId, Vec<IpAddr>)> = state
                .pods
                .iter()
                .filter_map(|(id, places)| {
                    Some((id, places.plugs.iter().find(|plug| is_called(plug))?.ips()))
                })
                .collect();
            // In an order that stays, so that turns go round.
            found.sort_by_key(|(id, _)| *id);
            let ips: Vec<IpAddr> = found.into_iter().flat_map(|(_, ips)| ips).collect();
            Some(ips).filter(|ips| !ips.is_empty())
        })
    }

    fn name_of(&self, id: &PodSandboxId, ip: IpAddr) -> Option<String> {
        let state = self.state();
        let own = state.pods.get(id)?;
        for plug in &own.plugs {
            let network = state.networks.get(&plug.wanted.network)?;
            let has_it = |plug: &&Plug| plug.wanted.network == network.id && plug.ips().contains(&ip);
            let plugs = state.pods.values().flat_map(|places| &places.plugs);
            if network.names
                && let Some(plug) = { plugs }.find(has_it)
            {
                return plug.wanted.aliases.first().map(|alias| full_name(alias, &network.name));
            }
        }
        None
    }

    fn leads_out(&self, id: &PodSandboxId) -> bool {
        let places = self.places(id);
        places.is_some_and(|places| {
            [true, false].iter().any(|ipv4| gateway_plug(&places.plugs, *ipv4).is_some())
        })
    }
}

/// What a pod is called in full: `web.front`. A network whose name is none of DNS is left out of it.
fn full_name(alias: &str, network: &str) -> String {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
    };
    if network.split('.').all(is_label) { format!("{alias}.{network}") } else { alias.to_owned() }
}

/// One pod's view.
struct PodNames {
    user: Weak<User>,
    id: PodSandboxId,
    wanted: Wanted,
}

/// What the pod's own DNS wishes say.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    servers: Vec<Server>,
    keeps_single_words: bool,
}

impl Wanted {
    fn of(dns: Option<&DnsConfig>) -> Self {
        let Some(dns) = dns else { return Self::default() };
        let servers = dns.servers.iter().filter_map(|server| server.parse::<IpAddr>().ok());
        // The resolver itself would ask itself.
        let servers = servers.filter(|ip| *ip != IpAddr::V4(NAME_SERVER));
        // As Docker's resolver has it: whoever sets it wants search domains to be tried, and the client does that.
        let mut ndots =
            dns.options.iter().filter_map(|option| option.strip_prefix("ndots:")?.parse::<u32>().ok());
        Self {
            servers: servers.map(|ip| Server { address: SocketAddr::new(ip, PORT), inside: true }).collect(),
            keeps_single_words: ndots.next_back().is_some_and(|dots| dots > 0),
        }
    }
}

impl Names for PodNames {
    fn addresses(&self, name: &str) -> Option<Vec<IpAddr>> {
        self.user.upgrade()?.lookup(&self.id, name)
    }

    fn name_of(&self, ip: IpAddr) -> Option<String> {
        self.user.upgrade()?.name_of(&self.id, ip)
    }

    /// The pod's own wishes are asked from its namespace, so that they lead no further than the pod does. The node's servers are asked
    /// from the node's, where they are meant (127.0.0.53), and only for pods that have a way out: names would be one for all others
    /// (CVE-2024-29018).
    fn upstream(&self) -> Upstream {
        let keeps_single_words = self.wanted.keeps_single_words;
        if !self.wanted.servers.is_empty() {
            return Upstream { servers: self.wanted.servers.clone(), keeps_single_words };
        }
        let leads_out = self.user.upgrade().is_some_and(|user| user.leads_out(&self.id));
        let servers = if leads_out { node_servers() } else { Vec::new() };
        Upstream { servers, keeps_single_words }
    }
}

/// The node's name servers as of now: leases come and go.
fn node_servers() -> Vec<Server> {
    let mut text = String::new();
    let read =
        File::open("/etc/resolv.conf").and_then(|file| file.take(MAX_RESOLV_CONF).read_to_string(&mut text));
    if let Err(error) = read {
        tracing::debug!(%error, "read the node's resolv.conf");
    }
    let servers = super::pools::name_servers(&text);
    servers.map(|net| Server { address: SocketAddr::new(net.addr(), PORT), inside: false }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dns(servers: &[&str], options: &[&str]) -> DnsConfig {
        let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        DnsConfig { servers: own(servers), searches: Vec::new(), options: own(options) }
    }

    #[test]
    fn a_pods_own_servers_are_asked_from_inside_and_never_the_resolver_itself() {
        let wanted = Wanted::of(Some(&dns(&["127.0.0.11", "192.0.2.1", "fd00::53", "fe80::1%eth0"], &[])));
        let addresses: Vec<String> = wanted.servers.iter().map(|server| server.address.to_string()).collect();
        assert_eq!(addresses, ["192.0.2.1:53", "[fd00::53]:53"]);
        assert!(wanted.servers.iter().all(|server| server.inside));
    }

    #[test]
    fn only_a_network_with_a_name_of_dns_is_part_of_a_full_name() {
        assert_eq!(full_name("web", "front.end_1"), "web.front.end_1");
        for network in ["front end", "a..b", "a\\.b", "ü", &"a".repeat(64)] {
            assert_eq!(full_name("web", network), "web", "{network}");
        }
    }

    #[test]
    fn single_words_are_kept_only_where_ndots_is_set_above_zero() {
        let keeps = |options: &[&str]| Wanted::of(Some(&dns(&[], options))).keeps_single_words;
        assert!(!keeps(&[]) && !keeps(&["ndots:0"]) && !keeps(&["edns0"]));
        assert!(keeps(&["ndots:2"]) && keeps(&["ndots:0", "ndots:1"]));
    }
}
