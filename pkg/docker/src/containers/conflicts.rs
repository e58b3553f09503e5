//! Options that contradict the network of a container: another container's, or the node's.

use crate::{
    api::container::{Config, HostConfig},
    error::{Failure, Result},
};

use super::plan::CONTAINER;

/// Looks at a request before the image's part is put into it: a port that the image exposes contradicts nothing.
///
/// # Errors
/// 400 with dockerd's words for what contradicts each other.
pub(super) fn check(config: &Config, host: &HostConfig) -> Result<()> {
    let conflict = |what: &str| Err(Failure::bad(format!("conflicting options: {what}")));
    let some = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let of_another = host.network_mode.starts_with(CONTAINER);
    let of_node = host.network_mode == "host";
    if host.uts_mode == "host" && !config.hostname.is_empty() {
        return conflict("hostname and the UTS mode");
    }
    if of_node && some(&host.links) {
        return conflict(
            "host type networking can't be used with links. This would result in undefined behavior",
        );
    }
    if (of_another || of_node) && !config.mac_address.is_empty() {
        return conflict("mac-address and the network mode");
    }
    if !of_another {
        return Ok(());
    }
    if host.network_mode == CONTAINER {
        return Err(Failure::bad("invalid container format container:<name|id>"));
    }
    if !config.hostname.is_empty() {
        return conflict("hostname and the network mode");
    }
    if some(&host.links) {
        return conflict(
            "container type network can't be used with links. This would result in undefined behavior",
        );
    }
    if some(&host.dns) {
        return conflict("dns and the network mode");
    }
    if some(&host.extra_hosts) {
        return conflict("custom host-to-IP mapping and the network mode");
    }
    if host.port_bindings.as_ref().is_some_and(|ports| !ports.is_empty()) || host.publish_all_ports {
        return conflict("port publishing and the container type network mode");
    }
    if config.exposed_ports.as_ref().is_some_and(|ports| !ports.is_empty()) {
        return conflict("port exposing and the container type network mode");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_network_of_another_decides_cannot_be_asked_for() {
        for (config, host, part) in [
            ("{}", r#""PortBindings":{"80/tcp":[{"HostPort":"80"}]}"#, "port publishing"),
            ("{}", r#""PublishAllPorts":true"#, "port publishing"),
            (r#"{"ExposedPorts":{"80/tcp":{}}}"#, r#""Dns":null"#, "port exposing"),
            (r#"{"Hostname":"a"}"#, r#""Dns":null"#, "hostname"),
            ("{}", r#""Dns":["10.0.0.1"]"#, "dns"),
            ("{}", r#""ExtraHosts":["a:10.0.0.1"]"#, "custom host"),
            ("{}", r#""Links":["a:b"]"#, "links"),
            (r#"{"MacAddress":"02:42:0a:00:00:01"}"#, r#""Dns":null"#, "mac-address"),
        ] {
            let config = serde_json::from_str(config).unwrap();
            let with =
                |mode: &str| serde_json::from_str(&format!(r#"{{"NetworkMode":"{mode}",{host}}}"#)).unwrap();
            let failure = check(&config, &with("container:x")).unwrap_err();
            assert!(failure.status() == 400 && failure.message().contains(part), "{}", failure.message());
            check(&config, &with("bridge")).unwrap();
        }
        let nobodys: HostConfig = serde_json::from_str(r#"{"NetworkMode":"container:"}"#).unwrap();
        assert_eq!(check(&Config::default(), &nobodys).unwrap_err().status(), 400);
    }
}
