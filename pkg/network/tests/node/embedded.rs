//! The embedded network in a real kernel, on a node of its own.

use std::{collections::HashSet, net::SocketAddr, time::Duration};

use crate::common::{Node, Pod, call, eventually, hide, host_port, on_a_node, output, run};
use husk_model::{Classify, HostPort, Kind, PodSandboxId, Protocol};
use husk_network::{Network, NetworkError, Provider};

fn at(ip: impl ToString, port: u16) -> SocketAddr {
    SocketAddr::new(ip.to_string().parse().unwrap(), port)
}

#[test]
fn two_pods_reach_each_other_and_the_node_without_translation() {
    on_a_node(|node| async move {
        let network = node.network().await;
        let (a, b) = (node.pod(&network, &[]).await, node.pod(&network, &[]).await);
        assert_eq!(a.network.interface, "eth0");
        assert_eq!(a.network.provider, Provider::Embedded("huskt0".into()));
        let server = b.serve("0.0.0.0:80");
        assert_eq!(a.call(at(b.ip(), 80)).unwrap(), a.ip().to_string());
        server.join().unwrap();
        let server = a.serve("0.0.0.0:80");
        assert_eq!(call(at(a.ip(), 80)).unwrap(), "10.77.0.1");
        server.join().unwrap();
        // lo is up inside.
        let server = a.serve("127.0.0.1:81");
        assert_eq!(a.call(at("127.0.0.1", 81)).unwrap(), "127.0.0.1");
        server.join().unwrap();
    });
}

#[test]
fn a_removed_pod_leaves_nothing() {
    on_a_node(|node| async move {
        let network = node.network().await;
        let pod = node.pod(&network, &[host_port(8080, 80)]).await;
        assert_eq!((node.veths(), node.elements(), node.records().len()), (1, 1, 1));
        pod.remove(&network).await;
        assert_eq!(node.reservations(), Vec::<String>::new());
        assert_eq!(node.records(), Vec::<String>::new());
        assert_eq!(node.elements(), 0);
        assert!(!pod.request.netns.exists());
        eventually("the veth is gone", || node.veths() == 0).await;
        pod.remove(&network).await;
        network.teardown(&PodSandboxId::generate()).await.unwrap();
    });
}

#[test]
fn a_veth_whose_namespace_is_held_by_a_stranger_is_deleted_after_the_hold() {
    on_a_node(|node| async move {
        let network = node.network().await;
        let pod = node.pod(&network, &[]).await;
        let held = husk_sys::netns::open(&pod.request.netns).unwrap();
        pod.remove(&network).await;
        eventually("the veth is gone", || node.veths() == 0).await;
        drop(held);
    });
}

#[test]
fn a_host_port_is_reached_by_loopback_by_the_node_and_by_pods_even_the_same() {
    on_a_node(|node| async move {
        let network = node.network().await;
        run("ip", &["link", "add", "uplink", "type", "veth", "peer", "wire"]);
        run("ip", &["addr", "add", "192.0.2.1/24", "dev", "uplink"]);
        run("ip", &["link", "set", "uplink", "up"]);
        let pod = node.pod(&network, &[host_port(12000, 80)]).await;
        let other = node.pod(&network, &[]).await;
        for (caller, target) in [
            (None, at("127.0.0.1", 12000)),
            (None, at("10.77.0.1", 12000)),
            (None, at("192.0.2.1", 12000)),
            (Some(&other), at("192.0.2.1", 12000)),
            (Some(&pod), at("192.0.2.1", 12000)),
            (Some(&other), at("10.77.0.1", 12000)),
        ] {
            let server = pod.serve("0.0.0.0:80");
            let answer = match caller {
                Some(caller) => caller.call(target),
                None => call(target),
            };
            assert!(answer.is_ok(), "{target} from {caller:?}: {answer:?}");
            server.join().unwrap();
        }
    });
}

#[test]
fn a_host_port_on_one_address_is_not_on_the_others() {
    on_a_node(|node| async move {
        let network = node.network().await;
        let mut port = host_port(12000, 80);
        port.host_ip = Some("127.0.0.1".parse().unwrap());
        let pod = node.pod(&network, &[port]).await;
        let server = pod.serve("0.0.0.0:80");
        assert!(call(at("10.77.0.1", 12000)).is_err());
        call(at("127.0.0.1", 12000)).unwrap();
        server.join().unwrap();
    });
}

