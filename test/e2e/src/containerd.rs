//! containerd with runc and CNI plugins: the control of the suite. A test that fails on it too is wrong about the world.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::json;
use tempfile::TempDir;

use crate::{Archive, Cri, Layer, eventually, images, node, tools, v1};

/// A containerd of the test's own. Dropping it removes its pods.
#[derive(Debug)]
pub struct Containerd {
    dir: TempDir,
    child: Option<Child>,
    cri: Option<Cri>,
    name: String,
}

const PAUSE: &str = "registry.example/husk/pause:e2e";

impl Containerd {
    /// Starts a daemon with the busybox image.
    pub fn start() -> Self {
        let daemon = Self::without_images();
        for (file, archive) in [("busybox.tar", images::busybox_archive()), ("pause.tar", pause_archive())] {
            archive.write(&daemon.path(file));
            daemon.import(&daemon.path(file));
        }
        daemon
    }

    /// Starts a daemon without any image.
    pub fn without_images() -> Self {
        let dir = tempfile::Builder::new().prefix("cd-").tempdir_in("/tmp").expect("temporary directory");
        let name = format!("cd{:x}", std::process::id() & 0xff_ffff);
        let mut daemon = Self { dir, child: None, cri: None, name };
        daemon.write_configuration();
        daemon.spawn();
        daemon
    }

    fn write_configuration(&self) {
        let cni = self.path("cni");
        fs::create_dir_all(&cni).expect("create the directory");
        let conflist = json!({
            "cniVersion": "1.0.0",
            "name": self.name,
            "plugins": [
                {
                    "type": "bridge", "bridge": self.name, "isGateway": true, "ipMasq": true, "hairpinMode": true,
                    "ipam": {
                        "type": "host-local", "dataDir": self.path("ipam"),
                        "ranges": [[{ "subnet": "10.252.0.0/16" }]], "routes": [{ "dst": "0.0.0.0/0" }],
                    },
                },
                { "type": "portmap", "capabilities": { "portMappings": true } },
            ],
        });
        fs::write(cni.join("10-test.conflist"), conflist.to_string())
            .expect("write the network's configuration");
        let path = |name: &str| self.path(name).display().to_string();
        let config = format!(
            "version = 4\nroot = '{root}'\nstate = '{state}'\nimports = []\n\
             [plugins.'io.containerd.cri.v1.images'.pinned_images]\nsandbox = '{PAUSE}'\n\
             [plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '{registries}'\n\
             [plugins.'io.containerd.cri.v1.runtime']\nrestrict_oom_score_adj = true\nnetns_mounts_under_state_dir = true\n\
             [plugins.'io.containerd.cri.v1.runtime'.cni]\nbin_dirs = ['{bin}']\nconf_dir = '{cni}'\n\
             [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'\n\
             [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]\nBinaryName = '{runc}'\nRoot = '{state}/runc'\n\
             [plugins.'io.containerd.internal.v1.opt']\npath = '{opt}'\n\
             [plugins.'io.containerd.nri.v1.nri']\ndisable = true\n\
             [plugins.'io.containerd.server.v1.grpc']\naddress = '{socket}'\n\
             [plugins.'io.containerd.server.v1.ttrpc']\naddress = '{socket}.ttrpc'\n",
            root = path("root"),
            state = path("state"),
            registries = path("certs.d"),
            bin = tools::tool("cni").display(),
            cni = cni.display(),
            runc = tools::tool("runc").display(),
            opt = path("opt"),
            socket = path("c.sock"),
        );
        fs::write(self.path("config.toml"), config).expect("write the configuration");
    }

    /// A path below the daemon's own directory.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// The daemon's directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The socket's path.
    pub fn address(&self) -> PathBuf {
        self.path("c.sock")
    }

    /// Clients of its services.
    pub fn cri(&self) -> &Cri {
        self.cri.as_ref().expect("the daemon runs")
    }

