//! User networks in a real kernel, on a node of its own.

use std::{
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    time::Duration,
};

use husk_model::{Attachment, HostPort, PodConfig, PodNetworking, PodSandboxId, Protocol};
use husk_network::{Network, NetworkError, NetworkSpec, PodNetworkRequest, SubnetSpec, UserNetwork};

use crate::common::{Node, Pod, call, eventually, host_port, list, on_a_node, output, run};

pub fn at(ip: impl ToString, port: u16) -> SocketAddr {
    SocketAddr::new(ip.to_string().parse().unwrap(), port)
}

pub fn in_network(network: &UserNetwork, aliases: &[&str]) -> Attachment {
    let aliases = aliases.iter().map(|alias| (*alias).to_owned()).collect();
    Attachment { network: network.id.clone(), aliases, ..Attachment::default() }
}

/// A network of this subnet.
pub fn spec(name: &str, subnet: &str) -> NetworkSpec {
    let subnets = vec![SubnetSpec::from(subnet.parse::<ipnet::IpNet>().unwrap())];
    NetworkSpec { subnets, ..NetworkSpec::new(name) }
}

impl Node {
    pub fn user_request(&self, wanted: Vec<Attachment>, ports: &[HostPort]) -> PodNetworkRequest {
        let id = PodSandboxId::generate();
        let pod = PodConfig {
            host_ports: ports.to_vec(),
            networking: PodNetworking::Named(wanted),
            ..husk_test_support::pod("pod")
        };
        PodNetworkRequest::new(id.clone(), self.netns(&id), &pod)
    }

    pub async fn user_pod(&self, network: &Arc<Network>, wanted: Vec<Attachment>, ports: &[HostPort]) -> Pod {
        self.try_user_pod(network, wanted, ports).await.unwrap()
    }

    pub async fn try_user_pod(
        &self,
        network: &Arc<Network>,
        wanted: Vec<Attachment>,
        ports: &[HostPort],
    ) -> Result<Pod, NetworkError> {
        let request = self.user_request(wanted, ports);
        network.create_netns(&request.netns).await.unwrap();
        let made = network.setup(&request).await;
        if made.is_err() {
            network.remove_netns(&request.netns).await.unwrap();
        }
        Ok(Pod { request, network: made? })
    }

    pub fn user_reservations(&self, network: &UserNetwork) -> Vec<String> {
        list(&self.dir.join("root/network/user/ipam").join(&network.id))
            .into_iter()
            .filter(|name| name.parse::<std::net::IpAddr>().is_ok())
            .collect()
    }
}

impl Pod {
    pub fn links(&self) -> String {
        self.inside(|| output("ip", &["-o", "addr"]))
    }

    pub fn routes(&self) -> String {
        self.inside(|| output("ip", &["route"]))
    }
}

/// Whether `caller` gets through to a server of `pod` at `address`. A first packet that is lost is sent again after a second.
fn reaches(caller: Option<&Pod>, pod: &Pod, address: SocketAddr) -> bool {
    let bind = |address: &str| TcpListener::bind(address);
    let listener = pod.inside(|| bind("[::]:80").or_else(|_| bind("0.0.0.0:80")).unwrap());
    let reached = |address| TcpStream::connect_timeout(&address, Duration::from_millis(2500)).is_ok();
    let reached = match caller {
        Some(caller) => caller.inside(|| reached(address)),
        None => reached(address),
    };
    drop(listener);
    reached
}