#[test]
fn an_sctp_host_port_is_mapped_and_taken_back() {
    on_a_node(|node| async move {
        let network = node.network().await;
        let port = HostPort { protocol: Protocol::Sctp, ..host_port(12000, 80) };
        let pod = node.pod(&network, &[port, host_port(12000, 80)]).await;
        let elements = || output("nft", &["-n", "list", "map", "inet", "husktest", "hostports4"]);
        let named = |elements: &str, protocol: &str| {
            [protocol, if protocol == "sctp" { "132" } else { "6" }]
                .iter()
                .any(|name| elements.contains(&format!("{name} . 12000 : {} . 80", pod.ip())))
        };
        let mapped = elements();
        assert!(named(&mapped, "sctp") && named(&mapped, "tcp"), "{mapped}");
        // The rule that leads to the map takes packets of the protocol.
        let rule = output("nft", &["list", "chain", "inet", "husktest", "prerouting"]);
        assert!(rule.contains("sctp"), "{rule}");
        pod.remove(&network).await;
        assert!(!elements().contains("12000"), "{}", elements());
    });
}

#[test]
fn a_host_port_of_all_ipv4_addresses_is_not_open_on_ipv6() {
    on_a_node(|node| async move {
        let mut config = node.config();
        config.bridge.subnet6 = Some("fd00:77::/64".parse().unwrap());
        let network = Network::start(config).await.unwrap();
        let on = |ip: &str, port| HostPort { host_ip: Some(ip.parse().unwrap()), ..host_port(port, 80) };
        let ports = [on("0.0.0.0", 12000), on("::", 12001), host_port(12002, 80), on("::1", 12003)];
        let pod = node.pod(&network, &ports).await;
        let named = |map: &str| output("nft", &["-n", "list", "map", "inet", "husktest", map]);
        let open = |map: &str| {
            let text = named(map);
            [12000, 12001, 12002, 12003].map(|port| text.contains(&format!(". {port} : ")))
        };
        assert_eq!(open("hostports4"), [true, false, true, false], "{}", named("hostports4"));
        assert_eq!(open("hostports6"), [false, true, true, false], "{}", named("hostports6"));
        assert_eq!(open("hostports6_ip"), [false, false, false, true], "{}", named("hostports6_ip"));
        pod.remove(&network).await;
    });
}

#[test]
fn a_host_port_has_one_owner() {
    on_a_node(|node| async move {
        let network = node.network().await;
        let first = node.pod(&network, &[host_port(12000, 80)]).await;
        let late = node.request(&[host_port(12001, 80), host_port(12000, 80)]);
        network.create_netns(&late.netns).await.unwrap();
        let error = network.setup(&late).await.unwrap_err();
        assert!(
            matches!(&error, NetworkError::HostPortTaken { port: 12000, owner, .. } if owner == first.id())
        );
        assert_eq!(error.kind(), Kind::FailedPrecondition);
        assert_eq!((node.reservations().len(), node.records().len(), node.elements()), (1, 1, 1));
        first.remove(&network).await;
        node.pod(&network, &[host_port(12000, 80)]).await;
    });
}

#[test]
fn services_on_the_nodes_loopback_are_out_of_reach_for_a_forging_pod() {
    on_a_node(|node| async move {
        let network = node.network().await;
        let pod = node.pod(&network, &[]).await;
        let _service = std::net::TcpListener::bind("127.0.0.1:9999").unwrap();
        pod.inside(|| {
            run("sysctl", &["-qw", "net.ipv4.conf.all.route_localnet=1"]);
            // Its own loopback goes, so that the address is as good as any other.
            run("ip", &["addr", "flush", "dev", "lo"]);
            run("ip", &["route", "add", "127.0.0.1/32", "via", "10.77.0.1", "src", "10.77.0.2"]);
        });
        // The kernel connects it, whether or not the service ever answers.
        let connect = || std::net::TcpStream::connect_timeout(&at("127.0.0.1", 9999), Duration::from_secs(3));
        assert!(pod.inside(connect).is_err());
    });
}

