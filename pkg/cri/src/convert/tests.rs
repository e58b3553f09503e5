//! Requests as clients send them, and as nobody should: what is taken, and which field a refusal names.

use husk_model::{
    AppArmor, ContainerConfig, GroupsPolicy, MountSource, NamespaceMode, PodConfig, Propagation, Protocol,
    SeccompProfile, SecurityContext, Signal, UserSpec,
};
use husk_proto::cri::v1::{self, security_profile::ProfileType};

use super::{check::Invalid, container_config, pod_config, signal};

fn pod() -> v1::PodSandboxConfig {
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: "web".into(),
            uid: "u".into(),
            namespace: "default".into(),
            attempt: 2,
        }),
        ..Default::default()
    }
}

fn container() -> v1::ContainerConfig {
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: "app".into(), attempt: 1 }),
        image: Some(v1::ImageSpec { image: "busybox".into(), ..Default::default() }),
        ..Default::default()
    }
}

fn pod_with(change: impl FnOnce(&mut v1::PodSandboxConfig)) -> Result<PodConfig, Invalid> {
    let mut message = pod();
    change(&mut message);
    pod_config(Some(message), String::new())
}

fn with(change: impl FnOnce(&mut v1::ContainerConfig)) -> Result<ContainerConfig, Invalid> {
    let mut message = container();
    change(&mut message);
    container_config(Some(message))
}

fn linux(change: impl FnOnce(&mut v1::LinuxPodSandboxConfig)) -> Result<PodConfig, Invalid> {
    pod_with(|message| change(message.linux.get_or_insert_default()))
}

fn security(change: impl FnOnce(&mut v1::LinuxContainerSecurityContext)) -> Result<SecurityContext, Invalid> {
    with(|message| change(message.linux.get_or_insert_default().security_context.get_or_insert_default()))
        .map(|config| config.security)
}

fn sandbox_security(
    change: impl FnOnce(&mut v1::LinuxSandboxSecurityContext),
) -> Result<SecurityContext, Invalid> {
    linux(|message| change(message.security_context.get_or_insert_default())).map(|config| config.security)
}

fn limits(change: impl FnOnce(&mut v1::LinuxContainerResources)) -> Result<husk_model::Resources, Invalid> {
    with(|message| change(message.linux.get_or_insert_default().resources.get_or_insert_default()))
        .map(|config| config.resources)
}

fn mount(change: impl FnOnce(&mut v1::Mount)) -> Result<husk_model::Mount, Invalid> {
    let mut mount = v1::Mount { container_path: "/c".into(), host_path: "/h".into(), ..Default::default() };
    change(&mut mount);
    with(|message| message.mounts.push(mount)).map(|mut config| config.mounts.remove(0))
}

fn id(value: i64) -> Option<v1::Int64Value> {
    Some(v1::Int64Value { value })
}

fn profile(kind: ProfileType, reference: &str) -> Option<v1::SecurityProfile> {
    Some(v1::SecurityProfile { profile_type: kind.into(), localhost_ref: reference.into() })
}

