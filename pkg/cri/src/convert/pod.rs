//! Sandbox requests.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
};

use husk_model::{
    DnsConfig, Door, HostPort, InvalidSysctl, NamespaceMode, Namespaces, PodConfig, PodMetadata,
    PodNetworking, Protocol, Sysctl, SysctlOwner,
};
use husk_proto::cri::v1;

use super::{
    check::{Checked, filled, invalid, known, line, plain_absolute, present, tags},
    resources::resources,
    security,
};

/// The kernel's limit on a host name (uname(2), without the NUL).
const MAX_HOSTNAME: usize = 64;

/// Checks a sandbox request.
pub(crate) fn pod_config(
    message: Option<v1::PodSandboxConfig>,
    runtime_handler: String,
) -> Checked<PodConfig> {
    let message = present("config", message)?;
    let metadata = present("config.metadata", message.metadata)?;
    let linux = message.linux.unwrap_or_default();
    let security = security::sandbox("config.linux.security_context", linux.security_context)?;
    let limits = |name: &str, message: Option<v1::LinuxContainerResources>| {
        message.map(|message| resources(&format!("config.linux.{name}"), message)).transpose()
    };
    Ok(PodConfig {
        metadata: PodMetadata {
            name: filled("config.metadata.name", metadata.name)?,
            uid: filled("config.metadata.uid", metadata.uid)?,
            namespace: filled("config.metadata.namespace", metadata.namespace)?,
            attempt: metadata.attempt,
        },
        door: Door::Cri,
        hostname: hostname(message.hostname)?,
        domain: String::new(),
        log_directory: match message.log_directory.as_str() {
            "" => String::new(),
            _ => plain_absolute("config.log_directory", message.log_directory)?,
        },
        dns: message.dns_config.map(dns).transpose()?,
        hosts: Vec::new(),
        host_ports: host_ports(message.port_mappings, &security.namespaces)?,
        networking: PodNetworking::Default,
        labels: tags("config.labels", message.labels)?,
        annotations: tags("config.annotations", message.annotations)?,
        cgroup_parent: cgroup_parent(linux.cgroup_parent)?,
        sysctls: sysctls(linux.sysctls, &security.namespaces)?,
        security,
        overhead: limits("overhead", linux.overhead)?,
        resources: limits("resources", linux.resources)?,
        runtime_handler,
        shm_size: 0,
    })
}

fn hostname(value: String) -> Checked<String> {
    if value.len() > MAX_HOSTNAME {
        return Err(invalid("config.hostname", format!("is longer than {MAX_HOSTNAME} bytes")));
    }
    if !value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)) {
        return Err(invalid("config.hostname", format!("{value:?} is not a host name")));
    }
    Ok(value)
}

fn word(field: &str, value: String) -> Checked<String> {
    if value.is_empty() || value.contains(char::is_whitespace) {
        return Err(invalid(field, format!("{value:?} is not one word")));
    }
    line(field, value)
}

/// An address as resolv.conf(5) takes it. The kubelet hands down the node's own servers, and a link-local one has a zone:
/// `fe80::1%eth0`.
fn nameserver(text: &str) -> bool {
    match text.split_once('%') {
        Some((address, zone)) => {
            let interface = |byte: u8| byte.is_ascii_graphic() && byte != b'%' && byte != b'/';
            address.parse::<Ipv6Addr>().is_ok() && !zone.is_empty() && zone.bytes().all(interface)
        }
        None => text.parse::<IpAddr>().is_ok(),
    }
}

fn dns(message: v1::DnsConfig) -> Checked<DnsConfig> {
    let field = "config.dns_config";
    let words = |name: &str, list: Vec<String>| {
        list.into_iter()
            .enumerate()
            .map(|(index, text)| word(&format!("{field}.{name}[{index}]"), text))
            .collect::<Checked<Vec<_>>>()
    };
    let servers = message.servers.into_iter().enumerate().map(|(index, text)| {
        nameserver(&text).then_some(text.clone()).ok_or_else(|| {
            invalid(format!("{field}.servers[{index}]"), format!("{text:?} is not an IP address"))
        })
    });
    Ok(DnsConfig {
        servers: servers.collect::<Checked<Vec<_>>>()?,
        searches: words("searches", message.searches)?,
        options: words("options", message.options)?,
    })
}