/// Sends what makes a router of the sender (RFC 4861, 4.2) to everybody on its link.
fn advertise(interface: &str) {
    use rustix::net::{
        AddressFamily, Ipv6Addr, SendFlags, SocketAddrV6, SocketType, ipproto, sendto, socket, sockopt,
    };
    let link = output("ip", &["-o", "link", "show", interface]);
    let index = link.split(':').next().unwrap().trim().parse().unwrap();
    let raw = socket(AddressFamily::INET6, SocketType::RAW, Some(ipproto::ICMPV6)).unwrap();
    sockopt::set_ipv6_multicast_hops(&raw, 255).unwrap();
    // Type 134; the kernel fills in the checksum. A router for half an hour.
    let advertisement = [134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
    let everybody = SocketAddrV6::new(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), 0, 0, index);
    // Before the interface has its own address there is none to send from.
    let _ = sendto(&raw, &advertisement, SendFlags::empty(), &everybody);
}

#[test]
fn cve_2020_10749_no_pod_makes_itself_a_router_of_its_neighbours_or_the_node() {
    on_a_node(|node| async move {
        let network = node.network().await;
        let pods =
            [node.pod(&network, &[]).await, node.pod(&network, &[]).await, node.pod(&network, &[]).await];
        let [attacker, neighbour, gullible] = &pods;
        let routers = || output("ip", &["-6", "route", "show", "default"]);
        // As kernels have it that nobody configured.
        run("sysctl", &["-qw", "net.ipv6.conf.huskt0.disable_ipv6=0"]);
        for pod in &pods {
            pod.inside(|| run("sysctl", &["-qw", "net.ipv6.conf.eth0.disable_ipv6=0"]));
        }
        // It shows that the advertisement is one, and has arrived.
        gullible.inside(|| run("sysctl", &["-qw", "net.ipv6.conf.eth0.accept_ra=1"]));
        eventually("an advertisement is taken", || {
            attacker.inside(|| advertise("eth0"));
            gullible.inside(routers).contains("proto ra")
        })
        .await;
        // All on a bridge get it at once; another one behind it is not seen before it.
        attacker.inside(|| advertise("eth0"));
        assert_eq!(neighbour.inside(routers), "");
        assert_eq!(routers(), "", "CVE-2020-13401");
    });
}

#[test]
fn pods_leave_the_node_under_its_address() {
    on_a_node(|node| async move {
        let network = node.network().await;
        let pod = node.pod(&network, &[]).await;
        // The world: a namespace behind a veth of its own.
        let world = node.dir.join("world");
        let (ns, ()) = husk_sys::netns::create(|| ()).unwrap();
        husk_sys::netns::pin(std::os::fd::AsFd::as_fd(&ns), &world).unwrap();
        run("ip", &["link", "add", "out", "type", "veth", "peer", "in", "netns", world.to_str().unwrap()]);
        run("ip", &["addr", "add", "192.0.2.1/24", "dev", "out"]);
        run("ip", &["link", "set", "out", "up"]);
        let listener = husk_sys::netns::with(std::os::fd::AsFd::as_fd(&ns), || {
            run("ip", &["addr", "add", "192.0.2.2/24", "dev", "in"]);
            run("ip", &["link", "set", "in", "up"]);
            std::net::TcpListener::bind("0.0.0.0:80").unwrap()
        })
        .unwrap();
        let server = std::thread::spawn(move || listener.accept().unwrap().1.ip().to_string());
        let _ = pod.call(at("192.0.2.2", 80));
        assert_eq!(server.join().unwrap(), "192.0.2.1");
        husk_sys::netns::unpin(&world).unwrap();
    });
}

#[test]
fn dual_stack_pods_have_an_address_of_each_family_at_once() {
    on_a_node(|node| async move {
        let mut config = node.config();
        config.bridge.subnet6 = Some("fd00:77::/64".parse().unwrap());
        let network = Network::start(config).await.unwrap();
        let (a, b) = (node.pod(&network, &[host_port(12000, 80)]).await, node.pod(&network, &[]).await);
        assert_eq!(a.network.ips.len(), 2);
        let server = a.serve("[::]:80");
        // No wait for duplicate address detection anywhere.
        assert_eq!(b.call(SocketAddr::new(a.network.ips[1], 80)).unwrap(), b.network.ips[1].to_string());
        server.join().unwrap();
        let server = a.serve("[::]:80");
        call(at("fd00:77::1", 12000)).unwrap();
        server.join().unwrap();
    });
}

