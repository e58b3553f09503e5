//! hosts.toml files on their way: which hosts are asked for a registry, and what they bring of their own.
//!
//! The format is containerd's, which husk reads ([docs/registries.md]). What both peers have beside it (old mirrors,
//! registries.conf, policy.json) is said in it: a host that may not be asked has the capability `push` alone, since an
//! empty list means all of them to containerd and none to husk.
//!
//! [docs/registries.md]: https://github.com/husk-runtime/husk/blob/main/docs/registries.md

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

use crate::plan::PlannedFile;

/// Where husk looks for them, unless it is told otherwise.
pub(crate) const DIR: &str = "/etc/husk/certs.d";

/// Registries by the host that references name; `_default` is for those without a file.
#[derive(Debug, Default)]
pub(crate) struct Registries {
    hosts: BTreeMap<String, Host>,
    /// Files of certificates by host, as they will lie on the node.
    certificates: BTreeMap<String, Certificates>,
    /// With a policy that refuses what it does not name: the hosts that it names.
    allowed: Option<BTreeSet<String>>,
}

/// Who is asked for what is named after one host.
#[derive(Debug, Default, Clone)]
pub(crate) struct Host {
    /// Who is asked last; without one the registry itself.
    pub(crate) server: Option<Endpoint>,
    /// Nobody but the mirrors may be asked.
    pub(crate) blocked: bool,
    /// Who is asked before, in this order.
    pub(crate) mirrors: Vec<Endpoint>,
}

/// A host that is asked.
#[derive(Debug, Default, Clone)]
pub(crate) struct Endpoint {
    /// With its scheme, without a last slash.
    pub(crate) url: String,
    /// The path of the URL is the whole.
    pub(crate) override_path: bool,
    /// Takes any certificate.
    pub(crate) skip_verify: bool,
    /// Asked for content by digest alone: never what a tag means.
    pub(crate) digest_only: bool,
    pub(crate) tls: Certificates,
    /// Sent with every request; secret.
    pub(crate) headers: BTreeMap<String, String>,
}

/// Paths of certificates.
#[derive(Debug, Default, Clone)]
pub(crate) struct Certificates {
    pub(crate) ca: Vec<String>,
    /// Certificate and key.
    pub(crate) client: Vec<(String, String)>,
}

impl Registries {
    /// The file of one host, made if there is none.
    pub(crate) fn host(&mut self, name: &str) -> &mut Host {
        self.hosts.entry(name.to_owned()).or_default()
    }

    /// The certificates for whoever is at this host.
    pub(crate) fn certificates(&mut self, host: &str) -> &mut Certificates {
        self.certificates.entry(host.to_owned()).or_default()
    }

    /// The mirrors at this host, in all files.
    pub(crate) fn mirrors_at<'a>(&'a mut self, host: &'a str) -> impl Iterator<Item = &'a mut Endpoint> {
        let mirrors = self.hosts.values_mut().flat_map(|file| &mut file.mirrors);
        mirrors.filter(move |mirror| authority(&mirror.url) == host)
    }

    /// Nothing but what is named after these hosts is pulled.
    pub(crate) fn allow_only(&mut self, hosts: BTreeSet<String>) {
        self.allowed = Some(hosts);
    }

    /// The files of all that was collected.
    pub(crate) fn files(mut self) -> Vec<PlannedFile> {
        self.refuse_the_others();
        let certificates = &self.certificates;
        self.hosts.into_iter().map(|(name, host)| file(&name, host, certificates)).collect()
    }

    fn refuse_the_others(&mut self) {
        let Some(allowed) = self.allowed.take() else { return };
        let others: Vec<String> = self
            .hosts
            .keys()
            .chain(self.certificates.keys())
            .filter(|host| !allowed.contains(*host))
            .cloned()
            .collect();
        let blocked = || Host { blocked: true, ..Host::default() };
        for host in others {
            self.hosts.insert(host, blocked());
        }
        self.hosts.insert("_default".to_owned(), blocked());
        for host in allowed {
            self.hosts.entry(host).or_default();
        }
    }
}

/// The file of one host. What there is of certificates for whoever is asked comes with it.
fn file(name: &str, mut host: Host, certificates: &BTreeMap<String, Certificates>) -> PlannedFile {
    let own =
        host.server.get_or_insert_with(|| Endpoint { url: default_server(name), ..Endpoint::default() });
    for endpoint in host.mirrors.iter_mut().chain([own]) {
        if let Some(found) = certificates.get(authority(&endpoint.url)) {
            endpoint.tls.ca.extend(found.ca.iter().cloned());
            endpoint.tls.client.extend(found.client.iter().cloned());
        }
    }
    let secret = host.mirrors.iter().chain(&host.server).any(|endpoint| !endpoint.headers.is_empty());
    let contents = format!("# Written by `husk migrate`.\n{}", host.toml(name)).into_bytes();
    PlannedFile { path: format!("{DIR}/{name}/hosts.toml").into(), contents, secret }
}

impl Host {
    fn toml(&self, name: &str) -> String {
        let mut file = Table::new();
        if let Some(server) = &self.server {
            // `_default` stands for every registry, so it names none.
            if name != "_default" {
                file.insert("server".into(), server.url.clone().into());
            }
            let mut settings = server.settings();
            if self.blocked {
                settings.insert("capabilities".into(), Value::Array(vec!["push".into()]));
            }
            // Tables go last in TOML.
            let header = settings.remove("header");
            file.extend(settings);
            file.extend(header.map(|header| ("header".to_owned(), header)));
        }
        if !self.mirrors.is_empty() {
            let mirrors =
                self.mirrors.iter().map(|mirror| (mirror.url.clone(), Value::Table(mirror.settings())));
            file.insert("host".into(), Value::Table(mirrors.collect()));
        }
        file.to_string()
    }
}