#[test]
fn pods_of_one_network_reach_each_other_and_pods_of_two_do_not() {
    on_a_node(|node| async move {
        let network = node.network().await;
        let user = network.user();
        let (front, back) = (
            user.create(spec("front", "172.30.1.0/24")).await.unwrap(),
            user.create(NetworkSpec::new("back")).await.unwrap(),
        );
        let a = node.user_pod(&network, vec![in_network(&front, &[])], &[]).await;
        let b = node.user_pod(&network, vec![in_network(&front, &[])], &[]).await;
        let c = node.user_pod(&network, vec![in_network(&back, &[])], &[]).await;
        let plain = node.pod(&network, &[]).await;
        assert_eq!(a.ip().to_string(), "172.30.1.2");
        assert!(back.subnets[0].net.to_string().starts_with("172."), "{:?}", back.subnets);
        assert!(reaches(Some(&a), &b, at(b.ip(), 80)));
        assert!(reaches(None, &c, at(c.ip(), 80)), "the node reaches all");
        assert!(!reaches(Some(&c), &a, at(a.ip(), 80)), "another network");
        assert!(!reaches(Some(&plain), &a, at(a.ip(), 80)), "the pod network");
        assert!(
            reaches(Some(&a), &plain, at(plain.ip(), 80)),
            "what is no user network is like the world outside"
        );
        let both = node.user_pod(&network, vec![in_network(&back, &[]), in_network(&front, &[])], &[]).await;
        assert!(reaches(Some(&both), &a, at(a.ip(), 80)) && reaches(Some(&both), &c, at(c.ip(), 80)));
        assert!(both.links().contains("eth1"));
        assert_eq!(user.of(both.id()).len(), 2);
        assert_eq!(user.attached(&front.id).len(), 3);
        for pod in [a, b, c, plain, both] {
            pod.remove(&network).await;
        }
    });
}

#[test]
fn a_removed_pod_and_a_removed_network_leave_nothing() {
    on_a_node(|node| async move {
        let network = node.network().await;
        let user = network.user();
        let front = user.create(NetworkSpec::new("front")).await.unwrap();
        assert!(node.links().contains(&front.bridge));
        let pod = node.user_pod(&network, vec![in_network(&front, &[])], &[host_port(8080, 80)]).await;
        let rules = || output("nft", &["list", "table", "inet", "husktest"]);
        assert!(rules().contains("8080") && rules().contains(&front.bridge));
        let refused = user.remove("front").await;
        assert!(matches!(refused, Err(NetworkError::NetworkInUse { pods: 1, .. })), "{refused:?}");
        pod.remove(&network).await;
        assert_eq!(node.user_reservations(&front), Vec::<String>::new());
        assert_eq!(node.records(), Vec::<String>::new());
        user.remove(&front.id[..12]).await.unwrap();
        assert!(!node.links().contains(&front.bridge));
        assert!(!rules().contains("8080") && !rules().contains("user"), "{}", rules());
        assert_eq!(list(&node.dir.join("root/network/user/networks")), Vec::<String>::new());
        assert_eq!(list(&node.dir.join("root/network/user/ipam")), Vec::<String>::new());
        let links = || node.links().iter().filter(|name| name.starts_with("hv")).count();
        eventually("the veth is gone", || links() == 0).await;
        assert!(matches!(user.remove("front").await, Err(NetworkError::NoNetwork { .. })));
    });
}

#[test]
fn a_network_is_found_by_name_id_and_unambiguous_beginning_and_has_its_name_alone() {
    on_a_node(|node| async move {
        let network = node.network().await;
        let user = network.user();
        let front = user.create(NetworkSpec::new("front")).await.unwrap();
        for name in ["front", &front.id, &front.id[..9]] {
            assert_eq!(user.find(name).unwrap().id, front.id);
        }
        assert!(matches!(
            user.create(NetworkSpec::new("front")).await,
            Err(NetworkError::NetworkExists { .. })
        ));
        assert!(matches!(user.find("fron"), Err(NetworkError::NoNetwork { .. })));
        assert!(matches!(user.find(""), Err(NetworkError::NoNetwork { .. })));
        let bridge = user.default_bridge().await.unwrap();
        assert_eq!(user.default_bridge().await.unwrap(), bridge);
        assert_eq!(user.list().len(), 2);
    });
}

