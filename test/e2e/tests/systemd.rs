//! The systemd cgroup driver on a node that is systemd's: real units, reloads and restarts.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use husk_e2e::{
    CgroupDriver, Daemon, Options, container, dist, eventually, pod, root, run, v1, with_command,
};

const TREE: &str = "/sys/fs/cgroup";

/// A daemon with the systemd driver, or `None`, loudly, where systemd or a controller is missing.
fn daemon(controllers: &[&str]) -> Option<Daemon> {
    let pid_1 = fs::read_to_string("/proc/1/comm").unwrap_or_default();
    let have = fs::read_to_string(format!("{TREE}/cgroup.controllers")).unwrap_or_default();
    let missing: Vec<_> =
        controllers.iter().filter(|name| !have.split_whitespace().any(|have| have == **name)).collect();
    if pid_1.trim() != "systemd" || !Path::new(TREE).join("cgroup.controllers").exists() {
        husk_test_support::skip("systemd as PID 1 and cgroup v2");
        return None;
    }
    if !missing.is_empty() {
        husk_test_support::skip("the controllers on cgroup v2");
        return None;
    }
    Some(Daemon::with(Options { cgroup_driver: Some(CgroupDriver::Systemd), ..Options::default() }))
}

fn systemctl(arguments: &[&str]) -> String {
    run(Command::new("systemctl").args(arguments)).success()
}

/// A property of a unit.
fn property(unit: &str, name: &str) -> String {
    systemctl(&["show", "--value", "--property", name, unit]).trim().to_owned()
}

/// A pod's own cgroup below its scope.
fn group(husk: &Daemon, pod_id: &str) -> PathBuf {
    Path::new(TREE).join(husk.pod_cgroup(pod_id))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}

/// Fails unless the pod's unit goes by itself or by husk.
fn wait_gone(unit: &str) {
    eventually(&format!("{unit} is gone"), Duration::from_secs(15), || {
        (property(unit, "LoadState") == "not-found").then_some(())
    });
}

fn limited(name: &str) -> v1::ContainerConfig {
    let mut config = container(name);
    config.linux.as_mut().unwrap().resources = Some(v1::LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: 50_000,
        cpu_shares: 512,
        memory_limit_in_bytes: 64 << 20,
        ..Default::default()
    });
    config
}

#[test]
fn a_pod_is_a_delegated_scope_in_the_slice_that_the_request_names() {
    let Some(husk) = daemon(&[]) else { return };
    let told = husk.cri().runtime_config(v1::RuntimeConfigRequest::default()).unwrap();
    assert_eq!(told.linux.unwrap().cgroup_driver(), v1::CgroupDriver::Systemd);
    // As the kubelet names it (the whole path), as others do (the name alone), and as critest does.
    let top = husk.cgroup_parent().trim_start_matches('/').trim_end_matches(".slice").to_owned();
    let nested = format!("{top}-burstable-pod1_2.slice");
    let path = format!("/{top}.slice/{top}-burstable.slice/{nested}");
    for (number, parent) in [path.clone(), nested.clone(), format!("/{nested}")].into_iter().enumerate() {
        let mut config = pod(&format!("scope-{number}"), &husk.path("logs"));
        config.linux.as_mut().unwrap().cgroup_parent = parent;
        let pod_id = husk.cri().run_pod(&config).unwrap();
        let id = husk.cri().run(&pod_id, &config, &container("main"));
        let unit = format!("husk-{pod_id}.scope");
        for (name, value) in [("ActiveState", "active"), ("Delegate", "yes"), ("Slice", nested.as_str())] {
            assert_eq!(property(&unit, name), value, "{name}");
        }
        assert_eq!(property(&unit, "TasksMax"), "infinity");
        let cgroup = property(&unit, "ControlGroup");
        assert_eq!(cgroup, format!("{path}/{unit}"));
        let scope = PathBuf::from(format!("{TREE}{cgroup}"));
        assert_eq!(read(&scope.join("cgroup.procs")), "", "nothing lives in systemd's own group");
        assert_eq!(read(&scope.join("pod/cgroup.procs")), "");
        assert_eq!(
            read(&scope.join("pod/pause/cgroup.procs")).lines().count(),
            1,
            "pause without its anchor"
        );
        assert_eq!(read(&scope.join(format!("pod/{id}/cgroup.procs"))).lines().count(), 1);
        husk.cri().stop_pod_sandbox(v1::StopPodSandboxRequest { pod_sandbox_id: pod_id.clone() }).unwrap();
        wait_gone(&unit);
        assert!(!scope.exists());
    }
    systemctl(&["stop", &nested, &format!("{top}-burstable.slice")]);
}

