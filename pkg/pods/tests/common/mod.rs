//! An engine with real monitors and containers, on an image made of busybox and on empty network namespaces.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use husk_model::{ContainerConfig, ContainerState, Digest, Exit, ImageId, PodConfig, PodSandboxId};
use husk_network::{Free, GcReport, Network, NetworkConfig, NetworkError, Owners};
use husk_pods::{
    Engine, EngineConfig, Hang, MonitorConfig, PodsError,
    facilities::{ImageFacts, ImageFault, Images, Lease, Networked, PodNetworks},
};
use husk_spec::ImageDefaults;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// What a test needs of the node, or why it is skipped.
pub fn ready() -> bool {
    if !rustix::process::geteuid().is_root() {
        husk_test_support::skip("root");
    } else if !Path::new("/bin/busybox").exists() {
        husk_test_support::skip("busybox");
    } else {
        return true;
    }
    false
}

/// Freshly built monitors and pauses.
fn binaries() -> &'static MonitorConfig {
    static BINARIES: OnceLock<MonitorConfig> = OnceLock::new();
    BINARIES.get_or_init(|| {
        // target/<profile>/deps/<test>
        let this = std::env::current_exe().unwrap();
        let profile = this.parent().unwrap().parent().unwrap();
        let build = |arguments: &[&str]| {
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(["build", "--quiet"]).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR"));
            assert!(cargo.status().expect("run cargo").success(), "cargo build {arguments:?}");
        };
        build(&["--package", "husk-podmon"]);
        // Only that profile makes a pause that needs no C library, which a pod's root has not.
        build(&["--package", "husk-pause", "--profile", "monitor"]);
        MonitorConfig {
            podmon_path: profile.join("husk-podmon"),
            pause_path: profile.parent().unwrap().join("monitor/husk-pause"),
            nofile_soft: None,
        }
    })
}

/// One image, `busybox`.
pub struct OneImage {
    base: PathBuf,
    pub leases: Arc<AtomicUsize>,
}

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl OneImage {
    fn make(base: &Path) -> Arc<Self> {
        let root = base.join("bb");
        for dir in ["bin", "etc", "tmp", "root", "proc", "sys", "dev"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        for applet in ["sh", "sleep", "echo", "true", "cat", "id", "dd", "kill", "ls", "touch", "env"] {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nnobody:x:99:99::/:/bin/sh\n").unwrap();
        fs::write(root.join("etc/group"), "root:x:0:\nnobody:x:99:\n").unwrap();
        Arc::new(Self { base: base.to_owned(), leases: Arc::default() })
    }
}

impl Images for OneImage {
    fn find(&self, name: &str) -> Option<ImageFacts> {
        let id = ImageId::new(Digest::from_sha256(&[7; 32]));
        let known = name == "busybox"
            || id.as_str().trim_start_matches("sha256:").starts_with(name.trim_start_matches("sha256:"));
        known.then(|| ImageFacts {
            id,
            reference: "busybox@sha256:07".to_owned(),
            names: vec!["docker.io/library/busybox:1".to_owned(), "busybox@sha256:07".to_owned()],
            user: String::new(),
            stop_signal: None,
            defaults: ImageDefaults { cmd: vec!["sh".to_owned()], ..Default::default() },
        })
    }

    fn lease(&self, _: &ImageId) -> Result<Lease, ImageFault> {
        self.leases.fetch_add(1, Ordering::SeqCst);
        let guard = Box::new(Counted(Arc::clone(&self.leases)));
        Ok(Lease { base: self.base.clone(), lowers: vec!["bb".to_owned()], guard })
    }
}

/// Network namespaces without a network.
#[derive(Default)]
pub struct Loopback {
    /// The next set-up fails after the namespace was made.
    pub fails: AtomicBool,
    /// A tear-down fails.
    pub holds: AtomicBool,
    /// How long a set-up takes.
    pub delay: std::sync::Mutex<Duration>,
    pub set_up: AtomicUsize,
}

pub struct SharedLoopback(pub Arc<Loopback>);

fn failed(what: &str) -> NetworkError {
    NetworkError::Config(vec![what.to_owned()])
}

#[async_trait]
impl PodNetworks for SharedLoopback {
    async fn make(&self, netns: &Path) -> Result<(), NetworkError> {
        self.adopt(netns, husk_sys::netns::create(|| ()).unwrap().0).await
    }

    async fn adopt(&self, netns: &Path, made: OwnedFd) -> Result<(), NetworkError> {
        fs::create_dir_all(netns.parent().unwrap()).unwrap();
        husk_sys::netns::pin(made.as_fd(), netns).unwrap();
        Ok(())
    }

    async fn set_up(&self, _: &PodSandboxId, _: &Path, _: &PodConfig) -> Result<Networked, NetworkError> {
        self.0.set_up.fetch_add(1, Ordering::SeqCst);
        let delay = *self.0.delay.lock().unwrap();
        tokio::time::sleep(delay).await;
        if self.0.fails.load(Ordering::SeqCst) {
            return Err(failed("set-up was told to fail"));
        }
        Ok(Networked { ips: vec!["192.0.2.7".parse().unwrap()], names: false })
    }

    async fn tear_down(&self, _: &PodSandboxId, netns: &Path) -> Result<(), NetworkError> {
        if self.0.holds.load(Ordering::SeqCst) {
            return Err(failed("tear-down was told to fail"));
        }
        match husk_sys::netns::unpin(netns) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&error.to_string())),
            _ => Ok(()),
        }
    }

    async fn examine(&self, _: Owners, _: Free) -> GcReport {
        GcReport::default()
    }
}