/// Mappings without a port of the node only document the pod's ports and are dropped, as are all in the node's network.
fn host_ports(list: Vec<v1::PortMapping>, namespaces: &Namespaces) -> Checked<Vec<HostPort>> {
    let mut ports = Vec::new();
    for (index, mapping) in list.into_iter().enumerate() {
        let field = |name: &str| format!("config.port_mappings[{index}].{name}");
        let port = |name: &str, value: i32| {
            u16::try_from(value)
                .map_err(|_| invalid(field(name), format!("{value} is not between 0 and 65535")))
        };
        let protocol = match known::<v1::Protocol>(&field("protocol"), mapping.protocol)? {
            v1::Protocol::Tcp => Protocol::Tcp,
            v1::Protocol::Udp => Protocol::Udp,
            v1::Protocol::Sctp => Protocol::Sctp,
        };
        let (container_port, host_port) =
            (port("container_port", mapping.container_port)?, port("host_port", mapping.host_port)?);
        if host_port == 0 || namespaces.network == NamespaceMode::Node {
            continue;
        }
        if container_port == 0 {
            return Err(invalid(field("container_port"), "is 0 although host_port is set"));
        }
        let host_ip = match mapping.host_ip.as_str() {
            "" => None,
            // `::ffff:10.0.0.1` is 10.0.0.1, as it is to CNI's portmap.
            text => match text.parse::<IpAddr>() {
                Ok(ip) => Some(ip.to_canonical()),
                Err(_) => return Err(invalid(field("host_ip"), format!("{text:?} is not an IP address"))),
            },
        };
        let port = HostPort { protocol, container_port, host_port, host_ip };
        // Two containers of a pod may document the same port.
        if ports.contains(&port) {
            continue;
        }
        if ports.iter().any(|other| clash(other, &port)) {
            return Err(invalid(field("host_port"), format!("{host_port} is mapped twice")));
        }
        ports.push(port);
    }
    Ok(ports)
}

/// Whether packets that arrive at one address have two ports of the pod to go to. A port on one address goes before one on all.
fn clash(one: &HostPort, other: &HostPort) -> bool {
    let anywhere = |ip: Option<IpAddr>| ip.is_none_or(|ip| ip.is_unspecified());
    let meet = match (one.host_ip, other.host_ip) {
        // An unspecified address is every address of its family, and none is every address.
        (Some(one), Some(other)) => one == other,
        (one, other) => anywhere(one) && anywhere(other),
    };
    (one.protocol, one.host_port) == (other.protocol, other.host_port)
        && one.container_port != other.container_port
        && meet
}

fn cgroup_parent(value: String) -> Checked<String> {
    let field = "config.linux.cgroup_parent";
    if value.is_empty() {
        return Ok(value);
    }
    if value.split('/').any(|part| part == ".." || part == ".") {
        return Err(invalid(field, format!("{value:?} leads outside of the hierarchy")));
    }
    // The kubelet's cgroupfs names start with a slash; tolerate crictl users who leave it out.
    let value = if value.starts_with('/') { value } else { format!("/{value}") };
    line(field, value)
}

/// Only parameters of namespaces that the pod has for itself.
fn sysctls(
    map: std::collections::HashMap<String, String>,
    namespaces: &Namespaces,
) -> Checked<BTreeMap<Sysctl, String>> {
    let mut checked = BTreeMap::new();
    for (name, value) in map {
        let field = format!("config.linux.sysctls[{name:?}]");
        let sysctl: Sysctl =
            name.parse().map_err(|error: InvalidSysctl| invalid(&*field, error.to_string()))?;
        let owner = match sysctl.owner() {
            SysctlOwner::Ipc => namespaces.ipc,
            // A pod in the node's network has its host name too.
            SysctlOwner::Network | SysctlOwner::Uts => namespaces.network,
        };
        if owner == NamespaceMode::Node {
            return Err(invalid(field, "cannot be set because the pod shares that namespace with the node"));
        }
        if checked.insert(sysctl, line(&field, value)?).is_some() {
            return Err(invalid(field, "is set twice, in two spellings"));
        }
    }
    Ok(checked)
}
