//! From what was written to what holds.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    CgroupConfig, CgroupDriver, Config, DockerConfig, DoctorConfig, ImagesConfig, LogConfig, LogFormat,
    NetworkConfig, NriConfig, Problem, Raw, RuntimeConfig, StreamingConfig, StreamingTls, TracingConfig,
};

/// Longest path of a unix socket (unix(7), sun_path without its NUL).
const MAX_SOCKET_PATH: usize = 107;

/// The specification's own (CDI, "Discovery").
const CDI_DIRS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

struct Checker<'a> {
    problems: &'a mut Vec<Problem>,
}

impl Checker<'_> {
    fn wrong(&mut self, key: &str, reason: String) {
        self.problems.push(Problem { place: "configuration".to_owned(), key: key.to_owned(), reason });
    }

    fn path(&mut self, key: &str, value: Option<String>, default: &str) -> PathBuf {
        let text = value.unwrap_or_else(|| default.to_owned());
        if !text.starts_with('/') {
            self.wrong(key, format!("{text:?} is not an absolute path"));
        }
        PathBuf::from(text)
    }

    fn duration(&mut self, key: &str, value: Option<String>, default: &str) -> Duration {
        let text = value.unwrap_or_else(|| default.to_owned());
        duration(&text).unwrap_or_else(|| {
            self.wrong(key, format!("{text:?} is not a duration such as 30s or 5m"));
            Duration::from_secs(1)
        })
    }

    /// An optional value: absent and empty are `None`.
    fn parsed<T: std::str::FromStr>(&mut self, key: &str, value: Option<String>, what: &str) -> Option<T> {
        let text = value.filter(|text| !text.is_empty())?;
        let parsed = text.parse().ok();
        if parsed.is_none() {
            self.wrong(key, format!("{text:?} is not {what}"));
        }
        parsed
    }
}

pub(crate) fn resolve(raw: Raw, problems: &mut Vec<Problem>) -> Config {
    let mut check = Checker { problems };
    let address = raw.address.map(|text| text.strip_prefix("unix://").map(str::to_owned).unwrap_or(text));
    let address = check.path("address", address, "/run/husk/husk.sock");
    if address.as_os_str().len() > MAX_SOCKET_PATH {
        check.wrong("address", format!("is longer than the {MAX_SOCKET_PATH} bytes of a unix socket's path"));
    }
    Config {
        root: check.path("root", raw.root, "/var/lib/husk"),
        state: check.path("state", raw.state, "/run/husk"),
        address,
        network: network(raw.network, &mut check),
        images: images(raw.images, &mut check),
        cgroup: cgroup(raw.cgroup, &mut check),
        log: log(raw.log, &mut check),
        metrics_address: check.parsed::<SocketAddr>(
            "metrics.address",
            raw.metrics.address,
            "an address with a port",
        ),
        tracing: tracing(raw.tracing, &mut check),
        doctor: doctor(raw.doctor, &mut check),
        runtime: runtime(raw.runtime, &mut check),
        nri: nri(raw.nri, &mut check),
        streaming: streaming(raw.streaming, &mut check),
        docker: docker(raw.docker, &mut check),
    }
}

fn network(raw: crate::RawNetwork, check: &mut Checker<'_>) -> NetworkConfig {
    NetworkConfig {
        cni_conf_dir: check.path("network.cni_conf_dir", raw.cni_conf_dir, "/etc/cni/net.d"),
        cni_bin_dir: check.path("network.cni_bin_dir", raw.cni_bin_dir, "/opt/cni/bin"),
        bridge: raw.bridge.unwrap_or_else(|| "husk0".to_owned()),
        subnet: check.parsed("network.subnet", raw.subnet, "an IPv4 subnet such as 10.88.0.0/16"),
        subnet6: check.parsed("network.subnet6", raw.subnet6, "an IPv6 subnet such as fd00:88::/64"),
        mtu: raw.mtu.filter(|mtu| *mtu != 0),
        nft_table: raw.nft_table.unwrap_or_else(|| "husk".to_owned()),
        netns_pool: raw.netns_pool.unwrap_or(8),
    }
}

