//! The plugins of containernetworking/plugins, as `hack/tools/build cni` makes them: what husk tells plugins must suit
//! the real ones, and the embedded network and `host-local` must understand each other's files.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use husk_network::{Network, Provider};
use serde_json::json;

use crate::common::{Node, call, eventually, host_port, list, on_a_node};

/// Where the plugins are; `None`, said loudly, when they were not built.
fn plugins() -> Option<PathBuf> {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../hack/tools/path");
    let found = Command::new(tool).arg("cni").output().ok().filter(|output| output.status.success());
    let dir = found.and_then(|output| Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim())));
    let dir = dir.filter(|dir| dir.join("bridge").is_file());
    if dir.is_none() {
        husk_test_support::skip("the CNI plugins of hack/tools");
    }
    dir
}

async fn network(node: &Node, bin: PathBuf) -> Arc<Network> {
    let mut config = node.config();
    config.cni_bin_dirs = vec![bin];
    fs::create_dir(&config.cni_conf_dir).unwrap();
    let conflist = json!({"cniVersion": "1.0.0", "name": "refnet", "plugins": [
        {"type": "bridge", "bridge": "cniref0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
         "ipam": {"type": "host-local", "dataDir": node.dir.join("ipam"),
                  "ranges": [[{"subnet": "10.79.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
        {"type": "portmap", "capabilities": {"portMappings": true}}]});
    fs::write(config.cni_conf_dir.join("10-ref.conflist"), conflist.to_string()).unwrap();
    Network::start(config).await.unwrap()
}

fn at(ip: impl ToString, port: u16) -> SocketAddr {
    SocketAddr::new(ip.to_string().parse().unwrap(), port)
}

#[test]
fn bridge_host_local_and_portmap_serve_a_pod_and_leave_nothing() {
    let Some(bin) = plugins() else { return };
    on_a_node(|node| async move {
        let network = network(&node, bin).await;
        assert!(network.status().ready, "{:?}", network.status());
        let (a, b) = (node.pod(&network, &[host_port(12000, 80)]).await, node.pod(&network, &[]).await);
        assert_eq!(a.network.provider, Provider::Cni("refnet".into()));
        assert_eq!((a.ip().to_string(), b.ip().to_string()), ("10.79.0.2".into(), "10.79.0.3".into()));
        let server = a.serve("0.0.0.0:80");
        assert_eq!(b.call(at(a.ip(), 80)).unwrap(), b.ip().to_string());
        server.join().unwrap();
        let server = a.serve("0.0.0.0:80");
        call(at("127.0.0.1", 12000)).unwrap();
        server.join().unwrap();

        a.remove(&network).await;
        b.remove(&network).await;
        let left = list(&node.dir.join("ipam/refnet"));
        assert_eq!(left, ["last_reserved_ip.0", "lock"]);
        eventually("no port is left", || !node.links().iter().any(|link| link.starts_with("veth"))).await;
        assert!(call(at("127.0.0.1", 12000)).is_err());
    });
}

#[test]
fn an_address_is_given_back_after_the_namespace_was_lost() {
    let Some(bin) = plugins() else { return };
    on_a_node(|node| async move {
        let network = network(&node, bin).await;
        let pod = node.pod(&network, &[host_port(12000, 80)]).await;
        network.remove_netns(&pod.request.netns).await.unwrap();
        network.teardown(pod.id()).await.unwrap();
        assert_eq!(list(&node.dir.join("ipam/refnet")), ["last_reserved_ip.0", "lock"]);
    });
}

#[test]
fn host_local_and_the_embedded_network_respect_each_others_reservations() {
    let Some(bin) = plugins() else { return };
    on_a_node(|node| async move {
        let network = node.network().await;
        let pod = node.pod(&network, &[]).await;
        assert_eq!(pod.ip().to_string(), "10.77.0.2");
        let host_local = |command: &str| {
            let config = json!({"cniVersion": "1.0.0", "name": "huskt0", "type": "bridge", "ipam": {
                "type": "host-local", "dataDir": node.dir.join("root/network/ipam"),
                "ranges": [[{"subnet": "10.77.0.0/24"}]]}});
            let mut child = Command::new(bin.join("host-local"))
                .envs([("CNI_COMMAND", command), ("CNI_CONTAINERID", "foreign"), ("CNI_NETNS", "/x")])
                .envs([("CNI_IFNAME", "eth0"), ("CNI_PATH", "/x")])
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            std::io::Write::write_all(&mut child.stdin.take().unwrap(), config.to_string().as_bytes())
                .unwrap();
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        assert!(host_local("ADD").contains("10.77.0.3/24"));
        assert_eq!(node.pod(&network, &[]).await.ip().to_string(), "10.77.0.4");
        assert_eq!(node.reservations(), ["10.77.0.2", "10.77.0.3", "10.77.0.4"]);
        host_local("DEL");
        assert_eq!(node.reservations(), ["10.77.0.2", "10.77.0.4"]);
    });
}
