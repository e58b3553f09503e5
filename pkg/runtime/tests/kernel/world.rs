//! What the cases stand on: a pause executable, image layers, pods and containers.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::symlink,
    },
    path::{Path, PathBuf},
    process::Command,
};

use husk_model::{
    IdMapping, IdMappings, ImageVolume, ResolvedUser, Rootfs, SeccompFilter, Stdio, Streams, UserRequest,
    WindowSize,
};
use husk_runtime::{
    Account, CgroupTarget, Child, ContainerNamespaces, ContainerPlan, ExecPlan, Failure, Identity, NetNs,
    PidNs, Ready, Report, SandboxNamespaces, SandboxPlan, UserNamespace, spawn_container, spawn_exec,
    spawn_sandbox,
};
use husk_sys::pidfd::{self, Exit};
use oci_spec::runtime::Spec;
use rustix::{
    event::{PollFd, PollFlags, poll},
    pipe::{PipeFlags, pipe_with},
    process::Signal,
};
use serde_json::{Value, json};

/// Files shared by all cases.
pub struct World {
    /// Scratch directory.
    pub dir: PathBuf,
    pause: PathBuf,
}

impl World {
    /// Builds it, or says why it cannot be.
    pub fn new() -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("root is needed".to_owned());
        }
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists());
        let busybox = busybox.ok_or("busybox-static is not installed")?;
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("runtime-{}", std::process::id()));
        let bin = dir.join("layers/base/bin");
        fs::create_dir_all(&bin).map_err(|error| error.to_string())?;
        fs::copy(busybox, bin.join("busybox")).unwrap();
        for applet in
            Command::new(busybox).arg("--list").output().unwrap().stdout.split(|&byte| byte == b'\n')
        {
            let applet = std::str::from_utf8(applet).unwrap();
            if !applet.is_empty() && applet != "busybox" {
                symlink("busybox", bin.join(applet)).unwrap();
            }
        }
        for name in ["etc", "tmp", "proc", "sys", "dev", "root", "data"] {
            fs::create_dir(dir.join("layers/base").join(name)).unwrap();
        }
        let etc = dir.join("layers/base/etc");
        fs::write(
            etc.join("passwd"),
            "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n",
        )
        .unwrap();
        fs::write(etc.join("group"), "root:x:0:\nuser:x:1000:\nextra:x:50000:user\n").unwrap();
        fs::create_dir(dir.join("layers/top")).unwrap();
        fs::write(dir.join("layers/top/layer"), "top\n").unwrap();
        let pause = build_pause(&dir);
        Ok(Self { dir, pause })
    }

    /// A directory of this case's own.
    pub fn scratch(&self, name: &str) -> PathBuf {
        let dir = self.dir.join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    /// A pod with its own PID, IPC and UTS namespaces and a network namespace of its own.
    pub fn pod(&self) -> Pod {
        Pod::start(self.sandbox_plan()).unwrap()
    }

    /// The plan of [`Self::pod`].
    pub fn sandbox_plan(&self) -> SandboxPlan {
        SandboxPlan {
            hostname: "test-pod".to_owned(),
            sysctls: Vec::new(),
            namespaces: SandboxNamespaces { net: NetNs::Host, pid: true, ipc: true, uts: true, user: None },
            cgroup: CgroupTarget::default(),
            pause: File::open(&self.pause).unwrap().into(),
            shm_size: 0,
            held: false,
            files: Vec::new(),
            oom_score_adj: None,
            seccomp: None,
            selinux: Default::default(),
        }
    }

    /// A pod in a user namespace that maps its first 65536 ids to those from `host_id` on, with all namespaces of its own.
    pub fn mapped_pod(&self, host_id: u32) -> Pod {
        let mut plan = self.sandbox_plan();
        plan.namespaces.net = NetNs::New;
        plan.namespaces.user = Some(mappings(host_id));
        Pod::start(plan).unwrap()
    }

    /// A container in a pod, to be changed before it runs.
    pub fn container<'pod>(&self, pod: &'pod Pod, args: &[&str]) -> Container<'pod> {
        let dir = self.scratch("container");
        let layer = (0..).map(|number| dir.join(number.to_string())).find(|dir| !dir.exists()).unwrap();
        let (upper, work) = (layer.join("upper"), layer.join("work"));
        fs::create_dir_all(&upper).unwrap();
        fs::create_dir_all(&work).unwrap();
        Container {
            pod,
            spec: default_spec(args),
            rootfs: Rootfs {
                base: self.dir.join("layers"),
                lowers: vec!["top".to_owned(), "base".to_owned()],
                upper,
                work,
                readonly: false,
                durable: false,
            },
            image_volumes: Vec::new(),
            pod_files: Vec::new(),
            raw_env: Vec::new(),
            user: UserRequest::default(),
            seccomp: None,
            pid: PidNs::Own,
            host_ipc: false,
            cgroup_namespace: true,
            cgroup: CgroupTarget::default(),
            terminal: false,
            stdin: None,
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// The real pause, freestanding: cargo gives no other crate's binaries to a test.
fn build_pause(dir: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../cmd/pause/src/main.rs");
    let pause = dir.join("pause");
    let status = Command::new(option_env!("RUSTC").unwrap_or("rustc"))
        .args(["--edition=2024", "-Copt-level=s", "-Cpanic=abort", "-Crelocation-model=static"])
        .args(["-Ctarget-feature=+crt-static", "-Clink-args=-nostartfiles -nodefaultlibs -static -no-pie"])
        .arg("-o")
        .args([&pause, &source])
        .status()
        .unwrap();
    assert!(status.success());
    pause
}

/// What a container of Kubernetes has.
pub fn default_spec(args: &[&str]) -> Value {
    let capabilities = json!([
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_KILL",
        "CAP_MKNOD",
        "CAP_NET_RAW",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_SETFCAP",
        "CAP_SETPCAP",
        "CAP_NET_BIND_SERVICE",
        "CAP_SYS_CHROOT"
    ]);
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "args": args,
            "env": ["PATH=/bin:/usr/bin"],
            "cwd": "/",
            "user": {"uid": 0, "gid": 0},
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
             "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]},
        ],
        "linux": {
            "maskedPaths": ["/proc/kcore", "/proc/timer_list", "/proc/acpi", "/sys/firmware", "/nonexistent"],
            "readonlyPaths": ["/proc/sys", "/proc/bus"],
        },
    })
}