#[test]
fn subnets_of_others_are_passed_over_and_refused() {
    on_a_node(|node| async move {
        let network = node.network().await;
        let user = network.user();
        run("ip", &["link", "add", "other0", "type", "veth", "peer", "wire"]);
        run("ip", &["address", "add", "172.17.0.1/24", "dev", "other0"]);
        let first = user.create(NetworkSpec::new("first")).await.unwrap();
        let second = user.create(NetworkSpec::new("second")).await.unwrap();
        assert_ne!(first.subnets[0].net, second.subnets[0].net);
        for chosen in [&first, &second] {
            assert!(!chosen.subnets[0].net.contains(&"172.17.0.1".parse::<std::net::IpAddr>().unwrap()));
        }
        let taken = user.create(spec("third", &first.subnets[0].net.to_string())).await;
        assert!(matches!(taken, Err(NetworkError::SubnetOverlaps { .. })), "{taken:?}");
        let taken = user.create(spec("third", "172.17.0.0/16")).await;
        assert!(matches!(taken, Err(NetworkError::SubnetTaken { .. })), "{taken:?}");
        let taken = user.create(spec("third", "10.77.0.0/16")).await;
        assert!(matches!(taken, Err(NetworkError::SubnetOverlaps { .. })), "{taken:?}");
        let mut named = NetworkSpec::new("third");
        named.options.insert("com.docker.network.bridge.name".into(), "other0".into());
        assert!(matches!(user.create(named).await, Err(NetworkError::LinkExists { .. })));
        assert_eq!(user.list().len(), 2, "what was refused left nothing");
    });
}

#[test]
fn an_internal_network_has_no_way_out_and_none_in() {
    on_a_node(|node| async move {
        let network = node.network().await;
        let user = network.user();
        let inner = user.create(NetworkSpec { internal: true, ..NetworkSpec::new("inner") }).await.unwrap();
        let outer = user.create(NetworkSpec::new("outer")).await.unwrap();
        let a = node.user_pod(&network, vec![in_network(&inner, &[])], &[host_port(8080, 80)]).await;
        let b = node.user_pod(&network, vec![in_network(&outer, &[])], &[]).await;
        assert!(!a.routes().contains("default"), "{}", a.routes());
        assert!(!reaches(Some(&b), &a, at(a.ip(), 80)));
        assert!(!reaches(None, &a, at("127.0.0.1", 8080)), "its ports are not published");
        assert!(reaches(None, &a, at(a.ip(), 80)));
        // A container that makes a route for itself gets no further.
        let gateway = inner.subnets[0].gateway.to_string();
        a.inside(|| run("ip", &["route", "add", "default", "via", &gateway]));
        let plain = node.pod(&network, &[]).await;
        assert!(!reaches(Some(&a), &plain, at(plain.ip(), 80)));
        // With another network it leaves by that.
        let both = node.user_pod(&network, vec![in_network(&inner, &[]), in_network(&outer, &[])], &[]).await;
        assert!(both.routes().contains("default") && both.routes().lines().next().unwrap().contains("eth1"));
        assert_eq!(both.network.interface, "eth1");
    });
}

