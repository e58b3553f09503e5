//! A standalone kubelet on a runtime: it reads static pods from a directory and needs no API server.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{Subject, eventually_every, node, patience, run, tool};

/// A running kubelet with its directory inside the runtime's.
#[derive(Debug)]
pub struct Kubelet {
    dir: PathBuf,
    cgroup: String,
    child: Option<Child>,
    port: u16,
    read_only_port: u16,
}

/// The name of the node; static pods are called `<name>-<node>`.
pub const NODE: &str = "node1";

/// How often the kubelet is asked again: it looks at its pods once a second itself.
const PAUSE: Duration = Duration::from_millis(50);

/// The feature gates that move work from the kubelet to the runtime, EventedPLEG and PodAndContainerStatsFromCRI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gates {
    /// As the kubelet ships: it lists the runtime's pods every second and counts what they use by itself.
    Off,
    /// The runtime tells of ended containers and counts.
    On,
}

impl Gates {
    /// Both settings.
    pub const BOTH: [Self; 2] = [Self::Off, Self::On];
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// The node's first global IPv4 address. Without one the kubelet would look up its name, and wait for a DNS server.
fn node_address() -> Option<String> {
    let shown = run(Command::new("ip").args(["-o", "-4", "address", "show", "scope", "global"])).success();
    let address = shown.split_whitespace().nth(3)?;
    Some(address.split('/').next()?.to_owned())
}

impl Kubelet {
    /// Starts a kubelet on `runtime` and waits until it answers.
    pub fn start(runtime: &Subject, gates: Gates) -> Self {
        Self::with(runtime, gates, &json!({}))
    }

