//! Networks and namespaces: host ports, the host's namespaces, shared PIDs, DNS, hosts files and names.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    time::Duration,
};

use husk_e2e::{NODE, eventually_every};
use serde_json::{Value, json};

use crate::{Day, Gates, manifest, merge, shell};

const WAIT: &str = "trap 'exit 0' TERM; while :; do sleep 0.1; done";

/// Serves its host name as long as it runs.
const SERVE: &str = "mkdir -p /tmp/www; hostname > /tmp/www/name; exec httpd -f -p 8080 -h /tmp/www";

fn free_port() -> u16 {
    TcpListener::bind("0.0.0.0:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

fn http(host: &str, port: u16) -> Option<String> {
    let address = format!("{host}:{port}").parse().ok()?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET /name HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.contains(" 200 ").then(|| answer.lines().last().unwrap_or_default().to_owned())
}

fn pods(port: u16, udp: u16, own: u16) -> Vec<Value> {
    let node_names = "hostname; readlink /proc/self/ns/net; readlink /proc/self/ns/pid; readlink /proc/self/ns/ipc; readlink /proc/self/ns/uts";
    let port_of = json!({ "ports": [
        { "containerPort": 8080, "hostPort": port },
        { "containerPort": 8080, "hostPort": own, "hostIP": "127.0.0.1" },
        { "containerPort": 5353, "hostPort": udp, "protocol": "UDP" },
    ] });
    vec![
        manifest("port", json!({ "containers": [merge(shell("main", SERVE), port_of)] })),
        manifest(
            "host",
            json!({
                "restartPolicy": "Never", "hostNetwork": true, "hostPID": true, "hostIPC": true,
                "containers": [shell("main", node_names)],
            }),
        ),
        manifest("own", json!({ "restartPolicy": "Never", "containers": [shell("main", node_names)] })),
        manifest(
            "pids",
            json!({
                "shareProcessNamespace": true,
                "containers": [shell("main", &format!("(sleep 0.2 &) ; {WAIT}")), shell("other", WAIT)],
            }),
        ),
        manifest(
            "names",
            json!({
                "restartPolicy": "Never",
                "hostname": "called", "subdomain": "sub",
                "hostAliases": [{ "ip": "192.0.2.77", "hostnames": ["alias.example", "other.example"] }],
                "dnsPolicy": "None",
                "dnsConfig": {
                    "nameservers": ["192.0.2.99"],
                    "searches": ["a.example", "b.example"],
                    "options": [{ "name": "ndots", "value": "3" }, { "name": "edns0" }],
                },
                "containers": [shell("main", "hostname; cat /etc/resolv.conf; grep alias /etc/hosts; grep -c called /etc/hosts")],
            }),
        ),
        manifest(
            "default-dns",
            json!({ "restartPolicy": "Never", "dnsPolicy": "Default", "containers": [shell("main", "cat /etc/resolv.conf")] }),
        ),
        manifest(
            "environment",
            json!({
                "restartPolicy": "Never",
                "containers": [merge(shell("main", "echo $NAME $NAMESPACE $NODE $POD_IP $HOST_IP; ip -4 -o address show dev eth0"), json!({ "env": [
                    { "name": "NAME", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
                    { "name": "NAMESPACE", "valueFrom": { "fieldRef": { "fieldPath": "metadata.namespace" } } },
                    { "name": "NODE", "valueFrom": { "fieldRef": { "fieldPath": "spec.nodeName" } } },
                    { "name": "POD_IP", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } },
                ] }))],
            }),
        ),
    ]
}

fn pod_ip(day: &Day, name: &str) -> String {
    day.wait_ready(name)["status"]["podIP"].as_str().expect("an address").to_owned()
}

fn namespace(kind: &str) -> String {
    std::fs::read_link(format!("/proc/self/ns/{kind}")).expect("a namespace").display().to_string()
}

#[test]
fn networks_names_and_namespaces_are_those_that_pods_asked_for() {
    let day = Day::start(Gates::On);
    let (port, udp, own) = (free_port(), free_port(), free_port());
    day.apply_all(&pods(port, udp, own));

    let address = pod_ip(&day, "port");
    let name = format!("port-{NODE}");
    for (host, port) in [(address.as_str(), 8080), ("127.0.0.1", port), ("127.0.0.1", own)] {
        let served =
            eventually_every(Duration::from_millis(50), "the pod serves", Duration::from_secs(30), || {
                http(host, port)
            });
        assert_eq!(served, name, "{host}:{port}");
    }
    // From one pod to another, and to a host port by the node's address.
    let fetched = day.run("port", "main", &format!("wget -qO- http://{address}:8080/name"));
    assert_eq!(fetched.trim(), name);

    let shown = day.printed("host", "main");
    let expected = ["net", "pid", "ipc", "uts"].map(namespace);
    let host: Vec<&str> = shown.lines().collect();
    assert_eq!(host[1..4], expected[..3], "the node's namespaces");
    let shown = day.printed("own", "main");
    let own_names: Vec<&str> = shown.lines().collect();
    assert_eq!(own_names[0], format!("own-{NODE}"));
    assert!((1..5).all(|at| own_names[at] != expected[at - 1]), "namespaces of its own: {shown}");

    day.wait_ready("pids");
    let processes = day.run("pids", "other", "ps");
    assert_eq!(processes.matches("while :; do sleep 0.1").count(), 2, "each sees the other: {processes}");
    eventually_every(Duration::from_millis(100), "the orphan is reaped", Duration::from_secs(30), || {
        let processes = day.run("pids", "other", "ps -o stat,comm");
        (!processes.lines().any(|line| line.starts_with('Z') && line.ends_with("sleep 0.2"))).then_some(())
    });

    let names = day.printed("names", "main");
    let resolv = "nameserver 192.0.2.99\n";
    assert!(names.starts_with("called\n") && names.contains(resolv), "{names}");
    assert!(names.contains("search a.example b.example\n"), "{names}");
    assert!(names.contains("ndots:3") && names.contains("edns0"), "{names}");
    assert!(names.contains("192.0.2.77\talias.example\tother.example"), "{names}");
    assert!(names.ends_with("\n1\n"), "the pod's own line in /etc/hosts: {names}");
    assert_eq!(day.printed("default-dns", "main"), "nameserver 192.0.2.53\n");

    let shown = day.printed("environment", "main");
    let words: Vec<&str> = shown.split_whitespace().collect();
    assert_eq!(words[..3], [&format!("environment-{NODE}"), "default", NODE]);
    assert!(shown.lines().nth(1).unwrap().contains(&format!("inet {}/", words[3])), "{shown}");

    day.delete("port");
    eventually_every(Duration::from_millis(50), "the host port is closed", Duration::from_secs(60), || {
        http("127.0.0.1", port).is_none().then_some(())
    });
    day.end();
}