#[test]
fn a_full_subnet_is_said_and_a_freed_address_serves_again() {
    on_a_node(|node| async move {
        let mut config = node.config();
        config.bridge.subnet = "10.77.0.0/29".parse().unwrap();
        let network = Network::start(config).await.unwrap();
        let mut pods = Vec::new();
        for _ in 0..5 {
            pods.push(node.pod(&network, &[]).await);
        }
        let late = node.request(&[]);
        network.create_netns(&late.netns).await.unwrap();
        let error = network.setup(&late).await.unwrap_err();
        assert_eq!(error.kind(), Kind::ResourceExhausted);
        assert_eq!(node.records().len(), 5);
        let freed = pods.remove(2);
        freed.remove(&network).await;
        // Its address is held back, but it is the only one left: the old veth is deleted first.
        assert_eq!(network.setup(&late).await.unwrap().ips, [freed.ip()]);
        assert_eq!(node.veths(), 5);
    });
}

#[test]
fn many_pods_at_once_all_get_their_own() {
    on_a_node(|node| async move {
        let network = node.network().await;
        let node = std::sync::Arc::new(node);
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..24 {
            let (node, network) = (node.clone(), network.clone());
            tasks.spawn(async move {
                let ports = if n % 4 == 0 { vec![host_port(13000 + n, 80)] } else { vec![] };
                node.pod(&network, &ports).await
            });
        }
        let pods = tasks.join_all().await;
        let ips: HashSet<_> = pods.iter().map(Pod::ip).collect();
        assert_eq!((ips.len(), node.elements(), node.veths()), (24, 6, 24));
        let mut tasks = tokio::task::JoinSet::new();
        for pod in pods {
            let network = network.clone();
            tasks.spawn(async move { pod.remove(&network).await });
        }
        tasks.join_all().await;
        assert_eq!((node.reservations().len(), node.records().len(), node.elements()), (0, 0, 0));
        eventually("the veths are gone", || node.veths() == 0).await;
    });
}

#[test]
fn gc_after_a_crash_frees_what_nobody_owns_and_spares_the_rest() {
    on_a_node(|node| async move {
        let network = node.network().await;
        let keep = node.pod(&network, &[host_port(12000, 80)]).await;
        let lost = node.pod(&network, &[host_port(12001, 80)]).await;
        // A crash between reservation and record, and one between creating the file and writing it.
        let half = PodSandboxId::generate();
        let ipam = node.dir.join("root/network/ipam/huskt0");
        std::fs::write(ipam.join("10.77.0.99"), format!("{half}\r\neth0")).unwrap();
        std::fs::write(ipam.join("10.77.0.98"), "").unwrap();
        std::fs::write(node.dir.join("root/network/pods/x.json.new"), "{").unwrap();
        drop(network);

        let network = node.network().await;
        assert_eq!(network.lookup(keep.id()).unwrap().as_ref(), Some(&keep.network));
        assert_eq!(node.elements(), 2);
        let report = network.gc(&HashSet::from([keep.id().clone()])).await;
        assert_eq!(report.failures, Vec::<String>::new());
        assert_eq!(report.pods, [lost.id().clone()]);
        assert_eq!(report.addresses.len(), 2);
        assert_eq!(report.pins, std::slice::from_ref(&lost.request.netns));
        assert_eq!(node.reservations(), [keep.ip().to_string()]);
        assert_eq!(node.elements(), 1);
        eventually("only one veth is left", || node.veths() == 1).await;
        let server = keep.serve("0.0.0.0:80");
        call(at("127.0.0.1", 12000)).unwrap();
        server.join().unwrap();
        assert!(network.gc(&HashSet::from([keep.id().clone()])).await.is_empty());
    });
}

#[test]
fn pods_of_this_process_are_spared_by_gc_even_if_its_list_is_old() {
    on_a_node(|node| async move {
        let network = node.network().await;
        let pod = node.pod(&network, &[]).await;
        assert!(network.gc(&HashSet::new()).await.is_empty());
        assert!(pod.request.netns.exists());
    });
}

