//! Pods with a user namespace (KEP-127): who is who in the container, on the node and on disk.

use std::{
    fs,
    os::unix::fs::{MetadataExt, chown},
    path::Path,
    process::Command,
    time::Duration,
};

use husk_e2e::{
    BUSYBOX, Cri, Daemon, Layer, Subject, busybox_archive, container, eventually, pod, run, v1, with_command,
};
use tonic::Code;

const HOST: u32 = 300_000;
const LENGTH: u32 = 65_536;

fn map(host_id: u32) -> Vec<v1::IdMapping> {
    vec![v1::IdMapping { host_id, container_id: 0, length: LENGTH }]
}

fn user(host_id: u32) -> v1::UserNamespace {
    v1::UserNamespace { mode: v1::NamespaceMode::Pod.into(), uids: map(host_id), gids: map(host_id) }
}

/// A pod with its own user namespace.
fn mapped_pod(name: &str, logs: &Path) -> v1::PodSandboxConfig {
    let mut config = pod(name, logs);
    let security = config.linux.get_or_insert_default().security_context.get_or_insert_default();
    security.namespace_options.get_or_insert_default().userns_options = Some(user(HOST));
    config
}

fn context(config: &mut v1::ContainerConfig) -> &mut v1::LinuxContainerSecurityContext {
    config.linux.get_or_insert_default().security_context.get_or_insert_default()
}

/// A container of such a pod. A kubelet says it of each; containerd refuses one of which it was not said.
fn of_pod(mut config: v1::ContainerConfig) -> v1::ContainerConfig {
    context(&mut config).namespace_options.get_or_insert_default().userns_options = Some(user(HOST));
    config
}

/// As the kubelet asks for a volume of such a pod.
fn volume(path: &Path, at: &str) -> v1::Mount {
    v1::Mount {
        container_path: at.to_owned(),
        host_path: path.display().to_string(),
        uid_mappings: map(HOST),
        gid_mappings: map(HOST),
        ..Default::default()
    }
}

/// What a container printed.
fn log(cri: &Cri, id: &str) -> String {
    let status = cri.wait_exit(id);
    let text = fs::read_to_string(&status.log_path).unwrap_or_default();
    assert_eq!(status.exit_code, 0, "{text}");
    text.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).map(|line| format!("{line}\n")).collect()
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

#[test]
fn the_node_says_that_it_can() {
    let husk = Daemon::start();
    let status = husk.cri().status(v1::StatusRequest { verbose: true }).unwrap();
    let features = status.runtime_handlers[0].features.unwrap();
    assert!(features.user_namespaces && features.recursive_read_only_mounts);
    let features = status.features.unwrap();
    assert!(features.supplemental_groups_policy && features.user_namespaces_host_network);
    assert!(status.info["config"].contains("\"userNamespaces\":\"supported\""), "{:?}", status.info);
}

#[test]
fn a_pod_of_two_containers_has_one_user_namespace_that_owns_its_others() {
    let runtime = Subject::start();
    let config = mapped_pod("shared", &runtime.path("logs"));
    let pod_id = runtime.cri().run_pod(&config).unwrap();
    let (one, two) = (
        runtime.cri().run(&pod_id, &config, &of_pod(container("one"))),
        runtime.cri().run(&pod_id, &config, &of_pod(container("two"))),
    );
    let mut namespaces = Vec::new();
    for id in [&one, &two] {
        let pid = runtime.cri().init(id);
        let maps = fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap();
        assert_eq!(words(&maps), ["0", "300000", "65536"]);
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(status.contains("Uid:\t300000\t300000"), "{status}");
        namespaces.push(fs::read_link(format!("/proc/{pid}/ns/user")).unwrap());
        let (code, out, _) =
            runtime.cri().exec(id, &["cat", "/proc/self/uid_map", "/proc/self/gid_map"]).unwrap();
        assert_eq!((code, words(&out)), (0, ["0", "300000", "65536"].repeat(2)));
    }
    assert_eq!(namespaces[0], namespaces[1]);
    let options = runtime.cri().pod(&pod_id).unwrap().linux.unwrap().namespaces.unwrap().options.unwrap();
    assert_eq!(options.userns_options, Some(user(HOST)));
}

