//! Reads a pod's addresses out of the result of the last plugin (CNI spec 1.1, "Success"; the same since 0.3.0).

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Deserialize)]
struct Success {
    #[serde(default)]
    interfaces: Vec<Interface>,
    #[serde(default)]
    ips: Vec<Ip>,
}

#[derive(Debug, Deserialize)]
struct Interface {
    name: String,
    #[serde(default)]
    sandbox: String,
}

#[derive(Debug, Deserialize)]
struct Ip {
    address: IpNet,
    interface: Option<i64>,
}

/// The addresses of the pod's `interface`. Addresses that name another interface of the result (the bridge, a second
/// network) are not the pod's IP; those that name none are.
///
/// # Errors
/// In words, when the result is malformed or has no address for the pod.
pub(crate) fn addresses(result: &Value, interface: &str) -> Result<Vec<IpAddr>, String> {
    let success = Success::deserialize(result).map_err(|error| error.to_string())?;
    let of_pod = |ip: &&Ip| match ip.interface {
        // Negative: "no interface", as some plugins of 0.3.x print it.
        None | Some(..0) => true,
        Some(index) => usize::try_from(index)
            .ok()
            .and_then(|index| success.interfaces.get(index))
            .is_some_and(|found| found.name == interface && !found.sandbox.is_empty()),
    };
    let ips: Vec<IpAddr> = success.ips.iter().filter(of_pod).map(|ip| ip.address.addr()).collect();
    if ips.is_empty() {
        return Err(format!("it has no address for {interface}"));
    }
    Ok(ips)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn addresses_of_the_pods_interface_are_taken_in_order() {
        let result = json!({
            "interfaces": [{"name": "cni0"}, {"name": "eth0", "sandbox": "/run/netns/x"}],
            "ips": [
                {"address": "10.0.0.1/24", "interface": 0},
                {"address": "10.0.0.7/24", "interface": 1, "gateway": "10.0.0.1"},
                {"version": "6", "address": "fd00::7/64"}],
        });
        let ips: Vec<String> = addresses(&result, "eth0").unwrap().iter().map(IpAddr::to_string).collect();
        assert_eq!(ips, ["10.0.0.7", "fd00::7"]);
    }

    #[test]
    fn a_result_without_an_address_or_out_of_shape_is_refused() {
        for result in [
            json!({}),
            json!({"ips": []}),
            json!({"ips": [{"address": "not an address"}]}),
            json!({"ips": [{"address": "10.0.0.7/24", "interface": 5}]}),
            json!([1]),
        ] {
            assert!(addresses(&result, "eth0").is_err(), "{result}");
        }
    }
}
