//! Requests and images that are wrong or hostile: a precise status, and nothing left behind.

use std::fs;

use husk_e2e::{Archive, Daemon, FakeRegistry, Layer, Subject, busybox_archive, container, pod, v1};
use serde_json::json;
use tonic::{Code, Status};

fn expect(code: Code, part: &str, status: Status) {
    assert_eq!(status.code(), code, "{status}");
    assert!(status.message().contains(part), "{part:?} is not in {:?}", status.message());
}

#[test]
fn unknown_ids_are_not_found_for_status_and_fine_for_stop_and_remove() {
    let runtime = Subject::start();
    let cri = runtime.cri();
    let id = "f".repeat(64);
    // containerd's words leave out the id now and then.
    let named = if runtime.is_husk() { id.as_str() } else { "not found" };
    expect(Code::NotFound, named, cri.container(&id).unwrap_err());
    expect(Code::NotFound, named, cri.start(&id).unwrap_err());
    expect(Code::NotFound, named, cri.exec(&id, &["true"]).unwrap_err());
    let request = v1::PodSandboxStatusRequest { pod_sandbox_id: id.clone(), verbose: false };
    expect(Code::NotFound, named, cri.pod_sandbox_status(request).unwrap_err());
    let request = v1::ContainerStatsRequest { container_id: id.clone() };
    expect(Code::NotFound, named, cri.container_stats(request).unwrap_err());
    expect(
        Code::NotFound,
        named,
        cri.create(&id, &pod("x", &runtime.path("logs")), &container("x")).unwrap_err(),
    );
    cri.stop(&id, 0).unwrap();
    cri.remove_container(v1::RemoveContainerRequest { container_id: id.clone() }).unwrap();
    cri.stop_pod_sandbox(v1::StopPodSandboxRequest { pod_sandbox_id: id.clone() }).unwrap();
    cri.remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id: id }).unwrap();
}

#[test]
fn a_bad_pod_request_names_the_field() {
    let husk = Daemon::start();
    let logs = husk.path("logs");
    type Spoil = fn(&mut v1::PodSandboxConfig);
    let cases: [(&str, Spoil); 8] = [
        ("config.metadata", |config| config.metadata = None),
        ("config.metadata.name", |config| config.metadata.as_mut().unwrap().name.clear()),
        ("config.log_directory", |config| config.log_directory = "relative".into()),
        ("config.hostname", |config| config.hostname = "a\nb".into()),
        ("config.linux.cgroup_parent", |config| {
            config.linux.as_mut().unwrap().cgroup_parent = "/../../x".into()
        }),
        ("config.linux.sysctls", |config| {
            config.linux.as_mut().unwrap().sysctls.insert("kernel.core_pattern".into(), "|/bin/sh".into());
        }),
        ("config.port_mappings", |config| {
            config.port_mappings.push(v1::PortMapping {
                container_port: 80,
                host_port: 70_000,
                ..Default::default()
            });
        }),
        ("config.dns_config", |config| {
            config.dns_config =
                Some(v1::DnsConfig { servers: vec!["1.1.1.1\noptions x".into()], ..Default::default() });
        }),
    ];
    for (field, spoil) in cases {
        let mut config = pod("bad", &logs);
        spoil(&mut config);
        let status = husk.cri().run_pod(&config).expect_err(field);
        expect(Code::InvalidArgument, field, status);
    }
    assert!(husk.cri().list_pod_sandbox(v1::ListPodSandboxRequest::default()).unwrap().items.is_empty());
}

