//! Pods in networks that somebody made by name, from the engine to what their containers see. Needs root.

mod common;

use std::fs;

use common::{Node, ready, shell};
use husk_model::{Attachment, PodConfig, PodNetworking};
use husk_network::NetworkSpec;

/// Runs a test in a network namespace of its own, which the node's bridges are made in.
fn apart(test: impl FnOnce() + Send) {
    if !ready() {
        return;
    }
    let (_ns, ()) = husk_sys::netns::create(test).unwrap();
}

fn pod(node: &Node, name: &str, networking: PodNetworking) -> String {
    let config = PodConfig { networking, ..node.pod_config(name) };
    node.wait(node.engine().run_pod_sandbox(config)).expect("the pod runs").to_string()
}

/// What a script in a container of the pod says.
fn said(node: &Node, pod: &str, name: &str, script: &str) -> String {
    let container = node.create(pod, shell(name, script));
    node.wait(node.engine().start_container(&container)).expect("the container starts");
    node.wait_exit(&container);
    fs::read_to_string(node.dir.path().join("logs").join(format!("{name}.log"))).unwrap()
}

#[test]
fn containers_of_a_user_network_find_each_other_by_name_also_after_the_daemon_was_killed() {
    apart(|| {
        let mut node = Node::start_networked();
        let user = node.real.as_ref().unwrap().user();
        let front = node.wait(user.create(NetworkSpec::new("front"))).unwrap();
        drop(user);
        let named = |alias: &str| {
            let aliases = vec![alias.to_owned()];
            PodNetworking::Named(vec![Attachment {
                network: front.id.clone(),
                aliases,
                ..Attachment::default()
            }])
        };
        let web = pod(&node, "web", named("web"));
        let client = pod(&node, "client", named("client"));
        let status = node.engine().pod_status(&web).unwrap();
        let ip = status.ips[0].to_string();
        let files = said(&node, &client, "files", "cat /etc/resolv.conf /etc/hosts");
        assert!(files.contains("nameserver 127.0.0.11") && files.contains("ndots:0"), "{files}");
        assert!(files.contains("client"), "{files}");
        let found = said(&node, &client, "found", "busybox nslookup web 127.0.0.11");
        assert!(found.contains(&ip), "{found}");
        node.restart();
        let again = said(&node, &client, "again", "busybox nslookup web.front 127.0.0.11");
        assert!(again.contains(&ip), "{again}");
        node.remove_all();
        let user = node.real.as_ref().unwrap().user();
        assert!(user.attached(&front.id).is_empty());
        node.wait(user.remove("front")).unwrap();
    });
}

#[test]
fn an_isolated_pod_has_loopback_alone() {
    apart(|| {
        let node = Node::start_networked();
        let alone = pod(&node, "alone", PodNetworking::Isolated);
        assert!(node.engine().pod_status(&alone).unwrap().ips.is_empty());
        let links = said(&node, &alone, "links", "ls /sys/class/net; busybox ping -c 1 127.0.0.1");
        assert!(links.contains(" lo") && !links.contains("eth0"), "{links}");
        assert!(links.contains("1 packets received"), "{links}");
        node.remove_all();
    });
}
