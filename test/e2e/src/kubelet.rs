//! A standalone kubelet on a daemon: it reads static pods from a directory and needs no API server.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{Daemon, eventually, node, run, tool};

/// A running kubelet with its directory inside the daemon's.
#[derive(Debug)]
pub struct Kubelet {
    dir: PathBuf,
    child: Option<Child>,
    port: u16,
    read_only_port: u16,
}

/// The name of the node; static pods are called `<name>-<node>`.
pub const NODE: &str = "node1";

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

impl Kubelet {
    /// Starts a kubelet on `husk` and waits until it answers.
    pub fn start(husk: &Daemon) -> Self {
        let dir = husk.path("kubelet");
        fs::create_dir_all(dir.join("manifests")).expect("create the manifest directory");
        let (port, read_only_port) = (free_port(), free_port());
        let cgroup_root = husk.kubelet_cgroup();
        node::make_cgroup(&cgroup_root);
        let config = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "staticPodPath": dir.join("manifests"),
            "containerRuntimeEndpoint": format!("unix://{}", husk.address().display()),
            "cgroupDriver": husk.cgroup_driver().name(),
            // The kubelet makes slices of names without the suffix.
            "cgroupRoot": cgroup_root.trim_end_matches(".slice"),
            "failCgroupV1": false,
            "failSwapOn": false,
            "registerNode": false,
            "enforceNodeAllocatable": [],
            "oomScoreAdj": 0,
            "address": "127.0.0.1",
            "port": port,
            "readOnlyPort": read_only_port,
            "healthzPort": 0,
            "authentication": { "anonymous": { "enabled": true }, "webhook": { "enabled": false } },
            "authorization": { "mode": "AlwaysAllow" },
            "podLogsDir": dir.join("logs"),
            "fileCheckFrequency": "1s",
            "evictionHard": { "memory.available": "1Mi", "nodefs.available": "0.1%", "imagefs.available": "0.1%" },
        });
        fs::write(dir.join("config.yaml"), config.to_string()).expect("write the kubelet's configuration");
        let mut kubelet = Self { dir, child: None, port, read_only_port };
        kubelet.spawn();
        kubelet
    }

    /// Starts the process again after [`Kubelet::stop`].
    pub fn spawn(&mut self) {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.join("log"))
            .expect("open the log");
        let child = Command::new(tool("kubelet"))
            .arg("--config")
            .arg(self.dir.join("config.yaml"))
            .arg("--root-dir")
            .arg(self.dir.join("root"))
            .arg("--cert-dir")
            .arg(self.dir.join("certs"))
            .args(["--hostname-override", NODE])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("start the kubelet");
        self.child = Some(child);
        eventually("the kubelet answers", Duration::from_secs(60), || {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            assert!(ended.is_none(), "the kubelet ended: {ended:?}");
            self.get("/pods")
        });
    }

    /// Ends the process; its pods stay.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Puts a pod's manifest into the static directory, whole.
    pub fn apply(&self, pod: &Value) {
        let name = pod["metadata"]["name"].as_str().expect("a name");
        let hidden = self.dir.join(format!("{name}.new"));
        fs::write(&hidden, pod.to_string()).expect("write the manifest");
        fs::rename(hidden, self.manifest(name)).expect("rename the manifest");
    }

    /// Takes a pod's manifest away.
    pub fn delete(&self, name: &str) {
        fs::remove_file(self.manifest(name)).expect("remove the manifest");
    }

    fn manifest(&self, name: &str) -> PathBuf {
        self.dir.join("manifests").join(format!("{name}.json"))
    }

    /// JSON of a path of the read-only port.
    pub fn get(&self, path: &str) -> Option<Value> {
        let url = format!("http://127.0.0.1:{}{path}", self.read_only_port);
        let output = run(Command::new("curl").args(["-sf", "--max-time", "10", &url]));
        serde_json::from_str(&output.stdout).ok()
    }

    /// Text of a path of the kubelet's own server.
    pub fn text(&self, path: &str) -> String {
        let url = format!("https://127.0.0.1:{}{path}", self.port);
        run(Command::new("curl").args(["-sfk", "--max-time", "20", &url])).success()
    }

    /// The kubelet's view of a pod.
    pub fn pod(&self, name: &str) -> Option<Value> {
        let full = format!("{name}-{NODE}");
        let pods = self.get("/pods")?;
        pods["items"].as_array()?.iter().find(|pod| pod["metadata"]["name"] == json!(full)).cloned()
    }

    /// Status of a pod's container.
    pub fn container(&self, pod: &str, container: &str) -> Option<Value> {
        let pod = self.pod(pod)?;
        pod["status"]["containerStatuses"]
            .as_array()?
            .iter()
            .find(|status| status["name"] == json!(container))
            .cloned()
    }

    /// Waits until a pod is ready.
    pub fn wait_ready(&self, name: &str) {
        eventually(&format!("pod {name} is ready"), Duration::from_secs(90), || {
            let pod = self.pod(name)?;
            pod["status"]["conditions"]
                .as_array()?
                .iter()
                .any(|condition| condition["type"] == json!("Ready") && condition["status"] == json!("True"))
                .then_some(())
        });
    }

    /// What the kubelet wrote to its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// The kubelet's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.stop();
        // The kubelet mounts its root on itself to share mounts with pods, and leaves that behind.
        node::unmount_below(&self.dir.join("root"));
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("--- the end of the kubelet's log ---");
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}
