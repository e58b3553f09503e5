//! `certs.d/<host>/hosts.toml`: mirrors and settings per registry, in containerd's format.
//!
//! The directory is looked for as `<host>_<port>_`, `<host>:<port>`, then `_default`. Hosts are asked in the order of the
//! file, then `server`. Without a file the registry itself is asked: plain HTTP on a loopback address, else HTTPS.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use reqwest::{
    Client, Url,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use serde::Deserialize;

use super::{
    clients::{Clients, Tls},
    config::RegistryConfig,
    error::RegistryError,
    reach::{Reach, is_loopback},
};
use crate::{ImageError, Reference, Result, registries::Location};

/// Limit for making a connection when `dial_timeout` says nothing.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// A host that can be asked for the content of one reference.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// For messages: `mirror.example:5000`.
    pub(super) host: String,
    /// `https://mirror.example:5000/v2`, without a final slash.
    pub(super) base: Url,
    /// May be asked for content by digest.
    pub(super) pull: bool,
    /// May be asked what a tag means.
    pub(super) resolve: bool,
    /// May be given images. No mirror may.
    pub(super) push: bool,
    /// It stands for the registry, and is neither that nor its server.
    pub(super) mirror: bool,
    /// Where credentials for the hosts of this hosts.toml may be.
    pub(super) auth_file: PathBuf,
    /// Extra headers for this host only.
    pub(super) headers: HeaderMap,
    /// It is asked again by plain HTTP, so a connection that fails is not tried again.
    pub(super) tentative: bool,
    tls: Tls,
    clients: Arc<Clients>,
    /// The registry that it is or stands for, after registries.conf.
    pub(super) registry: String,
    /// The image's repository there.
    pub(super) repository: String,
    /// `ns` query of a mirror: the registry it stands for.
    pub(super) namespace: Option<String>,
}

impl Endpoint {
    /// Its name in messages.
    pub(crate) fn name(&self) -> &str {
        &self.host
    }

    /// What a login there is good for: this repository, in this way. What was shown over HTTPS is not shown over HTTP because host and port
    /// are the same.
    pub(super) fn place(&self) -> String {
        format!("{} {}", self.base, self.repository)
    }

    /// Whether it may be asked what there is.
    pub(crate) fn may_resolve(&self) -> bool {
        self.resolve && self.pull
    }

    /// What is asked for there, as files of credentials name it: `mirror.example:5000/path/repository`.
    pub(super) fn name_there(&self) -> String {
        let host = match self.host.as_str() {
            "registry-1.docker.io" | "index.docker.io" => "docker.io",
            host => host,
        };
        let path = self.base.path().trim_end_matches('/');
        let path = path.strip_suffix("/v2").unwrap_or(path).trim_start_matches('/');
        let parts = [host, path, &self.repository];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
    }

    /// The client for a request to `url` within `reach`. Only the host itself is asked without bounds, and only it and whom
    /// it names see its TLS settings.
    pub(super) fn client(&self, url: &Url, reach: Reach) -> Result<Client, RegistryError> {
        let client = if url.origin() == self.base.origin() {
            self.clients.get(&self.tls, Reach::Anywhere)
        } else {
            reach.check(url, self.clients.proxies())?;
            match reach {
                Reach::Strangers => {
                    let plain = url.scheme() == "http";
                    let tls = Tls { plain, connect_timeout: DIAL_TIMEOUT, ..Tls::default() };
                    self.clients.get(&tls, reach)
                }
                _ => self
                    .clients
                    .get(&Tls { plain: self.tls.plain && url.scheme() == "http", ..self.tls.clone() }, reach),
            }
        };
        client.map_err(RegistryError::Tls)
    }

    /// Whether a request for `url` goes through a proxy.
    pub(super) fn is_proxied(&self, url: &Url) -> bool {
        self.clients.proxies().for_url(url).is_some()
    }

    /// Whether a secret may be sent: encrypted, or it does not leave the node.
    pub(super) fn is_confidential(&self) -> bool {
        is_confidential(&self.base)
    }
}

pub(super) fn is_confidential(url: &Url) -> bool {
    url.scheme() == "https" || url.host_str().is_some_and(is_loopback)
}

/// `host` of `host:port`, `[v6]:port` or a bare host.
fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    }
}

