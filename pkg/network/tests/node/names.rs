//! Names of user networks, as a container asks for them.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use domain::{
    base::{
        Message, MessageBuilder, Name, Rtype,
        iana::{Class, Rcode},
    },
    rdata::{A, AllRecordData},
};
use husk_model::{Attachment, DnsConfig, PodConfig, PodNetworking, PodSandboxId};
use husk_network::{NetworkSpec, PodNetworkRequest};

use crate::{
    common::{Node, PATIENCE, Pod, eventually, on_a_node, run},
    user::in_network,
};

const SERVER: &str = "127.0.0.11:53";

fn query(name: &str, qtype: Rtype) -> Vec<u8> {
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(0x4242);
    builder.header_mut().set_rd(true);
    let mut question = builder.question();
    question.push((Name::<Vec<u8>>::from_str(name).unwrap(), qtype)).unwrap();
    question.finish()
}

/// The answer to a query over UDP, from where it was sent to.
fn ask_udp(query: &[u8]) -> Option<Vec<u8>> {
    ask_udp_at(SERVER, query)
}

fn ask_udp_at(server: &str, query: &[u8]) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    socket.send(query).unwrap();
    let mut answer = vec![0; 4096];
    let length = socket.recv(&mut answer).ok()?;
    answer.truncate(length);
    Some(answer)
}

fn ask_tcp(query: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(SERVER).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&u16::try_from(query.len()).unwrap().to_be_bytes()).unwrap();
    stream.write_all(query).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut answer).unwrap();
    answer
}

/// What the records of an answer say, or how it failed.
fn read(answer: Vec<u8>) -> Vec<String> {
    let message = Message::from_octets(answer).unwrap();
    assert_eq!(message.header().id(), 0x4242);
    if message.header().rcode() != Rcode::NOERROR {
        return vec![message.header().rcode().to_string()];
    }
    let records = message.answer().unwrap().limit_to::<AllRecordData<_, _>>();
    records.map(|record| record.unwrap().data().to_string()).collect()
}

fn asked(pod: &Pod, name: &str, qtype: Rtype) -> Vec<String> {
    let query = query(name, qtype);
    read(pod.inside(|| ask_udp(&query)).expect("an answer"))
}

/// Answers every query for an address with 192.0.2.99, over UDP and TCP, until the test ends.
fn upstream(address: &str) {
    let answer = |query: &[u8]| {
        let query = Message::from_slice(query).unwrap();
        let mut answer = MessageBuilder::new_vec().start_answer(query, Rcode::NOERROR).unwrap();
        let name = query.sole_question().unwrap().to_qname_vec();
        answer.push((name, Class::IN, 60, A::from_octets(192, 0, 2, 99))).unwrap();
        answer.finish()
    };
    let (udp, tcp) = (UdpSocket::bind(address).unwrap(), TcpListener::bind(address).unwrap());
    std::thread::spawn(move || {
        let mut query = [0; 4096];
        while let Ok((length, from)) = udp.recv_from(&mut query) {
            udp.send_to(&answer(&query[..length]), from).unwrap();
        }
    });
    std::thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut query = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut query).unwrap();
            let answer = answer(&query);
            stream.write_all(&u16::try_from(answer.len()).unwrap().to_be_bytes()).unwrap();
            stream.write_all(&answer).unwrap();
        }
    });
}

trait ToQname {
    fn to_qname_vec(&self) -> Name<Vec<u8>>;
}

impl<N: domain::base::ToName> ToQname for domain::base::Question<N> {
    fn to_qname_vec(&self) -> Name<Vec<u8>> {
        self.qname().to_name()
    }
}

/// Gives the node this resolv.conf.
fn resolv_conf(node: &Node, text: &str) {
    let path = node.dir.join("resolv.conf");
    std::fs::write(&path, text).unwrap();
    rustix::mount::mount_bind(&path, "/etc/resolv.conf").unwrap();
}

