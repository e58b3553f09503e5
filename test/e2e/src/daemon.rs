//! A huskd of the test's own: directories, bridge and nftables names that no other daemon uses.

use std::{
    fs,
    io::Write,
    os::unix::{
        net::{UnixDatagram, UnixStream},
        process::ExitStatusExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tempfile::TempDir;

use crate::{Cri, Node, eventually, images, node, patience, tools};

/// What a test wants to differ from the defaults.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Text appended to the daemon's configuration file.
    pub config: String,
    /// More flags.
    pub flags: Vec<String>,
    /// Leave the busybox image out.
    pub without_image: bool,
    /// The cgroup driver; by default that of `$HUSK_E2E_CGROUP_DRIVER`, else cgroupfs.
    pub cgroup_driver: Option<CgroupDriver>,
    /// The directory of another build's programs.
    pub dist: Option<PathBuf>,
    /// Addresses for a thousand pods instead of 250.
    pub large: bool,
}

/// Who makes the cgroups of pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupDriver {
    /// husk.
    Cgroupfs,
    /// systemd.
    Systemd,
}

impl CgroupDriver {
    /// As `$HUSK_E2E_CGROUP_DRIVER` has it.
    fn from_environment() -> Self {
        match std::env::var("HUSK_E2E_CGROUP_DRIVER").as_deref() {
            Err(_) | Ok("" | "cgroupfs") => CgroupDriver::Cgroupfs,
            Ok("systemd") => CgroupDriver::Systemd,
            Ok(other) => panic!("HUSK_E2E_CGROUP_DRIVER is {other:?}, neither cgroupfs nor systemd"),
        }
    }

    /// Its name in configurations of husk and the kubelet.
    pub fn name(self) -> &'static str {
        match self {
            CgroupDriver::Cgroupfs => "cgroupfs",
            CgroupDriver::Systemd => "systemd",
        }
    }
}

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The second octet of all subnets of this process: one of which the node has no address, because a huskd refuses a subnet
/// that overlaps, and a test that was killed leaves its bridge.
fn free_octet(pid: u32) -> u32 {
    static OCTET: OnceLock<u32> = OnceLock::new();
    *OCTET.get_or_init(|| {
        let known = fs::read_to_string("/proc/net/fib_trie").expect("read the node's routes");
        (0..50)
            .map(|step| 200 + (pid + step) % 50)
            .find(|octet| !known.contains(&format!(" 10.{octet}.")))
            .expect("a free subnet in 10.200.0.0 to 10.249.0.0; remove the links that killed tests left")
    })
}

/// A running huskd. Dropping it removes its pods and proves that the node is as it was before.
#[derive(Debug)]
pub struct Daemon {
    dir: TempDir,
    child: Option<Child>,
    cri: Option<Cri>,
    before: Node,
    flags: Vec<String>,
    names: Names,
    cgroup_driver: CgroupDriver,
    dist: Option<PathBuf>,
}

/// Names on the node that are this daemon's.
#[derive(Debug, Clone)]
struct Names {
    bridge: String,
    table: String,
    cgroup: String,
}

impl Daemon {
    /// Starts a daemon with defaults and the busybox image.
    pub fn start() -> Self {
        Self::with(Options::default())
    }

    /// Starts a daemon.
    pub fn with(options: Options) -> Self {
        assert!(rustix::process::geteuid().is_root(), "end-to-end tests run as root");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let cgroup_driver = options.cgroup_driver.unwrap_or_else(CgroupDriver::from_environment);
        let dir =
            tempfile::Builder::new().prefix("husk-e2e-").tempdir_in("/tmp").expect("temporary directory");
        // Pids repeat in other namespaces, but cgroups are the whole machine's.
        let unique = dir.path().file_name().expect("a name").to_string_lossy();
        let names = Names {
            bridge: format!("hk{:x}-{number}", pid & 0xff_ffff),
            table: format!("husk-e2e-{pid}-{number}"),
            cgroup: match cgroup_driver {
                CgroupDriver::Cgroupfs => format!("/{unique}"),
                // Dashes would nest.
                CgroupDriver::Systemd => format!("/{}.slice", unique.replace('-', "")),
            },
        };
        let config = format!(
            "[network]\nbridge = {:?}\nnft_table = {:?}\nsubnet = \"10.{}.{}.0/{}\"\n[cgroup]\nparent = {:?}\ndriver = {:?}\n{}",
            names.bridge,
            names.table,
            free_octet(pid),
            if options.large { number % 60 * 4 } else { number % 250 },
            if options.large { 22 } else { 24 },
            names.cgroup,
            cgroup_driver.name(),
            options.config,
        );
        fs::write(dir.path().join("husk.toml"), config).expect("write the configuration");
        let before = Node::look();
        let mut daemon = Self {
            dir,
            child: None,
            cri: None,
            before,
            flags: options.flags,
            names,
            cgroup_driver,
            dist: options.dist,
        };
        daemon.spawn();
        if !options.without_image {
            let archive = daemon.path("busybox.tar");
            images::busybox_archive().write(&archive);
            daemon.husk(&["image", "import", &archive.display().to_string()]).success();
        }
        daemon
    }

