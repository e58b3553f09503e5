//! One pod that is stuck holds up nobody else: not the verbs of other pods, not lists, statuses or metrics.

mod fuse;
mod others;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use fuse::{Dead, DeadAt};
use husk_e2e::{Daemon, Options, container, eventually, hierarchies, pod, v1, with_command};
use others::{Others, ask};
use rustix::process::{Pid, Signal, kill_process};
use tonic::Code;

fn monitor_pid(husk: &Daemon, pod_id: &str) -> Pid {
    let record =
        fs::read(husk.path(&format!("state/pods/{pod_id}/monitor.json"))).expect("the monitor's record");
    let record: serde_json::Value = serde_json::from_slice(&record).expect("a record");
    Pid::from_raw(record["pid"].as_i64().expect("a pid") as i32).expect("a pid")
}

/// Whether a process has ended, be it that nobody has waited for it yet.
fn is_gone(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.map_or(true, |text| text.contains(") Z"))
}

fn pod_state(husk: &Daemon, pod_id: &str) -> v1::PodSandboxState {
    let request = v1::PodSandboxStatusRequest { pod_sandbox_id: pod_id.to_owned(), verbose: false };
    husk.cri().pod_sandbox_status(request).unwrap().status.unwrap().state()
}

#[test]
fn a_stopped_monitor_holds_up_nobody_else_and_its_pod_goes_on_with_it() {
    let husk = Daemon::start();
    let config = pod("stuck", &husk.path("logs"));
    let pod_id = husk.cri().run_pod(&config).unwrap();
    let id = husk.cri().run(&pod_id, &config, &container("main"));
    let monitor = monitor_pid(&husk, &pod_id);
    kill_process(monitor, Signal::STOP).unwrap();
    let waiting = ask(&husk, &id);
    Others::live(&husk);
    assert!(!waiting.is_finished(), "an exec of the stuck pod waits for its monitor");
    kill_process(monitor, Signal::CONT).unwrap();
    assert_eq!(husk.cri().block_on(waiting).unwrap().unwrap().exit_code, 0);
}

#[test]
fn a_start_does_not_wait_for_a_stopped_monitor_nor_kill_its_pod() {
    let mut husk = Daemon::start();
    let config = pod("silent", &husk.path("logs"));
    let pod_id = husk.cri().run_pod(&config).unwrap();
    let id = husk.cri().run(&pod_id, &config, &container("main"));
    let slow = husk.cri().run_pod(&pod("slow", &husk.path("logs"))).unwrap();
    let monitors = [monitor_pid(&husk, &pod_id), monitor_pid(&husk, &slow)];
    for monitor in monitors {
        kill_process(monitor, Signal::STOP).unwrap();
    }
    husk.kill();
    husk.spawn();
    // Known, with what is on record, and refused with a reason.
    assert_eq!(pod_state(&husk, &pod_id), v1::PodSandboxState::SandboxReady);
    assert_eq!(husk.cri().container(&id).unwrap().state(), v1::ContainerState::ContainerRunning);
    for refused in [husk.cri().exec(&id, &["true"]).unwrap_err(), husk.cri().stop(&id, 0).unwrap_err()] {
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
        assert!(refused.message().contains("does not answer"), "{refused}");
    }
    Others::live(&husk);
    kill_process(monitors[0], Signal::CONT).unwrap();
    eventually("the pod is taken over once its monitor answers", Duration::from_secs(30), || {
        husk.cri().exec(&id, &["true"]).ok()
    });
    // The other one never answers again: the pod is ended without it.
    husk.cri().stop_pod_sandbox(v1::StopPodSandboxRequest { pod_sandbox_id: slow.clone() }).unwrap();
    husk.cri().remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id: slow }).unwrap();
    eventually("the silent monitor is gone", Duration::from_secs(10), || is_gone(monitors[1]).then_some(()));
}

/// A plugin that hangs for pods named `stuck`, with a child in a session of its own, and else gives an address.
fn write_plugin(husk: &Daemon) -> PathBuf {
    let (plugins, marks) = (husk.path("plugins"), husk.path("marks"));
    for folder in [&plugins, &marks, &husk.path("cni")] {
        fs::create_dir_all(folder).unwrap();
    }
    let script = format!(
        r#"#!/bin/sh
case "$CNI_COMMAND-$CNI_ARGS" in
ADD-*K8S_POD_NAME=stuck*)
    setsid sh -c 'echo $$ >{marks}/child; exec sleep 100000' &
    echo $$ >{marks}/plugin
    wait; exec sleep 100000 ;;
ADD-*) echo '{{"cniVersion":"1.0.0","interfaces":[{{"name":"eth0","sandbox":"'$CNI_NETNS'"}}],"ips":[{{"address":"10.251.10.2/24","interface":0}}]}}' ;;
esac
"#,
        marks = marks.display()
    );
    fs::write(plugins.join("hang"), script).unwrap();
    fs::set_permissions(plugins.join("hang"), fs::Permissions::from_mode(0o755)).unwrap();
    let conflist = r#"{"cniVersion":"1.0.0","name":"hang","plugins":[{"type":"hang"}]}"#;
    fs::write(husk.path("cni/new"), conflist).unwrap();
    fs::rename(husk.path("cni/new"), husk.path("cni/10-hang.conflist")).unwrap();
    eventually("the network is CNI's", Duration::from_secs(20), || {
        let status = husk.cri().status(v1::StatusRequest { verbose: true }).unwrap();
        status.info["config"].contains("hang").then_some(())
    });
    marks
}

fn pid_in(mark: &Path) -> Option<Pid> {
    Pid::from_raw(fs::read_to_string(mark).ok()?.trim().parse().ok()?)
}