#[test]
fn the_pods_network_is_its_own_to_change_and_reaches_its_neighbours() {
    let runtime = Subject::start();
    let config = mapped_pod("network", &runtime.path("logs"));
    let pod_id = runtime.cri().run_pod(&config).unwrap();
    let mut admin = container("admin");
    context(&mut admin).capabilities =
        Some(v1::Capability { add_capabilities: vec!["NET_ADMIN".into()], ..Default::default() });
    let admin = runtime.cri().run(&pod_id, &config, &of_pod(admin));
    let script = "ip link add extra type bridge && ip link set extra up && ip -o link show extra && ip -o addr show lo";
    let (code, out, error) = runtime.cri().exec(&admin, &["sh", "-c", script]).unwrap();
    assert_eq!(code, 0, "{error}");
    assert!(out.contains("extra") && out.contains("127.0.0.1/8"), "{out}");
    // Another pod, of the node's ids, is reached and answers.
    let other = pod("other", &runtime.path("logs"));
    let other_id = runtime.cri().run_pod(&other).unwrap();
    let server = runtime.cri().run(
        &other_id,
        &other,
        &with_command("server", "while :; do echo hi | nc -l -p 8080; done"),
    );
    let ip = runtime.cri().pod(&other_id).unwrap().network.unwrap().ip;
    eventually("the other pod answers", Duration::from_secs(10), || {
        let command = format!("nc -w 2 {ip} 8080 < /dev/null");
        let (code, out, _) = runtime.cri().exec(&admin, &["sh", "-c", &command]).unwrap();
        (code == 0 && out == "hi\n").then_some(())
    });
    assert_eq!(
        words(&fs::read_to_string(format!("/proc/{}/uid_map", runtime.cri().init(&server))).unwrap())[..2],
        ["0", "0"]
    );
}