    /// Starts a kubelet with more fields of KubeletConfiguration.
    pub fn with(runtime: &Subject, gates: Gates, more: &Value) -> Self {
        let dir = runtime.path("kubelet");
        fs::create_dir_all(dir.join("manifests")).expect("create the manifest directory");
        fs::write(dir.join("resolv.conf"), "nameserver 192.0.2.53\n").expect("write resolv.conf");
        let (port, read_only_port) = (free_port(), free_port());
        let cgroup = runtime.kubelet_cgroup();
        node::make_cgroup(&cgroup);
        let on = gates == Gates::On;
        let mut config = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "staticPodPath": dir.join("manifests"),
            "containerRuntimeEndpoint": format!("unix://{}", runtime.address().display()),
            "cgroupDriver": runtime.cgroup_driver().name(),
            // The kubelet makes slices of names without the suffix.
            "cgroupRoot": cgroup.trim_end_matches(".slice"),
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
            "volumePluginDir": dir.join("plugins"),
            "resolvConf": dir.join("resolv.conf"),
            "fileCheckFrequency": "1s",
            "maxPods": 200,
            "evictionHard": { "memory.available": "1Mi", "nodefs.available": "0.1%", "imagefs.available": "0.1%" },
            "featureGates": { "EventedPLEG": on, "PodAndContainerStatsFromCRI": on },
        });
        for (field, value) in more.as_object().expect("fields") {
            config[field] = value.clone();
        }
        fs::write(dir.join("config.yaml"), config.to_string()).expect("write the kubelet's configuration");
        let mut kubelet = Self { dir, cgroup, child: None, port, read_only_port };
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
            .args(node_address().map(|address| format!("--node-ip={address}")))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("start the kubelet");
        self.child = Some(child);
        eventually_every(PAUSE, "the kubelet answers", Duration::from_secs(60), || {
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

    /// Body of a path of the read-only port. HTTP/1.0, so that it is not chunked.
    fn read_only(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.read_only_port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: node\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.lines().next()?.contains(" 200 ").then(|| body.to_owned())
    }

    /// JSON of a path of the read-only port.
    pub fn get(&self, path: &str) -> Option<Value> {
        serde_json::from_str(&self.read_only(path)?).ok()
    }

    /// Values of a metric at a path of the read-only port, by the text of its labels.
    pub fn metric(&self, path: &str, name: &str) -> BTreeMap<String, f64> {
        let text = self.read_only(path).unwrap_or_default();
        text.lines()
            .filter_map(|line| line.strip_prefix(name))
            .filter(|rest| rest.starts_with(['{', ' ']))
            .filter_map(|rest| {
                let (labels, value) = rest.rsplit_once('}').unwrap_or(("", rest));
                Some((labels.to_owned(), value.split_whitespace().next()?.parse().ok()?))
            })
            .collect()
    }

    /// The HTTPS port of the kubelet's own server.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Text of a path of the kubelet's own server.
    pub fn text(&self, path: &str) -> String {
        self.curl(path, &[])
    }

    /// A container's log through the kubelet; `query` is empty or `?tailLines=…`.
    pub fn logs(&self, pod: &str, container: &str, query: &str) -> String {
        self.text(&format!("/containerLogs/default/{pod}-{NODE}/{container}{query}"))
    }

    /// What a command prints in a container, run by the kubelet's `/run`. Words are separated by one space.
    pub fn run(&self, pod: &str, container: &str, command: &str) -> String {
        let command = command.replace(' ', "%20");
        self.curl(&format!("/run/default/{pod}-{NODE}/{container}?cmd={command}"), &["-X", "POST"])
    }

    /// A client that follows a container's log, whose standard output has each line as it comes.
    pub fn follow(&self, pod: &str, container: &str) -> Child {
        let mut command =
            self.curl_command(&format!("/containerLogs/default/{pod}-{NODE}/{container}?follow=true"));
        command.arg("--no-buffer").stdout(Stdio::piped()).spawn().expect("start curl")
    }

    fn curl(&self, path: &str, arguments: &[&str]) -> String {
        run(self.curl_command(path).args(arguments)).success()
    }

    fn curl_command(&self, path: &str) -> Command {
        let mut command = Command::new("curl");
        command.args(["-sfk", "--max-time", "60"]).arg(format!("https://127.0.0.1:{}{path}", self.port));
        command
    }

    /// The kubelet's view of a pod.
    pub fn pod(&self, name: &str) -> Option<Value> {
        let full = format!("{name}-{NODE}");
        let pods = self.get("/pods")?;
        pods["items"].as_array()?.iter().find(|pod| pod["metadata"]["name"] == json!(full)).cloned()
    }

    /// Status of a pod's container, of whatever kind.
    pub fn container(&self, pod: &str, container: &str) -> Option<Value> {
        let pod = self.pod(pod)?;
        ["containerStatuses", "initContainerStatuses"]
            .iter()
            .filter_map(|list| pod["status"][list].as_array())
            .flatten()
            .find(|status| status["name"] == json!(container))
            .cloned()
    }

    /// Waits until `condition` yields a value about a pod's container; fails with the last status seen.
    pub fn wait_container<T>(
        &self,
        what: &str,
        pod: &str,
        container: &str,
        condition: impl Fn(&Value) -> Option<T>,
    ) -> T {
        let mut last = Value::Null;
        let deadline = std::time::Instant::now() + patience(LIMIT);
        eventually_every(PAUSE, what, LIMIT * 2, || {
            assert!(
                std::time::Instant::now() < deadline,
                "not within {LIMIT:?}: {what}: {pod}/{container}: {last}"
            );
            last = self.container(pod, container)?;
            condition(&last)
        })
    }

    /// Waits until a container has ended for good and returns the state of its end.
    pub fn wait_terminated(&self, pod: &str, container: &str) -> Value {
        self.wait_container("the container has ended", pod, container, |status| {
            status["state"].get("terminated").cloned()
        })
    }

    /// Waits until a container has ended and returns what it printed.
    pub fn printed(&self, pod: &str, container: &str) -> String {
        self.wait_terminated(pod, container);
        self.logs(pod, container, "")
    }

    /// Waits until a pod is in a phase and returns it.
    pub fn wait_phase(&self, name: &str, phase: &str) -> Value {
        eventually_every(PAUSE, &format!("pod {name} is {phase}"), LIMIT, || {
            self.pod(name).filter(|pod| pod["status"]["phase"] == json!(phase))
        })
    }

    /// Whether a pod is ready now.
    pub fn is_ready(pod: &Value) -> bool {
        let is_true = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
        pod["status"]["conditions"].as_array().is_some_and(|conditions| conditions.iter().any(is_true))
    }

    /// Waits until a pod is ready and returns it.
    pub fn wait_ready(&self, name: &str) -> Value {
        let mut last = Value::Null;
        let deadline = std::time::Instant::now() + patience(LIMIT);
        eventually_every(PAUSE, &format!("pod {name} is ready"), LIMIT * 2, || {
            assert!(
                std::time::Instant::now() < deadline,
                "not within {LIMIT:?}: pod {name} is ready: {last}"
            );
            last = self.pod(name)?["status"].clone();
            self.pod(name).filter(Self::is_ready)
        })
    }

    /// Takes every manifest away and waits until nothing of the pods is left on the node but what the runtime keeps of
    /// them for a while: no running sandbox, no volume, no cgroup.
    pub fn drain(&self, runtime: &Subject) {
        for entry in fs::read_dir(self.dir.join("manifests")).expect("read the manifest directory") {
            fs::remove_file(entry.expect("an entry").path()).expect("remove the manifest");
        }
        eventually_every(PAUSE, "every pod was stopped", LIMIT, || {
            let request = crate::v1::ListPodSandboxRequest::default();
            let pods = runtime.cri().list_pod_sandbox(request).ok()?.items;
            pods.iter().all(|pod| pod.state() == crate::v1::PodSandboxState::SandboxNotready).then_some(())
        });
        let volumes = self.dir.join("root/pods");
        eventually_every(PAUSE, "the kubelet removed the pods' volumes", LIMIT, || {
            fs::read_dir(&volumes).map_or(true, |mut entries| entries.next().is_none()).then_some(())
        });
        eventually_every(PAUSE, "the pods' cgroups are gone", LIMIT, || {
            self.pod_cgroups().is_empty().then_some(())
        });
    }

    /// The cgroups of pods below the kubelet's root, in every hierarchy: `…/pod<uid>`, `…-pod<uid>.slice` of systemd's.
    pub fn pod_cgroups(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for hierarchy in node::hierarchies() {
            pods_below(&hierarchy.join(self.cgroup.trim_start_matches('/')), &mut found);
        }
        found
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

fn pods_below(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir())
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_pod =
            name.rsplit_once("pod").is_some_and(|(_, uid)| uid.starts_with(|c: char| c.is_ascii_hexdigit()));
        if is_pod { found.push(entry.path()) } else { pods_below(&entry.path(), found) }
    }
}

/// How long anything that a kubelet does may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

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
