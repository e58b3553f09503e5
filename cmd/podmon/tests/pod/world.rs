//! A pod directory, an image of busybox, a monitor; everything is removed at the end.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::Duration,
};

use husk_cgroup::{CgroupPath, Hierarchy};
use husk_model::{CgroupNamespace, ContainerId, PodSandboxId, Rootfs, Signal, UserRequest};
use husk_monitor::{
    ContainerRequest, Event, Events, IpcNamespace, Monitor, MonitorConfig, PidNamespace, PodNetwork,
    SandboxRequest, Scope, Stdin, UtsNamespace,
};

/// Files that all tests share: built once per run.
struct Shared {
    dir: PathBuf,
}

/// One pod of one test.
pub struct Pod {
    pub monitor: Monitor,
    pub dir: PathBuf,
    pub logs: PathBuf,
    pub cgroup: String,
    scratch: tempfile::TempDir,
}

/// A container to be created.
pub struct Wish {
    pub request: ContainerRequest,
    pub id: ContainerId,
}

/// The pod, or `None` (said aloud) where this machine cannot run one.
pub async fn pod() -> Option<Pod> {
    match shared() {
        Ok(shared) => Some(Pod::start(shared).await),
        Err(reason) => {
            println!("{reason}");
            husk_test_support::skip("root, busybox and cgroups");
            None
        }
    }
}

/// The binary under test: the one that ships can be named by HUSK_TEST_PODMON.
pub fn podmon() -> PathBuf {
    std::env::var_os("HUSK_TEST_PODMON")
        .map_or_else(|| env!("CARGO_BIN_EXE_husk-podmon").into(), PathBuf::from)
}

fn shared() -> Result<&'static Shared, String> {
    static SHARED: OnceLock<Result<Shared, String>> = OnceLock::new();
    SHARED.get_or_init(Shared::build).as_ref().map_err(Clone::clone)
}

impl Shared {
    fn build() -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("root is needed".to_owned());
        }
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
        let busybox = busybox.ok_or("busybox-static is not installed")?;
        // Kept between runs: a static cannot be dropped, and it is the same each time.
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("podmon-image-2");
        let new = dir.with_extension(std::process::id().to_string());
        if !dir.join("pause").exists() {
            build_image(&new, Path::new(busybox)).map_err(|error| format!("build the image: {error}"))?;
            // Another run may have been faster.
            if fs::rename(&new, &dir).is_err() {
                fs::remove_dir_all(&new).map_err(|error| error.to_string())?;
            }
        }
        Ok(Self { dir })
    }
}