impl Endpoint {
    /// An endpoint by its URL. `https://` where there is no scheme.
    pub(crate) fn new(url: &str) -> Self {
        let url = if url.contains("://") { url.to_owned() } else { format!("https://{url}") };
        Self { url: url.trim_end_matches('/').to_owned(), ..Self::default() }
    }

    /// Whether bytes go unencrypted, or to whoever has any certificate.
    pub(crate) fn is_insecure(&self) -> bool {
        self.skip_verify || is_exposed(&self.url)
    }

    fn settings(&self) -> Table {
        let mut table = Table::new();
        if self.digest_only {
            table.insert("capabilities".into(), Value::Array(vec!["pull".into()]));
        }
        if !self.tls.ca.is_empty() {
            table.insert(
                "ca".into(),
                self.tls.ca.iter().cloned().map(Value::String).collect::<Vec<_>>().into(),
            );
        }
        if !self.tls.client.is_empty() {
            let pairs = self.tls.client.iter().map(|(certificate, key)| {
                let both = [certificate, key].into_iter().filter(|file| !file.is_empty());
                Value::Array(both.cloned().map(Value::String).collect())
            });
            table.insert("client".into(), Value::Array(pairs.collect()));
        }
        if self.skip_verify {
            table.insert("skip_verify".into(), true.into());
        }
        if self.override_path {
            table.insert("override_path".into(), true.into());
        }
        if !self.headers.is_empty() {
            let headers = self.headers.iter().map(|(name, value)| (name.clone(), value.clone().into()));
            table.insert("header".into(), Value::Table(headers.collect()));
        }
        table
    }
}

/// Who husk asks for a registry without a file: <https://registry-1.docker.io> for docker.io.
pub(crate) fn default_server(host: &str) -> String {
    match host {
        "docker.io" => "https://registry-1.docker.io".to_owned(),
        host if is_loopback(host) => format!("http://{host}"),
        host => format!("https://{host}"),
    }
}

/// Whether husk asks this host over plain HTTP where nothing is said.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    name == "localhost" || name == "[::1]" || name.starts_with("127.")
}

/// Whether what is sent to this URL leaves the node unencrypted.
pub(crate) fn is_exposed(url: &str) -> bool {
    url.starts_with("http://") && !is_loopback(authority(url))
}

/// `host:port` of a URL.
pub(crate) fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    rest[..end].rsplit('@').next().unwrap_or_default()
}

/// Whether this can be the URL of a host: http or https or no scheme, and a name with an optional port. Others make husk
/// refuse the whole file, where the peers go on without.
pub(crate) fn is_url(url: &str) -> bool {
    let scheme_fits = match url.split_once("://") {
        Some((scheme, _)) => matches!(scheme, "http" | "https"),
        None => true,
    };
    scheme_fits && is_host(authority(url)) && !url.contains(char::is_whitespace)
}

/// Whether this is a host with an optional port, and no more.
pub(crate) fn is_host(text: &str) -> bool {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, port),
        _ => (text, "1"),
    };
    let plain =
        |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    let v6 = |name: &str| name.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.'));
    let is_name = match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(address) => !address.is_empty() && v6(address),
        // Names of directories, too: never `.` and `..`.
        None => name.bytes().any(|b| b.is_ascii_alphanumeric()) && plain(name),
    };
    is_name && port.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_told_from_what_is_none() {
        for (text, fits) in [
            ("a.example", true),
            ("a.example:5000", true),
            ("[fd00::1]:5000", true),
            ("192.168.0.1:80", true),
            ("a.example:x", false),
            ("", false),
            ("..", false),
            ("*", false),
            ("a/b", false),
            ("a b", false),
        ] {
            assert_eq!(is_host(text), fits, "{text}");
        }
        for (url, fits) in [
            ("https://a:1/v2", true),
            ("a.example", true),
            ("ftp://a", false),
            ("https://docker.i://x", false),
            ("*", false),
        ] {
            assert_eq!(is_url(url), fits, "{url}");
        }
    }

    #[test]
    fn a_blocked_registry_can_be_pulled_from_its_mirror_alone() {
        let mut host = Host { blocked: true, ..Host::default() };
        host.server = Some(Endpoint::new("quay.io"));
        host.mirrors.push(Endpoint { digest_only: true, ..Endpoint::new("http://m.example:5000/") });
        assert_eq!(
            host.toml("quay.io"),
            "server = \"https://quay.io\"\ncapabilities = [\"push\"]\n\n[host.\"http://m.example:5000\"]\n\
             capabilities = [\"pull\"]\n"
        );
    }

    #[test]
    fn with_a_list_of_allowed_hosts_all_others_are_blocked() {
        let mut registries = Registries::default();
        registries.host("other.example").mirrors.push(Endpoint::new("m.example"));
        registries.certificates("certs.example").ca.push("/x.crt".into());
        registries.allow_only(BTreeSet::from(["good.example".to_owned()]));
        let files: BTreeMap<_, _> = registries
            .files()
            .into_iter()
            .map(|file| (file.path.display().to_string(), String::from_utf8(file.contents).unwrap()))
            .collect();
        let is_blocked = |host: &str| files[&format!("{DIR}/{host}/hosts.toml")].contains("\"push\"");
        assert!(is_blocked("_default") && is_blocked("other.example") && is_blocked("certs.example"));
        assert!(
            !is_blocked("good.example")
                && !files[&format!("{DIR}/other.example/hosts.toml")].contains("[host")
        );
    }
}
