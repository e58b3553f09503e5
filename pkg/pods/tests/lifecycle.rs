//! The life of pods and containers on real monitors. Needs root.

mod common;

use std::{fs, sync::atomic::Ordering, time::Duration};

use common::{Node, eventually, ready, shell};
use husk_model::{
    Classify, ContainerState, ContainerStatus, Device, EnvVar, ExitReason, Kind, MountSource, NamespaceMode,
    PodState, Resources,
};
use husk_pods::{Lifecycle, PodsError};
use husk_test_support::mount;

const SLEEP: &str = "trap 'exit 5' TERM; while :; do sleep 0.02; done";

#[test]
fn a_pod_lives_from_run_to_removal_and_leaves_nothing() {
    if !ready() {
        return;
    }
    let node = Node::start();
    let mut events = node.engine().follow();
    let pod = node.pod("whole");
    let status = node.engine().pod_status(&pod).unwrap();
    assert_eq!(status.state, PodState::Ready);
    assert_eq!(status.ips.len(), 1);
    let id = node.run(&pod, "main", &format!("echo hello; {SLEEP}"));
    assert!(matches!(node.state_of(&id), ContainerState::Running { started_at } if started_at > 0));
    let argv = ["cat", "/etc/hostname"].map(String::from).to_vec();
    let output = node.wait(node.engine().exec_sync(&id, argv, None)).unwrap();
    assert_eq!((output.exit_code, output.stdout.as_slice()), (0, b"whole\n".as_slice()));
    node.wait(node.engine().stop_container(&id, Duration::from_secs(10))).unwrap();
    let exit = node.wait_exit(&id);
    assert_eq!((exit.code, exit.reason), (5, ExitReason::Error));
    let log = fs::read_to_string(node.dir.path().join("logs/main.log")).unwrap();
    assert!(log.ends_with(" stdout F hello\n"), "{log:?}");
    node.wait(node.engine().stop_pod_sandbox(&pod)).unwrap();
    assert_eq!(node.engine().pod_status(&pod).unwrap().state, PodState::NotReady);
    assert!(node.engine().pod_status(&pod).unwrap().ips.is_empty());
    assert_eq!(node.engine().list_containers().len(), 1, "ended containers stay listed");
    node.remove_all();
    assert!(node.dir.path().join("logs/main.log").exists(), "the log file stays");

    let mut seen = Vec::new();
    while seen.last() != Some(&"pod deleted") {
        let event = node.wait(events.next()).unwrap();
        assert_eq!(event.pod.id.as_str(), pod);
        let runs = |status: &ContainerStatus| matches!(status.state, ContainerState::Running { .. });
        let statuses = (event.pod.state, event.containers.iter().filter(|status| runs(status)).count());
        let ready = !matches!(
            event.what,
            Lifecycle::PodNotReady(_) | Lifecycle::PodDeleted(_) | Lifecycle::Deleted(..)
        );
        let running = usize::from(matches!(event.what, Lifecycle::Started(..)));
        let state = if ready { PodState::Ready } else { PodState::NotReady };
        assert_eq!(statuses, (state, running), "{:?}", event.what);
        seen.push(match event.what {
            Lifecycle::PodReady(_) => "ready",
            Lifecycle::Created(..) => "created",
            Lifecycle::Started(..) => "started",
            Lifecycle::Stopped(..) => "stopped",
            Lifecycle::PodNotReady(_) => "not ready",
            Lifecycle::Deleted(..) => "deleted",
            Lifecycle::PodDeleted(_) => "pod deleted",
        });
    }
    assert_eq!(seen, ["ready", "created", "started", "stopped", "not ready", "deleted", "pod deleted"]);
}