/// 65536 ids from `host_id` on.
pub fn mappings(host_id: u32) -> IdMappings {
    let map = IdMapping { container_id: 0, host_id, length: 65_536 };
    IdMappings { uids: map, gids: map }
}

/// A running pod; killed when dropped.
pub struct Pod {
    /// The pause process.
    pub pause: Child,
    user: Option<(OwnedFd, IdMappings, bool)>,
}

impl Pod {
    /// Starts pause and waits until it is executed.
    pub fn start(plan: SandboxPlan) -> Result<Self, Failure> {
        let (mappings, owns_network) = (plan.namespaces.user, plan.namespaces.net == NetNs::New);
        let mut pause = spawn_sandbox(plan).unwrap();
        let user = mappings.map(|mappings| {
            pause.open_gate().unwrap();
            (pause.user_namespace().unwrap(), mappings, owns_network)
        });
        match report(&mut pause) {
            Report::Executed => Ok(Self { pause, user }),
            Report::Failed(failure) => {
                pidfd::reap(&pause.pidfd).unwrap();
                Err(failure)
            }
            other => panic!("{other:?}"),
        }
    }

    /// Its user namespace, for a container.
    fn user(&self) -> Option<UserNamespace> {
        self.user.as_ref().map(|(fd, mappings, owns_network)| UserNamespace {
            fd: fd.try_clone().unwrap(),
            mappings: (*mappings).into(),
            owns_network: *owns_network,
        })
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        pidfd::signal(&self.pause.pidfd, Signal::KILL).unwrap();
        let _ = pidfd::reap(&self.pause.pidfd);
    }
}

/// A container about to be created.
pub struct Container<'pod> {
    pod: &'pod Pod,
    /// JSON of its OCI spec.
    pub spec: Value,
    pub rootfs: Rootfs,
    pub image_volumes: Vec<ImageVolume>,
    pub pod_files: Vec<PathBuf>,
    pub raw_env: Vec<Vec<u8>>,
    pub user: UserRequest,
    pub seccomp: Option<SeccompFilter>,
    pub pid: PidNs,
    pub host_ipc: bool,
    pub cgroup_namespace: bool,
    pub cgroup: CgroupTarget,
    pub terminal: bool,
    pub stdin: Option<OwnedFd>,
}

/// A container at the gate or beyond.
pub struct Running {
    pub child: Child,
    pub ready: Ready,
    /// Taken by [`Self::finish`].
    streams: Option<(OwnedFd, OwnedFd)>,
    /// Of its user namespace.
    mappings: Option<IdMappings>,
}

