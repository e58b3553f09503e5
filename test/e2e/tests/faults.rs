//! What happens when processes die at the wrong moment.

use std::{fs, time::Duration};

use husk_e2e::{Cri, Daemon, Subject, container, eventually, pod, v1, with_command};
use rustix::process::{Pid, Signal, kill_process};

fn pod_state(cri: &Cri, id: &str) -> v1::PodSandboxState {
    cri.pod(id).expect("status of the pod").state()
}

/// The process of a container: its pid on the node, and when it was started (proc(5), field 22 of stat).
fn incarnation(cri: &Cri, id: &str) -> (Pid, u64) {
    let pid = cri.init(id);
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process lives");
    // What follows the name, which may have spaces and parentheses, begins with field 3.
    let (_, fields) = stat.rsplit_once(") ").expect("a name in parentheses");
    (pid, fields.split(' ').nth(19).expect("a start time").parse().expect("a number"))
}

#[test]
fn containers_do_not_notice_that_huskd_was_killed() {
    let mut husk = Daemon::start();
    let config = pod("survivor", &husk.path("logs"));
    let pod_id = husk.cri().run_pod(&config).unwrap();
    let ticking = husk.cri().run(
        &pod_id,
        &config,
        &with_command("ticking", "n=0; while :; do n=$((n+1)); echo $n; sleep 0.02; done"),
    );
    let volume = husk.path("volume");
    fs::create_dir(&volume).unwrap();
    let mut fading = with_command("fading", "while [ ! -e /volume/go ]; do sleep 0.02; done; exit 42");
    fading.mounts.push(v1::Mount {
        container_path: "/volume".into(),
        host_path: volume.display().to_string(),
        ..Default::default()
    });
    let fading = husk.cri().run(&pod_id, &config, &fading);
    let running = incarnation(husk.cri(), &ticking);
    let log = husk.cri().container(&ticking).unwrap().log_path;
    let started_at = husk.cri().container(&ticking).unwrap().started_at;
    // The other container ends while nobody listens.
    husk.kill();

    let before = fs::read_to_string(&log).unwrap().lines().count();
    eventually("the log goes on without huskd", Duration::from_secs(10), || {
        (fs::read_to_string(&log).unwrap().lines().count() > before + 10).then_some(())
    });
    fs::write(volume.join("go"), "").unwrap();
    let record = husk.path(&format!("state/pods/{pod_id}/containers/{fading}/state.json"));
    eventually("the exit is recorded without huskd", Duration::from_secs(10), || {
        let record: serde_json::Value = serde_json::from_slice(&fs::read(&record).ok()?).ok()?;
        (record["exit"]["code"] == 42).then_some(())
    });

    husk.spawn();
    let status = husk.cri().container(&ticking).unwrap();
    assert_eq!((status.state(), status.started_at), (v1::ContainerState::ContainerRunning, started_at));
    let ended = husk.cri().container(&fading).unwrap();
    assert_eq!((ended.state(), ended.exit_code), (v1::ContainerState::ContainerExited, 42));
    assert!(ended.finished_at > ended.started_at);
    assert_eq!(pod_state(husk.cri(), &pod_id), v1::PodSandboxState::SandboxReady);
    assert_eq!(incarnation(husk.cri(), &ticking), running, "the same process, not one of its kind");

    husk.cri().stop(&ticking, 0).unwrap();
    let text = fs::read_to_string(&log).unwrap();
    let numbers: Vec<usize> =
        text.lines().map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
    assert!(numbers.iter().copied().eq(1..=numbers.len()), "no line is lost or doubled");
}

#[test]
fn a_created_container_can_be_started_by_the_next_daemon() {
    let mut runtime = Subject::start();
    let config = pod("created", &runtime.path("logs"));
    let pod_id = runtime.cri().run_pod(&config).unwrap();
    let id = runtime.cri().create(&pod_id, &config, &with_command("main", "exit 6")).unwrap();
    runtime.kill();
    runtime.spawn();
    assert_eq!(runtime.cri().container(&id).unwrap().state(), v1::ContainerState::ContainerCreated);
    runtime.cri().start(&id).unwrap();
    assert_eq!(runtime.cri().wait_exit(&id).exit_code, 6);
}

