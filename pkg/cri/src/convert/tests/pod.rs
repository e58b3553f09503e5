//! Pods: names, network, ports, cgroups, sysctls.

use super::*;

#[test]
fn a_request_with_nothing_but_names_is_enough() {
    let config = pod_with(|_| ()).unwrap();
    assert_eq!(config.metadata.attempt, 2);
    assert!(config.dns.is_none() && config.host_ports.is_empty() && config.cgroup_parent.is_empty());
    let config = with(|_| ()).unwrap();
    assert_eq!((config.image.as_str(), config.user_specified_image.as_str()), ("busybox", ""));
    assert_eq!(config.stop_signal, None);
    assert_eq!(config.security, SecurityContext::default());
}

#[test]
fn missing_parts_are_named() {
    refused("", pod_config(None, String::new()));
    refused("", container_config(None));
    refused(".metadata", pod_with(|message| message.metadata = None));
    refused(".metadata.name", pod_with(|message| message.metadata.as_mut().unwrap().name.clear()));
    refused(".metadata.uid", pod_with(|message| message.metadata.as_mut().unwrap().uid.clear()));
    refused(".metadata.namespace", pod_with(|message| message.metadata.as_mut().unwrap().namespace.clear()));
    refused(".metadata", with(|message| message.metadata = None));
    refused(".metadata.name", with(|message| message.metadata.as_mut().unwrap().name.clear()));
    refused(".image", with(|message| message.image = None));
    refused(".image.image", with(|message| message.image.as_mut().unwrap().image.clear()));
}

#[test]
fn host_names_are_those_the_kernel_and_a_hosts_file_can_carry() {
    for good in ["", "web-0", "a.b_c", &"x".repeat(64)] {
        assert_eq!(pod_with(|message| message.hostname = good.into()).unwrap().hostname, good);
    }
    for bad in ["a b", "a\n127.0.0.1 evil", "a\0", "ü", &"x".repeat(65)] {
        refused(".hostname", pod_with(|message| message.hostname = bad.into()));
    }
}

#[test]
fn log_paths_are_absolute_for_the_pod_and_stay_below_it_for_the_container() {
    for bad in ["relative", "/var/log/../../etc", "/a\nb"] {
        refused(".log_directory", pod_with(|message| message.log_directory = bad.into()));
    }
    assert_eq!(with(|message| message.log_path = "app/0.log".into()).unwrap().log_path, "app/0.log");
    for bad in ["/etc/passwd", "../x", "a/../../x", "a\nb", "a\0b"] {
        refused(".log_path", with(|message| message.log_path = bad.into()));
    }
}

#[test]
fn name_servers_are_addresses_and_may_have_a_zone() {
    let dns = |server: &str| {
        pod_with(|message| {
            message.dns_config = Some(v1::DnsConfig { servers: vec![server.into()], ..Default::default() });
        })
    };
    for good in ["10.96.0.10", "fd00::a", "fe80::1%eth0"] {
        assert_eq!(dns(good).unwrap().dns.unwrap().servers, [good]);
    }
    for bad in ["", "dns.example", "1.1.1.1\noptions x", "fe80::1%", "1.1.1.1%eth0", "fe80::1%a b"] {
        refused(".dns_config.servers[0]", dns(bad));
    }
}

#[test]
fn words_of_resolv_conf_cannot_start_a_line_of_their_own() {
    let dns = |search: &str, option: &str| {
        pod_with(|message| {
            message.dns_config = Some(v1::DnsConfig {
                searches: vec![search.into()],
                options: vec![option.into()],
                ..Default::default()
            });
        })
    };
    assert_eq!(dns("svc.cluster.local", "ndots:5").unwrap().dns.unwrap().options, ["ndots:5"]);
    for bad in ["", "a b", "a\nnameserver 6.6.6.6", "a\tb", "a\u{7f}"] {
        refused(".dns_config.searches[0]", dns(bad, "ndots:5"));
        refused(".dns_config.options[0]", dns("svc", bad));
    }
}

#[test]
fn only_mappings_with_a_port_of_the_node_are_kept() {
    let mapping = |container_port, host_port, host_ip: &str| v1::PortMapping {
        protocol: v1::Protocol::Udp.into(),
        container_port,
        host_port,
        host_ip: host_ip.into(),
    };
    let config = pod_with(|message| {
        message.port_mappings = vec![
            mapping(80, 0, ""),
            mapping(53, 5353, "127.0.0.1"),
            mapping(54, 54, ""),
            mapping(54, 54, ""),
        ];
    })
    .unwrap();
    assert_eq!(config.host_ports.len(), 2);
    assert_eq!(config.host_ports[0].protocol, Protocol::Udp);
    assert_eq!(config.host_ports[0].host_ip, Some([127, 0, 0, 1].into()));
    assert_eq!(config.host_ports[1].host_ip, None);
    for (field, bad) in [
        ("container_port", mapping(-1, 0, "")),
        ("container_port", mapping(0, 80, "")),
        ("container_port", mapping(65536, 80, "")),
        ("host_port", mapping(80, 70_000, "")),
        ("host_ip", mapping(80, 80, "node1")),
        ("protocol", v1::PortMapping { protocol: 9, ..mapping(80, 80, "") }),
    ] {
        refused(&format!(".port_mappings[0].{field}"), pod_with(|message| message.port_mappings.push(bad)));
    }
}