#[test]
fn stop_and_remove_may_be_repeated_and_come_at_once() {
    if !ready() {
        return;
    }
    let node = Node::start();
    let pod = node.pod("repeated");
    let id = node.run(&pod, "main", "trap '' TERM; echo deaf; while :; do sleep 0.02; done");
    let log = node.dir.path().join("logs/main.log");
    eventually("it ignores SIGTERM", || fs::read_to_string(&log).ok()?.contains("deaf").then_some(()));
    let engine = node.engine();
    let slow = {
        let (engine, id) = (engine.clone(), id.clone());
        node.spawn(async move { engine.stop_container(&id, Duration::from_secs(60)).await })
    };
    let stops: Vec<_> = (0..4)
        .map(|_| {
            let (engine, pod) = (engine.clone(), pod.clone());
            node.spawn(async move { engine.stop_pod_sandbox(&pod).await })
        })
        .collect();
    for stop in stops {
        node.wait(stop).unwrap().unwrap();
    }
    node.wait(slow).unwrap().expect("a stop with a long grace ends with the pod");
    assert_eq!(node.wait_exit(&id).code, 137);
    let refused = node.wait(engine.create_container(&pod, shell("late", "true"))).unwrap_err();
    assert_eq!(refused.kind(), Kind::FailedPrecondition, "no container in a stopped sandbox: {refused}");
    let removes: Vec<_> = (0..4)
        .map(|_| {
            let (engine, pod) = (engine.clone(), pod.clone());
            node.spawn(async move { engine.remove_pod_sandbox(&pod).await })
        })
        .collect();
    for remove in removes {
        node.wait(remove).unwrap().unwrap();
    }
    node.wait(engine.remove_pod_sandbox(&pod)).expect("an unknown sandbox is fine");
    node.wait(engine.stop_container(&id, Duration::ZERO)).expect("an unknown container is fine");
    node.wait(engine.remove_container(&id)).expect("an unknown container is fine");
    assert_eq!(engine.pod_status(&pod).unwrap_err().kind(), Kind::NotFound);
    node.assert_nothing_left();
}

#[test]
fn removing_a_running_container_kills_it() {
    if !ready() {
        return;
    }
    let node = Node::start();
    let pod = node.pod("killed");
    let id = node.run(&pod, "main", "trap '' TERM; while :; do sleep 0.02; done");
    node.wait(node.engine().remove_container(&id)).unwrap();
    assert_eq!(node.engine().container_status(&id).unwrap_err().kind(), Kind::NotFound);
    // The name is free again.
    node.run(&pod, "main", "true");
    node.remove_all();
}

#[test]
fn the_same_request_gets_the_same_object_and_another_one_is_refused() {
    if !ready() {
        return;
    }
    let node = Node::start();
    *node.network.delay.lock().unwrap() = Duration::from_millis(50);
    let engine = node.engine();
    let runs: Vec<_> = (0..4)
        .map(|_| {
            let (engine, config) = (engine.clone(), node.pod_config("joined"));
            node.spawn(async move { engine.run_pod_sandbox(config).await })
        })
        .collect();
    let mut other = node.pod_config("joined");
    other.labels.insert("other".into(), "request".into());
    let ids: Vec<_> = runs.into_iter().map(|run| node.wait(run).unwrap().unwrap()).collect();
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!(node.network.set_up.load(Ordering::SeqCst), 1);
    assert_eq!(node.wait(engine.run_pod_sandbox(node.pod_config("joined"))).unwrap(), ids[0]);
    let refused = node.wait(engine.run_pod_sandbox(other)).unwrap_err();
    assert_eq!(refused.kind(), Kind::AlreadyExists, "{refused}");

    let pod = ids[0].to_string();
    let id = node.create(&pod, shell("main", SLEEP));
    assert_eq!(node.create(&pod, shell("main", SLEEP)), id);
    let refused = node.wait(engine.create_container(&pod, shell("main", "true"))).unwrap_err();
    assert_eq!(refused.kind(), Kind::AlreadyExists, "{refused}");
    node.wait(engine.start_container(&id)).unwrap();
    let refused = node.wait(engine.create_container(&pod, shell("main", SLEEP))).unwrap_err();
    assert_eq!(refused.kind(), Kind::AlreadyExists, "a retry does not mean a container that runs: {refused}");
    node.remove_all();
}

#[test]
fn a_caller_that_goes_away_changes_nothing() {
    if !ready() {
        return;
    }
    let node = Node::start();
    *node.network.delay.lock().unwrap() = Duration::from_millis(100);
    let engine = node.engine().clone();
    let config = node.pod_config("lonely");
    let first = node.wait(async {
        tokio::time::timeout(Duration::from_millis(20), engine.run_pod_sandbox(config.clone())).await
    });
    assert!(first.is_err(), "the caller gave up");
    let id = node.wait(engine.run_pod_sandbox(config)).expect("the retry joins");
    assert_eq!(node.network.set_up.load(Ordering::SeqCst), 1, "the first attempt went on");
    assert_eq!(engine.list_pods().len(), 1);
    assert_eq!(engine.list_pods()[0].id, id);
    node.remove_all();
}

#[test]
fn a_failed_run_takes_everything_back() {
    if !ready() {
        return;
    }
    let node = Node::start();
    node.network.fails.store(true, Ordering::SeqCst);
    let failed = node.wait(node.engine().run_pod_sandbox(node.pod_config("failed"))).unwrap_err();
    assert!(failed.to_string().contains("network"), "{failed}");
    node.assert_nothing_left();
    node.network.fails.store(false, Ordering::SeqCst);
    let mut config = node.pod_config("failed");
    config.sysctls.insert("kernel.shm_rmid_forced".parse().unwrap(), "not a number".into());
    let failed = node.wait(node.engine().run_pod_sandbox(config)).unwrap_err();
    assert!(failed.to_string().contains("shm_rmid_forced"), "{failed}");
    node.assert_nothing_left();
    node.pod("failed");
    node.remove_all();
}