impl Drop for Running {
    /// A PID namespace's init cannot be reaped before what lives in it has been.
    fn drop(&mut self) {
        if self.streams.is_some() {
            let _ = pidfd::signal(&self.child.pidfd, Signal::KILL);
            let _ = pidfd::reap(&self.child.pidfd);
        }
    }
}

/// What became of a program.
#[derive(Debug)]
pub struct Output {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Container<'_> {
    /// Adds a mount.
    #[must_use]
    pub fn mount(
        mut self,
        kind: &str,
        source: impl AsRef<Path>,
        destination: &str,
        options: &[&str],
    ) -> Self {
        self.spec["mounts"].as_array_mut().unwrap().push(json!({
            "destination": destination, "type": kind, "source": source.as_ref(), "options": options
        }));
        self
    }

    /// Changes something by its JSON pointer's last step, creating it.
    #[must_use]
    pub fn set(mut self, path: &[&str], value: Value) -> Self {
        let place = path.iter().fold(&mut self.spec, |value, key| &mut value[key]);
        *place = value;
        self
    }

    /// Runs it to its end; panics where it could not be set up.
    pub fn run(self) -> Output {
        self.create().unwrap_or_else(|failure| panic!("{failure}")).start().finish()
    }

    /// Clones it up to the gate.
    pub fn create(self) -> Result<Running, Failure> {
        self.create_and(|_| ())
    }

    /// As [`Self::create`]; `then` gets the child's pid as soon as there is one.
    pub fn create_and(self, then: impl FnOnce(u32)) -> Result<Running, Failure> {
        let (stdout, child_stdout) = pipe();
        let (stderr, child_stderr) = pipe();
        let spec: Spec = serde_json::from_value(self.spec).unwrap();
        let stdio = if self.terminal {
            Stdio::Terminal(Some(WindowSize { columns: 80, rows: 24 }))
        } else {
            Stdio::Pipes(Streams {
                stdin: self.stdin,
                stdout: Some(child_stdout),
                stderr: Some(child_stderr),
            })
        };
        let plan = ContainerPlan {
            spec,
            rootfs: self.rootfs,
            image_volumes: self.image_volumes,
            pod_files: self.pod_files,
            relabel: Vec::new(),
            raw_env: self.raw_env,
            user: self.user,
            seccomp: self.seccomp,
            namespaces: ContainerNamespaces {
                ipc_of: None,
                sandbox: self.pod.pause.pidfd.try_clone().unwrap(),
                pid: self.pid,
                host_net: false,
                host_ipc: self.host_ipc,
                cgroup: self.cgroup_namespace,
                user: self.pod.user(),
            },
            cgroup: self.cgroup,
            stdio,
        };
        let mappings = self.pod.user.as_ref().map(|(_, mappings, _)| *mappings);
        let child = spawn_container(plan).unwrap();
        then(child.pid);
        let mut running = ready(child, stdout, stderr)?;
        running.mappings = mappings;
        Ok(running)
    }
}

impl Running {
    /// Opens the gate and waits for execve.
    pub fn start(mut self) -> Self {
        if let Err(failure) = self.try_start() {
            panic!("{failure}");
        }
        self
    }

    /// As [`Self::start`]; a failure is a result.
    pub fn try_start(&mut self) -> Result<(), Failure> {
        self.child.open_gate().unwrap();
        executed(&mut self.child)
    }

    /// Reads the streams to their end and reaps it.
    pub fn finish(mut self) -> Output {
        let (stdout, stderr) = self.streams.take().unwrap();
        let (stdout, stderr) = (read_all(stdout), read_all(stderr));
        let code = pidfd::reap(&self.child.pidfd).unwrap().code();
        Output { code, stdout, stderr }
    }