fn cgroup(raw: crate::RawCgroup, check: &mut Checker<'_>) -> CgroupConfig {
    let driver = match raw.driver.as_deref() {
        None | Some("auto") => CgroupDriver::Auto,
        Some("cgroupfs") => CgroupDriver::Cgroupfs,
        Some("systemd") => CgroupDriver::Systemd,
        Some(other) => {
            check.wrong("cgroup.driver", format!("{other:?} is not \"auto\", \"cgroupfs\" or \"systemd\""));
            CgroupDriver::Auto
        }
    };
    let parent = raw.parent.filter(|parent| !parent.is_empty());
    if let Some(parent) = &parent {
        let path = parent.starts_with('/') && parent.len() > 1 && parent.split('/').all(|part| part != "..");
        let slice = parent.ends_with(".slice");
        let (fits, wanted) = match driver {
            CgroupDriver::Systemd => (slice, "a slice such as \"husk.slice\""),
            CgroupDriver::Cgroupfs => (path, "an absolute cgroup path below the root"),
            CgroupDriver::Auto => (path || slice, "an absolute cgroup path below the root, or a slice"),
        };
        if !fits {
            check.wrong("cgroup.parent", format!("{parent:?} is not {wanted}"));
        }
    }
    CgroupConfig { driver, parent }
}

fn images(raw: crate::RawImages, check: &mut Checker<'_>) -> ImagesConfig {
    let max_parallel_layers = raw.max_parallel_layers.unwrap_or(4);
    if !(1..=64).contains(&max_parallel_layers) {
        check.wrong("images.max_parallel_layers", format!("{max_parallel_layers} is not between 1 and 64"));
    }
    let pull_progress_timeout =
        check.duration("images.pull_progress_timeout", raw.pull_progress_timeout, "5m");
    let mut optional = |key: &str, value: Option<String>| {
        value.filter(|path| !path.is_empty()).map(|path| check.path(key, Some(path), ""))
    };
    let registries_conf = optional("images.registries_conf", raw.registries_conf);
    let signature_policy = optional("images.signature_policy", raw.signature_policy);
    let auth_file = optional("images.auth_file", raw.auth_file);
    let credential_helper_dir = optional("images.credential_helper_dir", raw.credential_helper_dir);
    let pinned_images = raw.pinned_images.unwrap_or_default();
    for pattern in &pinned_images {
        if let Err(reason) = pattern_of_names(pattern) {
            check.wrong("images.pinned_images", format!("{pattern:?}: {reason}"));
        }
    }
    ImagesConfig {
        registry_config_dir: check.path(
            "images.registry_config_dir",
            raw.registry_config_dir,
            "/etc/husk/certs.d",
        ),
        registries_conf,
        max_parallel_layers,
        pull_progress_timeout,
        signature_policy,
        auth_file,
        credential_helper_dir,
        pinned_images,
    }
}

/// A name, `beginning*` or `*part*`.
fn pattern_of_names(pattern: &str) -> Result<(), &'static str> {
    let inner = pattern.strip_suffix('*').map_or(pattern, |rest| rest.strip_prefix('*').unwrap_or(rest));
    match inner {
        "" => Err("would pin every image, or none"),
        _ if inner.contains('*') => Err("a star may end it, or begin and end it"),
        _ => Ok(()),
    }
}

/// Checked whether there are traces or not.
fn tracing(raw: crate::RawTracing, check: &mut Checker<'_>) -> Option<TracingConfig> {
    let endpoint = raw.endpoint.filter(|endpoint| !endpoint.is_empty());
    let (scheme, address) = match &endpoint {
        None => ("http", "127.0.0.1:4317"),
        // As the kubelet and CRI-O write it.
        Some(endpoint) => endpoint.split_once("://").unwrap_or(("http", endpoint)),
    };
    if !matches!(scheme, "http" | "https") || !is_host_and_port(address) {
        let reason = "is not an address such as 127.0.0.1:4317 or https://collector:4317";
        check.wrong("tracing.endpoint", format!("{:?} {reason}", endpoint.as_deref().unwrap_or_default()));
    }
    let tls_ca =
        raw.tls_ca.filter(|path| !path.is_empty()).map(|path| check.path("tracing.tls_ca", Some(path), ""));
    if tls_ca.is_some() && scheme != "https" {
        check.wrong("tracing.tls_ca", "needs an endpoint that begins with https://".to_owned());
    }
    let sampling_rate_per_million = raw.sampling_rate_per_million.unwrap_or(0);
    if sampling_rate_per_million > 1_000_000 {
        let reason = format!("{sampling_rate_per_million} is not between 0 and 1000000");
        check.wrong("tracing.sampling_rate_per_million", reason);
    }
    let config =
        TracingConfig { endpoint: format!("{scheme}://{address}"), sampling_rate_per_million, tls_ca };
    endpoint.map(|_| config)
}