#[test]
fn a_parent_that_is_no_slice_is_refused_with_the_remedy() {
    let Some(husk) = daemon(&[]) else { return };
    for parent in ["/kubepods/burstable/pod1", "/kubepods/pod1.slice", "a--b.slice"] {
        let mut config = pod("refused", &husk.path("logs"));
        config.linux.as_mut().unwrap().cgroup_parent = parent.to_owned();
        let refused = husk.cri().run_pod(&config).unwrap_err();
        assert_eq!(refused.code() as i32, 3, "{refused}");
        for part in ["config.linux.cgroup_parent", parent, "cgroupDriver: systemd"] {
            assert!(refused.message().contains(part), "{part:?} is not in {refused}");
        }
    }
}

#[test]
fn limits_and_device_rules_survive_a_reload_and_a_new_systemd() {
    let Some(husk) = daemon(&["memory", "cpu", "pids"]) else { return };
    let config = pod("reload", &husk.path("logs"));
    let pod_id = husk.cri().run_pod(&config).unwrap();
    let id = husk.cri().run(&pod_id, &config, &limited("limited"));
    let group = group(&husk, &pod_id).join(&id);
    let limits = || {
        let values: Vec<_> = ["memory.max", "cpu.max", "cpu.weight", "pids.max"]
            .iter()
            .map(|file| read(&group.join(file)))
            .collect();
        // A disk is not among the devices of a container, whatever node it makes for it.
        let denied = "mknod /tmp/kmsg c 1 11; cat /tmp/kmsg >/dev/null 2>&1 & sleep 0.2; kill $! 2>/dev/null && echo open";
        let (_, devices, _) = husk.cri().exec(&id, &["sh", "-c", denied]).unwrap();
        (values, devices)
    };
    let before = limits();
    assert_eq!(before.0[0], (64u64 << 20).to_string());
    assert_eq!(before.0[1], "50000 100000");
    assert_eq!(before.1, "", "the device is refused");
    let slice = husk.cgroup_parent().trim_start_matches('/').to_owned();
    for step in [
        vec!["daemon-reload"],
        vec!["set-property", "--runtime", &slice, "CPUWeight=50"],
        vec!["daemon-reload"],
        vec!["daemon-reexec"],
    ] {
        systemctl(&step);
        assert_eq!(limits(), before, "after {step:?}");
    }
    // And a pod can be started after all that.
    let again = pod("again", &husk.path("logs"));
    let pod_id = husk.cri().run_pod(&again).unwrap();
    husk.cri().run(&pod_id, &again, &limited("limited"));
}

#[test]
fn a_container_killed_for_memory_says_so_every_time() {
    let Some(husk) = daemon(&["memory"]) else { return };
    let config = pod("oom", &husk.path("logs"));
    let pod_id = husk.cri().run_pod(&config).unwrap();
    for round in 0..5 {
        // Two ways to die: the command itself, and a child of it.
        let command = if round % 2 == 0 {
            "exec dd if=/dev/zero of=/dev/null bs=100M"
        } else {
            "dd if=/dev/zero of=/dev/null bs=100M; exit 9"
        };
        let mut eater = with_command(&format!("eater-{round}"), command);
        eater.linux.as_mut().unwrap().resources =
            Some(v1::LinuxContainerResources { memory_limit_in_bytes: 16 << 20, ..Default::default() });
        let id = husk.cri().run(&pod_id, &config, &eater);
        assert_eq!(husk.cri().wait_exit(&id).reason, "OOMKilled", "round {round}");
    }
}