#[derive(Debug, Default, Deserialize)]
struct File {
    server: Option<String>,
    #[serde(default)]
    host: toml::Table,
    #[serde(flatten)]
    own: Settings,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Settings {
    capabilities: Option<Vec<String>>,
    ca: Option<Many>,
    client: Option<Pairs>,
    #[serde(default)]
    skip_verify: bool,
    #[serde(default)]
    override_path: bool,
    dial_timeout: Option<String>,
    #[serde(default)]
    header: BTreeMap<String, Many>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Many {
    One(String),
    List(Vec<String>),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Pairs {
    One(String),
    List(Vec<Many>),
}

impl Many {
    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(one) => vec![one],
            Self::List(list) => list,
        }
    }
}

/// The hosts to ask for `reference`, in order: registries.conf, if it is read, says which locations have the image, and the
/// hosts.toml of each location's host how that is reached.
pub(super) fn endpoints(
    reference: &Reference,
    config: &RegistryConfig,
    clients: &Arc<Clients>,
) -> Result<Vec<Arc<Endpoint>>> {
    let locations = config.registries.as_ref().map(|conf| conf.locations(reference)).transpose()?.flatten();
    let as_it_is = || vec![Location { reference: reference.clone(), insecure: false }];
    let mut endpoints = Vec::new();
    for location in locations.unwrap_or_else(as_it_is) {
        endpoints.extend(endpoints_of(&location, &config.config_dir, clients)?);
    }
    Ok(endpoints)
}

/// Where images for `reference` are pushed: the registry itself, after registries.conf and its hosts.toml; over HTTPS and then without
/// encryption where that is allowed. Never none.
pub(super) fn home(
    reference: &Reference,
    config: &RegistryConfig,
    clients: &Arc<Clients>,
) -> Result<Vec<Arc<Endpoint>>> {
    let location = config.registries.as_ref().map(|conf| conf.home(reference)).transpose()?.flatten();
    let location = location.unwrap_or_else(|| Location { reference: reference.clone(), insecure: false });
    let mut endpoints = endpoints_of(&location, &config.config_dir, clients)?;
    endpoints.retain(|endpoint| endpoint.push);
    if endpoints.is_empty() {
        let reason = format!("the server of {} may not be pushed to (capabilities)", reference.host());
        return Err(ImageError::Hosts { path: config.config_dir.clone(), reason });
    }
    Ok(endpoints)
}

fn endpoints_of(
    location: &Location,
    config_dir: &Path,
    clients: &Arc<Clients>,
) -> Result<Vec<Arc<Endpoint>>> {
    for directory in directories(config_dir, location.reference.host()) {
        if !directory.is_dir() {
            continue;
        }
        let path = directory.join("hosts.toml");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(ImageError::Hosts { path, reason: error.to_string() }),
        };
        return from_file(location, &directory, &text, clients)
            .map_err(|reason| ImageError::Hosts { path, reason });
    }
    from_file(location, config_dir, "", clients)
        .map_err(|reason| ImageError::Hosts { path: config_dir.to_owned(), reason })
}

/// Where a host's settings may be. The name comes from a checked reference, so it has no slash and is not `..`.
fn directories(config_dir: &Path, host: &str) -> Vec<PathBuf> {
    let mut names = Vec::new();
    if let Some((name, port)) = host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()) {
        names.push(format!("{name}_{port}_"));
    }
    names.extend([host.to_owned(), "_default".to_owned()]);
    names.into_iter().map(|name| config_dir.join(name)).collect()
}

pub(super) fn from_file(
    location: &Location,
    directory: &Path,
    text: &str,
    clients: &Arc<Clients>,
) -> Result<Vec<Arc<Endpoint>>, String> {
    let reference = &location.reference;
    let mut file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    if text.is_empty() {
        file.own = bare_certificates(directory).unwrap_or_default();
    }
    let mut endpoints = Vec::new();
    for (url, settings) in file.host {
        let settings: Settings =
            settings.try_into().map_err(|error: toml::de::Error| format!("host.{url:?}: {error}"))?;
        endpoints.push(
            endpoint(reference, directory, &url, settings, clients, true)
                .map_err(|error| format!("host.{url:?}: {error}"))?,
        );
    }
    let server =
        file.server.filter(|server| !server.is_empty()).unwrap_or_else(|| default_server(reference.host()));
    for (server, own) in servers(server, file.own, location.insecure) {
        let endpoint = endpoint(reference, directory, &server, own, clients, false)
            .map_err(|error| format!("server {server:?}: {error}"))?;
        let tentative = location.insecure && endpoint.base.scheme() == "https";
        endpoints.push(Endpoint { tentative, ..endpoint });
    }
    Ok(endpoints.into_iter().map(Arc::new).collect())
}