/// A name or an address and a port, without a path, a user or anything else that could be in a URL.
fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.len() <= 253 && host.bytes().all(name),
    };
    is_host
        && port.bytes().all(|byte| byte.is_ascii_digit())
        && port.parse::<u16>().is_ok_and(|port| port > 0)
}

fn doctor(raw: crate::RawDoctor, check: &mut Checker<'_>) -> DoctorConfig {
    let interval = match raw.interval {
        Some(text) if text.is_empty() => None,
        interval => Some(check.duration("doctor.interval", interval, "10m")),
    };
    DoctorConfig { interval, repair: raw.repair.unwrap_or(true) }
}

/// `30s`, `5m`, `1h`; at least a second.
fn duration(text: &str) -> Option<Duration> {
    let unit = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return None,
    };
    let number: u64 = text[..text.len() - 1].parse().ok()?;
    number.checked_mul(unit).filter(|seconds| *seconds > 0).map(Duration::from_secs)
}

fn log(raw: crate::RawLog, check: &mut Checker<'_>) -> LogConfig {
    let format = match raw.format.as_deref() {
        None | Some("text") => LogFormat::Text,
        Some("json") => LogFormat::Json,
        Some(other) => {
            check.wrong("log.format", format!("{other:?} is neither \"text\" nor \"json\""));
            LogFormat::Text
        }
    };
    LogConfig { level: raw.level.unwrap_or_else(|| "info".to_owned()), format }
}

fn runtime(raw: crate::RawRuntime, check: &mut Checker<'_>) -> RuntimeConfig {
    RuntimeConfig {
        podmon: program("runtime.podmon", raw.podmon, "husk-podmon", check),
        pause: program("runtime.pause", raw.pause, "husk-pause", check),
        cdi_dirs: raw
            .cdi_dirs
            .unwrap_or_else(|| CDI_DIRS.map(str::to_owned).into())
            .into_iter()
            .map(|dir| check.path("runtime.cdi_dirs", Some(dir), ""))
            .collect(),
        handlers: handlers(raw.handlers.unwrap_or_default(), check),
        unprivileged_ports: raw.unprivileged_ports.unwrap_or(true),
        unprivileged_icmp: raw.unprivileged_icmp.unwrap_or(true),
    }
}

/// Names as the API server takes them for a RuntimeClass: labels of DNS (RFC 1123).
fn handlers(names: Vec<String>, check: &mut Checker<'_>) -> Vec<String> {
    for (index, name) in names.iter().enumerate() {
        let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let ends = name.bytes().next().is_some_and(letters) && name.bytes().next_back().is_some_and(letters);
        if !ends || name.len() > 63 || !name.bytes().all(|byte| letters(byte) || byte == b'-') {
            let rule = "at most 63 of a to z, 0 to 9 and -, without - at the ends";
            check.wrong("runtime.handlers", format!("{name:?} is no name of a handler: {rule}"));
        } else if names[..index].contains(name) {
            check.wrong("runtime.handlers", format!("{name:?} is there twice"));
        }
    }
    names
}

/// Checked whether plugins are wanted or not.
fn nri(raw: crate::RawNri, check: &mut Checker<'_>) -> Option<NriConfig> {
    let socket = check.path("nri.socket", raw.socket, "/var/run/nri/nri.sock");
    if socket.as_os_str().len() > MAX_SOCKET_PATH {
        check.wrong(
            "nri.socket",
            format!("is longer than the {MAX_SOCKET_PATH} bytes of a unix socket's path"),
        );
    }
    let config = NriConfig {
        socket,
        plugin_dir: check.path("nri.plugin_dir", raw.plugin_dir, "/opt/nri/plugins"),
        plugin_config_dir: check.path("nri.plugin_config_dir", raw.plugin_config_dir, "/etc/nri/conf.d"),
        registration_timeout: time(check, "nri.registration_timeout", raw.registration_timeout, 5),
        request_timeout: time(check, "nri.request_timeout", raw.request_timeout, 2),
    };
    raw.enabled.unwrap_or(false).then_some(config)
}

