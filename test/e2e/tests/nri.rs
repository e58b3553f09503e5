//! NRI with a real plugin on containerd's stub (hack/tools/nri-plugin): what critest's NRI specs say, and what plugins change.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use husk_e2e::{Daemon, Options, container, eventually, pod, tool, v1, with_command};
use serde_json::{Value, json};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(20);

/// A daemon whose NRI socket is in a directory that plugins use, too.
struct World {
    dir: TempDir,
    husk: Daemon,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("nri.sock").display().to_string();
        let config = format!(
            "[nri]\nplugin_dir = {:?}\nplugin_config_dir = {:?}\n[runtime]\ncdi_dirs = [{:?}]\n",
            dir.path().join("plugins"),
            dir.path().join("conf.d"),
            dir.path().join("cdi")
        );
        let flags = vec!["--nri-socket".to_owned(), socket];
        let husk = Daemon::with(Options { flags, config, ..Options::default() });
        Self { dir, husk }
    }

    /// Starts a plugin without waiting for it.
    fn start(&self, index: &str, orders: &[(&str, Value)]) -> Plugin {
        let home = self.dir.path().join(index);
        fs::create_dir_all(home.join("control")).unwrap();
        for (call, order) in orders {
            order_in(&home, call, order);
        }
        let child = Command::new(tool("nri-plugin"))
            .arg("-socket")
            .arg(self.dir.path().join("nri.sock"))
            .args(["-name", "test", "-index", index, "-events"])
            .arg(home.join("events"))
            .arg("-control")
            .arg(home.join("control"))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Plugin { home, child }
    }

    /// Starts a plugin and waits until it is in.
    fn plugin(&self, index: &str) -> Plugin {
        let plugin = self.start(index, &[]);
        plugin.wait("Synchronized");
        plugin
    }

    fn list(&self) -> Vec<v1::PodSandbox> {
        self.husk.cri().list_pod_sandbox(v1::ListPodSandboxRequest::default()).unwrap().items
    }

    fn containers(&self) -> Vec<v1::Container> {
        self.husk.cri().list_containers(v1::ListContainersRequest::default()).unwrap().containers
    }

    fn stop_pod(&self, id: &str) {
        let request = v1::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        self.husk.cri().stop_pod_sandbox(request).unwrap();
    }

    fn remove_pod(&self, id: &str) {
        let request = v1::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        self.husk.cri().remove_pod_sandbox(request).unwrap();
    }

    fn remove(&self, id: &str) {
        let request = v1::RemoveContainerRequest { container_id: id.to_owned() };
        self.husk.cri().remove_container(request).unwrap();
    }
}

fn order_in(home: &Path, call: &str, order: &Value) {
    fs::write(home.join("control.new"), order.to_string()).unwrap();
    fs::rename(home.join("control.new"), home.join(format!("control/{call}.json"))).unwrap();
}

struct Plugin {
    home: PathBuf,
    child: Child,
}

impl Plugin {
    fn order(&self, call: &str, order: Value) {
        order_in(&self.home, call, &order);
    }

    fn release(&self, call: &str) {
        fs::remove_file(self.home.join(format!("control/{call}.json"))).unwrap();
    }