#[test]
fn published_ports_lead_in_from_everywhere_and_zero_is_a_free_one() {
    on_a_node(|node| async move {
        let network = node.network().await;
        run("ip", &["link", "add", "world0", "type", "veth", "peer", "wire"]);
        run("ip", &["address", "add", "192.0.2.1/24", "dev", "world0"]);
        run("ip", &["link", "set", "world0", "up"]);
        let user = network.user();
        let (front, back) = (
            user.create(NetworkSpec::new("front")).await.unwrap(),
            user.create(NetworkSpec::new("back")).await.unwrap(),
        );
        let udp = HostPort { protocol: Protocol::Udp, ..host_port(0, 53) };
        let sctp = HostPort { protocol: Protocol::Sctp, ..host_port(0, 80) };
        let pod = node
            .user_pod(
                &network,
                vec![in_network(&front, &[])],
                &[host_port(0, 80), host_port(0, 80), udp, sctp],
            )
            .await;
        let ports = user.ports(pod.id());
        let numbers: Vec<u16> = ports.iter().map(|port| port.host_port).collect();
        assert_eq!(numbers.len(), 4);
        assert!(numbers.iter().all(|number| *number >= 32768), "{numbers:?}");
        assert_ne!(numbers[0], numbers[1]);
        let (neighbour, stranger) = (
            node.user_pod(&network, vec![in_network(&front, &[])], &[]).await,
            node.user_pod(&network, vec![in_network(&back, &[])], &[]).await,
        );
        for (caller, address) in [
            (None, at("127.0.0.1", numbers[0])),
            (None, at("192.0.2.1", numbers[1])),
            (Some(&pod), at("192.0.2.1", numbers[0])),
            (Some(&neighbour), at("192.0.2.1", numbers[0])),
            (Some(&stranger), at("192.0.2.1", numbers[0])),
            (Some(&stranger), at(front.subnets[0].gateway, numbers[0])),
        ] {
            assert!(reaches(caller, &pod, address), "{address} from {caller:?}");
        }
        let taken =
            node.try_user_pod(&network, vec![in_network(&front, &[])], &[host_port(numbers[0], 80)]).await;
        assert!(matches!(taken, Err(NetworkError::HostPortTaken { .. })), "{taken:?}");
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let busy = host_port(listener.local_addr().unwrap().port(), 80);
        let taken = node.try_user_pod(&network, vec![in_network(&front, &[])], &[busy]).await;
        assert!(matches!(taken, Err(NetworkError::HostPortBusy { .. })), "{taken:?}");
        assert_eq!(node.records().len(), 3, "what was refused left nothing");
    });
}

#[test]
fn a_pod_cannot_reach_loopback_of_the_node_by_forging_addresses() {
    on_a_node(|node| async move {
        let network = node.network().await;
        let front = network.user().create(NetworkSpec::new("front")).await.unwrap();
        let pod = node.user_pod(&network, vec![in_network(&front, &[])], &[]).await;
        let _listener = TcpListener::bind("127.0.0.1:9999").unwrap();
        let gateway = front.subnets[0].gateway.to_string();
        pod.inside(|| {
            run("ip", &["address", "del", "127.0.0.1/8", "dev", "lo"]);
            run("ip", &["route", "add", "127.0.0.1/32", "via", &gateway]);
            std::fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1").unwrap();
        });
        assert!(pod.call(at("127.0.0.1", 9999)).is_err());
    });
}

#[test]
fn without_icc_pods_of_a_network_reach_the_world_and_not_each_other() {
    on_a_node(|node| async move {
        let network = node.network().await;
        let mut apart = NetworkSpec::new("apart");
        apart.options.insert("com.docker.network.bridge.enable_icc".into(), "false".into());
        let apart = network.user().create(apart).await.unwrap();
        let (a, b) = (
            node.user_pod(&network, vec![in_network(&apart, &[])], &[]).await,
            node.user_pod(&network, vec![in_network(&apart, &[])], &[host_port(8080, 80)]).await,
        );
        let plain = node.pod(&network, &[]).await;
        assert!(!reaches(Some(&a), &b, at(b.ip(), 80)));
        assert!(reaches(None, &b, at("127.0.0.1", 8080)));
        assert!(reaches(Some(&plain), &b, at(apart.subnets[0].gateway, 8080)));
        assert!(reaches(Some(&a), &plain, at(plain.ip(), 80)));
    });
}

