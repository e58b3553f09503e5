//! Full disks under the logs and under the state directory: a clear error, nothing damaged, recovery by itself.

use std::{fs, time::Duration};

use husk_e2e::{Daemon, Small, container, eventually, pod, v1, with_command};
use tonic::Code;

#[test]
fn a_full_disk_under_the_logs_loses_whole_lines_and_nothing_else() {
    let husk = Daemon::start();
    let logs = husk.path("logs");
    let disk = Small::mount(&logs, c"size=256k");
    let config = pod("logs", &logs);
    let pod_id = husk.cri().run_pod(&config).unwrap();
    let script = "n=0; while :; do n=$((n+1)); echo $n-$n-$n-$n-$n-$n-$n-$n; [ $((n%10)) = 0 ] && sleep 0.01; [ -e /end ] && exit 9; done";
    let id = husk.cri().run(&pod_id, &config, &with_command("talker", script));
    let log = logs.join("talker.log");
    eventually("the log is written", Duration::from_secs(20), || {
        (fs::metadata(&log).ok()?.len() > 1000).then_some(())
    });
    disk.fill();
    let size = fs::metadata(&log).unwrap().len();
    // Its neighbour's log cannot even be begun, and says so; with room again it runs.
    let other = husk.cri().create(&pod_id, &config, &container("other")).unwrap();
    let outcome = husk.cri().start(&other);
    if let Err(status) = &outcome {
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        assert!(status.message().contains("other.log"), "{status}");
    }
    assert_eq!(husk.cri().exec(&id, &["true"]).unwrap().0, 0, "the container runs on");
    eventually("lines were lost", Duration::from_secs(20), || {
        let (_, n, _) = husk.cri().exec(&id, &["cat", "/proc/uptime"]).unwrap();
        (!n.is_empty()).then_some(())
    });
    disk.free();
    eventually("the log goes on", Duration::from_secs(20), || {
        (fs::metadata(&log).ok()?.len() > size + 2000).then_some(())
    });
    husk.cri().exec(&id, &["touch", "/end"]).unwrap();
    assert_eq!(husk.cri().wait_exit(&id).exit_code, 9);
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.ends_with('\n'), "no half line at the end");
    let mut last = 0;
    for line in text.lines() {
        let content = line.splitn(4, ' ').nth(3).unwrap_or_else(|| panic!("half a line: {line:?}"));
        let number: usize = content.split('-').next().unwrap().parse().unwrap();
        assert_eq!(content, vec![number.to_string(); 8].join("-"));
        assert!(number > last, "in order and once");
        last = number;
    }
    let record = fs::read(husk.path(&format!("state/pods/{pod_id}/containers/{id}/state.json"))).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    let lost = record["log_dropped_bytes"].as_u64().unwrap();
    assert_eq!(lost > 0, text.lines().count() < last, "what was lost is counted: {lost}");
    husk.cri().remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id: pod_id }).unwrap();
}

#[test]
fn a_full_disk_under_the_state_refuses_what_is_new_keeps_what_runs_and_lets_pods_go() {
    let mut husk = Daemon::start();
    husk.stop();
    let state = husk.path("state");
    let disk = Small::mount(&state, c"size=1m");
    husk.spawn();
    let logs = husk.path("logs");
    let config = pod("running", &logs);
    let pod_id = husk.cri().run_pod(&config).unwrap();
    let waiter = "while [ ! -e /end ]; do sleep 0.02; done; exit 42";
    let id = husk.cri().run(&pod_id, &config, &with_command("main", waiter));
    let leaving = husk.cri().run_pod(&pod("leaving", &logs)).unwrap();
    let count = || fs::read_dir(state.join("pods")).unwrap().count();
    let before = count();
    disk.fill();

    for error in [
        husk.cri().run_pod(&pod("new", &logs)).unwrap_err(),
        husk.cri().create(&pod_id, &config, &container("new")).unwrap_err(),
    ] {
        assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
        assert!(error.message().contains("No space left"), "{error}");
    }
    assert_eq!(count(), before, "what failed left nothing");
    assert_eq!(husk.cri().exec(&id, &["touch", "/end"]).unwrap().0, 0, "what runs runs on");
    assert_eq!(husk.cri().wait_exit(&id).exit_code, 42);
    husk.kill();
    husk.spawn();
    assert_eq!(husk.cri().container(&id).unwrap().exit_code, 42, "the monitor knows what it could not write");
    // Pods can go, which is what makes room.
    husk.cri().remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id: leaving }).unwrap();

    disk.free();
    let record = state.join("pods").join(&pod_id).join("containers").join(&id).join("state.json");
    eventually("the exit is recorded once there is room", Duration::from_secs(20), || {
        let record: serde_json::Value = serde_json::from_slice(&fs::read(&record).ok()?).ok()?;
        (record["exit"]["code"] == 42).then_some(())
    });
    let new = husk.cri().run_pod(&pod("new", &logs)).unwrap();
    for pod_sandbox_id in [new, pod_id] {
        husk.cri().remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id }).unwrap();
    }
    husk.stop();
    drop(disk);
    husk.spawn();
}
