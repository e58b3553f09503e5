//! Ports: what is exposed, and which of the node's lead to it.

use std::{collections::BTreeMap, net::IpAddr};

use husk_model::{HostPort, Protocol};

use crate::{
    api::container::{Config, HostConfig, PortBinding},
    error::{Failure, Result},
};

/// Most ports of one container: a range can name all there are.
const MOST: usize = 1 << 12;

/// A port of a container: `80/tcp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Port {
    /// Number, 1-65535.
    pub(crate) number: u16,
    /// Protocol.
    pub(crate) protocol: Protocol,
}

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.number, protocol_name(self.protocol))
    }
}

/// As the API spells it.
pub(crate) fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

impl Port {
    /// `80/tcp`, `80`, and `80-90/tcp` as several.
    ///
    /// # Errors
    /// 400.
    pub(crate) fn parse_range(text: &str) -> Result<impl Iterator<Item = Self> + use<>> {
        let wrong = || {
            Failure::bad(format!(
                "invalid port specification: {:?}",
                text.chars().take(80).collect::<String>()
            ))
        };
        let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = match protocol.to_ascii_lowercase().as_str() {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => return Err(wrong()),
        };
        let range = number_range(numbers).filter(|(first, _)| *first != 0).ok_or_else(wrong)?;
        Ok((range.0..=range.1).map(move |number| Self { number, protocol }))
    }
}

fn number_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}

/// What the engine is asked for. Host port 0 is any.
///
/// # Errors
/// 400 with the port.
pub(crate) fn wanted(config: &Config, host: &HostConfig) -> Result<Vec<HostPort>> {
    let mut ports = Vec::new();
    let mut bound = std::collections::BTreeSet::new();
    for (port, bindings) in host.port_bindings.iter().flatten() {
        for port in Port::parse_range(port)? {
            bound.insert(port);
            for binding in bindings.iter().flatten() {
                ports.push(host_port(port, binding)?);
                check_count(ports.len())?;
            }
        }
    }
    if host.publish_all_ports {
        for port in exposed(config)? {
            if bound.insert(port) {
                ports.push(host_port(port, &PortBinding::default())?);
                check_count(ports.len())?;
            }
        }
    }
    Ok(ports)
}

/// Takes for each port that may be any of a range the first that `taken` does not have, in the order of [`wanted`].
pub(crate) fn choose(host: &HostConfig, ports: &mut [HostPort], taken: impl Fn(&HostPort) -> bool) {
    let ranges = host.port_bindings.iter().flatten().flat_map(|(port, bindings)| {
        let count = Port::parse_range(port).map_or(0, Iterator::count);
        let lasts =
            bindings.iter().flatten().map(|binding| number_range(&binding.host_port).map(|(_, last)| last));
        lasts.collect::<Vec<_>>().repeat(count)
    });
    for (port, last) in ports.iter_mut().zip(ranges) {
        while port.host_port != 0 && last.is_some_and(|last| port.host_port < last) && taken(port) {
            port.host_port += 1;
        }
    }
}

fn check_count(count: usize) -> Result<()> {
    match count > MOST {
        true => Err(Failure::bad(format!("more than {MOST} published ports"))),
        false => Ok(()),
    }
}

/// The ports that a container says it serves.
///
/// # Errors
/// 400 with the port.
pub(crate) fn exposed(config: &Config) -> Result<Vec<Port>> {
    let mut ports = Vec::new();
    for text in config.exposed_ports.iter().flat_map(BTreeMap::keys) {
        ports.extend(Port::parse_range(text)?.take(MOST));
        check_count(ports.len())?;
    }
    Ok(ports)
}

fn host_port(port: Port, binding: &PortBinding) -> Result<HostPort> {
    let wrong = |what: &str| Failure::bad(format!("invalid port binding {what:?} of {port}"));
    let host_ip = match binding.host_ip.trim_matches(['[', ']']) {
        "" | "0.0.0.0" | "::" => None,
        text => Some(text.parse::<IpAddr>().map_err(|_| wrong(text))?),
    };
    // Of a range the first; which one is free is seen at the start.
    let host_port = match binding.host_port.as_str() {
        "" => 0,
        text => number_range(text).ok_or_else(|| wrong(text))?.0,
    };
    Ok(HostPort { protocol: port.protocol, container_port: port.number, host_port, host_ip })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(config: &str, host: &str) -> Result<Vec<(u16, u16)>> {
        let (config, host) = (serde_json::from_str(config).unwrap(), serde_json::from_str(host).unwrap());
        let ports = wanted(&config, &host)?;
        Ok(ports.iter().map(|port| (port.container_port, port.host_port)).collect())
    }

    #[test]
    fn ports_are_bound_as_asked_and_exposed_ones_to_any() {
        let host = r#"{"PortBindings":{"80/tcp":[{"HostPort":"8080"},{"HostIp":"127.0.0.1","HostPort":""}],"90-91":[{}]},"PublishAllPorts":true}"#;
        let found = ports(r#"{"ExposedPorts":{"80/tcp":{},"53/udp":{}}}"#, host).unwrap();
        assert_eq!(found, [(80, 8080), (80, 0), (90, 0), (91, 0), (53, 0)]);
    }

    #[test]
    fn of_a_range_the_first_that_is_free_is_taken() {
        let host: HostConfig = serde_json::from_str(
            r#"{"PortBindings":{"80/tcp":[{"HostPort":"9000-9002"}],"90/tcp":[{"HostPort":"9000"}]}}"#,
        )
        .unwrap();
        let mut ports = wanted(&Config::default(), &host).unwrap();
        choose(&host, &mut ports, |port| port.host_port < 9002);
        assert_eq!(ports.iter().map(|port| port.host_port).collect::<Vec<_>>(), [9002, 9000]);
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for port in ["0/tcp", "80/icmp", "a/tcp", "90-80/tcp", "70000", "1-65535/tcp"] {
            let host = format!(r#"{{"PortBindings":{{"{port}":[{{}}]}}}}"#);
            assert_eq!(ports("{}", &host).unwrap_err().status(), 400, "{port}");
        }
        assert!(ports("{}", r#"{"PortBindings":{"80/tcp":[{"HostIp":"nowhere"}]}}"#).is_err());
    }
}