#[test]
fn a_bad_container_request_names_the_field_or_the_step() {
    let husk = Daemon::start();
    let config = pod("badcontainer", &husk.path("logs"));
    let pod_id = husk.cri().run_pod(&config).unwrap();
    type Spoil = fn(&mut v1::ContainerConfig);
    let cases: [(Code, &str, Spoil); 9] = [
        (Code::InvalidArgument, "config.metadata", |config| config.metadata = None),
        (Code::InvalidArgument, "config.image", |config| config.image = None),
        (Code::NotFound, "registry.example/absent", |config| {
            config.image.as_mut().unwrap().image = "registry.example/absent:1".into();
        }),
        (Code::InvalidArgument, "config.log_path", |config| config.log_path = "../../escape.log".into()),
        (Code::InvalidArgument, "run_as_group", |config| {
            config.linux.as_mut().unwrap().security_context = Some(v1::LinuxContainerSecurityContext {
                run_as_group: Some(v1::Int64Value { value: 5 }),
                ..Default::default()
            });
        }),
        (Code::InvalidArgument, "memory_limit_in_bytes", |config| {
            config.linux.as_mut().unwrap().resources =
                Some(v1::LinuxContainerResources { memory_limit_in_bytes: 1024, ..Default::default() });
        }),
        (Code::InvalidArgument, "config.mounts[0].container_path", |config| {
            config.mounts.push(v1::Mount {
                container_path: "/data/..".into(),
                host_path: "/tmp".into(),
                ..Default::default()
            });
        }),
        (Code::InvalidArgument, "capabilities", |config| {
            config.linux.as_mut().unwrap().security_context = Some(v1::LinuxContainerSecurityContext {
                capabilities: Some(v1::Capability {
                    add_capabilities: vec!["NO_SUCH".into()],
                    ..Default::default()
                }),
                ..Default::default()
            });
        }),
        (Code::InvalidArgument, "config.envs", |config| {
            config.envs.push(v1::KeyValue { key: "A=B".into(), value: b"c".to_vec().into() });
        }),
    ];
    for (code, part, spoil) in cases {
        let mut bad = container("bad");
        spoil(&mut bad);
        expect(code, part, husk.cri().create(&pod_id, &config, &bad).expect_err(part));
    }
    assert!(husk.cri().list_containers(v1::ListContainersRequest::default()).unwrap().containers.is_empty());
    // The name is free again.
    husk.cri().run(&pod_id, &config, &container("bad"));
}

#[test]
fn a_user_that_the_image_does_not_know_fails_the_create() {
    let runtime = Subject::start();
    let config = pod("user", &runtime.path("logs"));
    let pod_id = runtime.cri().run_pod(&config).unwrap();
    for user in ["nosuchuser", "4294967296", "-1"] {
        let mut unknown = container("unknown");
        unknown.linux.as_mut().unwrap().security_context =
            Some(v1::LinuxContainerSecurityContext { run_as_username: user.into(), ..Default::default() });
        let status = runtime.cri().create(&pod_id, &config, &unknown).expect_err("an unknown user");
        if runtime.is_husk() {
            assert!(status.message().contains(user), "{status}");
        }
    }
    assert!(
        runtime.cri().list_containers(v1::ListContainersRequest::default()).unwrap().containers.is_empty()
    );
}

#[test]
fn references_that_are_malformed_or_absent_are_told_apart() {
    let runtime = Subject::start();
    let pull = |image: &str| {
        let image = Some(v1::ImageSpec { image: image.to_owned(), ..Default::default() });
        runtime.cri().pull_image(v1::PullImageRequest { image, ..Default::default() })
    };
    for bad in ["", "UPPER/case", "a b", "x@sha256:12", "host/../etc:1"] {
        let refused = pull(bad).expect_err(bad);
        if runtime.is_husk() {
            // containerd has no code for it.
            assert_eq!(refused.code(), Code::InvalidArgument, "{bad:?}");
        }
    }
    let registry = FakeRegistry::serve("some/image", "1", &busybox_archive(), |_| {});
    runtime.allow_plain(&registry.host());
    expect(Code::NotFound, "some/other", pull(&format!("{}/some/other:1", registry.host())).unwrap_err());
    let unreachable = pull("127.0.0.1:1/some/image:1").unwrap_err();
    if runtime.is_husk() {
        // A reason of the kubelet's (k8s.io/cri-api's errors) that containerd does not give.
        assert!(unreachable.message().starts_with("RegistryUnavailable: "), "{unreachable}");
    }
    expect(Code::Unknown, "127.0.0.1:1", unreachable);
    let status = runtime.cri().image_status(v1::ImageStatusRequest {
        image: Some(v1::ImageSpec { image: "registry.example/absent:1".into(), ..Default::default() }),
        verbose: false,
    });
    assert!(status.unwrap().image.is_none(), "an absent image is an empty answer, not an error");
}