/// A node with one engine, which can be killed and started again.
pub struct Node {
    pub dir: TempDir,
    pub images: Arc<OneImage>,
    pub network: Arc<Loopback>,
    pub cgroup_parent: String,
    /// Of the next engine.
    pub hang: Hang,
    /// The real network, where a test wants it: `network` is not asked then.
    pub real: Option<Arc<Network>>,
    networked: bool,
    runtime: Option<Runtime>,
    engine: Option<Arc<Engine>>,
}

impl Node {
    pub fn start() -> Self {
        Self::start_with(Hang::default())
    }

    /// Starts an engine with the real network, in the network namespace of the caller.
    pub fn start_networked() -> Self {
        Self::start_as(Hang::default(), true)
    }

    /// Starts an engine that gives a monitor so long before it counts as hung.
    pub fn start_with(hang: Hang) -> Self {
        Self::start_as(hang, false)
    }

    fn start_as(hang: Hang, networked: bool) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let dir = tempfile::tempdir().unwrap();
        let images = OneImage::make(&dir.path().join("layers"));
        let mut node = Self {
            images,
            network: Arc::default(),
            cgroup_parent: format!("/husk-test-{}-{number}", std::process::id()),
            dir,
            hang,
            real: None,
            networked,
            runtime: None,
            engine: None,
        };
        node.start_engine();
        node
    }

    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    pub fn start_engine(&mut self) {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let monitor = binaries().clone();
        let config = EngineConfig {
            root: self.root(),
            state: self.state(),
            monitor,
            cgroup_parent: self.cgroup_parent.clone(),
            cgroup_driver: husk_pods::CgroupDriver::Cgroupfs,
            cdi_dirs: Vec::new(),
            unprivileged_ports: false,
            unprivileged_icmp: false,
            hang: self.hang,
        };
        self.real = self.networked.then(|| {
            let mut config = NetworkConfig::new(self.root(), self.state());
            config.cni_conf_dir = self.dir.path().join("net.d");
            runtime.block_on(Network::start(config)).expect("the network starts")
        });
        let network: Arc<dyn PodNetworks> = match &self.real {
            Some(real) => Arc::new(Arc::clone(real)),
            None => Arc::new(SharedLoopback(Arc::clone(&self.network))),
        };
        // A new process has no leases.
        self.images = Arc::new(OneImage { base: self.images.base.clone(), leases: Arc::default() });
        let engine = runtime
            .block_on(async {
                let recovered = Engine::recover_with(config, self.images.clone(), network).await?;
                recovered.collect(async { Ok::<_, PodsError>(()) }).await
            })
            .expect("the engine starts")
            .without_plugins();
        self.engine = Some(engine);
        self.runtime = Some(runtime);
    }

    /// Drops every task and connection at whatever point they are, as SIGKILL does.
    pub fn kill_engine(&mut self) {
        self.engine = None;
        self.real = None;
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }

    pub fn restart(&mut self) {
        self.kill_engine();
        self.start_engine();
    }

    pub fn engine(&self) -> &Arc<Engine> {
        self.engine.as_ref().unwrap()
    }

    pub fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.as_ref().unwrap().block_on(work)
    }

    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.runtime.as_ref().unwrap().spawn(work)
    }

    pub fn pod_config(&self, name: &str) -> PodConfig {
        PodConfig {
            hostname: name.to_owned(),
            log_directory: self.dir.path().join("logs").display().to_string(),
            ..husk_test_support::pod(name)
        }
    }

    /// Runs a pod and returns its id.
    pub fn pod(&self, name: &str) -> String {
        self.wait(self.engine().run_pod_sandbox(self.pod_config(name))).expect("the pod runs").to_string()
    }

    /// Creates a container and returns its id.
    pub fn create(&self, pod: &str, config: ContainerConfig) -> String {
        self.wait(self.engine().create_container(pod, config)).expect("the container is created").to_string()
    }

    /// Runs a shell script in a new container and returns its id.
    pub fn run(&self, pod: &str, name: &str, script: &str) -> String {
        let id = self.create(pod, shell(name, script));
        self.wait(self.engine().start_container(&id)).expect("the container starts");
        id
    }

    pub fn state_of(&self, container: &str) -> ContainerState {
        self.engine().container_status(container).expect("status of the container").state.clone()
    }

    pub fn wait_exit(&self, container: &str) -> Exit {
        eventually("the container ends", || match self.state_of(container) {
            ContainerState::Exited { exit, .. } => Some(exit),
            _ => None,
        })
    }

    /// Removes all pods and checks that nothing of them is left.
    pub fn remove_all(&self) {
        for pod in self.engine().list_pods() {
            self.wait(self.engine().remove_pod_sandbox(pod.id.as_str())).expect("the pod is removed");
        }
        self.assert_nothing_left();
    }

    pub fn assert_nothing_left(&self) {
        assert!(self.engine().list_pods().is_empty());
        assert!(self.engine().list_containers().is_empty());
        let dirs = [
            self.state().join("pods"),
            self.state().join("trash"),
            self.state().join("netns"),
            self.root().join("containers"),
            self.root().join("trash"),
        ];
        eventually("no file is left", || dirs.iter().all(|dir| entries(dir).is_empty()).then_some(()));
        eventually("no process is left", || self.processes().is_empty().then_some(()));
        for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            let parent = hierarchy.path().join(self.cgroup_parent.trim_start_matches('/'));
            eventually("no cgroup is left", || subdirectories(&parent).is_empty().then_some(()));
        }
        assert_eq!(self.images.leases.load(Ordering::SeqCst), 0, "no image is leased");
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!table.contains(self.dir.path().to_str().unwrap()), "no mount is left");
    }

    /// Monitors of this node.
    /// Command lines of monitors that have a pod.
    pub fn processes(&self) -> Vec<String> {
        self.monitors().into_iter().map(|(_, line)| line).filter(|line| !line.contains(STANDBY)).collect()
    }

    /// Pids of monitors that wait for one.
    pub fn standbys(&self) -> Vec<u32> {
        let waiting = self.monitors().into_iter().filter(|(_, line)| line.contains(STANDBY));
        waiting.map(|(pid, _)| pid).collect()
    }

    fn monitors(&self) -> Vec<(u32, String)> {
        let ours = self.dir.path().to_str().unwrap();
        let all = fs::read_dir("/proc").unwrap().flatten();
        all.filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            (line.contains(ours) && line.contains("podmon")).then_some((pid, line))
        })
        .collect()
    }
}

/// What the command line of a monitor without a pod has in its place.
const STANDBY: &str = "/pods/----";

impl Drop for Node {
    fn drop(&mut self) {
        // What a failed test leaves is taken away without ceremony, so that it does not fail the next one.
        if let Some(engine) = self.engine.take() {
            for pod in engine.list_pods() {
                let _ = self.wait(engine.remove_pod_sandbox(pod.id.as_str()));
            }
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
        for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            let _ = fs::remove_dir(hierarchy.path().join(self.cgroup_parent.trim_start_matches('/')));
        }
    }
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn subdirectories(dir: &Path) -> Vec<PathBuf> {
    entries(dir).into_iter().filter(|path| path.is_dir()).collect()
}

pub fn eventually<T>(what: &str, check: impl FnMut() -> Option<T>) -> T {
    husk_test_support::eventually(what, Duration::from_secs(20), check)
}

/// A container that runs a shell script.
pub fn shell(name: &str, script: &str) -> ContainerConfig {
    ContainerConfig {
        command: vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()],
        log_path: format!("{name}.log"),
        ..husk_test_support::container(name, "busybox")
    }
}