fn build_image(dir: &Path, busybox: &Path) -> std::io::Result<()> {
    let layer = dir.join("layer");
    fs::create_dir_all(layer.join("bin"))?;
    fs::copy(busybox, layer.join("bin/busybox"))?;
    for applet in [
        "sh", "cat", "chmod", "chown", "echo", "mount", "sleep", "true", "false", "seq", "head", "yes", "dd",
        "kill", "tty", "ps",
    ] {
        symlink("busybox", layer.join("bin").join(applet))?;
    }
    for name in ["etc", "tmp", "proc", "sys", "dev", "root"] {
        fs::create_dir(layer.join(name))?;
    }
    fs::write(layer.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
    fs::write(layer.join("etc/group"), "root:x:0:\n")?;
    // The real pause, freestanding: cargo gives no other crate's binaries to a test.
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pause/src/main.rs");
    let status = Command::new("rustc")
        .args(["--edition=2024", "-Copt-level=s", "-Cpanic=abort", "-Crelocation-model=static"])
        .args(["-Ctarget-feature=+crt-static", "-Clink-args=-nostartfiles -nodefaultlibs -static -no-pie"])
        .arg("-o")
        .args([&dir.join("pause"), &source])
        .status()?;
    status.success().then_some(()).ok_or_else(|| std::io::Error::other("rustc failed on pause"))
}

impl Pod {
    async fn start(shared: &Shared) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let (dir, logs) = (scratch.path().join("pod"), scratch.path().join("logs"));
        fs::create_dir(&dir).unwrap();
        fs::create_dir(&logs).unwrap();
        let config = MonitorConfig {
            podmon_path: podmon(),
            pause_path: shared.dir.join("pause"),
            nofile_soft: Some(1024),
        };
        let monitor = Monitor::spawn(&config, &dir).await.unwrap();
        // A parent of its own: a test that removes its parent must not take away what another's monitor is making in it.
        let id = PodSandboxId::generate();
        let cgroup = format!("/husk-test-{}-{}/husk-{id}", std::process::id(), &id.as_str()[..8]);
        Self { monitor, dir, logs, cgroup, scratch }
    }

    /// A pod whose pause runs.
    pub async fn run(&self) {
        self.monitor.run_sandbox(self.sandbox()).await.unwrap();
        self.monitor.release_sandbox().await.unwrap();
    }

    pub fn sandbox(&self) -> SandboxRequest {
        SandboxRequest {
            cgroup_path: self.cgroup.clone(),
            network: PodNetwork::Node,
            uts: UtsNamespace::Own { hostname: Some("test-pod".into()) },
            pid: Scope::Pod,
            ipc: Scope::Pod,
            user: None,
            sysctls: Default::default(),
            oom_score_adj: 0,
            log_directory: Some(self.logs.clone()),
            selinux: None,
            shm_size: 0,
            every_hierarchy: false,
        }
    }

    /// A container that runs `args`, with a log.
    pub fn wish(&self, args: &[&str]) -> Wish {
        let id = ContainerId::generate();
        let layer = self.scratch.path().join(id.as_str());
        let (upper, work) = (layer.join("upper"), layer.join("work"));
        fs::create_dir_all(&upper).unwrap();
        fs::create_dir_all(&work).unwrap();
        let base = shared().unwrap().dir.clone();
        let request = ContainerRequest {
            id: id.clone(),
            spec_json: spec(args, "{}").into_bytes(),
            raw_env: Vec::new(),
            rootfs: Rootfs {
                base,
                lowers: vec!["layer".into()],
                upper,
                work,
                readonly: false,
                durable: false,
            },
            image_volumes: Vec::new(),
            relabel: Vec::new(),
            user: UserRequest::default(),
            seccomp: None,
            cgroup_path: format!("{}/{id}", self.cgroup),
            log_path: Some(format!("{id}.log")),
            log_limits: None,
            terminal: false,
            stdin: Stdin::Null,
            stop_signal: Signal::TERM,
            pid: PidNamespace::Container,
            network: Scope::Pod,
            ipc: IpcNamespace::Pod,
            oom_score_adj: 0,
            privileged: false,
            cgroup_namespace: CgroupNamespace::Usual,
        };
        Wish { request, id }
    }

    /// Creates and starts a container.
    pub async fn start_container(&self, wish: Wish) -> ContainerId {
        self.monitor.create_container(wish.request).await.unwrap();
        self.monitor.start_container(&wish.id).await.unwrap();
        wish.id
    }

    /// Runs a shell script as a container's command.
    pub async fn shell(&self, script: &str) -> ContainerId {
        self.start_container(self.wish(&["sh", "-c", script])).await
    }

    /// Contents of a log, the parts of cut lines joined: `(stream, line)`.
    pub fn log(&self, id: &ContainerId) -> Vec<(String, String)> {
        parse_log(&fs::read_to_string(self.log_path(id)).unwrap())
    }

    pub fn log_path(&self, id: &ContainerId) -> PathBuf {
        self.logs.join(format!("{id}.log"))
    }

    /// Whether the cgroup `name` below the pod's is there.
    pub fn has_cgroup(&self, name: &str) -> bool {
        let path = CgroupPath::parse(&format!("{}/{name}", self.cgroup)).unwrap();
        Hierarchy::detect().unwrap().open(&path).is_ok()
    }

    /// Stops everything and checks that nothing is left.
    pub async fn finish(&self) {
        self.monitor.stop_sandbox().await.unwrap();
        assert!(!self.has_cgroup(""), "the pod's cgroup is left");
        let process = self.monitor.process();
        let mut events = self.monitor.events();
        self.monitor.shutdown().await.unwrap();
        while events.next().await.is_some() {}
        // Its socket is closed; it is reaped a moment later.
        eventually("the monitor is gone", || !husk_node::process::is_alive(process)).await;
    }
}