#[test]
fn huskd_killed_at_twelve_moments_of_a_pods_start_leaves_pods_that_work_or_none() {
    let mut husk = Daemon::start();
    for round in 0..12u32 {
        let config = pod(&format!("moment-{round}"), &husk.path("logs"));
        let request =
            v1::RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: String::new() };
        let mut client = husk.cri().runtime();
        husk.cri().block_on(async {
            let start = tokio::time::timeout(
                Duration::from_micros(u64::from(round) * 700),
                client.run_pod_sandbox(request),
            );
            // Whether it ended in time is the point of the lottery, not an error.
            let _ = start.await;
        });
        husk.kill();
        husk.spawn();
        for item in husk.cri().list_pod_sandbox(v1::ListPodSandboxRequest::default()).unwrap().items {
            if item.state() == v1::PodSandboxState::SandboxReady {
                let id = husk.cri().run(&item.id, &config, &with_command("main", "exit 0"));
                assert_eq!(
                    husk.cri().wait_exit(&id).exit_code,
                    0,
                    "a pod that is READY after the kill works"
                );
            }
            husk.cri().remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id: item.id }).unwrap();
        }
    }
}

#[test]
fn a_pod_whose_pause_process_dies_is_not_ready_and_can_be_removed() {
    let runtime = Subject::start();
    let config = pod("nopause", &runtime.path("logs"));
    let pod_id = runtime.cri().run_pod(&config).unwrap();
    runtime.cri().run(&pod_id, &config, &container("main"));
    kill_process(runtime.cri().pause(&pod_id), Signal::KILL).unwrap();
    eventually("the pod is not ready", Duration::from_secs(10), || {
        (pod_state(runtime.cri(), &pod_id) == v1::PodSandboxState::SandboxNotready).then_some(())
    });
}

#[test]
fn a_pod_whose_monitor_dies_says_so_ends_can_be_removed_and_is_told_alike_by_the_next_huskd() {
    let mut husk = Daemon::start();
    let config = pod("nomonitor", &husk.path("logs"));
    let pod_id = husk.cri().run_pod(&config).unwrap();
    let id = husk.cri().run(&pod_id, &config, &container("main"));
    let init = husk.cri().init(&id);
    let monitor: serde_json::Value = serde_json::from_str(
        &fs::read_to_string(husk.path(&format!("state/pods/{pod_id}/monitor.json"))).unwrap(),
    )
    .unwrap();
    let pid = monitor["pid"].as_i64().expect("the monitor's pid");
    kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
    eventually("the pod is not ready", Duration::from_secs(10), || {
        (pod_state(husk.cri(), &pod_id) == v1::PodSandboxState::SandboxNotready).then_some(())
    });
    let ended = husk.cri().wait_exit(&id);
    assert_eq!(ended.exit_code, 255, "an exit that nobody saw has no code of its own");
    assert_eq!(ended.reason, "ContainerStatusUnknown");
    assert!(ended.message.contains("monitor died"), "{ended:?}");
    eventually("its processes have ended", Duration::from_secs(10), || {
        let stat = fs::read_to_string(format!("/proc/{init}/stat"));
        stat.map_or(true, |text| text.contains(") Z")).then_some(())
    });
    let verbose = v1::PodSandboxStatusRequest { pod_sandbox_id: pod_id.clone(), verbose: true };
    let info = husk.cri().pod_sandbox_status(verbose).unwrap().info;
    assert!(info["info"].contains("its monitor died"), "{info:?}");
    let refused = husk.cri().create(&pod_id, &config, &container("late")).unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{refused}");

    husk.kill();
    husk.spawn();
    let again = husk.cri().container(&id).unwrap();
    assert_eq!((again.exit_code, again.finished_at), (255, ended.finished_at), "told once and for all");
    assert_eq!(again.message, ended.message);
    husk.cri().stop_pod_sandbox(v1::StopPodSandboxRequest { pod_sandbox_id: pod_id.clone() }).unwrap();
    husk.cri().remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id: pod_id }).unwrap();
    let anew = husk.cri().run_pod(&config).unwrap();
    husk.cri().run(&anew, &config, &container("main"));
}

#[test]
fn a_graceful_stop_keeps_pods_running() {
    let mut runtime = Subject::start();
    let config = pod("graceful", &runtime.path("logs"));
    let pod_id = runtime.cri().run_pod(&config).unwrap();
    let id = runtime.cri().run(&pod_id, &config, &container("main"));
    runtime.stop();
    runtime.spawn();
    assert_eq!(runtime.cri().container(&id).unwrap().state(), v1::ContainerState::ContainerRunning);
}

#[test]
fn records_that_cannot_be_read_are_reported_and_removable() {
    let mut husk = Daemon::start();
    let config = pod("corrupt", &husk.path("logs"));
    let pod_id = husk.cri().run_pod(&config).unwrap();
    let id = husk.cri().run(&pod_id, &config, &container("main"));
    husk.kill();
    fs::write(husk.path(&format!("state/pods/{pod_id}/containers/{id}/container.json")), "{ not json")
        .unwrap();
    husk.spawn();
    let listed = husk.cri().list_containers(v1::ListContainersRequest::default()).unwrap().containers;
    assert!(
        listed.iter().any(|c| c.id == id && c.state() == v1::ContainerState::ContainerUnknown),
        "{listed:?}"
    );
}