async fn pod_with_dns(
    node: &Node,
    network: &Arc<husk_network::Network>,
    wanted: Attachment,
    server: &str,
) -> Pod {
    let id = PodSandboxId::generate();
    let dns = DnsConfig { servers: vec![server.to_owned()], ..DnsConfig::default() };
    let networking = PodNetworking::Named(vec![wanted]);
    let pod = PodConfig { dns: Some(dns), networking, ..husk_test_support::pod("pod") };
    let request = PodNetworkRequest::new(id.clone(), node.netns(&id), &pod);
    network.create_netns(&request.netns).await.unwrap();
    let made = network.setup(&request).await.unwrap();
    Pod { request, network: made }
}

#[test]
fn pods_of_a_network_find_each_other_by_every_alias_and_others_do_not() {
    on_a_node(|node| async move {
        let network = node.network().await;
        let user = network.user();
        let (front, back) = (
            user.create(NetworkSpec::new("front")).await.unwrap(),
            user.create(NetworkSpec::new("back")).await.unwrap(),
        );
        let web = node.user_pod(&network, vec![in_network(&front, &["web", "www"])], &[]).await;
        assert!(web.network.names);
        let second = node.user_pod(&network, vec![in_network(&front, &["web2", "www"])], &[]).await;
        let db = node.user_pod(&network, vec![in_network(&back, &["db"])], &[]).await;
        let both = node
            .user_pod(&network, vec![in_network(&front, &["app"]), in_network(&back, &["app"])], &[])
            .await;
        let ip = |pod: &Pod| pod.ip().to_string();
        assert_eq!(asked(&second, "web", Rtype::A), [ip(&web)]);
        assert_eq!(asked(&second, "WEB.front.", Rtype::A), [ip(&web)]);
        assert_eq!(asked(&web, "web", Rtype::A), [ip(&web)], "its own");
        assert_eq!(asked(&web, "web2", Rtype::AAAA), Vec::<String>::new(), "it has no such address");
        let mut www = asked(&both, "www", Rtype::A);
        let turned = asked(&both, "www", Rtype::A);
        assert_ne!(www, turned, "in turn");
        www.sort();
        let mut all = [ip(&web), ip(&second)];
        all.sort();
        assert_eq!(www, all);
        assert_eq!(asked(&both, "db", Rtype::A), [ip(&db)]);
        assert_eq!(asked(&web, "db", Rtype::A), ["SERVFAIL"], "another network, and nobody else to ask");
        assert_eq!(asked(&web, "web.back", Rtype::A), ["SERVFAIL"]);
        let octets: Vec<String> = ip(&web).split('.').rev().map(str::to_owned).collect();
        assert_eq!(asked(&second, &format!("{}.in-addr.arpa", octets.join(".")), Rtype::PTR), ["web.front."]);
        web.remove(&network).await;
        assert_eq!(asked(&second, "web", Rtype::A), ["SERVFAIL"]);
    });
}

#[test]
fn a_container_may_have_port_53_and_its_queries_go_to_the_resolver_all_the_same() {
    on_a_node(|node| async move {
        let network = node.network().await;
        let front = network.user().create(NetworkSpec::new("front")).await.unwrap();
        let pod = node.user_pod(&network, vec![in_network(&front, &["web"])], &[]).await;
        let _held =
            pod.inside(|| (UdpSocket::bind("0.0.0.0:53").unwrap(), TcpListener::bind("0.0.0.0:53").unwrap()));
        assert_eq!(asked(&pod, "web", Rtype::A), [pod.ip().to_string()]);
        let query = query("web", Rtype::A);
        assert_eq!(read(pod.inside(|| ask_tcp(&query))), [pod.ip().to_string()]);
        // One that tracks connections sees one flow, answers with it.
        pod.inside(|| {
            crate::common::run(
                "nft",
                &["add table ip t; add chain ip t o { type filter hook output priority 0; }; add rule ip t o ct state invalid drop"],
            );
        });
        assert_eq!(read(pod.inside(|| ask_tcp(&query))), [pod.ip().to_string()]);
        assert_eq!(asked(&pod, "web", Rtype::A), [pod.ip().to_string()]);
    });
}