#[test]
fn a_failed_create_takes_everything_back_and_names_the_step() {
    if !ready() {
        return;
    }
    let node = Node::start();
    let pod = node.pod("creates");
    let absent = mount("/no/such/directory", "/data");
    let mut on_a_file = absent.clone();
    on_a_file.source = MountSource::HostPath("/tmp".into());
    on_a_file.container_path = "/etc/passwd".into();
    let mut no_image = shell("main", "true");
    no_image.image = "absent:1".into();
    let mut image_volume = absent.clone();
    image_volume.source = MountSource::Image { reference: "absent:2".into(), sub_path: String::new() };
    let with = |mount| {
        let mut config = shell("main", "true");
        config.mounts.push(mount);
        config
    };
    for (config, kind, part) in [
        (with(on_a_file), Kind::InvalidArgument, "/etc/passwd"),
        (with(image_volume), Kind::NotFound, "absent:2"),
        (no_image, Kind::NotFound, "absent:1"),
    ] {
        let failed = node.wait(node.engine().create_container(&pod, config)).unwrap_err();
        assert!(failed.to_string().contains(part), "{failed}");
        assert_eq!(failed.kind(), kind, "{failed}");
    }
    assert!(node.engine().list_containers().is_empty());
    assert_eq!(fs::read_dir(node.root().join("containers")).unwrap().count(), 0);
    assert_eq!(node.images.leases.load(Ordering::SeqCst), 0);
    node.run(&pod, "main", "true");
    node.remove_all();
}

#[test]
fn a_command_that_does_not_exist_ends_the_container_with_its_reason() {
    if !ready() {
        return;
    }
    let node = Node::start();
    let pod = node.pod("nocommand");
    let mut config = shell("main", "");
    config.command = vec!["/no/such/command".into()];
    let id = node.create(&pod, config);
    let failed = node.wait(node.engine().start_container(&id)).unwrap_err();
    assert!(failed.to_string().contains("/no/such/command"), "{failed}");
    let exit = node.wait_exit(&id);
    assert_eq!((exit.code, exit.reason), (128, ExitReason::StartError));
    node.remove_all();
}

#[test]
fn exec_and_reopen_need_a_running_container_and_exec_ends_in_time() {
    if !ready() {
        return;
    }
    let node = Node::start();
    let pod = node.pod("exec");
    let id = node.create(&pod, shell("main", SLEEP));
    let argv = |script: &str| ["sh", "-c", script].map(String::from).to_vec();
    let engine = node.engine();
    for refused in
        [node.wait(engine.exec_sync(&id, argv("true"), None)).map(drop), node.wait(engine.reopen_log(&id))]
    {
        assert_eq!(refused.unwrap_err().kind(), Kind::FailedPrecondition);
    }
    node.wait(engine.start_container(&id)).unwrap();
    let output = node.wait(engine.exec_sync(&id, argv("echo out; echo err >&2; exit 3"), None)).unwrap();
    assert_eq!((output.exit_code, output.stdout, output.stderr), (3, b"out\n".to_vec(), b"err\n".to_vec()));
    let limit = Some(Duration::from_millis(300));
    let late = node.wait(engine.exec_sync(&id, argv("sleep 1000"), limit)).unwrap_err();
    assert!(matches!(late, PodsError::ExecTimeout { .. }), "{late}");
    assert_eq!(late.kind(), Kind::DeadlineExceeded);
    fs::rename(node.dir.path().join("logs/main.log"), node.dir.path().join("logs/old.log")).unwrap();
    node.wait(engine.reopen_log(&id)).unwrap();
    assert!(node.dir.path().join("logs/main.log").exists());
    node.remove_all();
}