    fn events(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.home.join("events")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn names(&self) -> Vec<String> {
        self.events().iter().map(|event| event["event"].as_str().unwrap().to_owned()).collect()
    }

    fn all(&self, name: &str) -> Vec<Value> {
        self.events().into_iter().filter(|event| event["event"] == name).collect()
    }

    fn wait(&self, name: &str) -> Value {
        eventually(name, LIMIT, || self.all(name).into_iter().next())
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn run_stop_and_remove_of_a_pod_come_in_order_once_and_without_events_of_pause() {
    let world = World::new();
    let plugin = world.plugin("00");
    let id = world.husk.cri().run_pod(&pod("life", &world.husk.path("logs"))).unwrap();
    world.stop_pod(&id);
    world.stop_pod(&id);
    world.remove_pod(&id);
    let events = plugin.names();
    assert_eq!(events[3..], ["RunPodSandbox", "StopPodSandbox", "RemovePodSandbox"], "{events:?}");
    let run = plugin.wait("RunPodSandbox");
    assert_eq!(run["pod"]["name"], "life");
    assert_eq!(run["pod"]["namespace"], "e2e");
    assert_eq!(run["pod"]["uid"], "life-uid");
}

#[test]
fn the_life_of_a_container_comes_in_order_with_its_name() {
    let world = World::new();
    let plugin = world.plugin("00");
    let config = pod("life", &world.husk.path("logs"));
    let pod_id = world.husk.cri().run_pod(&config).unwrap();
    let id = world.husk.cri().run(&pod_id, &config, &container("main"));
    world.husk.cri().stop(&id, 0).unwrap();
    world.husk.cri().stop(&id, 0).unwrap();
    world.remove(&id);
    let of_container: Vec<Value> =
        plugin.events().into_iter().filter(|event| event["container"]["id"] == id.as_str()).collect();
    let names: Vec<&str> = of_container.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "CreateContainer",
            "PostCreateContainer",
            "StartContainer",
            "PostStartContainer",
            "StopContainer",
            "RemoveContainer"
        ]
    );
    assert!(of_container.iter().all(|event| event["container"]["name"] == "main"));
}

#[test]
fn a_container_that_ends_by_itself_is_told_of_without_any_call() {
    let world = World::new();
    let plugin = world.plugin("00");
    let config = pod("self", &world.husk.path("logs"));
    let pod_id = world.husk.cri().run_pod(&config).unwrap();
    let id = world.husk.cri().run(&pod_id, &config, &with_command("main", "exit 1"));
    let stop = plugin.wait("StopContainer");
    assert_eq!((&stop["container"]["id"], &stop["container"]["exitCode"]), (&json!(id), &json!(1)));
    world.remove(&id);
    plugin.wait("RemoveContainer");
    assert_eq!(plugin.all("StopContainer").len(), 1);
}

#[test]
fn a_sandbox_is_invisible_and_takes_no_container_until_its_hook_returns() {
    let world = World::new();
    let plugin = world.plugin("00");
    plugin.order("RunPodSandbox", json!({ "block": true }));
    let config = pod("hidden", &world.husk.path("logs"));
    std::thread::scope(|scope| {
        let run = scope.spawn(|| world.husk.cri().run_pod(&config));
        let id = plugin.wait("RunPodSandbox")["pod"]["id"].as_str().unwrap().to_owned();
        assert!(world.list().is_empty());
        assert!(world.husk.cri().create(&id, &config, &container("early")).is_err());
        plugin.release("RunPodSandbox");
        assert_eq!(run.join().unwrap().unwrap(), id);
    });
    assert_eq!(world.list().len(), 1);
}

#[test]
fn a_failing_hook_undoes_pod_or_container_and_the_same_request_can_be_repeated() {
    let world = World::new();
    let plugin = world.plugin("00");
    let once = json!({ "once": true, "error": "induced" });
    plugin.order("RunPodSandbox", once.clone());
    let config = pod("retry", &world.husk.path("logs"));
    let error = world.husk.cri().run_pod(&config).unwrap_err();
    assert!(error.message().contains("induced"), "{error}");
    assert!(world.list().is_empty());
    let pod_id = world.husk.cri().run_pod(&config).unwrap();

    plugin.order("CreateContainer", once);
    let error = world.husk.cri().create(&pod_id, &config, &container("main")).unwrap_err();
    assert!(error.message().contains("induced"), "{error}");
    assert!(world.containers().is_empty());
    assert!(plugin.all("StartContainer").is_empty());
    world.husk.cri().run(&pod_id, &config, &container("main"));
}

#[test]
fn containers_have_ended_and_all_can_be_seen_while_the_stop_hook_runs() {
    let world = World::new();
    let plugin = world.plugin("00");
    let config = pod("stop", &world.husk.path("logs"));
    let pod_id = world.husk.cri().run_pod(&config).unwrap();
    world.husk.cri().run(&pod_id, &config, &container("main"));
    plugin.order("StopPodSandbox", json!({ "block": true }));
    std::thread::scope(|scope| {
        let stop = scope.spawn(|| world.stop_pod(&pod_id));
        plugin.wait("StopPodSandbox");
        let listed = world.containers();
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].state(), v1::ContainerState::ContainerExited);
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: pod_id.clone(), ..Default::default() };
        assert!(world.husk.cri().pod_sandbox_status(request).is_ok());
        plugin.release("StopPodSandbox");
        stop.join().unwrap();
    });
    world.stop_pod(&pod_id);
    assert_eq!(plugin.all("StopPodSandbox").len(), 1);
    assert!(world.husk.cri().create(&pod_id, &config, &container("late")).is_err());
    assert_eq!(plugin.all("CreateContainer").len(), 1, "nobody is asked about a container of a stopped pod");
}