#[test]
fn fixed_addresses_and_hardware_addresses_are_given_to_one_pod() {
    on_a_node(|node| async move {
        let network = node.network().await;
        let user = network.user();
        let mut both = spec("both", "172.30.5.0/24");
        both.ipv6 = true;
        both.subnets.push(SubnetSpec::from("fd00:5::/64".parse::<ipnet::IpNet>().unwrap()));
        both.subnets[0].ip_range = Some("172.30.5.128/25".parse().unwrap());
        both.subnets[0].auxiliary.insert("router".into(), "172.30.5.128".parse().unwrap());
        let both = user.create(both).await.unwrap();
        let unasked = node.user_pod(&network, vec![in_network(&both, &[])], &[]).await;
        assert_eq!(unasked.ip().to_string(), "172.30.5.129");
        let wanted = Attachment {
            ipv4: Some("172.30.5.9".parse().unwrap()),
            ipv6: Some("fd00:5::9".parse().unwrap()),
            mac: Some([2, 1, 2, 3, 4, 5]),
            ..in_network(&both, &[])
        };
        let fixed = node.user_pod(&network, vec![wanted.clone()], &[]).await;
        let ips: Vec<String> = fixed.network.ips.iter().map(ToString::to_string).collect();
        assert_eq!(ips, ["172.30.5.9", "fd00:5::9"]);
        assert!(fixed.inside(|| output("ip", &["link", "show", "eth0"])).contains("02:01:02:03:04:05"));
        assert!(reaches(Some(&unasked), &fixed, at("fd00:5::9", 80)));
        assert!(fixed.inside(|| output("ip", &["-6", "route"])).contains("default via fd00:5::1"));
        let taken = node.try_user_pod(&network, vec![wanted.clone()], &[]).await;
        assert!(matches!(taken, Err(NetworkError::AddressTaken { .. })), "{taken:?}");
        let outside = Attachment { ipv4: Some("172.30.6.9".parse().unwrap()), ..in_network(&both, &[]) };
        let outside = node.try_user_pod(&network, vec![outside], &[]).await;
        assert!(matches!(outside, Err(NetworkError::AddressOutside { .. })), "{outside:?}");
        // Given back, it can be had at once.
        fixed.remove(&network).await;
        let again = node.user_pod(&network, vec![wanted], &[]).await;
        assert!(reaches(Some(&unasked), &again, at("172.30.5.9", 80)));
        // What is only preferred is had while nobody else has it.
        let prefers = |ips: &[&str]| Attachment {
            preferred: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
            ..in_network(&both, &[])
        };
        let restarted = prefers(&["172.30.5.200", "fd00:5::77", "10.9.9.9"]);
        let first = node.user_pod(&network, vec![restarted.clone()], &[]).await;
        let ips: Vec<String> = first.network.ips.iter().map(ToString::to_string).collect();
        assert_eq!(ips, ["172.30.5.200", "fd00:5::77"]);
        let second = node.user_pod(&network, vec![restarted.clone()], &[]).await;
        assert!(first.network.ips.iter().all(|ip| !second.network.ips.contains(ip)), "{second:?}");
        first.remove(&network).await;
        let third = node.user_pod(&network, vec![restarted], &[]).await;
        assert_eq!(third.ip().to_string(), "172.30.5.200");
    });
}