/// A duration, or its default in seconds.
fn time(check: &mut Checker<'_>, key: &str, value: Option<String>, default: u64) -> Duration {
    let default = Duration::from_secs(default);
    let Some(text) = value else { return default };
    duration(&text).unwrap_or_else(|| {
        check.wrong(key, format!("{text:?} is not a duration such as 2s or 1m"));
        default
    })
}

fn streaming(raw: crate::RawStreaming, check: &mut Checker<'_>) -> StreamingConfig {
    let address = check
        .parsed::<SocketAddr>("streaming.address", raw.address, "an IP address with a port")
        .unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let mut file = |key: &str, value: Option<String>| {
        value.filter(|path| !path.is_empty()).map(|path| check.path(key, Some(path), ""))
    };
    let certificate = file("streaming.tls_certificate", raw.tls_certificate);
    let key = file("streaming.tls_key", raw.tls_key);
    let client_ca = file("streaming.tls_client_ca", raw.tls_client_ca);
    let tls = match (certificate, key) {
        (Some(certificate), Some(key)) => Some(StreamingTls { certificate, key, client_ca }),
        (None, None) => {
            if client_ca.is_some() {
                check.wrong("streaming.tls_client_ca", "needs tls_certificate and tls_key".to_owned());
            }
            if !address.ip().is_loopback() {
                let reason = format!("{address} is not on the loopback; set tls_certificate and tls_key");
                check.wrong("streaming.address", reason);
            }
            None
        }
        _ => {
            check.wrong("streaming.tls_key", "tls_certificate and tls_key need each other".to_owned());
            None
        }
    };
    let max_sessions = raw.max_sessions.unwrap_or(1000);
    if !(1..=100_000).contains(&max_sessions) {
        check.wrong("streaming.max_sessions", format!("{max_sessions} is not between 1 and 100000"));
    }
    StreamingConfig {
        address,
        tls,
        idle_timeout: check.duration("streaming.idle_timeout", raw.idle_timeout, "4h"),
        creation_timeout: check.duration("streaming.creation_timeout", raw.creation_timeout, "30s"),
        max_sessions,
    }
}

/// Checked whether the door is open or not.
fn docker(raw: crate::RawDocker, check: &mut Checker<'_>) -> Option<DockerConfig> {
    let address = raw.address.filter(|address| !address.is_empty());
    let address = address.map(|text| text.strip_prefix("unix://").map(str::to_owned).unwrap_or(text));
    if address.as_ref().is_some_and(|address| address.len() > MAX_SOCKET_PATH) {
        let reason = format!("is longer than the {MAX_SOCKET_PATH} bytes of a unix socket's path");
        check.wrong("docker.address", reason);
    }
    let mode = raw.mode.as_deref().unwrap_or("0660");
    let mode = u32::from_str_radix(mode, 8).ok().filter(|bits| *bits <= 0o777).unwrap_or_else(|| {
        check.wrong("docker.mode", format!("{mode:?} is not permissions such as \"0660\""));
        0o660
    });
    let group = raw.group.filter(|group| !group.is_empty());
    let address = address.map(|address| check.path("docker.address", Some(address), ""));
    let buildkitd =
        raw.buildkitd.filter(|program| !program.is_empty()).unwrap_or_else(|| "buildkitd".to_owned());
    let buildkitd = match buildkitd.contains('/') {
        true => check.path("docker.buildkitd", Some(buildkitd), ""),
        false => PathBuf::from(buildkitd),
    };
    let oci = program("docker.oci", None, "husk-oci", check);
    address.map(|address| DockerConfig { address, group, mode, buildkitd, oci })
}

/// A program by its configured path, else beside this one or in `../libexec/husk`. That it is there is checked when the
/// daemon starts, so that a configuration can be checked on another machine.
fn program(key: &str, value: Option<String>, name: &str, check: &mut Checker<'_>) -> PathBuf {
    if let Some(path) = value.filter(|path| !path.is_empty()) {
        return check.path(key, Some(path), "");
    }
    let beside =
        std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_owned)).unwrap_or_default();
    let libexec = beside.join("../libexec/husk").join(name);
    if libexec.exists() && !beside.join(name).exists() { libexec } else { beside.join(name) }
}