#[test]
fn a_host_port_is_of_every_address_of_its_family_or_of_one() {
    let mapping = |protocol: v1::Protocol, container_port, host_ip: &str| v1::PortMapping {
        protocol: protocol.into(),
        container_port,
        host_port: 80,
        host_ip: host_ip.into(),
    };
    let (tcp, sctp) = (v1::Protocol::Tcp, v1::Protocol::Sctp);
    let kept = |mappings: &[v1::PortMapping]| {
        pod_with(|message| message.port_mappings.extend_from_slice(mappings))
            .map(|config| config.host_ports.iter().map(|port| port.host_ip).collect::<Vec<_>>())
    };
    let ip = |text: &str| Some(text.parse().unwrap());
    // All IPv4 addresses are not all addresses: what is asked for IPv4 alone is not opened on IPv6.
    assert_eq!(kept(&[mapping(tcp, 80, "0.0.0.0")]).unwrap(), [ip("0.0.0.0")]);
    assert_eq!(kept(&[mapping(tcp, 80, "::")]).unwrap(), [ip("::")]);
    assert_eq!(kept(&[mapping(tcp, 80, "::ffff:127.0.0.1")]).unwrap(), [ip("127.0.0.1")]);
    for together in [
        [mapping(tcp, 80, ""), mapping(tcp, 81, "127.0.0.1")],
        [mapping(tcp, 80, "0.0.0.0"), mapping(tcp, 81, "::")],
        [mapping(tcp, 80, "0.0.0.0"), mapping(tcp, 80, "")],
        [mapping(tcp, 80, ""), mapping(sctp, 81, "")],
    ] {
        assert_eq!(kept(&together).unwrap().len(), 2, "{together:?}");
    }
    for twice in [
        [mapping(sctp, 80, ""), mapping(sctp, 81, "")],
        [mapping(tcp, 80, ""), mapping(tcp, 81, "0.0.0.0")],
        [mapping(tcp, 80, "127.0.0.1"), mapping(tcp, 81, "::ffff:127.0.0.1")],
    ] {
        refused(
            ".port_mappings[1].host_port",
            pod_with(|message| message.port_mappings.extend_from_slice(&twice)),
        );
    }
}

#[test]
fn a_pod_in_the_nodes_network_has_no_port_mappings() {
    let config = pod_with(|message| {
        message.port_mappings.push(v1::PortMapping {
            container_port: 80,
            host_port: 80,
            ..Default::default()
        });
        message.linux = Some(v1::LinuxPodSandboxConfig {
            security_context: Some(v1::LinuxSandboxSecurityContext {
                namespace_options: Some(v1::NamespaceOption {
                    network: v1::NamespaceMode::Node.into(),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        });
    })
    .unwrap();
    assert!(config.host_ports.is_empty());
}

#[test]
fn cgroup_parents_stay_inside_the_hierarchy() {
    let parent = |value: &str| linux(|message| message.cgroup_parent = value.into());
    for (value, taken) in [("", ""), ("/kubepods/besteffort/podu", "/kubepods/besteffort/podu"), ("x", "/x")]
    {
        assert_eq!(parent(value).unwrap().cgroup_parent, taken);
    }
    for bad in ["/../../x", "..", "/a/./b", "/a\nb", "/a\0"] {
        refused(".linux.cgroup_parent", parent(bad));
    }
}

#[test]
fn sysctls_are_those_of_the_pods_own_namespaces() {
    let sysctl = |name: &str, value: &str| {
        linux(|message| _ = message.sysctls.insert(name.to_owned(), value.to_owned()))
    };
    for good in [
        "kernel.shm_rmid_forced",
        "kernel/msgmax",
        "kernel.sem",
        "fs.mqueue.msg_max",
        "net.core.somaxconn",
        "kernel.msg_next_id",
        "net/ipv4/conf/eth0.1/forwarding",
    ] {
        assert_eq!(sysctl(good, "1").unwrap().sysctls[&good.parse().unwrap()], "1");
    }
    for bad in [
        "kernel.core_pattern",
        "vm.swappiness",
        "fs.file-max",
        "kernel.shm_rmid_forced=1\nkernel.core_pattern",
        "net.ipv4/../../kernel/core_pattern",
        "",
    ] {
        refused(&format!(".linux.sysctls[{bad:?}]"), sysctl(bad, "1"));
    }
    // CVE-2022-0811: a value that smuggles in another parameter.
    refused(".linux.sysctls[\"kernel.sem\"]", sysctl("kernel.sem", "1\nkernel.core_pattern=|/x"));
}

#[test]
fn sysctls_of_a_namespace_shared_with_the_node_are_refused() {
    let shared = |name: &str, options: v1::NamespaceOption| {
        linux(|message| {
            message.sysctls.insert(name.to_owned(), "1".to_owned());
            message.security_context = Some(v1::LinuxSandboxSecurityContext {
                namespace_options: Some(options),
                ..Default::default()
            });
        })
    };
    let node = i32::from(v1::NamespaceMode::Node);
    let ipc = v1::NamespaceOption { ipc: node, ..Default::default() };
    let network = v1::NamespaceOption { network: node, ..Default::default() };
    refused(".linux.sysctls[\"kernel.sem\"]", shared("kernel.sem", ipc.clone()));
    refused(".linux.sysctls[\"net.core.somaxconn\"]", shared("net.core.somaxconn", network.clone()));
    shared("net.core.somaxconn", ipc).unwrap();
    shared("kernel.sem", network).unwrap();
}