#[test]
fn huskd_killed_at_eight_moments_of_a_pods_start_leaves_no_unit() {
    let Some(mut husk) = daemon(&[]) else { return };
    for round in 0..8u64 {
        let config = pod(&format!("moment-{round}"), &husk.path("logs"));
        let request =
            v1::RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: String::new() };
        let mut client = husk.cri().runtime();
        husk.cri().block_on(async {
            let start =
                tokio::time::timeout(Duration::from_millis(2 + round * 6), client.run_pod_sandbox(request));
            // Whether it ended in time is the point of the lottery, not an error.
            let _ = start.await;
        });
        husk.kill();
        husk.spawn();
        let pods = husk.cri().list_pod_sandbox(v1::ListPodSandboxRequest::default()).unwrap().items;
        let slice = Path::new(TREE).join(&husk.cgroup_parent()[1..]);
        for item in pods {
            husk.cri().remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id: item.id }).unwrap();
        }
        eventually("no scope is left", Duration::from_secs(20), || {
            let left = fs::read_dir(&slice).map_or(0, |entries| {
                entries
                    .flatten()
                    .filter(|entry| entry.path().extension().is_some_and(|e| e == "scope"))
                    .count()
            });
            (left == 0).then_some(())
        });
    }
}

/// husk as a unit of systemd, from the manifest that is installed.
struct Service {
    unit: String,
    file: PathBuf,
}

impl Service {
    fn start(husk: &Daemon) -> Self {
        let unit = format!("husk-e2e-{}.service", std::process::id());
        let file = Path::new("/run/systemd/system").join(&unit);
        let manifest = fs::read_to_string(root().join("manifests/husk.service")).unwrap();
        let command = format!(
            "ExecStart={} --config {dir}/husk.toml --root {dir}/root --state {dir}/state --address {dir}/husk.sock \
             --cni-conf-dir {dir}/cni --registry-config-dir {dir}/certs.d",
            dist("huskd").display(),
            dir = husk.dir().display()
        );
        let lines: Vec<_> = manifest
            .lines()
            .map(|line| if line.starts_with("ExecStart=") { command.as_str() } else { line })
            .collect();
        fs::write(&file, lines.join("\n")).unwrap();
        // A unit that was never loaded needs no daemon-reload.
        systemctl(&["start", &unit]);
        Self { unit, file }
    }

    fn processes(&self) -> Vec<String> {
        let cgroup = property(&self.unit, "ControlGroup");
        let procs = fs::read_to_string(format!("{TREE}{cgroup}/cgroup.procs")).unwrap_or_default();
        let name = |pid: &str| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        procs.lines().map(|pid| format!("{} {pid}", name(pid).trim())).collect()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = run(Command::new("systemctl").args(["stop", &self.unit]));
        let _ = fs::remove_file(&self.file);
    }
}

#[test]
fn pods_do_not_notice_that_the_service_is_restarted() {
    let Some(mut husk) = daemon(&[]) else { return };
    husk.stop();
    let service = Service::start(&husk);
    husk.reconnect();
    let config = pod("service", &husk.path("logs"));
    let pod_id = husk.cri().run_pod(&config).unwrap();
    let ticking = with_command("ticking", "ulimit -n; while :; do echo tick; sleep 0.02; done");
    let id = husk.cri().run(&pod_id, &config, &ticking);
    let started_at = husk.cri().container(&id).unwrap().started_at;
    let monitor = |service: &Service| {
        service.processes().into_iter().filter(|name| name.starts_with("husk-podmon")).collect::<Vec<_>>()
    };
    let before = monitor(&service);
    assert_eq!(before.len(), 1, "the monitor lives in the service's cgroup: {:?}", service.processes());
    let log = husk.cri().container(&id).unwrap().log_path;
    assert!(read(Path::new(&log)).lines().next().unwrap().ends_with(" 1024"), "the soft limit of open files");
    for verb in ["restart", "kill"] {
        match verb {
            // SIGTERM to every process of the unit.
            "kill" => systemctl(&["kill", &service.unit]),
            verb => systemctl(&[verb, &service.unit]),
        };
        eventually("the daemon answers again", Duration::from_secs(30), || {
            husk.reconnect();
            husk.cri().version(v1::VersionRequest::default()).ok()
        });
        assert_eq!(monitor(&service), before, "after {verb}");
        assert_eq!(husk.cri().container(&id).unwrap().started_at, started_at);
        assert_eq!(husk.cri().exec(&id, &["echo", "alive"]).unwrap().1, "alive\n");
        let lines = read(Path::new(&log)).lines().count();
        eventually("the log goes on", Duration::from_secs(10), || {
            (read(Path::new(&log)).lines().count() > lines).then_some(())
        });
    }
    drop(service);
    husk.spawn();
}