#[test]
fn a_hung_cni_plugin_holds_up_nobody_else_and_ends_with_the_huskd_that_started_it() {
    let probe = tempfile::tempdir().unwrap();
    let mut husk = Daemon::with(Options {
        flags: vec!["--cni-bin-dir".into(), probe.path().display().to_string()],
        ..Options::default()
    });
    let marks = write_plugin(&husk);
    fs::copy(husk.path("plugins/hang"), probe.path().join("hang")).unwrap();
    let mut client = husk.cri().runtime();
    let request = v1::RunPodSandboxRequest {
        config: Some(pod("stuck", &husk.path("logs"))),
        runtime_handler: String::new(),
    };
    let stuck = husk.cri().spawn(async move { client.run_pod_sandbox(request).await });
    let pids = eventually("the plugin hangs", Duration::from_secs(20), || {
        Some([pid_in(&marks.join("plugin"))?, pid_in(&marks.join("child"))?])
    });
    Others::live(&husk);
    assert!(!stuck.is_finished(), "the stuck pod is not made");
    husk.kill();
    husk.spawn();
    for pid in pids {
        eventually("plugins of a former huskd are ended", Duration::from_secs(10), || {
            is_gone(pid).then_some(())
        });
    }
    assert!(husk.cri().list_pod_sandbox(v1::ListPodSandboxRequest::default()).unwrap().items.is_empty());
    Others::live(&husk);
}

/// Writes `value` to a freezer file of a cgroup, wherever there is one of that name.
fn freeze(cgroup: &str, file: &str, value: &str) -> bool {
    let files = hierarchies().into_iter().map(|hierarchy| hierarchy.join(cgroup).join(file));
    files.filter(|file| file.exists()).map(|file| fs::write(&file, value).expect("freeze")).count() > 0
}

#[test]
fn a_frozen_container_holds_up_nobody_else_and_can_be_stopped() {
    let husk = Daemon::start();
    for (file, value) in [("cgroup.freeze", "1"), ("freezer.state", "FROZEN")] {
        let config = pod("frozen", &husk.path("logs"));
        let pod_id = husk.cri().run_pod(&config).unwrap();
        let id = husk.cri().run(&pod_id, &config, &container("main"));
        let cgroup = format!("{}/{id}", husk.pod_cgroup(&pod_id));
        if !freeze(&cgroup, file, value) {
            println!("containers have no {file} here");
            husk_test_support::skip("freezers of both versions of cgroups");
            husk.cri().remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id: pod_id }).unwrap();
            continue;
        }
        let stats = v1::ContainerStatsRequest { container_id: id.clone() };
        husk.cri().container_stats(stats).unwrap();
        let request = v1::ExecSyncRequest { container_id: id.clone(), cmd: vec!["true".into()], timeout: 1 };
        let status = husk.cri().exec_sync(request).expect_err("nothing runs in a frozen container");
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
        Others::live(&husk);
        husk.cri().stop(&id, 0).unwrap();
        assert_eq!(husk.cri().container(&id).unwrap().exit_code, 137);
        husk.cri().remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id: pod_id }).unwrap();
    }
}

fn with_volume(name: &str, script: &str, volume: &Path) -> v1::ContainerConfig {
    let mut config = with_command(name, script);
    config.mounts.push(v1::Mount {
        container_path: "/volume".into(),
        host_path: volume.display().to_string(),
        ..Default::default()
    });
    config
}

#[test]
fn a_volume_that_never_answers_fails_its_container_and_holds_up_nobody_else() {
    let husk = Daemon::start();
    let Some(volume) = Dead::mount(&husk.path("dead"), DeadAt::Once) else { return };
    let config = pod("dead", &husk.path("logs"));
    let pod_id = husk.cri().run_pod(&config).unwrap();
    let mut client = husk.cri().runtime();
    let request = v1::CreateContainerRequest {
        pod_sandbox_id: pod_id,
        config: Some(with_volume("main", "sleep 1000", volume.path())),
        sandbox_config: Some(config),
    };
    let create = husk.cri().spawn(async move { client.create_container(request).await });
    eventually("the volume was asked", Duration::from_secs(20), || volume.was_asked().then_some(()));
    Others::live(&husk);
    let status = husk.cri().block_on(create).unwrap().expect_err("a dead volume");
    assert!(status.message().contains("did not end within"), "{status}");
}

#[test]
fn a_process_that_cannot_be_killed_holds_up_nobody_else() {
    let husk = Daemon::start();
    let Some(mut volume) = Dead::mount(&husk.path("dead"), DeadAt::Lookups) else { return };
    let config = pod("uninterruptible", &husk.path("logs"));
    let pod_id = husk.cri().run_pod(&config).unwrap();
    let script = "cat /volume/file & echo started; wait; sleep 1000";
    let id = husk.cri().run(&pod_id, &config, &with_volume("main", script, volume.path()));
    eventually("a process hangs in the volume", Duration::from_secs(20), || volume.was_asked().then_some(()));
    let stop = {
        let mut client = husk.cri().runtime();
        let request = v1::StopContainerRequest { container_id: id.clone(), timeout: 0 };
        husk.cri().spawn(async move { client.stop_container(request).await })
    };
    Others::live(&husk);
    // The init is dead, which is told although its cgroup is not empty.
    husk.cri().block_on(stop).unwrap().unwrap();
    assert_eq!(husk.cri().container(&id).unwrap().exit_code, 137);
    Others::live(&husk);
    volume.unmount();
    husk.cri().remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id: pod_id }).unwrap();
}