    /// A path below the daemon's own directory.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// The socket's path.
    pub fn address(&self) -> PathBuf {
        self.path("husk.sock")
    }

    /// Clients of its services.
    pub fn cri(&self) -> &Cri {
        self.cri.as_ref().expect("the daemon runs")
    }

    /// The daemon's pid.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the daemon runs").id()
    }

    /// The cgroup below which its pods live unless a request names a parent.
    pub fn cgroup_parent(&self) -> &str {
        &self.names.cgroup
    }

    /// Its bridge.
    pub fn bridge(&self) -> &str {
        &self.names.bridge
    }

    /// Its nftables table.
    pub fn nft_table(&self) -> &str {
        &self.names.table
    }

    /// Who makes the cgroups of its pods.
    pub fn cgroup_driver(&self) -> CgroupDriver {
        self.cgroup_driver
    }

    /// A pod's cgroup, without a leading slash, for pods that name no parent.
    pub fn pod_cgroup(&self, pod_id: &str) -> String {
        let parent = self.names.cgroup.trim_start_matches('/');
        match self.cgroup_driver {
            CgroupDriver::Cgroupfs => format!("{parent}/husk-{pod_id}"),
            CgroupDriver::Systemd => format!("{parent}/husk-{pod_id}.scope/pod"),
        }
    }

    /// The parent of a kubelet's cgroups on this daemon; removed with the daemon.
    pub fn kubelet_cgroup(&self) -> String {
        match self.cgroup_driver {
            CgroupDriver::Cgroupfs => format!("{}-kubelet", self.names.cgroup),
            CgroupDriver::Systemd => self.names.cgroup.replace(".slice", "kubelet.slice"),
        }
    }

    /// What the daemon wrote to its standard error so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("huskd.log")).unwrap_or_default()
    }

    /// Runs `husk` against this daemon.
    pub fn husk(&self, arguments: &[&str]) -> tools::Output {
        let mut command = Command::new(self.program("husk"));
        command.arg("--address").arg(self.address()).args(arguments);
        tools::run(&mut command)
    }

    /// Runs `crictl` against this daemon.
    pub fn crictl(&self, arguments: &[&str]) -> tools::Output {
        let endpoint = format!("unix://{}", self.address().display());
        let timeout = format!("{}s", patience(Duration::from_secs(20)).as_secs());
        let mut command = Command::new(tools::tool("crictl"));
        command
            .args(["--runtime-endpoint", &endpoint, "--image-endpoint", &endpoint, "--timeout", &timeout])
            .args(arguments);
        tools::run(&mut command)
    }

    /// Kills the daemon with SIGKILL and waits until it is gone.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the daemon runs");
        child.kill().expect("kill the daemon");
        child.wait().expect("wait for the daemon");
        self.cri = None;
    }

    /// Ends the daemon with SIGTERM and waits until it is gone.
    pub fn stop(&mut self) {
        let mut child = self.child.take().expect("the daemon runs");
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("signal the daemon");
        let status = child.wait().expect("wait for the daemon");
        assert!(
            status.success(),
            "huskd ended with {status} (signal {:?}):\n{}",
            status.signal(),
            self.log()
        );
        self.cri = None;
    }

    /// From the next start on, runs the programs of this directory (`None`: those of this build).
    pub fn change_programs(&mut self, dist: Option<PathBuf>) {
        self.dist = dist;
    }

    fn program(&self, name: &str) -> PathBuf {
        self.dist.as_ref().map_or_else(|| tools::dist(name), |dist| dist.join(name))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.program("huskd"));
        command
            .arg("--config")
            .arg(self.path("husk.toml"))
            .arg("--root")
            .arg(self.path("root"))
            .arg("--state")
            .arg(self.path("state"))
            .arg("--address")
            .arg(self.address())
            .arg("--cni-conf-dir")
            .arg(self.path("cni"))
            .arg("--registry-config-dir")
            .arg(self.path("certs.d"))
            .args(&self.flags);
        command
    }

    /// Starts the daemon where it must refuse to; returns what it said.
    pub fn refused_start(&self) -> String {
        assert!(self.child.is_none(), "the daemon runs already");
        tools::run(&mut self.command()).failure()
    }

    /// Starts the daemon again on the same directories.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "the daemon runs already");
        let notify = self.path("notify");
        let _ = fs::remove_file(&notify);
        let socket = UnixDatagram::bind(&notify).expect("bind the notification socket");
        socket.set_read_timeout(Some(patience(Duration::from_secs(30)))).expect("set a timeout");
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path("huskd.log"))
            .expect("open the log");
        let child = self
            .command()
            .env("NOTIFY_SOCKET", &notify)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("start huskd; `make build` makes it");
        self.child = Some(child);
        self.wait_ready(&socket);
        self.cri = Some(Cri::connect(&self.address()));
    }

    /// Connects to the same address again, where another process than [`Daemon::spawn`]'s serves now.
    pub fn reconnect(&mut self) {
        eventually("somebody serves at the address", Duration::from_secs(30), || {
            UnixStream::connect(self.address()).ok()
        });
        self.cri = Some(Cri::connect(&self.address()));
    }

    fn wait_ready(&self, socket: &UnixDatagram) {
        let mut buffer = [0u8; 4096];
        loop {
            match socket.recv(&mut buffer) {
                Ok(length)
                    if buffer[..length].split(|&byte| byte == b'\n').any(|line| line == b"READY=1") =>
                {
                    return;
                }
                Ok(_) => {}
                Err(error) => panic!("huskd is not ready: {error}\n{}", self.log()),
            }
        }
    }

    /// Loses everything that a reboot loses (processes, mounts, links, rules, the state directory) and starts the daemon
    /// again.
    pub fn reboot(&mut self) {
        self.kill();
        for cgroup in [self.names.cgroup.clone(), self.kubelet_cgroup()] {
            node::kill_cgroup(&cgroup);
            node::stop_slice(&cgroup);
        }
        node::kill_processes_of(self.dir.path());
        eventually("every process is gone", Duration::from_secs(10), || {
            node::processes_of(self.dir.path()).is_empty().then_some(())
        });
        node::unmount_below(self.dir.path());
        node::remove_network(&self.names.bridge, &self.names.table);
        fs::remove_dir_all(self.path("state")).expect("empty the state directory");
        self.spawn();
    }

    /// Removes every pod and image's use, ends the daemon and proves that the node is as before. Called by drop; a test
    /// that wants the proof in the middle calls it itself.
    pub fn finish(&mut self) {
        if self.child.is_none() {
            self.spawn();
        }
        for pod in
            self.cri().list_pod_sandbox(crate::v1::ListPodSandboxRequest::default()).expect("list pods").items
        {
            self.cri()
                .remove_pod_sandbox(crate::v1::RemovePodSandboxRequest { pod_sandbox_id: pod.id.clone() })
                .unwrap_or_else(|status| panic!("remove pod {}: {status}\n{}", pod.id, self.log()));
        }
        self.before.assert_unchanged(self.dir.path(), &self.names.cgroup);
        self.stop();
        node::remove_network(&self.names.bridge, &self.names.table);
        for cgroup in [self.names.cgroup.clone(), self.kubelet_cgroup()] {
            node::stop_slice(&cgroup);
            assert!(node::remove_cgroup(&cgroup), "something is left in cgroup {cgroup}");
        }
    }

    /// The daemon's directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "--- huskd's log ---\n{}", self.log());
            self.clean_up_after_failure();
        } else {
            self.finish();
        }
    }
}

impl Daemon {
    /// Best effort, so that one failed test does not make the next ones fail.
    fn clean_up_after_failure(&mut self) {
        node::kill_cgroup(&self.names.cgroup);
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        node::kill_processes_of(self.dir.path());
        node::unmount_below(self.dir.path());
        for cgroup in [self.names.cgroup.clone(), self.kubelet_cgroup()] {
            node::kill_cgroup(&cgroup);
            node::stop_slice(&cgroup);
            node::remove_cgroup(&cgroup);
        }
        node::remove_network(&self.names.bridge, &self.names.table);
    }
}
