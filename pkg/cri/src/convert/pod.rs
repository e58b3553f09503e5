//! Sandbox requests.

use std::{collections::BTreeMap, net::IpAddr};

use husk_model::{DnsConfig, HostPort, NamespaceMode, Namespaces, PodConfig, PodMetadata, Protocol};
use husk_proto::cri::v1;

use super::{
    check::{Checked, absolute, filled, invalid, known, line, present, tags},
    resources::resources,
    security,
};

/// The kernel's limit on a host name (uname(2), without the NUL).
const MAX_HOSTNAME: usize = 64;

/// Checks a sandbox request.
pub(crate) fn pod_config(message: Option<v1::PodSandboxConfig>, runtime_handler: String) -> Checked<PodConfig> {
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
        hostname: hostname(message.hostname)?,
        log_directory: match message.log_directory.as_str() {
            "" => String::new(),
            _ => absolute("config.log_directory", message.log_directory)?,
        },
        dns: message.dns_config.map(dns).transpose()?,
        host_ports: host_ports(message.port_mappings, &security.namespaces)?,
        labels: tags("config.labels", message.labels)?,
        annotations: tags("config.annotations", message.annotations)?,
        cgroup_parent: cgroup_parent(linux.cgroup_parent)?,
        sysctls: sysctls(linux.sysctls, &security.namespaces)?,
        security,
        overhead: limits("overhead", linux.overhead)?,
        resources: limits("resources", linux.resources)?,
        runtime_handler,
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

fn dns(message: v1::DnsConfig) -> Checked<DnsConfig> {
    let field = "config.dns_config";
    let words = |name: &str, list: Vec<String>| {
        list.into_iter()
            .enumerate()
            .map(|(index, text)| word(&format!("{field}.{name}[{index}]"), text))
            .collect::<Checked<Vec<_>>>()
    };
    let servers = message.servers.into_iter().enumerate().map(|(index, text)| {
        text.parse::<IpAddr>().map_err(|_| invalid(format!("{field}.servers[{index}]"), format!("{text:?} is not an IP address")))
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
            u16::try_from(value).map_err(|_| invalid(field(name), format!("{value} is not between 0 and 65535")))
        };
        let protocol = match known::<v1::Protocol>(&field("protocol"), mapping.protocol)? {
            v1::Protocol::Tcp => Protocol::Tcp,
            v1::Protocol::Udp => Protocol::Udp,
            v1::Protocol::Sctp => Protocol::Sctp,
        };
        let (container_port, host_port) = (port("container_port", mapping.container_port)?, port("host_port", mapping.host_port)?);
        if host_port == 0 || namespaces.network == NamespaceMode::Node {
            continue;
        }
        if container_port == 0 {
            return Err(invalid(field("container_port"), "is 0 although host_port is set"));
        }
        let host_ip = match mapping.host_ip.as_str() {
            "" => None,
            text => Some(text.parse::<IpAddr>().map_err(|_| invalid(field("host_ip"), format!("{text:?} is not an IP address")))?),
        };
        // An unspecified address says the same as none.
        let host_ip = host_ip.filter(|ip| !ip.is_unspecified());
        ports.push(HostPort { protocol, container_port, host_port, host_ip });
    }
    Ok(ports)
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

/// The namespaces that make a kernel parameter the pod's own (Kubernetes' list of namespaced sysctls).
fn sysctls(
    map: std::collections::HashMap<String, String>,
    namespaces: &Namespaces,
) -> Checked<BTreeMap<String, String>> {
    let mut checked = BTreeMap::new();
    for (name, value) in map {
        let field = format!("config.linux.sysctls[{name:?}]");
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-./".contains(&byte)) || name.contains("..") {
            return Err(invalid(field, "is not the name of a kernel parameter"));
        }
        // Both spellings exist; a slash keeps dots inside interface names.
        let dotted = if name.contains('/') && !name.contains('.') { name.replace('/', ".") } else { name.clone() };
        let ipc = dotted.starts_with("kernel.shm")
            || dotted.starts_with("kernel.msg")
            || dotted == "kernel.sem"
            || dotted.starts_with("fs.mqueue.");
        let net = dotted.starts_with("net.");
        let owner = match (ipc, net) {
            (true, _) => namespaces.ipc,
            (_, true) => namespaces.network,
            _ => return Err(invalid(field, "is not a parameter of the pod's namespaces; setting it would change the node")),
        };
        if owner == NamespaceMode::Node {
            return Err(invalid(field, "cannot be set because the pod shares that namespace with the node"));
        }
        checked.insert(name, line(&field, value)?);
    }
    Ok(checked)
}