#[test]
fn a_container_is_invisible_until_its_hook_returns() {
    let world = World::new();
    let plugin = world.plugin("00");
    let config = pod("hidden", &world.husk.path("logs"));
    let pod_id = world.husk.cri().run_pod(&config).unwrap();
    plugin.order("CreateContainer", json!({ "block": true }));
    std::thread::scope(|scope| {
        let create = scope.spawn(|| world.husk.cri().create(&pod_id, &config, &container("main")));
        let id = plugin.wait("CreateContainer")["container"]["id"].as_str().unwrap().to_owned();
        assert!(world.containers().is_empty());
        assert!(world.husk.cri().container(&id).is_err());
        plugin.release("CreateContainer");
        assert_eq!(create.join().unwrap().unwrap(), id);
    });
}

#[test]
fn a_late_plugin_learns_of_what_exists_and_of_what_is_created_meanwhile() {
    let world = World::new();
    let config = pod("sync", &world.husk.path("logs"));
    let pod_id = world.husk.cri().run_pod(&config).unwrap();
    let before = world.husk.cri().run(&pod_id, &config, &container("before"));
    let late = world.start("10", &[("Synchronize", json!({ "block": true }))]);
    let sync = late.wait("Synchronize");
    assert_eq!(sync["pods"][0]["id"], pod_id.as_str());
    assert_eq!(sync["containers"][0]["id"], before.as_str());
    let during: Vec<String> = std::thread::scope(|scope| {
        let (husk, pod_id, config) = (&world.husk, &pod_id, &config);
        let names = ["one", "two", "three"];
        let source = |name: &str| husk.path(&format!("volumes/{name}"));
        let creations = names.map(|name| {
            let volume = v1::Mount {
                container_path: "/data".into(),
                host_path: source(name).display().to_string(),
                ..Default::default()
            };
            let request = v1::ContainerConfig { mounts: vec![volume], ..container(name) };
            scope.spawn(move || husk.cri().create(pod_id, config, &request).unwrap())
        });
        // huskd makes the sources of volumes just before it asks plugins: from there, a creation can only wait for this one.
        eventually("the creations are under way", LIMIT, || {
            names.iter().all(|name| source(name).exists()).then_some(())
        });
        assert!(creations.iter().all(|creation| !creation.is_finished()), "a creation did not wait");
        late.release("Synchronize");
        creations.map(|creation| creation.join().unwrap()).into()
    });
    let events = late.names();
    let first = |name: &str| events.iter().position(|event| event == name).unwrap();
    assert!(first("Synchronized") < first("CreateContainer"), "the plugin was asked before it was in");
    let told: Vec<Value> = late.all("CreateContainer");
    for id in during {
        assert!(told.iter().any(|event| event["container"]["id"] == id.as_str()), "{id} was lost");
    }
}