#[test]
fn a_running_pod_comes_into_a_network_and_goes_out_of_it() {
    on_a_node(|node| async move {
        let network = node.network().await;
        let user = network.user();
        let (front, back) = (
            user.create(NetworkSpec::new("front")).await.unwrap(),
            user.create(NetworkSpec::new("back")).await.unwrap(),
        );
        let pod = node.user_pod(&network, vec![in_network(&front, &[])], &[host_port(8080, 80)]).await;
        let other = node.user_pod(&network, vec![in_network(&back, &[])], &[]).await;
        let wanted = Attachment { gateway_priority: 1, ..in_network(&back, &[]) };
        user.connect(pod.id(), wanted.clone()).await.unwrap();
        let again = user.connect(pod.id(), wanted.clone()).await;
        assert!(matches!(again, Err(NetworkError::Attached { .. })), "{again:?}");
        let place = user.of(pod.id())[1].clone();
        assert_eq!(place.interface, "eth1");
        assert!(reaches(Some(&other), &pod, at(place.addresses[0].addr(), 80)));
        let default = |pod: &Pod| pod.routes().lines().next().unwrap_or_default().to_owned();
        assert!(default(&pod).contains("eth1"), "the higher priority: {}", default(&pod));
        assert!(reaches(None, &pod, at("127.0.0.1", 8080)), "ports are led there");
        user.disconnect(pod.id(), "back", false).await.unwrap();
        assert!(default(&pod).contains("eth0"), "{}", default(&pod));
        assert!(reaches(None, &pod, at("127.0.0.1", 8080)));
        assert!(!pod.links().contains("eth1"));
        assert!(!reaches(Some(&other), &pod, at(pod.ip(), 80)));
        assert_eq!(node.user_reservations(&back).len(), 1);
        user.disconnect(pod.id(), &front.id, false).await.unwrap();
        assert!(!reaches(None, &pod, at("127.0.0.1", 8080)));
        assert!(!pod.links().contains("eth0"));
        user.connect(pod.id(), in_network(&front, &[])).await.unwrap();
        assert!(reaches(None, &pod, at("127.0.0.1", 8080)), "published again");
        let nowhere = user.disconnect(pod.id(), "back", true).await;
        assert!(matches!(nowhere, Err(NetworkError::NotAttached { .. })), "{nowhere:?}");
        let plain = node.pod(&network, &[]).await;
        let refused = user.connect(plain.id(), wanted).await;
        assert!(matches!(refused, Err(NetworkError::NotOfUserNetworks { .. })), "{refused:?}");
    });
}

#[test]
fn an_isolated_pod_has_loopback_and_nothing_else() {
    on_a_node(|node| async move {
        let network = node.network().await;
        let id = PodSandboxId::generate();
        let pod = PodConfig { networking: PodNetworking::Isolated, ..husk_test_support::pod("pod") };
        let request = PodNetworkRequest::new(id.clone(), node.netns(&id), &pod);
        network.create_netns(&request.netns).await.unwrap();
        let made = network.setup(&request).await.unwrap();
        let pod = Pod { request, network: made };
        assert!(pod.network.ips.is_empty());
        assert_eq!(pod.links().lines().filter(|line| !line.contains(" lo ")).count(), 0, "{}", pod.links());
        let server = pod.serve("127.0.0.1:80");
        pod.call(at("127.0.0.1", 80)).unwrap();
        server.join().unwrap();
        pod.remove(&network).await;
    });
}

#[test]
fn networks_and_pods_are_known_again_and_bridges_made_again() {
    on_a_node(|node| async move {
        let network = node.network().await;
        let front = network.user().create(NetworkSpec::new("front")).await.unwrap();
        let pod = node.user_pod(&network, vec![in_network(&front, &[])], &[host_port(8080, 80)]).await;
        drop(network);
        let network = node.network().await;
        assert_eq!(network.user().list(), std::slice::from_ref(&front));
        assert_eq!(network.user().of(pod.id()).len(), 1);
        assert!(reaches(None, &pod, at("127.0.0.1", 8080)));
        pod.remove(&network).await;
        drop(network);
        // As a reboot leaves it.
        run("ip", &["link", "del", &front.bridge]);
        run("nft", &["flush", "ruleset"]);
        let network = node.network().await;
        assert!(node.links().contains(&front.bridge));
        let pod = node.user_pod(&network, vec![in_network(&front, &[])], &[host_port(8080, 80)]).await;
        assert!(reaches(None, &pod, at("127.0.0.1", 8080)));
        // Deleted under a daemon that runs, it is made again with the next pod.
        pod.remove(&network).await;
        run("ip", &["link", "del", &front.bridge]);
        let pod = node.user_pod(&network, vec![in_network(&front, &[])], &[host_port(8080, 80)]).await;
        assert!(reaches(None, &pod, at("127.0.0.1", 8080)));
    });
}

