//! Containers: limits, commands, mounts, devices, signals.

use super::*;

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
fn a_sub_path_of_no_image_means_nothing() {
    let source = with(|message| {
        message.mounts.push(v1::Mount {
            container_path: "/mnt".into(),
            host_path: "/data/part".into(),
            image_sub_path: "part".into(),
            ..Default::default()
        });
    })
    .map(|mut config| config.mounts.remove(0).source);
    assert_eq!(source.unwrap(), MountSource::HostPath("/data/part".into()));
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
    let check = crate::convert::security::check_shared_namespaces;
    check(&with(node, node), &with(pod, pod)).unwrap();
    check(&with(node, node), &with(node, node)).unwrap();
    check(&with(pod, pod), &with(pod, pod)).unwrap();
    let at = ".linux.security_context.namespace_options";
    refused(&format!("{at}.network"), check(&with(pod, node), &with(node, node)));
    refused(&format!("{at}.ipc"), check(&with(node, pod), &with(node, node)));
}
