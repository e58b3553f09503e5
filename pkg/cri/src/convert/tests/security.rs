//! Security contexts: profiles, users, capabilities, namespaces.

use super::*;

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
    assert_eq!(
        user(v1::NamespaceMode::Pod, vec![good]).unwrap().namespaces.user,
        Some(husk_model::IdMappings { uids: ours, gids: ours })
    );
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
        let asked = crate::convert::security::asked_user_namespace(Some(&message)).unwrap();
        let config = container_config(Some(message)).unwrap();
        crate::convert::security::check_user_namespace(&pod(of_pod), asked, &config)
            .map_err(|error| error.field)
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