#[test]
fn stale_links_host_ports_and_pins_are_found_and_look_alikes_stay() {
    use std::sync::Arc;
    on_a_node(|node| async move {
        let network = node.network().await;
        let pod = node.pod(&network, &[host_port(12000, 80)]).await;
        let bridge = ["huskt0"];
        let ip = |arguments: &str| {
            let status = std::process::Command::new("ip").args(arguments.split(' ')).status().unwrap();
            assert!(status.success(), "ip {arguments}");
        };
        let made = PodSandboxId::generate();
        let stale = format!("husk{}", &made.as_str()[..11]);
        ip(&format!("link add {stale} type veth peer name stale-peer"));
        ip(&format!("link set {stale} master {}", bridge[0]));
        // By name alone, by place alone, and by both but of another kind.
        ip("link add huskaaaaaaaaaaa type veth peer name alike-peer");
        ip("link add veth0123 type veth peer name other-peer");
        ip("link set veth0123 master huskt0");
        ip("link add huskbbbbbbbbbbb type ifb");
        ip("link set huskbbbbbbbbbbb master huskt0");
        let element = "add element inet husktest hostports4 { tcp . 4321 : 10.77.0.200 . 80 }";
        let nft = std::process::Command::new("nft").args(element.split(' ')).status().unwrap();
        assert!(nft.success());
        std::fs::write(node.dir.join("root/network/ipam/huskt0/10.77.0.98"), "somebody else\r\neth0")
            .unwrap();
        std::fs::write(node.dir.join("root/network/ipam/huskt0/10.77.0.99"), format!("{made}\r\neth0"))
            .unwrap();
        let nobody = || Arc::new(std::collections::HashSet::new) as husk_network::Owners;

        let seen = network.examine(nobody(), Arc::new(|_| false)).await;
        assert_eq!(seen.links, std::slice::from_ref(&stale));
        assert_eq!(seen.elements, ["hostports4 { tcp . 4321 : 10.77.0.200 . 80 }"]);
        assert_eq!(seen.addresses, ["10.77.0.99".parse::<std::net::IpAddr>().unwrap()]);
        assert_eq!(seen.failures, Vec::<String>::new());
        let again = network.examine(nobody(), Arc::new(|_| true)).await;
        assert_eq!(again, seen, "a look changes nothing");
        assert!(network.examine(nobody(), Arc::new(|_| true)).await.is_empty());
        for there in ["huskaaaaaaaaaaa", "veth0123", "huskbbbbbbbbbbb"] {
            ip(&format!("link show {there}"));
        }
        let server = pod.serve("0.0.0.0:80");
        call(at("127.0.0.1", 12000)).unwrap();
        server.join().unwrap();
    });
}

#[test]
fn setup_replaces_what_a_died_attempt_for_the_same_pod_left() {
    on_a_node(|node| async move {
        let network = node.network().await;
        let pod = node.pod(&network, &[host_port(12000, 80)]).await;
        drop(network);
        let network = node.network().await;
        network.remove_netns(&pod.request.netns).await.unwrap();
        network.create_netns(&pod.request.netns).await.unwrap();
        network.setup(&pod.request).await.unwrap();
        assert_eq!((node.reservations().len(), node.elements(), node.veths()), (1, 1, 1));
        // The hold on what was replaced must not end the new one. It ends before one that began later, whose end is seen:
        // its namespace is held by a stranger, so the veth does not go by itself.
        let before = node.links();
        let later = node.pod(&network, &[]).await;
        let veth = node.links().into_iter().find(|link| !before.contains(link)).unwrap();
        let held = husk_sys::netns::open(&later.request.netns).unwrap();
        later.remove(&network).await;
        eventually("the later hold has ended", || !node.links().contains(&veth)).await;
        drop(held);
        assert_eq!(node.links(), before);
    });
}

#[test]
fn a_bridge_deleted_and_rules_flushed_by_somebody_come_back_with_the_next_pod() {
    on_a_node(|node| async move {
        let network = node.network().await;
        run("ip", &["link", "del", "huskt0"]);
        run("nft", &["flush", "ruleset"]);
        let pod = node.pod(&network, &[host_port(12000, 80)]).await;
        let server = pod.serve("0.0.0.0:80");
        call(at("127.0.0.1", 12000)).unwrap();
        server.join().unwrap();
    });
}

async fn refused(node: &Node) -> husk_network::NetworkStatus {
    let network = Network::start(node.config()).await.unwrap();
    let request = node.request(&[]);
    network.create_netns(&request.netns).await.unwrap();
    let error = network.setup(&request).await.unwrap_err();
    assert_eq!(error.kind(), Kind::FailedPrecondition);
    network.status()
}