/// The server, or what `insecure` of registries.conf makes of it: with any certificate, then without encryption. Headers may be
/// credentials; without encryption they are sent where the file says `http` alone.
fn servers(server: String, own: Settings, insecure: bool) -> Vec<(String, Settings)> {
    if !insecure {
        return vec![(server, own)];
    }
    let host = server.split_once("://").map_or(server.as_str(), |(_, host)| host);
    let any = Settings { skip_verify: true, ..own.clone() };
    let is_plain = server.starts_with("http://") || is_loopback(without_port(host));
    let own = if is_plain { own } else { Settings { header: BTreeMap::new(), ..own } };
    vec![(format!("https://{host}"), any), (format!("http://{host}"), own)]
}

fn default_server(host: &str) -> String {
    match host {
        "docker.io" => "https://registry-1.docker.io".to_owned(),
        host if is_loopback(without_port(host)) => format!("http://{host}"),
        host => format!("https://{host}"),
    }
}

/// Docker's older layout, `*.crt`, `*.cert` and `*.key` without a hosts.toml, which containerd reads too.
fn bare_certificates(directory: &Path) -> io::Result<Settings> {
    let mut settings = Settings::default();
    let (mut ca, mut client) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.display().to_string();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => ca.push(name),
            Some("cert") => {
                client.push(Many::List(vec![name, path.with_extension("key").display().to_string()]))
            }
            _ => {}
        }
    }
    settings.ca = (!ca.is_empty()).then_some(Many::List(ca));
    settings.client = (!client.is_empty()).then_some(Pairs::List(client));
    Ok(settings)
}

fn endpoint(
    reference: &Reference,
    directory: &Path,
    address: &str,
    settings: Settings,
    clients: &Arc<Clients>,
    is_entry: bool,
) -> Result<Endpoint, String> {
    let with_scheme = if address.contains("://") {
        address.to_owned()
    } else if is_loopback(without_port(address)) {
        format!("http://{address}")
    } else {
        format!("https://{address}")
    };
    let mut base = Url::parse(&with_scheme).map_err(|error| error.to_string())?;
    if !matches!(base.scheme(), "http" | "https") {
        return Err(format!("scheme {} is neither http nor https", base.scheme()));
    }
    let path = base.path().trim_end_matches('/').to_owned();
    base.set_path(&if settings.override_path || path.ends_with("/v2") { path } else { format!("{path}/v2") });
    let host = match (base.host_str(), base.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => return Err("no host".into()),
    };
    let file = |name: String| directory.join(name);
    let tls = Tls {
        ca: settings.ca.map(Many::into_vec).unwrap_or_default().into_iter().map(file).collect(),
        client: pairs(settings.client, directory)?,
        skip_verify: settings.skip_verify,
        plain: base.scheme() == "http",
        connect_timeout: settings.dial_timeout.as_deref().map_or(Ok(DIAL_TIMEOUT), duration)?,
    };
    let mut headers = HeaderMap::new();
    for (name, values) in settings.header {
        let name =
            HeaderName::try_from(&name).map_err(|_| format!("header {name:?} is not a header name"))?;
        for value in values.into_vec() {
            let value =
                HeaderValue::try_from(value).map_err(|_| format!("header {name}: not a header value"))?;
            headers.append(name.clone(), value);
        }
    }
    let all = ["pull", "resolve", "push"].map(str::to_owned);
    let known = settings.capabilities.unwrap_or_else(|| all.to_vec());
    let is_registry =
        host == reference.host() || (reference.host() == "docker.io" && host == "registry-1.docker.io");
    // What is wrong with the files of the configuration is told before anything is asked.
    clients.get(&tls, Reach::Anywhere)?;
    Ok(Endpoint {
        tentative: false,
        tls,
        mirror: is_entry && !is_registry,
        auth_file: directory.join("auth.json"),
        clients: Arc::clone(clients),
        pull: known.iter().any(|capability| capability == "pull"),
        resolve: known.iter().any(|capability| capability == "resolve"),
        push: !is_entry && known.iter().any(|capability| capability == "push"),
        registry: reference.host().to_owned(),
        repository: reference.repository().to_owned(),
        namespace: (!is_registry).then(|| reference.host().to_owned()),
        headers,
        host,
        base,
    })
}