#[test]
fn limits_can_be_changed_and_one_below_the_usage_is_refused() {
    if !ready() {
        return;
    }
    let mut node = Node::start();
    let pod = node.pod("limits");
    let mut config =
        shell("main", "dd if=/dev/zero of=/dev/shm/fill bs=1M count=20 2>/dev/null; echo full; sleep 1000");
    config.resources =
        Resources { memory_limit: Some(64 << 20), cpu_shares: Some(512), ..Default::default() };
    let id = node.create(&pod, config);
    node.wait(node.engine().start_container(&id)).unwrap();
    let log = node.dir.path().join("logs/main.log");
    eventually("memory is in use", || fs::read_to_string(&log).ok()?.contains("full").then_some(()));
    let change = |limit: i64| Resources { memory_limit: Some(limit << 20), ..Default::default() };
    node.wait(node.engine().update_resources(&id, change(96))).unwrap();
    let refused = node.wait(node.engine().update_resources(&id, change(8))).unwrap_err();
    assert_ne!(refused.kind(), Kind::Internal, "{refused}");
    assert!(matches!(node.state_of(&id), ContainerState::Running { .. }), "nobody was killed for it");
    let expected = Resources { memory_limit: Some(96 << 20), cpu_shares: Some(512), ..Default::default() };
    assert_eq!(node.engine().container_status(&id).unwrap().resources, expected);
    node.restart();
    assert_eq!(node.engine().container_status(&id).unwrap().resources, expected, "also after a restart");
    node.remove_all();
}

#[test]
fn changes_at_once_of_a_containers_limits_are_all_kept() {
    if !ready() {
        return;
    }
    let mut node = Node::start();
    let pod = node.pod("limits-at-once");
    let mut config = shell("main", "sleep 1000");
    config.resources =
        Resources { memory_limit: Some(64 << 20), cpu_shares: Some(512), ..Default::default() };
    let id = node.create(&pod, config);
    node.wait(node.engine().start_container(&id)).unwrap();
    let engine = node.engine();
    for round in 1..=10 {
        let memory = Resources { memory_limit: Some((64 + round) << 20), ..Default::default() };
        let cpu = Resources { cpu_shares: Some(512 + round as u64), ..Default::default() };
        let both =
            async { tokio::join!(engine.update_resources(&id, memory), engine.update_resources(&id, cpu)) };
        let (memory, cpu) = node.wait(both);
        memory.unwrap();
        cpu.unwrap();
        let kept = engine.container_status(&id).unwrap().resources.clone();
        assert_eq!(
            (kept.memory_limit, kept.cpu_shares),
            (Some((64 + round) << 20), Some(512 + round as u64)),
            "round {round}"
        );
    }
    let kept = engine.container_status(&id).unwrap().resources.clone();
    node.restart();
    assert_eq!(node.engine().container_status(&id).unwrap().resources, kept, "on record, too");
    node.remove_all();
}

#[test]
fn a_pod_that_is_stopped_while_it_is_resized_is_stopped_and_resized() {
    if !ready() {
        return;
    }
    let mut node = Node::start();
    for round in 0..5 {
        let pod = node.pod(&format!("resized-{round}"));
        let changes: Vec<_> = (1..=8)
            .map(|size| {
                let (engine, pod) = (node.engine().clone(), pod.clone());
                node.spawn(async move {
                    let resources = Resources { memory_limit: Some(size << 20), ..Default::default() };
                    engine.update_pod_resources(&pod, None, Some(resources)).await
                })
            })
            .collect();
        node.wait(node.engine().stop_pod_sandbox(&pod)).unwrap();
        for change in changes {
            node.wait(change).unwrap().unwrap();
        }
        let seen = node.engine().pod_status(&pod).unwrap();
        node.restart();
        let kept = node.engine().pod_status(&pod).unwrap();
        assert_eq!(kept.config.resources, seen.config.resources, "the record is what was seen last");
        assert_eq!(kept.state, PodState::NotReady);
    }
    node.remove_all();
}

#[test]
fn a_container_that_takes_too_much_memory_is_reported_as_such() {
    if !ready() {
        return;
    }
    let node = Node::start();
    let pod = node.pod("oom");
    let mut config = shell("main", "dd if=/dev/zero of=/dev/null bs=64M");
    config.resources =
        Resources { memory_limit: Some(16 << 20), memory_swap_limit: Some(16 << 20), ..Default::default() };
    let id = node.create(&pod, config);
    node.wait(node.engine().start_container(&id)).unwrap();
    let exit = node.wait_exit(&id);
    assert_eq!((exit.code, exit.reason), (137, ExitReason::OomKilled));
    node.remove_all();
}

#[test]
fn live_containers_are_measured_and_ended_ones_are_not() {
    if !ready() {
        return;
    }
    let node = Node::start();
    let pod = node.pod("stats");
    let busy = node.run(&pod, "busy", "while :; do :; done");
    let ended = node.run(&pod, "ended", "true");
    node.wait_exit(&ended);
    let cpu = |id: &str| node.engine().container_stats(id).unwrap().1.cpu;
    let first = cpu(&busy);
    eventually("the CPU time grows", || {
        let now = cpu(&busy);
        (now.usage_core_nanos > first.usage_core_nanos && now.timestamp > first.timestamp).then_some(())
    });
    let refused = node.engine().container_stats(&ended).unwrap_err();
    assert_eq!(refused.kind(), Kind::FailedPrecondition);
    let listed = node.wait(node.engine().list_container_stats(|_| true));
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].0.id.as_str(), busy);
    assert!(listed[0].1.memory.usage > 0);
    assert!(node.wait(node.engine().list_container_stats(|_| false)).is_empty());
    node.remove_all();
}

