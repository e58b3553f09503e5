//! A pod's life through the CRI: what a kubelet asks for, seen from outside.

use std::{collections::BTreeSet, fs, time::Duration};

use husk_e2e::{Daemon, Subject, cgroup_of, container, eventually, hierarchies, pod, v1, with_command};
use tonic::Code;

/// Content of a CRI log: without streams and time stamps, parts of a line (tag P) joined.
fn log_text(path: &str) -> String {
    let said = |line: &str| {
        let mut fields = line.splitn(4, ' ').skip(2);
        let (tag, text) = (fields.next()?, fields.next()?);
        Some(if tag == "P" { text.to_owned() } else { format!("{text}\n") })
    };
    fs::read_to_string(path).unwrap_or_default().lines().filter_map(said).collect()
}

#[test]
fn a_pod_lives_from_run_to_remove() {
    let runtime = Subject::start();
    let config = pod("life", &runtime.path("logs"));
    let pod_id = runtime.cri().run_pod(&config).expect("run the pod");

    let status = runtime
        .cri()
        .pod_sandbox_status(v1::PodSandboxStatusRequest { pod_sandbox_id: pod_id.clone(), verbose: true })
        .unwrap()
        .status
        .unwrap();
    assert_eq!(status.state(), v1::PodSandboxState::SandboxReady);
    assert!(status.network.unwrap().ip.parse::<std::net::Ipv4Addr>().is_ok());

    let id = runtime
        .cri()
        .create(&pod_id, &config, &with_command("main", "echo out; echo err >&2; exit 7"))
        .unwrap();
    let created = runtime.cri().container(&id).unwrap();
    assert_eq!(created.state(), v1::ContainerState::ContainerCreated);
    assert_eq!(created.started_at, 0);
    runtime.cri().start(&id).unwrap();
    let ended = runtime.cri().wait_exit(&id);
    assert_eq!((ended.exit_code, ended.reason.as_str()), (7, "Error"));
    assert!(ended.created_at <= ended.started_at);
    let log = log_text(&ended.log_path);
    if runtime.is_husk() {
        assert!(ended.started_at <= ended.finished_at);
        assert_eq!(log, "out\nerr\n", "the log is complete when EXITED is visible");
    } else {
        // containerd copies each stream by itself, and notes the start when its call is over.
        assert_eq!(log.lines().collect::<BTreeSet<_>>(), ["err", "out"].into(), "complete, in either order");
    }
    assert!(ended.image_ref.contains("sha256:"), "{}", ended.image_ref);

    runtime.cri().stop_pod_sandbox(v1::StopPodSandboxRequest { pod_sandbox_id: pod_id.clone() }).unwrap();
    let listed = runtime.cri().list_containers(v1::ListContainersRequest::default()).unwrap().containers;
    assert_eq!(listed.len(), 1, "containers of a stopped pod stay listed");
    runtime.cri().remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id: pod_id }).unwrap();
    assert!(
        runtime.cri().list_containers(v1::ListContainersRequest::default()).unwrap().containers.is_empty()
    );
}

#[test]
fn exit_codes_signals_and_memory_kills_are_told_apart() {
    let runtime = Subject::start();
    let config = pod("exits", &runtime.path("logs"));
    let pod_id = runtime.cri().run_pod(&config).unwrap();
    for (name, script, code, reason) in [
        ("zero", "exit 0", 0, "Completed"),
        ("three", "exit 3", 3, "Error"),
        ("killed", "kill -9 $$", 137, "Error"),
        ("terminated", "kill -15 $$", 143, "Error"),
    ] {
        let id = runtime.cri().run(&pod_id, &config, &with_command(name, script));
        let ended = runtime.cri().wait_exit(&id);
        assert_eq!((ended.exit_code, ended.reason.as_str()), (code, reason), "{name}");
    }
    let mut hungry = with_command("hungry", "exec dd if=/dev/zero of=/dev/null bs=64M");
    hungry.linux.as_mut().unwrap().resources =
        Some(v1::LinuxContainerResources { memory_limit_in_bytes: 16 << 20, ..Default::default() });
    let id = runtime.cri().run(&pod_id, &config, &hungry);
    let ended = runtime.cri().wait_exit(&id);
    assert_eq!((ended.exit_code, ended.reason.as_str()), (137, "OOMKilled"));
}

#[test]
fn a_command_that_does_not_exist_fails_the_start_and_ends_the_container() {
    let runtime = Subject::start();
    let config = pod("nocommand", &runtime.path("logs"));
    let pod_id = runtime.cri().run_pod(&config).unwrap();
    let mut missing = container("missing");
    missing.command = vec!["/no/such/program".to_owned()];
    let id = runtime.cri().create(&pod_id, &config, &missing).unwrap();
    let status = runtime.cri().start(&id).expect_err("the start fails");
    assert!(status.message().contains("/no/such/program"), "{status}");
    assert!(status.message().to_lowercase().contains("no such file"), "{status}");
    let ended = runtime.cri().wait_exit(&id);
    assert_eq!((ended.exit_code, ended.reason.as_str()), (128, "StartError"));
}