    /// The daemon's pid.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the daemon runs").id()
    }

    /// The parent of a kubelet's cgroups on this daemon.
    pub fn kubelet_cgroup(&self) -> String {
        let unique = self.dir.path().file_name().expect("a name");
        format!("/{}-kubelet", unique.to_string_lossy())
    }

    /// Adds an image from an archive.
    pub fn import(&self, archive: &Path) {
        let ctr = tools::tool("containerd").with_file_name("ctr");
        let mut command = Command::new(ctr);
        command.arg("--address").arg(self.address()).args(["--namespace", "k8s.io", "images", "import"]);
        tools::run(command.arg(archive)).success();
    }

    /// Lets it pull from a registry that has no TLS.
    pub fn allow_plain(&self, host: &str) {
        let folder = self.path("certs.d").join(host);
        fs::create_dir_all(&folder).expect("create the directory");
        fs::write(folder.join("hosts.toml"), format!("server = \"http://{host}\"\n"))
            .expect("write hosts.toml");
    }

    /// What the daemon wrote to its standard error so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Kills the daemon and waits until it is gone.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the daemon runs");
        child.kill().expect("kill the daemon");
        child.wait().expect("wait for the daemon");
        self.cri = None;
    }

    /// Ends the daemon with SIGTERM and waits until it is gone.
    pub fn stop(&mut self) {
        let mut child = self.child.take().expect("the daemon runs");
        rustix::process::kill_process(
            rustix::process::Pid::from_child(&child),
            rustix::process::Signal::TERM,
        )
        .expect("signal the daemon");
        let status = child.wait().expect("wait for the daemon");
        assert!(status.success(), "containerd ended with {status}:\n{}", self.log());
        self.cri = None;
    }

    /// Starts the daemon again on the same directories.
    pub fn spawn(&mut self) {
        let binary = tools::tool("containerd");
        let bin = binary.parent().expect("a directory").display().to_string();
        let search = format!("{bin}:{}", std::env::var("PATH").unwrap_or_default());
        let log =
            fs::OpenOptions::new().create(true).append(true).open(self.path("log")).expect("open the log");
        let child = Command::new(&binary)
            .arg("--config")
            .arg(self.path("config.toml"))
            .env("PATH", search)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("start containerd");
        self.child = Some(child);
        let address = self.address();
        self.cri = Some(eventually("containerd answers", Duration::from_secs(60), || {
            std::os::unix::net::UnixStream::connect(&address).ok()?;
            let cri = Cri::connect(&address);
            let status = cri.status(v1::StatusRequest::default()).ok()?.status?;
            // Of its own conditions, deprecation warnings are no reason not to start.
            ["RuntimeReady", "NetworkReady"]
                .iter()
                .all(|kind| status.conditions.iter().any(|found| found.r#type == *kind && found.status))
                .then_some(cri)
        }));
    }

    /// Loses everything that a reboot loses: processes, mounts, the network and the state directory.
    pub fn reboot(&mut self) {
        self.kill();
        node::kill_cgroup(&self.kubelet_cgroup());
        node::kill_processes_of(self.dir());
        eventually("every process is gone", Duration::from_secs(10), || {
            node::processes_of(self.dir()).is_empty().then_some(())
        });
        node::unmount_below(self.dir());
        node::remove_link(&self.name);
        fs::remove_dir_all(self.path("state")).expect("empty the state directory");
        self.spawn();
    }

    fn remove_pods(&self) {
        for pod in self.cri().list_pod_sandbox(v1::ListPodSandboxRequest::default()).expect("list pods").items
        {
            let request = v1::StopPodSandboxRequest { pod_sandbox_id: pod.id.clone() };
            self.cri().stop_pod_sandbox(request).expect("stop the pod");
            let request = v1::RemovePodSandboxRequest { pod_sandbox_id: pod.id };
            self.cri().remove_pod_sandbox(request).expect("remove the pod");
        }
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("--- the end of containerd's log ---");
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        } else {
            self.remove_pods();
        }
        if self.child.is_some() {
            self.kill();
        }
        node::kill_cgroup(&self.kubelet_cgroup());
        node::kill_processes_of(self.dir());
        node::unmount_below(self.dir());
        node::remove_link(&self.name);
        node::remove_cgroup(&self.kubelet_cgroup());
    }
}

/// The pause program of hack/images as an image.
fn pause_archive() -> Archive {
    let store = tools::run(&mut Command::new(tools::root().join("hack/images/build"))).success();
    let cache = Path::new(store.trim()).parent().expect("the images' cache");
    let program = fs::read_dir(cache)
        .expect("read the images' cache")
        .filter_map(|entry| Some(entry.ok()?.path().join("pause")))
        .find(|path| path.exists())
        .expect("hack/images/build made pause");
    let content = fs::read(program).expect("read pause");
    Archive {
        tags: vec![PAUSE.to_owned()],
        config: json!({ "Entrypoint": ["/pause"] }),
        layers: vec![Layer::new(&[], &[("pause", 0o755, &content)], &[])],
    }
}