#[test]
fn other_names_are_asked_for_at_the_nodes_servers_unless_the_pod_has_no_way_out() {
    on_a_node(|node| async move {
        resolv_conf(&node, "nameserver 127.0.0.9\nnameserver 127.0.0.1\n");
        upstream("127.0.0.1:53");
        let network = node.network().await;
        let user = network.user();
        let front = user.create(NetworkSpec::new("front")).await.unwrap();
        let inner = user.create(NetworkSpec { internal: true, ..NetworkSpec::new("inner") }).await.unwrap();
        let pod = node.user_pod(&network, vec![in_network(&front, &["web"])], &[]).await;
        assert_eq!(asked(&pod, "example.com", Rtype::A), ["192.0.2.99"], "the first server refuses");
        let query = query("example.com", Rtype::A);
        assert_eq!(read(pod.inside(|| ask_tcp(&query))), ["192.0.2.99"]);
        let closed = node.user_pod(&network, vec![in_network(&inner, &["safe"])], &[]).await;
        assert_eq!(asked(&closed, "safe", Rtype::A), [closed.ip().to_string()]);
        assert_eq!(asked(&closed, "secret.example.com", Rtype::A), ["SERVFAIL"]);
    });
}

#[test]
fn a_pods_own_servers_are_asked_from_its_namespace() {
    on_a_node(|node| async move {
        resolv_conf(&node, "nameserver 127.0.0.1\n");
        let network = node.network().await;
        let user = network.user();
        let inner = user.create(NetworkSpec { internal: true, ..NetworkSpec::new("inner") }).await.unwrap();
        let server = node.user_pod(&network, vec![in_network(&inner, &["ns"])], &[]).await;
        let address = SocketAddr::new(server.ip(), 53).to_string();
        server.inside(|| upstream(&address));
        let pod = pod_with_dns(&node, &network, in_network(&inner, &["web"]), &server.ip().to_string()).await;
        assert_eq!(asked(&pod, "example.com", Rtype::A), ["192.0.2.99"]);
        // An address of the node that the pod does not reach is not asked in its stead.
        let _listener = UdpSocket::bind("127.0.0.1:53").unwrap();
        let loopback = pod_with_dns(&node, &network, in_network(&inner, &["own"]), "127.0.0.1").await;
        assert_eq!(asked(&loopback, "example.com", Rtype::A), ["SERVFAIL"]);
    });
}

#[test]
fn names_are_served_again_by_the_next_daemon_also_where_a_container_took_the_port() {
    on_a_node(|node| async move {
        let network = node.network().await;
        let front = network.user().create(NetworkSpec::new("front")).await.unwrap();
        let pod = node.user_pod(&network, vec![in_network(&front, &["web"])], &[]).await;
        let other = node.user_pod(&network, vec![in_network(&front, &["db"])], &[]).await;
        drop(network);
        let record = node.dir.join(format!("root/network/pods/{}.json", pod.id()));
        let port = || {
            let record: serde_json::Value = serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
            u16::try_from(record["attachment"]["user"]["name_port"].as_u64().unwrap()).unwrap()
        };
        let former = port();
        let taken =
            husk_test_support::eventually("the former daemon let go of its sockets", PATIENCE, || {
                pod.inside(|| UdpSocket::bind(("127.0.0.11", former)).ok())
            });
        let network = node.network().await;
        assert_ne!(port(), former);
        drop(taken);
        assert_eq!(asked(&pod, "db", Rtype::A), [other.ip().to_string()]);
        assert_eq!(asked(&other, "web", Rtype::A), [pod.ip().to_string()]);
        drop(network);
    });
}