#[test]
fn stop_gives_the_grace_and_then_kills() {
    let runtime = Subject::start();
    let config = pod("grace", &runtime.path("logs"));
    let pod_id = runtime.cri().run_pod(&config).unwrap();
    let polite = runtime.cri().run(
        &pod_id,
        &config,
        &with_command("polite", "trap 'echo bye; exit 4' TERM; echo up; while :; do sleep 0.1; done"),
    );
    let log = runtime.cri().container(&polite).unwrap().log_path;
    eventually("the trap is set", Duration::from_secs(10), || log_text(&log).contains("up").then_some(()));
    runtime.cri().stop(&polite, 20).unwrap();
    let ended = runtime.cri().container(&polite).unwrap();
    assert_eq!((ended.state(), ended.exit_code), (v1::ContainerState::ContainerExited, 4));
    assert_eq!(log_text(&log), "up\nbye\n");

    let stubborn = runtime.cri().run(
        &pod_id,
        &config,
        &with_command("stubborn", "trap '' TERM; echo up; while :; do sleep 0.1; done"),
    );
    let log = runtime.cri().container(&stubborn).unwrap().log_path;
    eventually("the trap is set", Duration::from_secs(10), || log_text(&log).contains("up").then_some(()));
    runtime.cri().stop(&stubborn, 1).unwrap();
    assert_eq!(runtime.cri().container(&stubborn).unwrap().exit_code, 137);
}

#[test]
fn a_retry_of_the_same_request_gets_the_same_object() {
    let husk = Daemon::start();
    let config = pod("retry", &husk.path("logs"));
    let cri = husk.cri();
    let request = v1::RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: String::new() };
    let (first, second) = cri.block_on(async {
        let (mut a, mut b) = (cri.runtime(), cri.runtime());
        tokio::join!(a.run_pod_sandbox(request.clone()), b.run_pod_sandbox(request))
    });
    let (first, second) = (first.unwrap().into_inner(), second.unwrap().into_inner());
    assert_eq!(first.pod_sandbox_id, second.pod_sandbox_id, "concurrent retries join");
    assert_eq!(cri.list_pod_sandbox(v1::ListPodSandboxRequest::default()).unwrap().items.len(), 1);
}

#[test]
fn limits_are_in_the_cgroup_and_can_be_updated() {
    let runtime = Subject::start();
    let config = pod("limits", &runtime.path("logs"));
    let pod_id = runtime.cri().run_pod(&config).unwrap();
    let mut limited = container("limited");
    limited.linux.as_mut().unwrap().resources = Some(v1::LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: 50_000,
        cpu_shares: 512,
        memory_limit_in_bytes: 64 << 20,
        ..Default::default()
    });
    let id = runtime.cri().run(&pod_id, &config, &limited);
    let group = cgroup_of(runtime.cri().init(&id));
    let read = |file: &str| {
        hierarchies()
            .iter()
            .find_map(|hierarchy| fs::read_to_string(hierarchy.join(&group).join(file)).ok())
            .map(|text| text.trim().to_owned())
    };
    let memory = || read("memory.limit_in_bytes").or_else(|| read("memory.max")).expect("a memory limit");
    let cpu = || read("cpu.cfs_quota_us").or_else(|| read("cpu.max")).expect("a cpu limit");
    assert_eq!(memory(), (64u64 << 20).to_string());
    assert!(cpu().starts_with("50000"));
    runtime
        .cri()
        .update_container_resources(v1::UpdateContainerResourcesRequest {
            container_id: id.clone(),
            linux: Some(v1::LinuxContainerResources {
                cpu_quota: 80_000,
                cpu_period: 100_000,
                memory_limit_in_bytes: 96 << 20,
                ..Default::default()
            }),
            ..Default::default()
        })
        .unwrap();
    assert_eq!(memory(), (96u64 << 20).to_string());
    assert!(cpu().starts_with("80000"));
    let reported = runtime.cri().container(&id).unwrap().resources.unwrap().linux.unwrap();
    assert_eq!(
        (reported.memory_limit_in_bytes, reported.cpu_quota, reported.cpu_shares),
        (96 << 20, 80_000, 512)
    );
}

