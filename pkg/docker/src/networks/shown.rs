//! A network in Docker's spelling.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::which::{BRIDGE, Which};
use crate::{facilities::Endpoint, when};

/// A network, as a list has it.
pub(super) fn summary(which: &Which) -> Value {
    let Which::User(network) = which else {
        return json!({
            "Name": which.name(),
            "Id": which.id(),
            "Created": when::NEVER,
            "Scope": "local",
            "Driver": which.driver(),
            "EnableIPv4": true,
            "EnableIPv6": false,
            "IPAM": { "Driver": "default", "Options": null, "Config": null },
            "Internal": false,
            "Attachable": false,
            "Ingress": false,
            "ConfigFrom": { "Network": "" },
            "ConfigOnly": false,
            "Options": {},
            "Labels": {},
        });
    };
    let mut options = network.options.clone();
    if network.name == BRIDGE {
        let word = |text: &str| format!("com.docker.network.bridge.{text}");
        options.insert(word("default_bridge"), "true".to_owned());
        options.insert(word("name"), network.bridge.clone());
    }
    json!({
        "Name": network.name,
        "Id": network.id,
        "Created": when::text(network.created),
        "Scope": which.scope(),
        "Driver": which.driver(),
        "EnableIPv4": network.has_family(true),
        "EnableIPv6": network.has_family(false),
        "IPAM": { "Driver": "default", "Options": null, "Config": subnets(network) },
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Ingress": network.overlay.is_some_and(|overlay| overlay.ingress),
        "ConfigFrom": { "Network": "" },
        "ConfigOnly": false,
        "Options": options,
        "Labels": network.labels,
    })
}

fn subnets(network: &husk_network::UserNetwork) -> Vec<Value> {
    let one = |subnet: &husk_network::Subnet| {
        let mut shown = json!({ "Subnet": subnet.net.to_string(), "Gateway": subnet.gateway.to_string() });
        if let Some(range) = subnet.ip_range {
            shown["IPRange"] = range.to_string().into();
        }
        if !subnet.auxiliary.is_empty() {
            let auxiliary = subnet.auxiliary.iter().map(|(name, address)| (name, address.to_string()));
            shown["AuxiliaryAddresses"] = json!(auxiliary.collect::<BTreeMap<_, _>>());
        }
        shown
    };
    network.subnets.iter().map(one).collect()
}

/// A network, looked at: those that run in it are there, too.
pub(super) fn inspected(which: &Which, endpoints: &[Endpoint]) -> Value {
    let mut network = summary(which);
    let containers = endpoints.iter().filter(|endpoint| endpoint.user.running).map(|endpoint| {
        let place = json!({
            "Name": endpoint.user.name,
            "EndpointID": endpoint.endpoint,
            "MacAddress": endpoint.mac,
            "IPv4Address": endpoint.ipv4,
            "IPv6Address": endpoint.ipv6,
        });
        (endpoint.user.id.as_str(), place)
    });
    network["Containers"] = json!(containers.collect::<BTreeMap<_, _>>());
    network
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::required::assert_whole;

    #[test]
    fn a_network_has_every_field_of_the_description() {
        for which in [Which::Host, Which::None] {
            assert_whole("NetworkInspect", &inspected(&which, &[]));
        }
    }
}
