//! What a plugin is told about a pod: CNI_ARGS and the capability arguments (CNI spec "Deriving runtimeConfig", and
//! CONVENTIONS.md of the CNI repository for the names Kubernetes uses).

use husk_model::Protocol;
use serde_json::{Map, Value, json};

use crate::PodNetworkRequest;

use super::config::NetworkList;

/// The burst when only a rate is given: as containerd and CRI-O do (`math.MaxInt32`).
const BURST: u32 = i32::MAX as u32;

/// CNI_ARGS as every Kubernetes runtime sets it; Multus, Calico, OVN and others read the K8S_POD_* keys.
/// A value that would break out of its key (`;`) cannot be a Kubernetes name and is cut there.
pub(super) fn args(request: &PodNetworkRequest) -> String {
    let plain = |value: &str| value.split([';', '\n', '\0']).next().unwrap_or_default().to_owned();
    format!(
        "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID={}",
        plain(&request.namespace),
        plain(&request.name),
        request.id,
        plain(&request.uid),
    )
}

/// All capability arguments this pod has; each plugin gets those it declares.
pub(super) fn capabilities(request: &PodNetworkRequest) -> Map<String, Value> {
    let mut all = Map::new();
    if !request.host_ports.is_empty() {
        let ports = request.host_ports.iter().map(|port| {
            let protocol = match port.protocol {
                Protocol::Tcp => "tcp",
                Protocol::Udp => "udp",
                Protocol::Sctp => "sctp",
            };
            json!({
                "hostPort": port.host_port,
                "containerPort": port.container_port,
                "protocol": protocol,
                "hostIP": port.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
            })
        });
        all.insert("portMappings".to_owned(), ports.collect());
    }
    if let Some(dns) = request.dns.as_ref().filter(|dns| !dns.is_empty()) {
        let dns = json!({"servers": dns.servers, "searches": dns.searches, "options": dns.options});
        all.insert("dns".to_owned(), dns);
    }
    if let Some(bandwidth) = bandwidth(request) {
        all.insert("bandwidth".to_owned(), bandwidth);
    }
    if !request.cgroup_parent.is_empty() {
        all.insert("cgroupPath".to_owned(), json!(request.cgroup_parent));
    }
    all.insert("io.kubernetes.cri.pod-annotations".to_owned(), json!(request.annotations));
    all
}

fn bandwidth(request: &PodNetworkRequest) -> Option<Value> {
    let rate = |key| request.annotations.get(key).and_then(|text| quantity(text));
    let ingress = rate("kubernetes.io/ingress-bandwidth");
    let egress = rate("kubernetes.io/egress-bandwidth");
    if ingress.is_none() && egress.is_none() {
        return None;
    }
    let mut map = Map::new();
    for (rate, rate_key, burst_key) in
        [(ingress, "ingressRate", "ingressBurst"), (egress, "egressRate", "egressBurst")]
    {
        if let Some(rate) = rate {
            map.insert(rate_key.to_owned(), json!(rate));
            map.insert(burst_key.to_owned(), json!(BURST));
        }
    }
    Some(map.into())
}

/// A Kubernetes quantity of bits per second: a whole number, with or without a suffix (k, M, G, T, P; Ki, Mi, ...).
/// What is none is ignored, as the kubelet has validated these annotations for the pods it means them for.
fn quantity(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let factor: u64 = match suffix {
        "" => 1,
        "k" => 1000,
        "M" => 1000_u64.pow(2),
        "G" => 1000_u64.pow(3),
        "T" => 1000_u64.pow(4),
        "P" => 1000_u64.pow(5),
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        "Pi" => 1 << 50,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// The configuration a plugin reads on stdin: its own object, with the name and version of the list, the capability
/// arguments it declares, and the previous result.
pub(super) fn stdin(
    list: &NetworkList,
    plugin: &Map<String, Value>,
    capabilities: &Map<String, Value>,
    prev_result: Option<&Value>,
) -> Value {
    let mut config = plugin.clone();
    config.insert("name".to_owned(), json!(list.name));
    config.insert("cniVersion".to_owned(), json!(list.cni_version));
    let declared = plugin.get("capabilities").and_then(Value::as_object);
    let granted: Map<String, Value> = declared
        .into_iter()
        .flatten()
        .filter(|(_, wanted)| wanted.as_bool() == Some(true))
        .filter_map(|(key, _)| Some((key.clone(), capabilities.get(key)?.clone())))
        .collect();
    if !granted.is_empty() {
        config.insert("runtimeConfig".to_owned(), granted.into());
    }
    if let Some(result) = prev_result {
        config.insert("prevResult".to_owned(), result.clone());
    }
    config.into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use husk_model::{DnsConfig, HostPort, PodSandboxId};

    use super::*;

    fn request() -> PodNetworkRequest {
        PodNetworkRequest {
            id: PodSandboxId::generate(),
            name: "web;CNI_EVIL=1".into(),
            namespace: "shop".into(),
            uid: "u1".into(),
            netns: "/run/netns/x".into(),
            networking: husk_model::PodNetworking::Default,
            host_ports: vec![HostPort {
                protocol: Protocol::Udp,
                container_port: 53,
                host_port: 5353,
                host_ip: Some("127.0.0.1".parse().unwrap()),
            }],
            annotations: BTreeMap::from([("kubernetes.io/ingress-bandwidth".into(), "10M".into())]),
            dns: Some(DnsConfig { servers: vec!["10.96.0.10".parse().unwrap()], ..Default::default() }),
            cgroup_parent: "/kubepods/pod1".into(),
        }
    }

    #[test]
    fn arguments_name_the_pod_and_cannot_be_forged() {
        let request = request();
        assert_eq!(
            args(&request),
            format!(
                "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID=u1",
                request.id
            )
        );
    }

    #[test]
    fn a_plugin_gets_only_the_capabilities_it_declares() {
        let list = NetworkList {
            file: "f".into(),
            name: "net".into(),
            cni_version: "1.0.0".into(),
            disable_gc: false,
            plugins: vec![],
        };
        let all = capabilities(&request());
        let plugin = json!({"type": "x", "cniVersion": "0.3.1",
            "capabilities": {"portMappings": true, "bandwidth": true, "dns": false, "unknown": true}});
        let config = stdin(&list, plugin.as_object().unwrap(), &all, Some(&json!({"ips": []})));
        assert_eq!(config["cniVersion"], "1.0.0");
        assert_eq!(config["name"], "net");
        assert_eq!(config["prevResult"], json!({"ips": []}));
        assert_eq!(
            config["runtimeConfig"],
            json!({
                "portMappings": [
                    {"hostPort": 5353, "containerPort": 53, "protocol": "udp", "hostIP": "127.0.0.1"}],
                "bandwidth": {"ingressRate": 10_000_000, "ingressBurst": i32::MAX},
            })
        );
        let bare = stdin(&list, json!({"type": "x"}).as_object().unwrap(), &all, None);
        assert_eq!(bare, json!({"type": "x", "name": "net", "cniVersion": "1.0.0"}));
    }

    #[test]
    fn quantities_are_those_of_kubernetes() {
        for (text, value) in
            [("5", Some(5)), ("1k", Some(1000)), ("2Mi", Some(2 << 20)), ("x", None), ("-1", None)]
        {
            assert_eq!(quantity(text), value, "{text}");
        }
    }
}