#[test]
fn exec_returns_both_outputs_the_exit_code_and_kills_what_takes_too_long() {
    let runtime = Subject::start();
    let config = pod("exec", &runtime.path("logs"));
    let pod_id = runtime.cri().run_pod(&config).unwrap();
    let id = runtime.cri().run(&pod_id, &config, &container("main"));
    assert_eq!(
        runtime.cri().exec(&id, &["sh", "-c", "echo -n out; echo -n err >&2; exit 5"]).unwrap(),
        (5, "out".to_owned(), "err".to_owned())
    );
    // containerd kills the command alone, and then waits for whoever still holds its outputs.
    let slow = if runtime.is_husk() { "sleep 4321 & sleep 4321" } else { "exec sleep 4321" };
    let status = runtime
        .cri()
        .exec_sync(v1::ExecSyncRequest {
            container_id: id.clone(),
            cmd: vec!["sh".into(), "-c".into(), slow.into()],
            timeout: 1,
        })
        .expect_err("the command takes too long");
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    let (_, processes, _) = runtime.cri().exec(&id, &["ps"]).unwrap();
    assert!(!processes.contains("4321"), "{processes}");
    let status = runtime.cri().exec(&id, &["/no/such"]).expect_err("no such command");
    assert!(status.message().contains("/no/such"), "{status}");
}

#[test]
fn a_log_can_be_rotated_under_a_flood_without_losing_a_line() {
    const LINES: usize = 200_000;
    let runtime = Subject::start();
    let config = pod("flood", &runtime.path("logs"));
    let pod_id = runtime.cri().run_pod(&config).unwrap();
    let id = runtime.cri().run(&pod_id, &config, &with_command("flood", &format!("seq 1 {LINES}")));
    let path = runtime.cri().container(&id).unwrap().log_path;
    let mut parts = Vec::new();
    while runtime.cri().container(&id).unwrap().state() == v1::ContainerState::ContainerRunning
        && parts.len() < 50
    {
        let rotated = format!("{path}.{}", parts.len());
        fs::rename(&path, &rotated).unwrap();
        parts.push(rotated);
        match runtime.cri().reopen_container_log(v1::ReopenContainerLogRequest { container_id: id.clone() }) {
            Ok(_) => assert!(fs::exists(&path).unwrap(), "the new log exists when the call returns"),
            Err(_) => assert_eq!(runtime.cri().wait_exit(&id).exit_code, 0),
        }
    }
    runtime.cri().wait_exit(&id);
    parts.push(path);
    let text: String = parts.iter().map(|part| log_text(part)).collect();
    let expected: String = (1..=LINES).map(|number| format!("{number}\n")).collect();
    assert!(text == expected, "{} bytes of {} arrived", text.len(), expected.len());
}

#[test]
fn two_dozen_pods_start_at_once_and_stop_at_once() {
    let runtime = Subject::start();
    let cri = runtime.cri();
    let logs = runtime.path("logs");
    let ids = cri.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..24 {
            let mut client = cri.runtime();
            let config = pod(&format!("many-{number}"), &logs);
            tasks.spawn(async move {
                let request =
                    v1::RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: String::new() };
                let pod_id = client.run_pod_sandbox(request).await.unwrap().into_inner().pod_sandbox_id;
                let request = v1::CreateContainerRequest {
                    pod_sandbox_id: pod_id.clone(),
                    config: Some(container("main")),
                    sandbox_config: Some(config),
                };
                let container_id = client.create_container(request).await.unwrap().into_inner().container_id;
                client.start_container(v1::StartContainerRequest { container_id }).await.unwrap();
                pod_id
            });
        }
        tasks.join_all().await
    });
    let mut addresses: Vec<String> = ids.iter().map(|id| cri.pod(id).unwrap().network.unwrap().ip).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 24, "every pod has an address of its own");
    let running = cri.list_containers(v1::ListContainersRequest::default()).unwrap().containers;
    assert!(running.iter().all(|container| container.state() == v1::ContainerState::ContainerRunning));
    assert_eq!(running.len(), 24);
    cri.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for pod_sandbox_id in ids.clone() {
            let mut client = cri.runtime();
            tasks.spawn(async move {
                client.stop_pod_sandbox(v1::StopPodSandboxRequest { pod_sandbox_id }).await.unwrap();
            });
        }
        tasks.join_all().await
    });
    let pods = cri.list_pod_sandbox(v1::ListPodSandboxRequest::default()).unwrap().items;
    assert_eq!(pods.len(), 24);
    assert!(pods.iter().all(|pod| pod.state() == v1::PodSandboxState::SandboxNotready), "{pods:?}");
    let ended = cri.list_containers(v1::ListContainersRequest::default()).unwrap().containers;
    assert!(
        ended.iter().all(|container| container.state() == v1::ContainerState::ContainerExited),
        "{ended:?}"
    );
}