#[test]
fn a_bridge_name_that_is_taken_is_said() {
    on_a_node(|node| async move {
        run("ip", &["link", "add", "huskt0", "type", "veth", "peer", "wire"]);
        let status = refused(&node).await;
        assert!(!status.ready && status.message.contains("huskt0 exists and is not a bridge"), "{status:?}");
        // Trouble that was mended is over with the next pod.
        run("ip", &["link", "del", "huskt0"]);
        node.network().await;
    });
}

#[test]
fn a_subnet_that_is_in_use_is_said_with_the_link_that_uses_it() {
    on_a_node(|node| async move {
        run("ip", &["link", "add", "lan", "type", "veth", "peer", "wire"]);
        run("ip", &["addr", "add", "10.77.0.200/25", "dev", "lan"]);
        let status = refused(&node).await;
        assert!(!status.ready && status.message.contains("10.77.0.200/25 of the link lan"), "{status:?}");
        assert!(!node.links().contains(&"huskt0".to_owned()));
    });
}

#[test]
fn a_bridge_with_another_address_is_not_taken_over() {
    on_a_node(|node| async move {
        run("ip", &["link", "add", "huskt0", "type", "bridge"]);
        run("ip", &["addr", "add", "10.1.0.1/24", "dev", "huskt0"]);
        let status = refused(&node).await;
        assert!(!status.ready && status.message.contains("has the address 10.1.0.1/24"), "{status:?}");
    });
}

#[test]
fn two_daemons_live_side_by_side() {
    on_a_node(|node| async move {
        let first = node.network().await;
        let second = Node { dir: node.dir.join("second") };
        let mut config = second.config();
        config.bridge.name = "huskt1".into();
        config.bridge.table = "husktest1".into();
        config.bridge.subnet = "10.78.0.0/24".parse().unwrap();
        let other = Network::start(config).await.unwrap();
        let (a, b) = (node.pod(&first, &[]).await, second.pod(&other, &[host_port(12000, 80)]).await);
        let server = b.serve("0.0.0.0:80");
        call(at("127.0.0.1", 12000)).unwrap();
        server.join().unwrap();
        assert!(other.gc(&HashSet::new()).await.is_empty());
        assert!(a.request.netns.exists());
        b.remove(&other).await;
        other.dismantle().await.unwrap();
        assert!(!node.links().contains(&"huskt1".to_owned()));
        assert_eq!(output("nft", &["list", "tables"]).trim(), "table inet husktest");
    });
}

#[test]
fn a_cancelled_setup_is_ended_by_teardown() {
    on_a_node(|node| async move {
        let network = node.network().await;
        for _ in 0..8 {
            let request = node.request(&[host_port(12000, 80)]);
            network.create_netns(&request.netns).await.unwrap();
            let setup = {
                let (network, request) = (network.clone(), request.clone());
                tokio::spawn(async move { network.setup(&request).await })
            };
            tokio::task::yield_now().await;
            setup.abort();
            let _ = setup.await;
            network.teardown(&request.id).await.unwrap();
            network.remove_netns(&request.netns).await.unwrap();
        }
        assert_eq!((node.reservations().len(), node.records().len(), node.elements()), (0, 0, 0));
        eventually("the veths are gone", || node.veths() == 0).await;
    });
}

#[test]
fn without_nft_pods_have_a_network_but_no_host_ports_and_the_status_says_so() {
    on_a_node(|node| async move {
        for program in
            ["/usr/sbin/nft", "/sbin/nft"].iter().filter(|path| std::path::Path::new(path).exists())
        {
            hide(program);
        }
        let network = node.network().await;
        let status = network.status();
        assert_eq!((status.ready, status.reason.as_str()), (true, "NetworkDegraded"));
        assert!(status.message.contains("nft command"), "{status:?}");
        let (a, b) = (node.pod(&network, &[]).await, node.pod(&network, &[]).await);
        let server = b.serve("0.0.0.0:80");
        a.call(at(b.ip(), 80)).unwrap();
        server.join().unwrap();
        let ported = node.request(&[host_port(12000, 80)]);
        network.create_netns(&ported.netns).await.unwrap();
        let error = network.setup(&ported).await.unwrap_err();
        assert!(matches!(error, NetworkError::NftMissing), "{error:?}");
        assert_eq!((node.reservations().len(), node.records().len()), (2, 2));
        a.remove(&network).await;
    });
}