#[test]
fn volumes_hold_the_containers_ids_and_the_writable_layer_those_of_the_node() {
    let runtime = Subject::start();
    let config = mapped_pod("volumes", &runtime.path("logs"));
    let pod_id = runtime.cri().run_pod(&config).unwrap();
    let data = runtime.path("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("given"), "given").unwrap();
    chown(data.join("given"), Some(1000), Some(50)).unwrap();
    let mut writer = with_command(
        "writer",
        "stat -c %u:%g / /bin/busybox /data/given /etc/hosts /image/bin/busybox; echo 127.0.0.1 more >> /etc/hosts; \
         touch /data/root /root-made; chown 1000:1000 /data/root; exec sleep 1000000",
    );
    writer.mounts.push(volume(&data, "/data"));
    writer.mounts.push(v1::Mount {
        container_path: "/image".into(),
        readonly: true,
        image: Some(v1::ImageSpec { image: BUSYBOX.into(), ..Default::default() }),
        ..Default::default()
    });
    let id = runtime.cri().run(&pod_id, &config, &of_pod(writer));
    eventually("the file is written", Duration::from_secs(20), || {
        fs::metadata(data.join("root")).ok().filter(|file| file.uid() == 1000)
    });
    let log_path = runtime.cri().container(&id).unwrap().log_path;
    let shown = eventually("the log is written", Duration::from_secs(20), || {
        fs::read_to_string(&log_path).ok().filter(|text| text.lines().count() >= 5)
    });
    let owners: Vec<_> = shown.lines().filter_map(|line| line.rsplit(' ').next()).collect();
    // containerd does not map a mounted image: its files are nobody's there.
    let of_image = if runtime.is_husk() { "0:0" } else { "65534:65534" };
    assert_eq!(owners, ["0:0", "0:0", "1000:50", "0:0", of_image]);
    let mut made = vec![format!("/proc/{}/root/root-made", runtime.cri().init(&id)).into()];
    if runtime.is_husk() {
        made.push(runtime.path(&format!("root/containers/{id}/upper/root-made")));
    }
    for path in made {
        let made = fs::metadata(path).unwrap();
        assert_eq!((made.uid(), made.gid()), (HOST, HOST));
    }
    let echoed = runtime.cri().container(&id).unwrap().mounts;
    assert_eq!((echoed[0].uid_mappings.clone(), echoed[0].gid_mappings.clone()), (map(HOST), map(HOST)));
}

#[test]
fn an_image_of_many_layers_shows_root_and_its_users() {
    let runtime = Subject::start();
    let tag = "registry.example/husk/layers:e2e";
    let mut archive = busybox_archive();
    archive.tags = vec![tag.to_owned()];
    for number in 0..60 {
        archive.layers.push(Layer::new(&[], &[(&format!("layer-{number}"), 0o4755, b"x")], &[]));
    }
    archive.write(&runtime.path("many.tar"));
    runtime.import(&runtime.path("many.tar"));
    let config = mapped_pod("layers", &runtime.path("logs"));
    let pod_id = runtime.cri().run_pod(&config).unwrap();
    let script = "for n in 0 30 59; do stat -c %u:%a /layer-$n; done; rm /layer-7 && ! test -e /layer-7";
    let mut reader = with_command("reader", script);
    reader.image = Some(v1::ImageSpec { image: tag.into(), ..Default::default() });
    context(&mut reader).readonly_rootfs = false;
    let id = runtime.cri().run(&pod_id, &config, &of_pod(reader));
    assert_eq!(log(runtime.cri(), &id), "0:4755\n0:4755\n0:4755\n");
}

#[test]
fn users_groups_terminals_and_probes_work_as_in_any_pod() {
    let runtime = Subject::start();
    let config = mapped_pod("users", &runtime.path("logs"));
    let pod_id = runtime.cri().run_pod(&config).unwrap();
    let mut plain = with_command(
        "plain",
        "id -u; id -g; id -G; echo x > /dev/null && echo y > /dev/stdout; touch /tmp/z",
    );
    context(&mut plain).run_as_user = Some(v1::Int64Value { value: 1000 });
    context(&mut plain).supplemental_groups = vec![1234];
    context(&mut plain).seccomp = Some(v1::SecurityProfile::default());
    let id = runtime.cri().run(&pod_id, &config, &of_pod(plain));
    let shown = log(runtime.cri(), &id);
    assert_eq!(words(&shown), ["1000", "1000", "1000", "1234", "50000", "y"]);
    let status = runtime.cri().container(&id).unwrap().user.unwrap().linux.unwrap();
    assert_eq!((status.uid, status.gid, status.supplemental_groups), (1000, 1000, vec![1000, 1234, 50000]));

    let mut terminal = with_command("terminal", "tty; stat -c %u /dev/console");
    terminal.tty = true;
    let id = runtime.cri().run(&pod_id, &config, &of_pod(terminal));
    assert_eq!(words(&log(runtime.cri(), &id)), ["/dev/pts/0", "0"]);

    let mut readonly =
        with_command("readonly", "touch /x 2>/dev/null || echo refused; touch /dev/shm/y && echo shm");
    context(&mut readonly).readonly_rootfs = true;
    let id = runtime.cri().run(&pod_id, &config, &of_pod(readonly));
    assert_eq!(log(runtime.cri(), &id), "refused\nshm\n");

    if runtime.is_husk() {
        // Nobody could be that user.
        let mut beyond = container("beyond");
        context(&mut beyond).run_as_user = Some(v1::Int64Value { value: 70_000 });
        let status = runtime.cri().create(&pod_id, &config, &of_pod(beyond)).unwrap_err();
        assert!(status.message().contains("uid 70000 is not mapped"), "{status}");
    }
}

#[test]
fn a_privileged_container_is_root_of_its_pod_only() {
    let runtime = Subject::start();
    let mut config = mapped_pod("privileged", &runtime.path("logs"));
    config.linux.as_mut().unwrap().security_context.as_mut().unwrap().privileged = true;
    let pod_id = runtime.cri().run_pod(&config).unwrap();
    let secret = runtime.path("secret");
    fs::write(&secret, "secret").unwrap();
    fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let script = "mount -t tmpfs none /tmp && echo mounted; cat /secret; echo x > /proc/sys/kernel/core_pattern; \
        mknod /tmp/mem c 1 1; for d in $(find /dev -type b); do head -c 1 $d && echo read $d; done; true";
    let mut root = with_command("root", script);
    root.mounts.push(v1::Mount {
        container_path: "/secret".into(),
        host_path: secret.display().to_string(),
        ..Default::default()
    });
    context(&mut root).privileged = true;
    let id = runtime.cri().run(&pod_id, &config, &of_pod(root));
    let shown = log(runtime.cri(), &id);
    assert!(shown.contains("mounted\n"), "{shown}");
    assert!(!shown.contains("secret\n") && !shown.contains("read /dev"), "{shown}");
    assert!(!fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap().starts_with('x'));
}

#[test]
fn the_nodes_network_can_be_shared() {
    let runtime = Subject::start();
    let mut config = mapped_pod("node-network", &runtime.path("logs"));
    config.hostname.clear();
    let security = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
    security.namespace_options.as_mut().unwrap().network = v1::NamespaceMode::Node.into();
    let pod_id = runtime.cri().run_pod(&config).unwrap();
    let script = "cat /proc/self/uid_map; ls /sys/class/net; readlink /proc/self/ns/net; ip link set lo down 2>&1 || echo refused";
    let mut peer = with_command("peer", script);
    let options = context(&mut peer).namespace_options.get_or_insert_default();
    options.network = v1::NamespaceMode::Node.into();
    options.userns_options = Some(user(HOST));
    let id = runtime.cri().run(&pod_id, &config, &of_pod(peer));
    let shown = log(runtime.cri(), &id);
    assert!(shown.contains("300000"), "{shown}");
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    assert!(shown.contains(own.to_str().unwrap()) && shown.contains("refused"), "{shown}");
    assert!(Path::new("/sys/class/net").join(shown.lines().nth(1).unwrap()).exists(), "{shown}");
}

#[test]
fn pods_survive_the_daemon_and_leave_nothing() {
    let mut husk = Daemon::start();
    let config = mapped_pod("survivor", &husk.path("logs"));
    let pod_id = husk.cri().run_pod(&config).unwrap();
    let id = husk.cri().run(&pod_id, &config, &container("main"));
    let pid = husk.cri().init(&id);
    husk.kill();
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    husk.spawn();
    assert_eq!(husk.cri().init(&id), pid);
    let (code, out, _) =
        husk.cri().exec(&id, &["sh", "-c", "cat /proc/self/uid_map; ip -o addr show eth0"]).unwrap();
    assert_eq!((code, &words(&out)[..3]), (0, &["0", "300000", "65536"][..]));
    let late =
        husk.cri().run(&pod_id, &config, &with_command("late", "stat -c %u /; cat /proc/self/uid_map"));
    assert_eq!(words(&log(husk.cri(), &late)), ["0", "0", "300000", "65536"]);
    husk.cri().stop(&id, 0).unwrap();
    assert_eq!(husk.cri().container(&id).unwrap().exit_code, 137);
    husk.finish();
    husk.spawn();
}

#[test]
fn a_daemon_killed_while_pods_are_made_leaves_nothing() {
    let mut husk = Daemon::start();
    for round in 0..6_u64 {
        let config = mapped_pod(&format!("round-{round}"), &husk.path("logs"));
        let mut client = husk.cri().runtime();
        let request = v1::RunPodSandboxRequest { config: Some(config), runtime_handler: String::new() };
        husk.cri().block_on(async move {
            let call = client.run_pod_sandbox(request);
            let _ = tokio::time::timeout(Duration::from_millis(3 * round), call).await;
        });
        husk.kill();
        husk.spawn();
        let pods = husk.cri().list_pod_sandbox(v1::ListPodSandboxRequest::default()).unwrap().items;
        assert!(pods.iter().all(|pod| pod.state() == v1::PodSandboxState::SandboxReady), "{pods:?}");
    }
}

#[test]
fn what_cannot_be_is_refused_with_its_field_and_leaves_nothing() {
    let mut husk = Daemon::start();
    let logs = husk.path("logs");
    let options = "config.linux.security_context.namespace_options";
    let one = |container_id, length| vec![v1::IdMapping { host_id: HOST, container_id, length }];
    let mapping = |uids: Vec<v1::IdMapping>, gids| v1::UserNamespace { mode: 0, uids, gids };
    let mode = |mode: v1::NamespaceMode| v1::UserNamespace { mode: mode.into(), ..user(HOST) };
    let cases = [
        ("userns_options.uids", mapping([map(HOST), map(HOST)].concat(), map(HOST))),
        ("userns_options.gids", mapping(map(HOST), Vec::new())),
        ("userns_options.uids[0].container_id", mapping(one(1, 10), map(HOST))),
        ("userns_options.gids[0].length", mapping(map(HOST), one(0, u32::MAX))),
        ("userns_options.mode", mode(v1::NamespaceMode::Container)),
        ("userns_options.mode", mode(v1::NamespaceMode::Target)),
        ("userns_options.uids", mode(v1::NamespaceMode::Node)),
    ];
    for (field, user) in cases {
        let mut config = mapped_pod("refused", &logs);
        let security = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
        security.namespace_options.as_mut().unwrap().userns_options = Some(user);
        let status = husk.cri().run_pod(&config).unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains(&format!("{options}.{field}")), "{status}");
    }
    let pod_id = husk.cri().run_pod(&mapped_pod("whole", &logs)).unwrap();
    let config = mapped_pod("whole", &logs);
    let mut shared = container("shared");
    shared.mounts.push(v1::Mount {
        propagation: v1::MountPropagation::PropagationBidirectional.into(),
        ..volume(&logs, "/logs")
    });
    let mut other = container("other");
    context(&mut other).namespace_options.get_or_insert_default().userns_options = Some(user(HOST + 1));
    let mut unmappable = container("unmappable");
    unmappable.mounts.push(volume(Path::new("/proc/sys"), "/data"));
    for (container, part) in [
        (shared, "config.mounts[0].propagation"),
        (other, "userns_options: is not that of the pod"),
        (unmappable, "cannot be mapped to a user namespace"),
    ] {
        let status = husk.cri().create(&pod_id, &config, &container).unwrap_err();
        assert!(status.message().contains(part), "{status}");
    }
    husk.finish();
    husk.spawn();
}