#[test]
fn nothing_of_a_running_container_is_in_the_nodes_mount_table_but_its_network_namespace() {
    let husk = Daemon::start();
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let config = pod("mounts", &husk.path("logs"));
    let pod_id = husk.cri().run_pod(&config).unwrap();
    let volume = husk.path("volume");
    fs::create_dir(&volume).unwrap();
    let mut mounting = container("main");
    mounting.mounts.push(v1::Mount {
        container_path: "/data".into(),
        host_path: volume.display().to_string(),
        ..Default::default()
    });
    let id = husk.cri().run(&pod_id, &config, &mounting);
    assert_eq!(husk.cri().exec(&id, &["touch", "/data/file"]).unwrap().0, 0);
    assert!(volume.join("file").exists());
    let after = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mine = husk.dir().display().to_string();
    let new: Vec<&str> =
        after.lines().filter(|line| line.contains(&mine) && !before.contains(*line)).collect();
    assert_eq!(new.len(), 1, "{new:#?}");
    assert!(new[0].contains(&format!("netns/{pod_id}")) && new[0].contains("nsfs"), "{}", new[0]);
}

#[test]
fn stats_follow_the_container() {
    let runtime = Subject::start();
    let config = pod("stats", &runtime.path("logs"));
    let pod_id = runtime.cri().run_pod(&config).unwrap();
    let id = runtime.cri().run(
        &pod_id,
        &config,
        &with_command(
            "busy",
            "for file in /file /dev/shm/file; do dd if=/dev/zero of=$file bs=1M count=8 2>/dev/null; done; \
             while :; do :; done",
        ),
    );
    let stats = || {
        runtime
            .cri()
            .container_stats(v1::ContainerStatsRequest { container_id: id.clone() })
            .unwrap()
            .stats
            .unwrap()
    };
    let first = stats();
    let usage = |stats: &v1::ContainerStats| {
        stats.cpu.as_ref().unwrap().usage_core_nano_seconds.as_ref().unwrap().value
    };
    eventually("CPU time grows", Duration::from_secs(10), || {
        (usage(&stats()) > usage(&first) + 50_000_000).then_some(())
    });
    eventually("what it keeps in memory is counted", Duration::from_secs(10), || {
        (stats().memory?.working_set_bytes?.value >= 8 << 20).then_some(())
    });
    eventually("the written file is counted", Duration::from_secs(30), || {
        (stats().writable_layer?.used_bytes?.value >= 8 << 20).then_some(())
    });
}

/// The containers of one pod that shares PIDs end at once, and each end is told as it was, whoever looks on meanwhile.
fn lead_quick_ends(runtime: &Subject, name: &str) {
    let pids = || Some(v1::NamespaceOption { pid: v1::NamespaceMode::Pod.into(), ..Default::default() });
    let mut config = pod(name, &runtime.path("logs").join(name));
    config.linux.as_mut().unwrap().security_context =
        Some(v1::LinuxSandboxSecurityContext { namespace_options: pids(), ..Default::default() });
    let pod_id = runtime.cri().run_pod(&config).unwrap();
    for (name, script, code) in [
        ("zero", "exit 0", 0),
        ("seven", "exit 7", 7),
        ("killed", "kill -KILL $$", 137),
        ("told", "kill -TERM $$", 143),
        ("aborted", "kill -ABRT $$", 134),
    ] {
        let mut request = with_command(name, script);
        request.linux.as_mut().unwrap().security_context =
            Some(v1::LinuxContainerSecurityContext { namespace_options: pids(), ..Default::default() });
        let id = runtime.cri().run(&pod_id, &config, &request);
        // As a kubelet does: what is listed has a status that is not older.
        let filter = v1::ContainerFilter { pod_sandbox_id: pod_id.clone(), ..Default::default() };
        let request = v1::ListContainersRequest { filter: Some(filter) };
        for listed in runtime.cri().list_containers(request).unwrap().containers {
            let status = runtime.cri().container(&listed.id).expect("the status of what was listed");
            assert!(status.state >= listed.state, "{status:?} is older than {listed:?}");
        }
        let ended = runtime.cri().wait_exit(&id);
        assert_eq!(ended.exit_code, code, "{name}: {ended:?}");
        // containerd's start may be the later one, as above.
        let is_ordered = ended.started_at <= ended.finished_at || !runtime.is_husk();
        assert!(ended.started_at != 0 && is_ordered, "{name}: {ended:?}");
    }
    runtime.cri().stop_pod_sandbox(v1::StopPodSandboxRequest { pod_sandbox_id: pod_id.clone() }).unwrap();
    runtime.cri().remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id: pod_id }).unwrap();
}

#[test]
fn quick_ends_in_pods_that_share_pids_are_told_as_they_were() {
    let rounds = std::env::var("HUSK_E2E_ROUNDS").map_or(5, |rounds| rounds.parse().expect("a number"));
    let runtime = Subject::start();
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let runtime = &runtime;
            scope.spawn(move || {
                (0..rounds).for_each(|round| lead_quick_ends(runtime, &format!("quick-{worker}-{round}")))
            });
        }
    });
}
