//! A huskd takes over the pods of another release, and refuses what it does not understand.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use husk_e2e::{Daemon, Options, container, eventually, pod, root, v1, with_command};

/// Programs of the former release, or why a test is skipped.
fn former() -> Option<PathBuf> {
    let output = Command::new(root().join("hack/former")).output().expect("run hack/former");
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => Some(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())),
        Some(3) => {
            println!("{}", said.trim());
            husk_test_support::skip("programs of the former release");
            None
        }
        _ => panic!("hack/former: {said}"),
    }
}

fn numbers(log: &str) -> Vec<usize> {
    log.lines().map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect()
}

fn remove_pod(husk: &Daemon, pod_id: &str) {
    let request = v1::StopPodSandboxRequest { pod_sandbox_id: pod_id.to_owned() };
    husk.cri().stop_pod_sandbox(request).unwrap();
    let request = v1::RemovePodSandboxRequest { pod_sandbox_id: pod_id.to_owned() };
    husk.cri().remove_pod_sandbox(request).unwrap();
}

#[test]
fn pods_of_the_former_release_are_taken_over_and_all_verbs_work_on_them() {
    let Some(former) = former() else { return };
    let mut husk = Daemon::with(Options { dist: Some(former), ..Options::default() });
    let logs = husk.path("logs");
    let config = pod("old", &logs);
    let pod_id = husk.cri().run_pod(&config).unwrap();
    let run = |name: &str, script: &str| husk.cri().run(&pod_id, &config, &with_command(name, script));
    let talker = run("talker", "n=0; while :; do n=$((n+1)); echo $n; sleep 0.02; done");
    let waiter = run("waiter", "trap 'exit 7' TERM; while :; do sleep 0.05; done");
    let fading = run("fading", "while [ ! -e /go ]; do sleep 0.05; done; exit 42");
    let created = husk.cri().create(&pod_id, &config, &with_command("created", "exit 6")).unwrap();
    let ended = run("ended", "exit 3");
    let before = husk.cri().wait_exit(&ended);
    assert_eq!(husk.cri().exec(&fading, &["touch", "/going"]).unwrap().0, 0);
    husk.stop();
    husk.change_programs(None);
    husk.spawn();

    let status = husk.cri().container(&ended).unwrap();
    assert_eq!((status.exit_code, status.finished_at), (3, before.finished_at));
    assert_eq!(husk.cri().exec(&fading, &["touch", "/go"]).unwrap().0, 0);
    assert_eq!(husk.cri().wait_exit(&fading).exit_code, 42);
    husk.cri().start(&created).unwrap();
    assert_eq!(husk.cri().wait_exit(&created).exit_code, 6);
    assert_eq!(husk.cri().exec(&talker, &["echo", "hello"]).unwrap(), (0, "hello\n".into(), String::new()));

    let log = logs.join("talker.log");
    fs::rename(&log, logs.join("talker.log.1")).unwrap();
    let reopen = v1::ReopenContainerLogRequest { container_id: talker.clone() };
    husk.cri().reopen_container_log(reopen).unwrap();
    eventually("the new log grows", Duration::from_secs(20), || {
        (fs::read_to_string(&log).ok()?.lines().count() > 5).then_some(())
    });
    let stats =
        husk.cri().container_stats(v1::ContainerStatsRequest { container_id: talker.clone() }).unwrap();
    assert!(stats.stats.unwrap().memory.unwrap().working_set_bytes.unwrap().value > 0);
    let update = v1::UpdateContainerResourcesRequest {
        container_id: talker.clone(),
        linux: Some(v1::LinuxContainerResources { cpu_shares: 512, ..Default::default() }),
        ..Default::default()
    };
    husk.cri().update_container_resources(update).unwrap();
    // A new container in a pod whose monitor is the old one.
    let late = husk.cri().run(&pod_id, &config, &with_command("late", "echo late; exit 5"));
    assert_eq!(husk.cri().wait_exit(&late).exit_code, 5);
    husk.cri().stop(&waiter, 30).unwrap();
    assert_eq!(husk.cri().container(&waiter).unwrap().exit_code, 7);
    husk.cri().stop(&talker, 0).unwrap();
    let whole = fs::read_to_string(logs.join("talker.log.1")).unwrap() + &fs::read_to_string(&log).unwrap();
    let numbers = numbers(&whole);
    assert!(numbers.iter().copied().eq(1..=numbers.len()), "no line is lost or doubled");
    let remove = v1::RemoveContainerRequest { container_id: ended };
    husk.cri().remove_container(remove).unwrap();

    let fresh = husk.cri().run_pod(&pod("new", &logs)).unwrap();
    remove_pod(&husk, &fresh);
    remove_pod(&husk, &pod_id);
}

#[test]
fn a_pod_of_the_former_release_whose_monitor_dies_is_reported_and_removed() {
    let Some(former) = former() else { return };
    let mut husk = Daemon::with(Options { dist: Some(former), ..Options::default() });
    let config = pod("old", &husk.path("logs"));
    let pod_id = husk.cri().run_pod(&config).unwrap();
    let id = husk.cri().run(&pod_id, &config, &container("main"));
    husk.kill();
    let record = fs::read(husk.path(&format!("state/pods/{pod_id}/monitor.json"))).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    let pid = rustix::process::Pid::from_raw(record["pid"].as_i64().unwrap() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    husk.change_programs(None);
    husk.spawn();
    let status = husk.cri().wait_exit(&id);
    assert_eq!(status.exit_code, 255);
    assert!(status.message.contains("monitor"), "{status:?}");
    remove_pod(&husk, &pod_id);
}

#[test]
fn records_of_a_newer_huskd_are_refused_by_name_and_nothing_is_harmed() {
    let mut husk = Daemon::start();
    let config = pod("newer", &husk.path("logs"));
    let pod_id = husk.cri().run_pod(&config).unwrap();
    let id = husk.cri().run(&pod_id, &config, &container("main"));
    let other = husk.cri().run_pod(&pod("other", &husk.path("logs"))).unwrap();
    husk.kill();
    let records = [
        format!("state/pods/{pod_id}/pod.json"),
        format!("state/pods/{pod_id}/containers/{id}/container.json"),
    ];
    for record in records {
        let path = husk.path(&record);
        let text = fs::read_to_string(&path).unwrap();
        // What a newer release may have made of the rest is not even read.
        let newer = text.replacen("{\"format\":1,", "{\"format\":99,\"news\":", 1);
        assert_ne!(newer, text, "the format is a record's first field");
        fs::write(&path, newer).unwrap();
        let said = husk.refused_start();
        for part in [path.to_str().unwrap(), "format 99", "newer huskd"] {
            assert!(said.contains(part), "{part:?} is not in {said}");
        }
        fs::write(&path, text).unwrap();
    }
    husk.spawn();
    assert_eq!(husk.cri().container(&id).unwrap().state(), v1::ContainerState::ContainerRunning);
    assert_eq!(husk.cri().exec(&id, &["true"]).unwrap().0, 0);
    remove_pod(&husk, &other);
}