/// containerd's CVE-2025-47291: pods with a user namespace escaped the kubelet's cgroups.
#[test]
fn cve_2025_47291_the_pod_lives_in_the_cgroup_that_was_asked_for() {
    let runtime = Subject::start();
    let mut config = mapped_pod("cgroup", &runtime.path("logs"));
    let parent = runtime.kubelet_cgroup();
    config.linux.as_mut().unwrap().cgroup_parent = parent.clone();
    let pod_id = runtime.cri().run_pod(&config).unwrap();
    let id = runtime.cri().run(&pod_id, &config, &of_pod(container("main")));
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", runtime.cri().init(&id))).unwrap();
    // What limits a pod, in v1 hierarchies and in the unified one.
    let limiting = |line: &&str| {
        let controllers = line.split(':').nth(1).unwrap();
        controllers.split(',').any(|name| ["", "cpu", "memory", "pids", "devices"].contains(&name))
    };
    for line in groups.lines().filter(limiting) {
        assert!(line.splitn(3, ':').nth(2).unwrap().starts_with(&parent), "{groups}");
    }
}

#[test]
fn pods_without_one_are_as_before_beside_it() {
    let runtime = Subject::start();
    let mapped = mapped_pod("mapped", &runtime.path("logs"));
    let mapped_id = runtime.cri().run_pod(&mapped).unwrap();
    let plain = pod("plain", &runtime.path("logs"));
    let plain_id = runtime.cri().run_pod(&plain).unwrap();
    let data = runtime.path("data");
    fs::create_dir(&data).unwrap();
    let mut writer = with_command("writer", "echo x > /data/$(hostname); stat -c %u:%g /data/*");
    writer.mounts.push(v1::Mount {
        container_path: "/data".into(),
        host_path: data.display().to_string(),
        ..Default::default()
    });
    let id = runtime.cri().run(&plain_id, &plain, &writer);
    assert_eq!(log(runtime.cri(), &id), "0:0\n");
    writer.mounts = vec![volume(&data, "/data")];
    writer.log_path = "mapped.log".into();
    let id = runtime.cri().run(&mapped_id, &mapped, &of_pod(writer));
    assert_eq!(log(runtime.cri(), &id), "0:0\n0:0\n", "the same volume, the same ids");
    assert_eq!(run(Command::new("stat").args(["-c", "%u"]).arg(data.join("mapped"))).stdout, "0\n");
}