/// The pod's parent group, and what a failed test leaves: the monitor would live on with its pod, as it does without its
/// daemon.
impl Drop for Pod {
    fn drop(&mut self) {
        let process = self.monitor.process();
        let pid = i32::try_from(process.pid).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid.filter(|_| husk_node::process::is_alive(process)) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        let parent = CgroupPath::parse(&self.cgroup).ok().and_then(|path| path.parent());
        if let Some(cgroup) = parent.and_then(|path| Hierarchy::detect().ok()?.open(&path).ok()) {
            let _ = cgroup.kill();
            let _ = cgroup.remove();
        }
        if std::thread::panicking() {
            let log = fs::read_to_string(self.dir.join("monitor.log"));
            println!("monitor.log: {}", log.unwrap_or_default());
        }
    }
}

/// The spec of a Kubernetes container; `resources` is JSON.
pub fn spec(args: &[&str], resources: &str) -> String {
    let args: Vec<String> = args.iter().map(|arg| format!("{arg:?}")).collect();
    let caps = r#"["CAP_CHOWN","CAP_DAC_OVERRIDE","CAP_FOWNER","CAP_KILL","CAP_SETGID","CAP_SETUID"]"#;
    format!(
        r#"{{"ociVersion":"1.2.0",
        "process":{{"args":[{}],"env":["PATH=/bin"],"cwd":"/","user":{{"uid":0,"gid":0}},
          "capabilities":{{"bounding":{caps},"effective":{caps},"permitted":{caps}}}}},
        "mounts":[
          {{"destination":"/proc","type":"proc","source":"proc","options":["nosuid","noexec","nodev"]}},
          {{"destination":"/dev","type":"tmpfs","source":"tmpfs","options":["nosuid","mode=755","size=65536k"]}},
          {{"destination":"/dev/pts","type":"devpts","source":"devpts","options":["newinstance","ptmxmode=0666"]}}],
        "linux":{{"resources":{resources}}}}}"#,
        args.join(",")
    )
}

fn parse_log(text: &str) -> Vec<(String, String)> {
    let mut lines: Vec<(String, String)> = Vec::new();
    let mut partial: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(4, ' ').skip(1);
        let mut field = || fields.next().unwrap_or_else(|| panic!("malformed line {line:?}")).to_owned();
        let (stream, tag, content) = (field(), field(), field());
        let at = partial.iter().position(|(name, _)| *name == stream);
        let begun = at.map(|at| partial.remove(at).1).unwrap_or_default();
        match tag.as_str() {
            "F" => lines.push((stream, begun + &content)),
            "P" => partial.push((stream, begun + &content)),
            _ => panic!("malformed line {line:?}"),
        }
    }
    lines.extend(partial);
    lines
}

/// The end of a container, by event.
pub async fn exit_of(events: &mut Events, id: &ContainerId) -> husk_model::Exit {
    loop {
        match events.next().await.expect("the monitor went away") {
            Event::ContainerExited { id: ended, exit } if ended == *id => return exit,
            _ => {}
        }
    }
}

/// Waits for a condition that has no event.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let condition = || condition().then_some(());
    husk_test_support::eventually_with(tokio::time::sleep, what, Duration::from_secs(10), condition).await;
}

/// Pids, in this namespace, whose command line contains `marker`.
pub fn processes(marker: &str) -> Vec<u32> {
    let own = std::process::id();
    let pid = |entry: fs::DirEntry| entry.file_name().to_str()?.parse::<u32>().ok();
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(pid).filter(|pid| *pid != own);
    pids.filter(|pid| {
        fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| String::from_utf8_lossy(&line).contains(marker))
    })
    .collect()
}