#[test]
fn adjustments_are_seen_in_the_container_and_what_cannot_be_done_is_an_error() {
    let world = World::new();
    let plugin = world.plugin("00");
    let shared = world.husk.path("shared");
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("file"), "of the plugin").unwrap();
    plugin.order(
        "CreateContainer",
        json!({ "once": true, "adjust": {
            "env": [{ "key": "GIVEN", "value": "by plugin" }],
            "mounts": [{ "destination": "/given", "type": "bind", "source": shared, "options": ["rbind", "ro"] }],
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": "77", "soft": "66" }],
            "linux": {
                "devices": [{ "path": "/dev/given", "type": "c", "major": "1", "minor": "5" }],
                "resources": { "memory": { "limit": { "value": "67108864" } } },
                "oomScoreAdj": { "value": "123" }
            }
        } }),
    );
    let config = pod("adjust", &world.husk.path("logs"));
    let pod_id = world.husk.cri().run_pod(&config).unwrap();
    let id = world.husk.cri().run(&pod_id, &config, &container("main"));
    // /dev/given is /dev/zero: reading from it proves that the device cgroup allows it.
    let script = "echo $GIVEN; cat /given/file; echo; ulimit -Sn; cat /proc/self/oom_score_adj; \
                  head -c 4 /dev/given | wc -c";
    let (_, output, errors) = world.husk.cri().exec(&id, &["sh", "-c", script]).unwrap();
    assert_eq!(output, "by plugin\nof the plugin\n66\n123\n4\n", "{errors}");
    let resources = world.husk.cri().container(&id).unwrap().resources.unwrap().linux.unwrap();
    assert_eq!(resources.memory_limit_in_bytes, 64 << 20);
    let seen = plugin.wait("PostCreateContainer");
    assert_eq!(seen["container"]["linux"]["oomScoreAdj"]["value"], "123");

    plugin.order(
        "CreateContainer",
        json!({ "once": true, "adjust": { "hooks": { "poststop": [{ "path": "/bin/true" }] } } }),
    );
    let error = world.husk.cri().create(&pod_id, &config, &container("hooked")).unwrap_err();
    assert_eq!(error.code(), tonic::Code::Unimplemented);
    assert!(error.message().contains("adjust.hooks"), "{error}");
}

#[test]
fn a_plugin_gives_cdi_devices() {
    let world = World::new();
    let plugin = world.plugin("00");
    let dir = world.dir.path().join("cdi");
    fs::create_dir(&dir).unwrap();
    fs::write(
        dir.join("vendor.yaml"),
        "cdiVersion: 0.6.0\nkind: vendor.example/gpu\ndevices:\n- name: \"0\"\n  containerEdits:\n    env: [\"GPU=0\"]\n\
         \x20   additionalGids: [4242]\n    deviceNodes:\n    - {path: /dev/vendor0, hostPath: /dev/zero, permissions: rw}\n",
    )
    .unwrap();
    let config = pod("cdi", &world.husk.path("logs"));
    let pod_id = world.husk.cri().run_pod(&config).unwrap();
    let ask = |name: &str| {
        plugin
            .order("CreateContainer", json!({ "once": true, "adjust": { "CDIDevices": [{ "name": name }] } }))
    };
    ask("vendor.example/gpu=0");
    let id = world.husk.cri().run(&pod_id, &config, &container("main"));
    let script = "echo $GPU; id -G; head -c 4 /dev/vendor0 | wc -c";
    let (_, output, errors) = world.husk.cri().exec(&id, &["sh", "-c", script]).unwrap();
    assert_eq!(output, "0\n0 4242\n4\n", "{errors}");

    ask("vendor.example/gpu=1");
    let error = world.husk.cri().create(&pod_id, &config, &container("other")).unwrap_err();
    assert_eq!(error.code(), tonic::Code::NotFound);
    assert!(error.message().contains("test") && error.message().contains("vendor.example/gpu=1"), "{error}");
}

#[test]
fn a_plugin_changes_running_containers_by_itself() {
    let world = World::new();
    let plugin = world.plugin("00");
    let config = pod("update", &world.husk.path("logs"));
    let pod_id = world.husk.cri().run_pod(&config).unwrap();
    let id = world.husk.cri().run(&pod_id, &config, &container("main"));
    let resources = json!({ "cpu": { "shares": { "value": "512" } } });
    plugin.order(
        "UpdateContainers",
        json!({ "update": [
            { "containerId": id, "linux": { "resources": resources } },
            { "containerId": "missing", "linux": { "resources": resources } }
        ] }),
    );
    let answer = plugin.wait("UpdateContainers");
    assert_eq!(answer["failed"][0]["containerId"], "missing");
    let limits = world.husk.cri().container(&id).unwrap().resources.unwrap().linux.unwrap();
    assert_eq!(limits.cpu_shares, 512);
}

#[test]
fn a_plugin_that_hangs_costs_its_time_limit_once() {
    let world = World::new();
    let plugin = world.plugin("00");
    plugin.order("RunPodSandbox", json!({ "hang": true }));
    world.husk.cri().run_pod(&pod("first", &world.husk.path("logs"))).unwrap();
    plugin.wait("Closed");
    world.husk.cri().run_pod(&pod("second", &world.husk.path("logs"))).unwrap();
    assert_eq!(plugin.all("RunPodSandbox").len(), 1);
}