#[test]
fn a_udp_client_that_never_stops_reaches_the_pod_that_is_there_now() {
    on_a_node(|node| async move {
        let network = node.network().await;
        let port = HostPort { protocol: Protocol::Udp, ..host_port(12000, 53) };
        let client = std::net::UdpSocket::bind("10.77.0.1:0").unwrap();
        client.connect("10.77.0.1:12000").unwrap();
        client.set_read_timeout(Some(std::time::Duration::from_secs(3))).unwrap();
        // Nobody there: the flow exists and leads nowhere.
        client.send(b"?").unwrap();
        assert!(client.recv(&mut [0; 64]).is_err());
        for _ in 0..2 {
            let pod = node.pod(&network, std::slice::from_ref(&port)).await;
            let server = pod.inside(|| std::net::UdpSocket::bind("0.0.0.0:53").unwrap());
            let server = std::thread::spawn(move || {
                let (_, from) = server.recv_from(&mut [0; 64]).unwrap();
                server.send_to(b"!", from).unwrap();
            });
            client.send(b"?").unwrap();
            assert_eq!(client.recv(&mut [0; 64]).unwrap(), 1);
            server.join().unwrap();
            pod.remove(&network).await;
        }
    });
}

#[test]
fn a_pod_from_before_a_change_of_the_bridges_name_gives_its_address_back() {
    on_a_node(|node| async move {
        let network = node.network().await;
        let pod = node.pod(&network, &[]).await;
        drop(network);
        let mut config = node.config();
        config.bridge.name = "huskt1".into();
        config.bridge.subnet = "10.78.0.0/24".parse().unwrap();
        let network = Network::start(config).await.unwrap();
        pod.remove(&network).await;
        assert_eq!(node.reservations(), Vec::<String>::new());
        assert_eq!(node.records(), Vec::<String>::new());
    });
}

/// A start that may choose its subnet.
async fn choosing(node: &Node) -> std::sync::Arc<Network> {
    let mut config = node.config();
    config.choose_subnet = true;
    Network::start(config).await.unwrap()
}

/// Gives the gateway's address of `subnet` to somebody else.
fn take_away(subnet: ipnet::IpNet) {
    let ipnet::IpNet::V4(subnet) = subnet else { panic!("IPv4 comes first") };
    let address = format!("{}/{}", subnet.hosts().nth(8).unwrap(), subnet.prefix_len());
    run("ip", &["link", "add", "podman0", "type", "bridge"]);
    run("ip", &["addr", "add", &address, "dev", "podman0"]);
    run("ip", &["link", "set", "podman0", "up"]);
}

#[test]
fn a_chosen_subnet_that_somebody_took_is_left_for_another_when_no_pod_lives_in_it() {
    on_a_node(|node| async move {
        let first = choosing(&node).await;
        let subnet = first.subnets()[0];
        // A pod that was there and went.
        node.pod(&first, &[]).await.remove(&first).await;
        drop(first);
        assert_eq!(choosing(&node).await.subnets()[0], subnet, "it stays as long as nobody has it");
        take_away(subnet);
        let second = choosing(&node).await;
        let other = second.subnets()[0];
        assert_ne!(other, subnet);
        assert!(second.status().ready, "{:?}", second.status());
        let pod = node.pod(&second, &[]).await;
        assert!(other.contains(&pod.ip()), "{} is not in {other}", pod.ip());
        pod.remove(&second).await;
        drop(second);
        assert_eq!(choosing(&node).await.subnets()[0], other, "the new one is kept");
    });
}

#[test]
fn a_chosen_subnet_that_somebody_took_stays_when_pods_live_in_it() {
    on_a_node(|node| async move {
        let first = choosing(&node).await;
        let subnet = first.subnets()[0];
        let pod = node.pod(&first, &[]).await;
        drop(first);
        take_away(subnet);
        let second = choosing(&node).await;
        assert_eq!(second.subnets()[0], subnet);
        let status = second.status();
        assert!(!status.ready && status.message.contains("podman0"), "{status:?}");
        assert!(node.links().contains(&"huskt0".to_owned()), "the pods' bridge is not touched");
        pod.remove(&second).await;
        drop(second);
        // Now nobody is in the way of another.
        let third = choosing(&node).await;
        assert_ne!(third.subnets()[0], subnet);
        assert!(third.status().ready, "{:?}", third.status());
    });
}