#[test]
fn user_networks_work_beside_cni_too() {
    on_a_node(|node| async move {
        std::fs::create_dir_all(node.dir.join("net.d")).unwrap();
        std::fs::write(
            node.dir.join("net.d/10-x.conflist"),
            r#"{"cniVersion":"1.0.0","name":"x","plugins":[{"type":"none"}]}"#,
        )
        .unwrap();
        let network = Network::start(node.config()).await.unwrap();
        let front = network.user().create(NetworkSpec::new("front")).await.unwrap();
        let pod = node.user_pod(&network, vec![in_network(&front, &[])], &[host_port(8080, 80)]).await;
        assert!(reaches(None, &pod, at("127.0.0.1", 8080)));
        pod.remove(&network).await;
    });
}

#[test]
fn what_is_left_of_pods_that_are_gone_is_found_and_freed() {
    on_a_node(|node| async move {
        let network = node.network().await;
        let user = network.user();
        let front = user.create(NetworkSpec::new("front")).await.unwrap();
        let pod = node.user_pod(&network, vec![in_network(&front, &[])], &[host_port(8080, 80)]).await;
        let other = Arc::clone(&network);
        drop(network);
        drop(other);
        // A bridge whose network was forgotten, and a reservation that came before its record.
        let network = node.network().await;
        let lost = network.user().create(NetworkSpec::new("lost")).await.unwrap();
        let orphan = PodSandboxId::generate();
        let file = node.dir.join("root/network/user/ipam").join(&front.id).join("172.17.99.99");
        std::fs::write(&file, format!("{orphan}\r\neth0")).unwrap();
        drop(network);
        std::fs::remove_file(node.dir.join(format!("root/network/user/networks/{}.json", lost.id))).unwrap();
        let network = node.network().await;
        assert!(!file.exists(), "freed at the start");
        std::fs::write(&file, format!("{orphan}\r\neth0")).unwrap();
        let report = network.gc(&std::collections::HashSet::new()).await;
        assert_eq!(report.failures, Vec::<String>::new());
        assert_eq!(report.pods, [pod.id().clone()]);
        assert_eq!(report.links, std::slice::from_ref(&lost.bridge));
        assert_eq!(report.addresses.len(), 1);
        assert_eq!(node.user_reservations(&front), Vec::<String>::new());
        assert!(!node.links().contains(&lost.bridge));
        assert!(node.links().contains(&front.bridge), "networks stay");
        let links = || node.links().iter().filter(|name| name.starts_with("hv")).count();
        eventually("no veth is left", || links() == 0).await;
        network.dismantle().await.unwrap();
        assert!(!node.links().contains(&front.bridge));
    });
}

#[test]
fn a_pod_on_its_way_into_a_network_when_the_daemon_died_is_taken_out() {
    on_a_node(|node| async move {
        let network = node.network().await;
        let user = network.user();
        let (front, back) = (
            user.create(NetworkSpec::new("front")).await.unwrap(),
            user.create(NetworkSpec::new("back")).await.unwrap(),
        );
        let pod = node.user_pod(&network, vec![in_network(&front, &[])], &[]).await;
        user.connect(pod.id(), in_network(&back, &[])).await.unwrap();
        drop((network, user));
        let path = node.dir.join(format!("root/network/pods/{}.json", pod.id()));
        let mut record: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        record["attachment"]["user"]["plugs"][1]["unsettled"] = true.into();
        std::fs::write(&path, record.to_string()).unwrap();
        let mut leaving: serde_json::Value = {
            let path = node.dir.join(format!("root/network/user/networks/{}.json", back.id));
            serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
        };
        leaving["removing"] = true.into();
        let path = node.dir.join(format!("root/network/user/networks/{}.json", back.id));
        std::fs::write(path, leaving.to_string()).unwrap();
        let network = node.network().await;
        assert_eq!(network.user().of(pod.id()).len(), 1);
        assert!(!pod.links().contains("eth1"));
        assert_eq!(network.user().list(), [front]);
        assert!(!node.links().contains(&back.bridge));
        assert!(call(at(pod.ip(), 1)).is_err());
    });
}