/// What the node of a kind cluster does, so that its pods can ask, too.
#[test]
fn a_container_may_lead_other_addresses_to_the_resolvers_port_by_nat() {
    on_a_node(|node| async move {
        let network = node.network().await;
        let front = network.user().create(NetworkSpec::new("front")).await.unwrap();
        let pod = node.user_pod(&network, vec![in_network(&front, &["web"])], &[]).await;
        let record = node.dir.join(format!("root/network/pods/{}.json", pod.id()));
        let record: serde_json::Value = serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
        let port = record["attachment"]["user"]["name_port"].as_u64().unwrap();
        let gateway = front.subnets[0].gateway;
        let rule = format!("ip daddr {gateway} udp dport 53 dnat to 127.0.0.11:{port}");
        let rules =
            format!("table ip own {{ chain out {{ type nat hook output priority -110; {rule}; }}; }}");
        pod.inside(|| run("nft", &[&rules]));
        let server = format!("{gateway}:53");
        let query = query("web", Rtype::A);
        let answer =
            pod.inside(|| ask_udp_at(&server, &query)).expect("an answer from the gateway's address");
        assert_eq!(read(answer), [pod.ip().to_string()]);
        assert_eq!(asked(&pod, "web", Rtype::A), [pod.ip().to_string()]);
        drop(network);
    });
}

#[test]
fn a_pod_without_named_networks_has_no_resolver_and_one_that_comes_into_one_gets_it() {
    on_a_node(|node| async move {
        let network = node.network().await;
        let user = network.user();
        let bridge = user.default_bridge().await.unwrap();
        let front = user.create(NetworkSpec::new("front")).await.unwrap();
        let web = node.user_pod(&network, vec![in_network(&front, &["web"])], &[]).await;
        let pod = node.user_pod(&network, vec![in_network(&bridge, &["lone"])], &[]).await;
        assert!(!pod.network.names);
        let query = query("web", Rtype::A);
        assert!(pod.inside(|| ask_udp(&query)).is_none());
        user.connect(pod.id(), in_network(&front, &["late"])).await.unwrap();
        assert_eq!(asked(&pod, "web", Rtype::A), [web.ip().to_string()]);
        assert_eq!(asked(&pod, "lone", Rtype::A), ["SERVFAIL"], "no names are served in that network");
        assert_eq!(asked(&web, "late", Rtype::A).len(), 1);
        user.disconnect(pod.id(), "front", false).await.unwrap();
        assert_eq!(asked(&web, "late", Rtype::A), ["SERVFAIL"]);
    });
}

#[test]
fn a_pod_that_is_gone_leaves_no_link_though_it_had_a_resolver() {
    on_a_node(|node| async move {
        let network = node.network().await;
        let front = network.user().create(NetworkSpec::new("front")).await.unwrap();
        let pod = node.user_pod(&network, vec![in_network(&front, &["web"])], &[]).await;
        pod.remove(&network).await;
        eventually("its veth is gone", || !node.links().iter().any(|name| name.starts_with("hv"))).await;
    });
}

#[test]
fn a_pod_that_floods_its_resolver_slows_nobody_elses_down() {
    on_a_node(|node| async move {
        resolv_conf(&node, "nameserver 192.0.2.254\n");
        let network = node.network().await;
        let front = network.user().create(NetworkSpec::new("front")).await.unwrap();
        let (loud, quiet) = (
            node.user_pod(&network, vec![in_network(&front, &["loud"])], &[]).await,
            node.user_pod(&network, vec![in_network(&front, &["quiet"])], &[]).await,
        );
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let flood = {
            let stop = Arc::clone(&stop);
            let socket = loud.inside(|| UdpSocket::bind("0.0.0.0:0").unwrap());
            std::thread::spawn(move || {
                let queries = [query("example.com", Rtype::A), query("loud", Rtype::A), vec![0xff; 40]];
                for turn in 0.. {
                    if stop.load(std::sync::atomic::Ordering::Relaxed) {
                        break;
                    }
                    // A full buffer is the flood's own trouble.
                    let _ = socket.send_to(&queries[turn % queries.len()], SERVER);
                }
            })
        };
        for _ in 0..50 {
            assert_eq!(asked(&quiet, "loud", Rtype::A), [loud.ip().to_string()]);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        flood.join().unwrap();
    });
}