    /// Reads what it says first.
    pub fn read(&self, length: usize) -> String {
        let (stdout, _) = self.streams.as_ref().unwrap();
        let mut bytes = vec![0; length];
        let read = rustix::io::read(stdout, &mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..read]).into_owned()
    }

    /// Drops the handle without a word to the child.
    pub fn abandon(mut self) {
        self.streams = None;
    }

    /// Kills and reaps it.
    pub fn kill(&self) -> Exit {
        pidfd::signal(&self.child.pidfd, Signal::KILL).unwrap();
        pidfd::reap(&self.child.pidfd).unwrap()
    }

    /// The plan of an exec with the container's own settings.
    pub fn exec_plan(&self, args: &[&str]) -> (ExecPlan, OwnedFd, OwnedFd) {
        let (stdout, child_stdout) = pipe();
        let (stderr, child_stderr) = pipe();
        let mut process = default_spec(args)["process"].clone();
        process["noNewPrivileges"] = json!(false);
        let plan = ExecPlan {
            target: self.child.pidfd.try_clone().unwrap(),
            process: serde_json::from_value(process).unwrap(),
            raw_env: Vec::new(),
            identity: Identity::Account(self.ready.account.clone()),
            seccomp: None,
            user_namespace: self.mappings.map(Into::into),
            time_namespace: false,
            personality: None,
            memory: None,
            held: false,
            inherited: 0,
            cgroup: CgroupTarget::default(),
            stdio: Stdio::Pipes(Streams {
                stdin: None,
                stdout: Some(child_stdout),
                stderr: Some(child_stderr),
            }),
        };
        (plan, stdout, stderr)
    }

    /// Runs a command in the container.
    pub fn exec(&self, args: &[&str]) -> Output {
        let (plan, stdout, stderr) = self.exec_plan(args);
        run_exec(plan, stdout, stderr).unwrap_or_else(|failure| panic!("{failure}"))
    }
}

/// Runs an exec to its end.
pub fn run_exec(plan: ExecPlan, stdout: OwnedFd, stderr: OwnedFd) -> Result<Output, Failure> {
    let mut running = ready(spawn_exec(plan).unwrap(), stdout, stderr)?;
    executed(&mut running.child)?;
    Ok(running.finish())
}

/// Waits for the first report of a child.
pub fn ready(mut child: Child, stdout: OwnedFd, stderr: OwnedFd) -> Result<Running, Failure> {
    match report(&mut child) {
        Report::Moved { .. } => ready(child, stdout, stderr),
        Report::Prepared => panic!("a pod's container does not stop before its root"),
        Report::Listener(_) => panic!("a pod's container has no listener"),
        Report::Ready(ready) => Ok(Running { child, ready, streams: Some((stdout, stderr)), mappings: None }),
        Report::Failed(failure) => {
            pidfd::reap(&child.pidfd).unwrap();
            Err(failure)
        }
        Report::Executed => panic!("executed before it was ready"),
    }
}

fn executed(child: &mut Child) -> Result<(), Failure> {
    match report(child) {
        Report::Executed => Ok(()),
        Report::Failed(failure) => {
            pidfd::reap(&child.pidfd).unwrap();
            Err(failure)
        }
        other => panic!("{other:?}"),
    }
}

/// Waits for the next report.
pub fn report(child: &mut Child) -> Report {
    loop {
        if let Some(report) = child.read_report().unwrap() {
            return report;
        }
        poll(&mut [PollFd::new(&child.report_fd(), PollFlags::IN)], None).unwrap();
    }
}

/// A pipe: our end to read, the child's to write.
pub fn pipe() -> (OwnedFd, OwnedFd) {
    pipe_with(PipeFlags::CLOEXEC).unwrap()
}

/// Everything until the end.
pub fn read_all(fd: OwnedFd) -> String {
    let mut bytes = Vec::new();
    File::from(fd).read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads from a terminal until it hangs up.
pub fn read_terminal(master: &OwnedFd) -> String {
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(length) = rustix::io::read(master.as_fd(), &mut buffer) {
        if length == 0 {
            break;
        }
        text.extend_from_slice(&buffer[..length]);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Somebody who is nobody in particular.
pub fn someone(uid: u32) -> Account {
    Account { user: ResolvedUser { uid, gid: uid, groups: vec![uid] }, home: b"/".to_vec() }
}

/// `Key: value` lines, as of /proc/self/status.
pub fn fields(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(|line| line.split_once(':')).map(|(key, value)| (key, value.trim())).collect()
}

/// Mounts of the caller's namespace. Only additions can be compared: whoever removes a mount point anywhere on the
/// machine removes what lies on it from every namespace.
#[derive(Debug, Clone)]
pub struct MountTable(Vec<String>);

impl MountTable {
    /// As it is now.
    pub fn now() -> Self {
        Self(fs::read_to_string("/proc/self/mountinfo").unwrap().lines().map(str::to_owned).collect())
    }

    /// Panics when something has been mounted since.
    pub fn assert_nothing_new(&self) {
        for line in Self::now().0 {
            assert!(self.0.contains(&line), "a new mount on the node: {line}");
        }
    }
}