fn pairs(client: Option<Pairs>, directory: &Path) -> Result<Vec<(PathBuf, Option<PathBuf>)>, String> {
    let list = match client {
        None => return Ok(Vec::new()),
        Some(Pairs::One(file)) => vec![Many::One(file)],
        Some(Pairs::List(list)) => list,
    };
    let pair = |many: Many| -> Result<_, String> {
        let mut files = many.into_vec().into_iter().map(|name| directory.join(name));
        match (files.next(), files.next(), files.next()) {
            (Some(certificate), key, None) => Ok((certificate, key)),
            _ => Err("client: each entry is a file, or a certificate and its key".to_owned()),
        }
    };
    list.into_iter().map(pair).collect()
}

/// A duration as Go writes it, in one unit.
fn duration(text: &str) -> Result<Duration, String> {
    let fail = || format!("dial_timeout {text:?} is not a duration such as 5s or 500ms");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(fail)?;
    let number: u64 = text[..digits].parse().map_err(|_| fail())?;
    match &text[digits..] {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
        _ => Err(fail()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(reference: &str, text: &str) -> Result<Vec<Arc<Endpoint>>, String> {
        let location = Location { reference: Reference::parse(reference).unwrap(), insecure: false };
        from_file(&location, Path::new("/nowhere"), text, &Arc::default())
    }

    /// Plain HTTP throughout, so that the test needs no CA certificates on the node.
    #[test]
    fn mirrors_are_asked_in_the_order_of_the_file_and_the_server_last() {
        let found = hosts(
            "registry.k8s.io/pause:3.9",
            r#"server = "http://127.0.0.1:9"
            [host."http://z.example:5000"]
            capabilities = ["pull"]
            [host."http://a.example/prefix"]
            skip_verify = true
            [host."http://a.example/prefix".header]
            x-team = "infra"
            [host."http://b.example/whole/path"]
            override_path = true
            "#,
        )
        .unwrap();
        let bases: Vec<_> = found.iter().map(|endpoint| endpoint.base.as_str()).collect();
        assert_eq!(
            bases,
            [
                "http://z.example:5000/v2",
                "http://a.example/prefix/v2",
                "http://b.example/whole/path",
                "http://127.0.0.1:9/v2"
            ]
        );
        assert!(!found[0].resolve && found[0].pull && found[1].resolve);
        assert_eq!(found[1].headers["x-team"], "infra");
        assert_eq!(found[0].namespace.as_deref(), Some("registry.k8s.io"));
    }

    #[test]
    fn only_the_registry_itself_is_pushed_to_and_only_if_it_may_be() {
        let pushed = |text: &str| -> Vec<bool> {
            hosts("a.example:5000/b", text).unwrap().iter().map(|endpoint| endpoint.push).collect()
        };
        let mirror = "[host.\"http://m.example\"]\ncapabilities = [\"pull\", \"push\"]";
        let server = "server = \"http://a.example:5000\"\n";
        assert_eq!(pushed(&format!("{server}{mirror}")), [false, true]);
        assert_eq!(
            pushed(&format!("{server}capabilities = [\"pull\", \"resolve\"]\n{mirror}")),
            [false, false]
        );
    }

    #[test]
    fn loopback_registries_are_asked_over_plain_http() {
        for (reference, base) in [
            ("localhost:5000/a", "http://localhost:5000/v2"),
            ("127.0.0.1:5000/a", "http://127.0.0.1:5000/v2"),
            ("[::1]:5000/a", "http://[::1]:5000/v2"),
        ] {
            let found = hosts(reference, "").unwrap();
            assert_eq!((found.len(), found[0].base.as_str()), (1, base));
            assert_eq!(found[0].namespace, None, "the registry itself is no mirror");
        }
        assert_eq!(default_server("docker.io"), "https://registry-1.docker.io");
        assert_eq!(default_server("a.example:443"), "https://a.example:443");
    }

    #[test]
    fn a_port_may_stand_in_the_directory_name_in_both_spellings() {
        let names: Vec<_> = directories(Path::new("/c"), "a.example:5000");
        assert_eq!(
            names,
            [Path::new("/c/a.example_5000_"), Path::new("/c/a.example:5000"), Path::new("/c/_default")]
        );
    }

    #[test]
    fn what_is_wrong_in_the_file_is_named() {
        for (text, word) in [
            ("server = 1", "server"),
            ("[host.\"ftp://x\"]", "ftp"),
            ("[host.\"http://x\"]\ndial_timeout = \"soon\"", "soon"),
            ("[host.\"https://x\"]\nca = \"/nowhere/ca.pem\"", "/nowhere/ca.pem"),
        ] {
            let error = hosts("a.example/b", text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
