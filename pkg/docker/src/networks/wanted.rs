//! A request to make a network, checked as far as that needs no look at the node.

use husk_network::{NetworkSpec, Overlay, SubnetSpec};

use crate::{
    api::network::{IpamConfig, NetworkCreate},
    error::{Failure, Result},
};

/// Names that are taken.
const PREDEFINED: [&str; 4] = ["bridge", "host", "none", "default"];

/// What the network shall be.
///
/// # Errors
/// 400, 403, 404 and 501 as dockerd has them.
pub(super) fn spec(wanted: NetworkCreate) -> Result<NetworkSpec> {
    let name = wanted.name;
    let shown: String = name.chars().take(80).collect();
    if PREDEFINED.contains(&name.as_str()) {
        return Err(Failure::forbidden(format!("operation is not permitted on predefined {name} network")));
    }
    // What `--network` would take for the network of a container.
    if name == "container" || name.starts_with("container:") {
        return Err(Failure::bad(format!("network name {shown:?} would mean the network of a container")));
    }
    match wanted.driver.as_str() {
        "" | "bridge" | "default" | "overlay" => {}
        "host" | "null" => {
            return Err(Failure::forbidden(format!(
                "only one instance of \"{}\" network is allowed",
                wanted.driver
            )));
        }
        other => {
            let other: String = other.chars().take(80).collect();
            return Err(Failure::not_found(format!(
                "could not find network driver {other:?}: plugin not found; husk has bridge, host, null and, in a swarm, overlay"
            )));
        }
    }
    let is_overlay = wanted.driver == "overlay";
    match wanted.scope.as_str() {
        "" => {}
        "swarm" if is_overlay => {}
        "local" if !is_overlay => {}
        scope => {
            let scope: String = scope.chars().take(80).collect();
            return Err(Failure::bad(format!(
                "a network of driver {:?} cannot be of scope {scope:?}: overlay is of scope swarm, all others are local",
                wanted.driver
            )));
        }
    }
    if wanted.ingress && (!is_overlay || wanted.attachable) {
        return Err(Failure::forbidden("an ingress network is one of driver overlay, and not attachable"));
    }
    if wanted.config_only || wanted.config_from.is_some_and(|from| !from.network.is_empty()) {
        return Err(Failure::missing(
            "husk has no networks that are only a configuration (config-only, config-from)",
        ));
    }
    let ipam = wanted.ipam.unwrap_or_default();
    if !matches!(ipam.driver.as_str(), "" | "default") {
        let driver: String = ipam.driver.chars().take(80).collect();
        return Err(Failure::not_found(format!("could not find IPAM driver {driver:?}: plugin not found")));
    }
    let mut subnets = Vec::new();
    for config in ipam.config {
        if config != IpamConfig::default() {
            subnets.push(subnet(config).map_err(|failure| failure.of(format!("network {shown}")))?);
        }
    }
    let has_ipv6 = subnets.iter().any(|subnet| subnet.subnet.addr().is_ipv6());
    Ok(NetworkSpec {
        labels: wanted.labels,
        options: wanted.options,
        subnets,
        ipv4: wanted.enable_ipv4.unwrap_or(true),
        // Who gives a subnet of IPv6 and says nothing of it wants it.
        ipv6: wanted.enable_ipv6.unwrap_or(has_ipv6),
        internal: wanted.internal,
        attachable: wanted.attachable,
        names: !wanted.ingress,
        overlay: is_overlay.then_some(Overlay { ingress: wanted.ingress }),
        ..NetworkSpec::new(name)
    })
}

fn subnet(config: IpamConfig) -> Result<SubnetSpec> {
    fn parsed<T: std::str::FromStr>(what: &str, text: &str) -> Result<Option<T>> {
        if text.is_empty() {
            return Ok(None);
        }
        let shown: String = text.chars().take(80).collect();
        text.parse().map(Some).map_err(|_| Failure::bad(format!("invalid {what} {shown:?}")))
    }
    let subnet = parsed("subnet", &config.subnet)?.ok_or_else(|| {
        Failure::bad("invalid IPAM configuration: a gateway, range or auxiliary address needs a subnet")
    })?;
    // Older clients give the gateway with a prefix.
    let gateway = config.gateway.split('/').next().unwrap_or_default();
    let mut auxiliary = std::collections::BTreeMap::new();
    for (name, address) in config.auxiliary {
        if let Some(address) = parsed("auxiliary address", &address)? {
            auxiliary.insert(name, address);
        }
    }
    Ok(SubnetSpec {
        subnet,
        ip_range: parsed("IP range", &config.ip_range)?,
        gateway: parsed("gateway", gateway)?,
        auxiliary,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<NetworkSpec> {
        spec(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn what_compose_sends_is_a_network() {
        let spec = of(r#"{"CheckDuplicate":true,"Driver":"bridge","EnableIPv6":null,"IPAM":{"Driver":"default","Config":[{}]},
            "Internal":false,"Labels":{"com.docker.compose.network":"default"},"Name":"app_default","Options":null}"#)
        .unwrap();
        assert_eq!(spec.name, "app_default");
        assert!(spec.ipv4 && !spec.ipv6 && spec.names && spec.subnets.is_empty());
    }

    #[test]
    fn subnets_are_read_with_all_they_have() {
        let spec = of(r#"{"Name":"web","IPAM":{"Config":[{"Subnet":"10.5.0.0/16","IPRange":"10.5.7.0/24","Gateway":"10.5.0.9/16",
            "AuxiliaryAddresses":{"router":"10.5.0.2"}}]}}"#)
        .unwrap();
        let subnet = &spec.subnets[0];
        assert_eq!(subnet.gateway.unwrap().to_string(), "10.5.0.9");
        assert_eq!(subnet.ip_range.unwrap().to_string(), "10.5.7.0/24");
        assert_eq!(subnet.auxiliary["router"].to_string(), "10.5.0.2");
    }

    #[test]
    fn a_subnet_of_ipv6_means_ipv6_unless_it_is_refused() {
        let ipam = r#""IPAM":{"Config":[{"Subnet":"2001:db8::/64"}]}"#;
        assert!(of(&format!(r#"{{"Name":"a",{ipam}}}"#)).unwrap().ipv6);
        assert!(!of(&format!(r#"{{"Name":"a","EnableIPv6":false,{ipam}}}"#)).unwrap().ipv6);
    }

    #[test]
    fn what_cannot_be_is_refused_with_dockerds_status() {
        for (text, status) in [
            (r#"{"Name":"host"}"#, 403),
            (r#"{"Name":"container:web"}"#, 400),
            (r#"{"Name":"a","Driver":"null"}"#, 403),
            (r#"{"Name":"a","Driver":"macvlan"}"#, 404),
            (r#"{"Name":"a","Scope":"swarm"}"#, 400),
            (r#"{"Name":"a","Driver":"overlay","Scope":"local"}"#, 400),
            (r#"{"Name":"a","Ingress":true}"#, 403),
            (r#"{"Name":"a","ConfigOnly":true}"#, 501),
            (r#"{"Name":"a","IPAM":{"Driver":"other"}}"#, 404),
            (r#"{"Name":"a","IPAM":{"Config":[{"Subnet":"10.5.0.0"}]}}"#, 400),
            (r#"{"Name":"a","IPAM":{"Config":[{"Gateway":"10.5.0.1"}]}}"#, 400),
        ] {
            assert_eq!(of(text).unwrap_err().status(), status, "{text}");
        }
    }
}