#[test]
fn a_container_is_of_the_image_that_the_user_named() {
    if !ready() {
        return;
    }
    let node = Node::start();
    let pod = node.pod("named");
    let id = format!("sha256:{}", "07".repeat(32));
    for (number, (image, specified, shown)) in [
        // What the kubelet sends.
        (id.as_str(), "busybox:1.36", "busybox:1.36"),
        (&id, "registry.example/b@sha256:07", "registry.example/b@sha256:07"),
        // A client that knows nothing but an id.
        (&id, "", "docker.io/library/busybox:1"),
        ("0707", "", "docker.io/library/busybox:1"),
        ("busybox", "", "busybox"),
        (&id, &id, "docker.io/library/busybox:1"),
        (&id, "0707", "docker.io/library/busybox:1"),
        ("busybox", "busybox", "busybox"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut config = shell(&format!("c{number}"), SLEEP);
        (config.image, config.user_specified_image) = (image.to_owned(), specified.to_owned());
        let container = node.create(&pod, config);
        let status = node.engine().container_status(&container).unwrap();
        assert_eq!(status.image_name, shown, "{image} {specified}");
        assert_eq!((status.image_id.as_str(), status.image_ref.as_str()), (id.as_str(), "busybox@sha256:07"));
    }
    node.remove_all();
}

#[test]
fn an_environment_value_that_is_no_text_arrives_unchanged() {
    if !ready() {
        return;
    }
    let node = Node::start();
    let pod = node.pod("bytes");
    let mut config = shell("main", &format!("cat /proc/self/environ >/own.new; mv /own.new /own; {SLEEP}"));
    config.envs = vec![EnvVar { key: "LATIN".to_owned(), value: b"caf\xe9\xff".to_vec() }];
    let id = node.create(&pod, config);
    node.wait(node.engine().start_container(&id)).unwrap();
    let both = "until [ -e /own ]; do :; done; exec cat /own /proc/self/environ";
    let argv = ["sh", "-c", both].map(String::from).to_vec();
    let output = node.wait(node.engine().exec_sync(&id, argv, None)).unwrap();
    let found = output.stdout.split(|&byte| byte == 0).filter(|entry| *entry == b"LATIN=caf\xe9\xff").count();
    assert_eq!(found, 2, "{}\n{}", output.stdout.escape_ascii(), output.stderr.escape_ascii());
    node.remove_all();
}

#[test]
fn a_mount_source_that_is_not_there_becomes_a_directory_once_all_else_is_right() {
    if !ready() {
        return;
    }
    let node = Node::start();
    let pod = node.pod("sources");
    let source = node.dir.path().join("a/b");
    let mut config = shell("main", "echo x > /data/file");
    config.mounts = vec![mount(source.to_str().unwrap(), "/data")];
    config.devices = vec![Device {
        container_path: "/dev/nothing".to_owned(),
        host_path: "/dev/no-such-device".to_owned(),
        permissions: "r".to_owned(),
    }];
    let error = node.wait(node.engine().create_container(&pod, config.clone())).unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidArgument, "{error}");
    assert!(!node.dir.path().join("a").exists(), "nothing was changed");
    config.devices.clear();
    // What fails after the directories were made takes them back.
    let mut failing = config.clone();
    failing.security.namespaces.pid = NamespaceMode::Target;
    failing.security.namespaces.target_id = "f".repeat(64);
    node.wait(node.engine().create_container(&pod, failing)).unwrap_err();
    assert!(!node.dir.path().join("a").exists(), "the directories are taken back");
    let id = node.create(&pod, config.clone());
    node.wait(node.engine().start_container(&id)).unwrap();
    node.wait_exit(&id);
    assert_eq!(fs::read_to_string(source.join("file")).unwrap(), "x\n");
    // What cannot be made is named.
    config.metadata.name = "other".to_owned();
    config.mounts[0].source = MountSource::HostPath(source.join("file/below").display().to_string());
    let error = node.wait(node.engine().create_container(&pod, config)).unwrap_err();
    assert!(error.to_string().contains("config.mounts[0].host_path"), "{error}");
    node.remove_all();
}