/// The refusal names exactly `field`, under `config`.
#[track_caller]
fn refused<T: std::fmt::Debug>(field: &str, result: Result<T, Invalid>) -> Invalid {
    let error = result.expect_err(field);
    assert_eq!(error.field, format!("config{field}"), "{error}");
    assert!(!error.reason.is_empty());
    error
}

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
        "net/ipv4/conf/eth0.1/forwarding",
    ] {
        assert_eq!(sysctl(good, "1").unwrap().sysctls[good], "1");
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

#[test]
fn an_unset_seccomp_profile_is_unconfined_and_an_empty_one_is_the_default() {
    let seccomp = |value: Option<v1::SecurityProfile>| security(|context| context.seccomp = value);
    assert_eq!(seccomp(None).unwrap().seccomp, SeccompProfile::Unconfined);
    let empty = Some(v1::SecurityProfile::default());
    assert_eq!(seccomp(empty).unwrap().seccomp, SeccompProfile::RuntimeDefault);
    let localhost = seccomp(profile(ProfileType::Localhost, "/p.json")).unwrap();
    assert_eq!(localhost.seccomp, SeccompProfile::Localhost("/p.json".into()));
    let prefixed = seccomp(profile(ProfileType::Localhost, "localhost//p.json")).unwrap();
    assert_eq!(prefixed.seccomp, SeccompProfile::Localhost("/p.json".into()));
    for bad in ["", "p.json", "/a\nb"] {
        refused(
            ".linux.security_context.seccomp.localhost_ref",
            seccomp(profile(ProfileType::Localhost, bad)),
        );
    }
    let unknown = Some(v1::SecurityProfile { profile_type: 7, localhost_ref: String::new() });
    refused(".linux.security_context.seccomp.profile_type", seccomp(unknown));
}

#[test]
#[allow(deprecated)]
fn the_deprecated_seccomp_field_counts_only_without_the_new_one() {
    let old = |path: &str| security(|context| context.seccomp_profile_path = path.into());
    for (path, expected) in [
        ("", SeccompProfile::Unconfined),
        ("unconfined", SeccompProfile::Unconfined),
        ("runtime/default", SeccompProfile::RuntimeDefault),
        ("docker/default", SeccompProfile::RuntimeDefault),
        ("localhost//p.json", SeccompProfile::Localhost("/p.json".into())),
    ] {
        assert_eq!(old(path).unwrap().seccomp, expected, "{path}");
    }
    refused(".linux.security_context.seccomp_profile_path", old("localhost/p.json"));
    refused(".linux.security_context.seccomp_profile_path", old("something"));
    let both = security(|context| {
        context.seccomp_profile_path = "something".into();
        context.seccomp = profile(ProfileType::Unconfined, "");
    });
    assert_eq!(both.unwrap().seccomp, SeccompProfile::Unconfined);
}

#[test]
#[allow(deprecated)]
fn apparmor_is_taken_from_the_message_before_the_deprecated_text() {
    let named = |name: &str| AppArmor::Localhost(name.to_owned());
    assert_eq!(security(|_| ()).unwrap().apparmor, AppArmor::Unset);
    let new = |kind, name: &str| security(|context| context.apparmor = profile(kind, name));
    assert_eq!(new(ProfileType::RuntimeDefault, "").unwrap().apparmor, AppArmor::RuntimeDefault);
    assert_eq!(new(ProfileType::Unconfined, "").unwrap().apparmor, AppArmor::Unconfined);
    for name in ["x", "localhost/x"] {
        assert_eq!(new(ProfileType::Localhost, name).unwrap().apparmor, named("x"));
    }
    for bad in ["", "localhost/", "a\nb"] {
        refused(".linux.security_context.apparmor.localhost_ref", new(ProfileType::Localhost, bad));
    }
    let old = |name: &str| security(|context| context.apparmor_profile = name.into());
    assert_eq!(old("runtime/default").unwrap().apparmor, AppArmor::RuntimeDefault);
    assert_eq!(old("unconfined").unwrap().apparmor, AppArmor::Unconfined);
    assert_eq!(old("localhost/x").unwrap().apparmor, named("x"));
    for bad in ["x", "localhost/"] {
        refused(".linux.security_context.apparmor_profile", old(bad));
    }
    let both = security(|context| {
        context.apparmor_profile = "localhost/x".into();
        context.apparmor = profile(ProfileType::Unconfined, "");
    });
    assert_eq!(both.unwrap().apparmor, AppArmor::Unconfined);
}

#[test]
fn a_group_needs_a_user_in_a_container_and_not_in_a_sandbox() {
    refused(".linux.security_context.run_as_group", security(|context| context.run_as_group = id(5)));
    let context = security(|context| {
        context.run_as_group = id(5);
        context.run_as_username = "www-data".into();
    })
    .unwrap();
    assert_eq!(context.run_as_user, Some(UserSpec::Name("www-data".into())));
    assert_eq!(context.run_as_group, Some(5));
    assert_eq!(sandbox_security(|context| context.run_as_group = id(5)).unwrap().run_as_group, Some(5));
}

#[test]
fn user_and_group_ids_end_before_the_one_that_means_none() {
    let last = i64::from(u32::MAX) - 1;
    let context = security(|context| context.run_as_user = id(last)).unwrap();
    assert_eq!(context.run_as_user, Some(UserSpec::Uid(u32::MAX - 1)));
    for bad in [-1, last + 1, last + 2, i64::MAX, i64::MIN] {
        let at = |field: &str| format!(".linux.security_context.{field}");
        refused(&at("run_as_user"), security(|context| context.run_as_user = id(bad)));
        let group = security(|context| {
            context.run_as_user = id(0);
            context.run_as_group = id(bad);
        });
        refused(&at("run_as_group"), group);
        refused(
            &at("supplemental_groups[1]"),
            security(|context| context.supplemental_groups = vec![0, bad]),
        );
        refused(&at("run_as_user"), sandbox_security(|context| context.run_as_user = id(bad)));
    }
}

#[test]
fn a_user_name_of_digits_is_an_id_and_never_a_name() {
    let user = |name: &str| security(|context| context.run_as_username = name.into());
    assert_eq!(user("1000").unwrap().run_as_user, Some(UserSpec::Uid(1000)));
    assert_eq!(user("").unwrap().run_as_user, None);
    for bad in ["4294967295", "99999999999999999999", "-1", "a:b", "a\nb"] {
        refused(".linux.security_context.run_as_username", user(bad));
    }
    let both = security(|context| {
        context.run_as_user = id(1);
        context.run_as_username = "x".into();
    });
    refused(".linux.security_context.run_as_username", both);
}

#[test]
fn capabilities_are_known_and_lose_their_prefix() {
    let capability = |name: &str| {
        security(|context| {
            context.capabilities =
                Some(v1::Capability { add_capabilities: vec![name.into()], ..Default::default() });
        })
    };
    for (name, short) in [("NET_ADMIN", "NET_ADMIN"), ("CAP_NET_ADMIN", "NET_ADMIN"), ("all", "ALL")] {
        assert_eq!(capability(name).unwrap().capabilities.add, [short]);
    }
    for bad in ["", "NO_SUCH", "CAP_", "CAP_CAP_CHOWN"] {
        refused(".linux.security_context.capabilities.add_capabilities[0]", capability(bad));
    }
    let dropped = security(|context| {
        context.capabilities =
            Some(v1::Capability { drop_capabilities: vec!["NO_SUCH".into()], ..Default::default() });
    });
    refused(".linux.security_context.capabilities.drop_capabilities[0]", dropped);
}

#[test]
fn namespaces_default_to_the_pods() {
    let context = security(|_| ()).unwrap();
    assert_eq!(context.namespaces.pid, NamespaceMode::Pod);
    let options = |option: v1::NamespaceOption| security(|context| context.namespace_options = Some(option));
    let target = v1::NamespaceOption {
        pid: v1::NamespaceMode::Target.into(),
        target_id: "f".repeat(64),
        ..Default::default()
    };
    assert_eq!(options(target.clone()).unwrap().namespaces.pid, NamespaceMode::Target);
    let field = |name: &str| format!(".linux.security_context.namespace_options.{name}");
    refused(&field("target_id"), options(v1::NamespaceOption { target_id: String::new(), ..target.clone() }));
    let container = i32::from(v1::NamespaceMode::Container);
    refused(&field("network"), options(v1::NamespaceOption { network: container, ..Default::default() }));
    refused(&field("ipc"), options(v1::NamespaceOption { ipc: container, ..Default::default() }));
    refused(&field("pid"), options(v1::NamespaceOption { pid: 77, ..Default::default() }));
    refused(&field("pid"), sandbox_security(|context| context.namespace_options = Some(target)));
}

#[test]
fn a_user_namespace_has_one_range_of_each_kind_from_root_on() {
    let mapping = |container_id, length| v1::IdMapping { host_id: 100_000, container_id, length };
    let user = |mode: v1::NamespaceMode, uids: Vec<v1::IdMapping>| {
        sandbox_security(|context| {
            context.namespace_options = Some(v1::NamespaceOption {
                userns_options: Some(v1::UserNamespace { mode: mode.into(), gids: uids.clone(), uids }),
                ..Default::default()
            });
        })
    };
    assert_eq!(user(v1::NamespaceMode::Node, Vec::new()).unwrap().namespaces.user, None);
    let at = ".linux.security_context.namespace_options.userns_options";
    let good = mapping(0, 65_536);
    refused(&format!("{at}.uids"), user(v1::NamespaceMode::Pod, vec![good, good]));
    refused(&format!("{at}.uids"), user(v1::NamespaceMode::Pod, Vec::new()));
    refused(&format!("{at}.uids"), user(v1::NamespaceMode::Node, vec![good]));
    refused(&format!("{at}.uids[0].container_id"), user(v1::NamespaceMode::Pod, vec![mapping(1, 65_536)]));
    refused(&format!("{at}.uids[0].length"), user(v1::NamespaceMode::Pod, vec![mapping(0, 0)]));
    refused(&format!("{at}.uids[0].length"), user(v1::NamespaceMode::Pod, vec![mapping(0, u32::MAX)]));
    refused(&format!("{at}.mode"), user(v1::NamespaceMode::Container, vec![good]));
    refused(&format!("{at}.mode"), user(v1::NamespaceMode::Target, vec![good]));
    let ours = husk_model::IdMapping { host_id: 100_000, container_id: 0, length: 65_536 };
    assert_eq!(user(v1::NamespaceMode::Pod, vec![good]).unwrap().namespaces.user, Some((ours, ours)));
}

#[test]
fn a_user_namespace_excludes_the_nodes_pids_and_queues() {
    let map = vec![v1::IdMapping { host_id: 100_000, container_id: 0, length: 65_536 }];
    let user = v1::UserNamespace { mode: 0, uids: map.clone(), gids: map };
    let node = i32::from(v1::NamespaceMode::Node);
    let with = |change: fn(&mut v1::NamespaceOption, i32)| {
        let mut options =
            v1::NamespaceOption { userns_options: Some(user.clone()), ..v1::NamespaceOption::default() };
        change(&mut options, node);
        sandbox_security(|context| context.namespace_options = Some(options))
    };
    let at = ".linux.security_context.namespace_options";
    refused(&format!("{at}.pid"), with(|options, node| options.pid = node));
    refused(&format!("{at}.ipc"), with(|options, node| options.ipc = node));
    assert!(
        with(|options, node| options.network = node).is_ok(),
        "KEP-127: the node's network may be shared"
    );
}

#[test]
fn a_container_has_the_user_namespace_of_its_pod_or_is_refused() {
    let map = |host_id| vec![v1::IdMapping { host_id, container_id: 0, length: 65_536 }];
    let user = |host_id| v1::UserNamespace { mode: 0, uids: map(host_id), gids: map(host_id) };
    let node = v1::UserNamespace { mode: v1::NamespaceMode::Node.into(), ..Default::default() };
    let options = |user| v1::NamespaceOption { userns_options: user, ..Default::default() };
    let pod = |user| {
        sandbox_security(|context| context.namespace_options = Some(options(user))).unwrap().namespaces
    };
    let check = |of_pod: Option<v1::UserNamespace>,
                 of_container: Option<v1::UserNamespace>,
                 mount: v1::Mount| {
        let message = v1::ContainerConfig {
            linux: Some(v1::LinuxContainerConfig {
                security_context: Some(v1::LinuxContainerSecurityContext {
                    namespace_options: Some(options(of_container)),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            mounts: vec![v1::Mount { container_path: "/data".into(), host_path: "/data".into(), ..mount }],
            ..container()
        };
        let asked = super::asked_user_namespace(Some(&message)).unwrap();
        let config = container_config(Some(message)).unwrap();
        super::check_user_namespace(&pod(of_pod), asked, &config).map_err(|error| error.field)
    };
    let plain = v1::Mount::default;
    assert_eq!(check(Some(user(1000)), Some(user(1000)), plain()), Ok(()));
    assert_eq!(check(Some(user(1000)), None, plain()), Ok(()));
    assert_eq!(check(None, Some(node.clone()), plain()), Ok(()));
    let field = "config.linux.security_context.namespace_options.userns_options".to_owned();
    for (of_pod, of_container) in
        [(Some(user(1000)), Some(user(2000))), (Some(user(1000)), Some(node)), (None, Some(user(1000)))]
    {
        assert_eq!(check(of_pod, of_container, plain()), Err(field.clone()));
    }
    let mapped = |host_id| v1::Mount { uid_mappings: map(host_id), gid_mappings: map(host_id), ..plain() };
    assert_eq!(check(Some(user(1000)), None, mapped(1000)), Ok(()));
    for of_pod in [None, Some(user(2000))] {
        assert_eq!(check(of_pod, None, mapped(1000)), Err("config.mounts[0].uidMappings".to_owned()));
    }
    let shared = v1::Mount { propagation: v1::MountPropagation::PropagationBidirectional.into(), ..plain() };
    assert_eq!(check(Some(user(1000)), None, shared.clone()), Err("config.mounts[0].propagation".to_owned()));
    assert_eq!(check(None, None, shared), Ok(()));
}

#[test]
fn groups_policy_and_paths_are_taken_as_they_are() {
    let context = security(|context| {
        context.supplemental_groups_policy = v1::SupplementalGroupsPolicy::Strict.into();
        context.masked_paths = vec!["/proc/kcore".into()];
        context.readonly_paths = vec!["/proc/sys".into()];
    })
    .unwrap();
    assert_eq!(context.groups_policy, GroupsPolicy::Strict);
    assert_eq!(context.masked_paths, ["/proc/kcore"]);
    refused(
        ".linux.security_context.masked_paths[0]",
        security(|context| context.masked_paths = vec!["proc/kcore".into()]),
    );
}

#[test]
fn zero_limits_are_no_limits() {
    assert_eq!(limits(|_| ()).unwrap(), husk_model::Resources::default());
    let taken = limits(|limits| {
        limits.cpu_quota = -1;
        limits.memory_limit_in_bytes = 64 << 20;
        limits.memory_swap_limit_in_bytes = -1;
        limits.cpuset_cpus = "0-3,7".into();
        limits.oom_score_adj = -998;
    })
    .unwrap();
    assert_eq!(
        (taken.cpu_quota, taken.memory_limit, taken.memory_swap_limit),
        (Some(-1), Some(64 << 20), Some(-1))
    );
    assert_eq!(taken.oom_score_adj, -998);
}

#[test]
fn limits_out_of_range_are_refused() {
    type Change = fn(&mut v1::LinuxContainerResources);
    let cases: [(&str, Change); 16] = [
        ("cpu_period", |limits| limits.cpu_period = 999),
        ("cpu_period", |limits| limits.cpu_period = 1_000_001),
        ("cpu_period", |limits| limits.cpu_period = -5),
        ("cpu_quota", |limits| limits.cpu_quota = 999),
        ("cpu_shares", |limits| limits.cpu_shares = -2),
        ("memory_limit_in_bytes", |limits| limits.memory_limit_in_bytes = 1024),
        ("memory_swap_limit_in_bytes", |limits| {
            limits.memory_limit_in_bytes = 64 << 20;
            limits.memory_swap_limit_in_bytes = 32 << 20;
        }),
        ("oom_score_adj", |limits| limits.oom_score_adj = 1001),
        ("oom_score_adj", |limits| limits.oom_score_adj = i64::MIN),
        ("cpuset_cpus", |limits| limits.cpuset_cpus = "0-".into()),
        ("cpuset_cpus", |limits| limits.cpuset_cpus = "3-1".into()),
        ("cpuset_cpus", |limits| limits.cpuset_cpus = "0\n1".into()),
        ("cpuset_mems", |limits| limits.cpuset_mems = ",".into()),
        ("hugepage_limits[0].page_size", |limits| {
            limits.hugepage_limits.push(v1::HugepageLimit { page_size: "../x".into(), limit: 1 });
        }),
        ("unified[\"../memory.max\"]", |limits| {
            limits.unified.insert("../memory.max".into(), "1".into());
        }),
        // Would move a process of the node into the container's group.
        ("unified[\"cgroup.procs\"]", |limits| {
            limits.unified.insert("cgroup.procs".into(), "1".into());
        }),
    ];
    for (field, change) in cases {
        refused(&format!(".linux.resources.{field}"), limits(change));
    }
}

#[test]
fn commands_and_variables_carry_no_nul() {
    refused(".command[1]", with(|message| message.command = vec!["a".into(), "b\0".into()]));
    refused(".args[0]", with(|message| message.args = vec!["\0".into()]));
    refused(".working_dir", with(|message| message.working_dir = "relative".into()));
    let variable = |key: &str, value: &[u8]| {
        with(|message| message.envs.push(v1::KeyValue { key: key.into(), value: value.to_vec().into() }))
    };
    assert_eq!(variable("A", b"x=\ny").unwrap().envs[0].value, b"x=\ny");
    assert_eq!(variable("A", b"\xff\xfe").unwrap().envs[0].value, b"\xff\xfe", "the field is bytes");
    refused(".envs[0].key", variable("", b"x"));
    refused(".envs[0].key", variable("A=B", b"x"));
    refused(".envs[0].key", variable("A\0", b"x"));
    refused(".envs[0].value", variable("A", b"a\0b"));
}

#[test]
fn mounts_follow_the_rules_of_propagation_and_recursion() {
    let taken =
        mount(|mount| mount.propagation = v1::MountPropagation::PropagationBidirectional.into()).unwrap();
    assert_eq!(taken.propagation, Propagation::Bidirectional);
    let recursive = mount(|mount| {
        mount.readonly = true;
        mount.recursive_read_only = true;
    });
    assert!(recursive.unwrap().recursive_readonly);
    type Change = fn(&mut v1::Mount);
    // The status answers what was asked for, however it is spelled.
    for path in ["c", "./c/", "/a/../c", "/a\nb"] {
        let asked = mount(|mount| mount.container_path = path.into()).unwrap();
        assert_eq!(asked.container_path, path);
    }
    let cases: [(&str, Change); 13] = [
        ("container_path", |mount| mount.container_path = "/a/../..".into()),
        ("container_path", |mount| mount.container_path = "/a\0b".into()),
        ("container_path", |mount| mount.container_path = ".".into()),
        ("container_path", |mount| mount.container_path = "//.".into()),
        ("container_path", |mount| mount.container_path.clear()),
        ("host_path", |mount| mount.host_path = "h".into()),
        ("host_path", |mount| mount.host_path.clear()),
        ("host_path", |mount| mount.host_path = "/a\0b".into()),
        ("propagation", |mount| mount.propagation = 9),
        ("recursive_read_only", |mount| mount.recursive_read_only = true),
        ("recursive_read_only", |mount| {
            mount.readonly = true;
            mount.recursive_read_only = true;
            mount.propagation = v1::MountPropagation::PropagationHostToContainer.into();
        }),
        ("uidMappings[0].length", |mount| mount.uid_mappings.push(v1::IdMapping::default())),
        ("mount_options[0]", |mount| mount.mount_options.push("suid".into())),
    ];
    for (field, change) in cases {
        refused(&format!(".mounts[0].{field}"), mount(change));
    }
}

#[test]
fn image_volumes_are_read_only_and_their_sub_path_stays_below_the_image() {
    let mount = |host_path: &str, sub_path: &str, readonly: bool| {
        with(|message| {
            message.mounts.push(v1::Mount {
                container_path: "/mnt".into(),
                host_path: host_path.into(),
                readonly,
                image: Some(v1::ImageSpec { image: "busybox".into(), ..Default::default() }),
                image_sub_path: sub_path.into(),
                ..Default::default()
            });
        })
        .map(|mut config| config.mounts.remove(0).source)
    };
    let source = MountSource::Image { reference: "busybox".into(), sub_path: "etc/x".into() };
    assert_eq!(mount("", "etc/x", true).unwrap(), source);
    refused(".mounts[0].readonly", mount("", "", false));
    refused(".mounts[0].host_path", mount("/tmp", "", true));
    for outside in ["/etc", "..", "a/../../b", "a\0b"] {
        refused(".mounts[0].image_sub_path", mount("", outside, true));
    }
}

#[test]
fn devices_have_paths_and_permissions() {
    let device = |container_path: &str, host_path: &str, permissions: &str| {
        with(|message| {
            message.devices.push(v1::Device {
                container_path: container_path.into(),
                host_path: host_path.into(),
                permissions: permissions.into(),
            });
        })
        .map(|mut config| config.devices.remove(0))
    };
    assert_eq!(device("", "/dev/fuse", "rwm").unwrap().container_path, "/dev/fuse");
    refused(".devices[0].host_path", device("/dev/x", "dev/x", "r"));
    refused(".devices[0].container_path", device("dev/x", "/dev/x", "r"));
    refused(".devices[0].permissions", device("/dev/x", "/dev/x", ""));
    refused(".devices[0].permissions", device("/dev/x", "/dev/x", "rx"));
}

#[test]
fn cdi_devices_are_those_of_the_field_then_those_of_annotations() {
    let (zero, one) = ("vendor.com/gpu=0", "vendor.com/gpu=1");
    let devices = |names: &[&str], annotation: &str| {
        with(|message| {
            let device = |name: &&str| v1::CdiDevice { name: name.to_string() };
            message.cdi_devices = names.iter().map(device).collect();
            if !annotation.is_empty() {
                message.annotations.insert("cdi.k8s.io/x".into(), annotation.into());
            }
        })
        .map(|config| config.cdi_devices)
    };
    assert_eq!(devices(&[zero, one, zero], "").unwrap(), [zero, one], "each once");
    assert_eq!(devices(&[zero, one], "vendor.com/gpu=1,vendor.com/gpu=0").unwrap(), [zero, one]);
    refused(".CDI_devices[1].name", devices(&[zero, "gpu"], ""));
    refused(".CDI_devices[0].name", devices(&[""], ""));
    assert_eq!(devices(&[], one).unwrap(), [one]);
    assert_eq!(devices(&[one], "vendor.com/gpu=0,vendor.com/gpu=1").unwrap(), [one, zero]);
    for wrong in ["gpu", "vendor.com/gpu=0,", ",", " vendor.com/gpu=0"] {
        refused(".annotations[\"cdi.k8s.io/x\"]", devices(&[zero], wrong));
    }
    let other = with(|message| {
        message.annotations.insert("cdi.k8s.io".into(), "x".into());
    });
    assert!(other.unwrap().cdi_devices.is_empty(), "only the prefix with its slash");
}

#[test]
fn signals_of_the_cri_become_those_of_linux_and_come_back() {
    for (theirs, ours) in [
        (v1::Signal::RuntimeDefault, None),
        (v1::Signal::Sigabrt, Some(6)),
        (v1::Signal::Sigterm, Some(15)),
        (v1::Signal::Sigkill, Some(9)),
        (v1::Signal::Sigusr1, Some(10)),
        (v1::Signal::Sigwinch, Some(28)),
        (v1::Signal::Sigxfsz, Some(25)),
        (v1::Signal::Sigrtmin, Some(34)),
        (v1::Signal::Sigrtminplus3, Some(37)),
        (v1::Signal::Sigrtminplus15, Some(49)),
        (v1::Signal::Sigrtmaxminus14, Some(50)),
        (v1::Signal::Sigrtmax, Some(64)),
    ] {
        assert_eq!(signal::from_proto(theirs), ours.map(Signal), "{theirs:?}");
    }
    for number in (1..=31).chain(34..=64).filter(|number| ![6, 17, 29].contains(number)) {
        let theirs = signal::to_proto(Signal(number));
        assert_ne!(theirs, v1::Signal::RuntimeDefault, "{number}");
        assert_eq!(signal::from_proto(theirs), Some(Signal(number)));
    }
    refused(".stop_signal", with(|message| message.stop_signal = 66));
}

#[test]
fn a_container_shares_network_and_ipc_with_its_pod() {
    let with = |network, ipc| husk_model::Namespaces { network, ipc, ..Default::default() };
    let (pod, node) = (NamespaceMode::Pod, NamespaceMode::Node);
    let check = super::check_shared_namespaces;
    check(&with(node, node), &with(pod, pod)).unwrap();
    check(&with(node, node), &with(node, node)).unwrap();
    check(&with(pod, pod), &with(pod, pod)).unwrap();
    let at = ".linux.security_context.namespace_options";
    refused(&format!("{at}.network"), check(&with(pod, node), &with(node, node)));
    refused(&format!("{at}.ipc"), check(&with(node, pod), &with(node, node)));
}