fn pull_fails(runtime: &Subject, registry: &FakeRegistry, name: &str) -> Status {
    let reference = format!("{}/{name}:1", registry.host());
    runtime.allow_plain(&registry.host());
    let request = v1::PullImageRequest {
        image: Some(v1::ImageSpec { image: reference, ..Default::default() }),
        ..Default::default()
    };
    // In husk's directory: on containerd none is seen before nor after.
    let layers = || fs::read_dir(runtime.path("root/images/layers")).map_or(0, Iterator::count);
    let images = || runtime.cri().list_images(v1::ListImagesRequest::default()).unwrap().images.len();
    let before = (images(), layers());
    let status = runtime.cri().pull_image(request).expect_err("the pull fails");
    assert_eq!(images(), before.0, "no image came with it");
    husk_e2e::eventually("no layer is left", std::time::Duration::from_secs(10), || {
        (layers() <= before.1).then_some(())
    });
    status
}

fn image(layer: Layer) -> Archive {
    Archive { tags: Vec::new(), config: json!({}), layers: vec![layer] }
}

#[test]
fn a_truncated_or_tampered_layer_is_refused_and_leaves_nothing() {
    let runtime = Subject::start();
    let random: Vec<u8> =
        (0u32..200_000).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let archive = image(Layer::new(&["d"], &[("d/file", 0o644, &random)], &[]));
    let truncated = FakeRegistry::serve("truncated", "1", &archive, |blob| blob.truncate(blob.len() / 2));
    let status = pull_fails(&runtime, &truncated, "truncated");
    if runtime.is_husk() {
        // containerd says how much is missing, not of what.
        assert!(status.message().contains("sha256:"), "{status}");
    }
    let tampered = FakeRegistry::serve("tampered", "1", &archive, |blob| {
        let middle = blob.len() / 2;
        blob[middle] ^= 1;
    });
    let status = pull_fails(&runtime, &tampered, "tampered");
    assert!(status.message().contains("sha256:"), "{status}");
}

#[test]
fn an_archive_that_tries_to_escape_is_refused_or_confined() {
    let runtime = Subject::start();
    let target = runtime.path("escaped");
    let raw = |path: &str, kind: tar::EntryType, link: Option<&str>, content: &[u8]| {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        let bytes = path.as_bytes();
        header.as_old_mut().name[..bytes.len()].copy_from_slice(bytes);
        if let Some(link) = link {
            header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        }
        header.set_cksum();
        builder.append(&header, content).expect("append");
        builder.into_inner().expect("finish")
    };
    let mut through_link =
        raw("link", tar::EntryType::Symlink, Some(target.parent().unwrap().to_str().unwrap()), b"");
    through_link.truncate(512);
    through_link.extend(raw("link/escaped", tar::EntryType::Regular, None, b"x"));
    let absolute = raw(target.to_str().unwrap(), tar::EntryType::Regular, None, b"x");
    let cases: [(&str, Vec<u8>); 4] = [
        (
            "dotdot",
            raw("../../../../../../../../../../../../tmp/husk-escape", tar::EntryType::Regular, None, b"x"),
        ),
        ("throughlink", through_link),
        (
            "hardlink",
            raw("passwd", tar::EntryType::Link, Some("../../../../../../../../../../etc/passwd"), b""),
        ),
        ("absolute", absolute),
    ];
    for (name, bytes) in cases {
        let registry = FakeRegistry::serve(name, "1", &image(Layer(bytes)), |_| {});
        let reference = format!("{}/{name}:1", registry.host());
        runtime.allow_plain(&registry.host());
        let spec = v1::ImageSpec { image: reference, ..Default::default() };
        // Refusing the layer and confining the entry below its root are both sound; writing outside is not.
        if runtime
            .cri()
            .pull_image(v1::PullImageRequest { image: Some(spec.clone()), ..Default::default() })
            .is_ok()
        {
            runtime.cri().remove_image(v1::RemoveImageRequest { image: Some(spec) }).unwrap();
        }
        assert!(!target.exists() && !fs::exists("/tmp/husk-escape").unwrap(), "{name} escaped");
    }
}
