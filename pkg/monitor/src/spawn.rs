//! Starting a monitor, and finding one again.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{fs::OpenOptionsExt, net},
    },
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use husk_proto::podmon::{self, request::Call};
use tokio::{
    io::AsyncReadExt as _,
    net::UnixStream,
    process::{Child, Command},
    runtime::Handle,
    sync::Mutex,
    task::JoinHandle,
};
use tracing::warn;

use crate::{MonitorError, record, wire};

type Result<T, E = MonitorError> = std::result::Result<T, E>;

/// Longest path of a unix socket, the terminating NUL included (unix(7)).
const SUN_PATH: usize = 108;

/// Longest time that trying a user namespace may take.
const PROBE: Duration = Duration::from_secs(20);

/// How monitors are started.
#[derive(Debug, Clone)]
pub struct MonitorConfig {
    /// The husk-podmon binary.
    pub podmon_path: PathBuf,
    /// The husk-pause binary.
    pub pause_path: PathBuf,
    /// Soft RLIMIT_NOFILE for containers: what the daemon was started with before it raised its own.
    pub nofile_soft: Option<u64>,
}

impl MonitorConfig {
    /// Whether pods on this node can have user namespaces, with images in `dir`. It is tried, in a process of its own.
    ///
    /// # Errors
    /// Why not.
    pub async fn probe_user_namespaces(&self, dir: &Path) -> Result<(), String> {
        let mut command = Command::new(&self.podmon_path);
        command.arg("--probe-user-namespaces").arg(dir).env_clear().stdin(Stdio::null()).kill_on_drop(true);
        match tokio::time::timeout(PROBE, command.output()).await {
            Ok(Ok(output)) if output.status.success() => Ok(()),
            Ok(Ok(output)) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Ok(Err(error)) => Err(format!("start {}: {error}", self.podmon_path.display())),
            Err(_) => Err(format!("no answer within {} seconds", PROBE.as_secs())),
        }
    }
}

/// What a monitor needs of its pod: the socket is bound here, so that it can be connected to at once.
pub(crate) struct Seat<'pod> {
    pod_dir: &'pod Path,
    address: Address,
    /// The listening socket, and the file of the monitor's own complaints.
    ends: [OwnedFd; 2],
}

impl<'pod> Seat<'pod> {
    /// Prepares it in an existing, empty pod directory.
    pub(crate) fn prepare(pod_dir: &'pod Path) -> Result<Self> {
        let address = Address::of(pod_dir).map_err(at("open", pod_dir))?;
        let listener = net::UnixListener::bind(&address.path).map_err(at("bind", &socket_path(pod_dir)))?;
        let log = pod_dir.join("monitor.log");
        let open = OpenOptions::new().create(true).append(true).mode(0o600).open(&log);
        Ok(Self { pod_dir, address, ends: [listener.into(), open.map_err(at("open", &log))?.into()] })
    }

    /// Prepares it where a monitor had it that has ended: a socket outlives whoever listened.
    pub(crate) fn prepare_again(pod_dir: &'pod Path) -> Result<Self> {
        let left = socket_path(pod_dir);
        std::fs::remove_file(&left).map_err(at("remove", &left))?;
        Self::prepare(pod_dir)
    }

    /// Leaves it to the monitor that it was given to. Returns a connection to that.
    pub(crate) async fn leave(self) -> Result<UnixStream> {
        let connected = UnixStream::connect(&self.address.path).await;
        connected.map_err(at("connect to", &socket_path(self.pod_dir)))
    }
}

fn at(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> MonitorError {
    let path = path.to_owned();
    move |source| MonitorError::Local { step, path, source }
}

/// A monitor that nobody has spoken to yet. Dropped, it is killed: no pod depends on it, and nobody would find it.
#[derive(Debug)]
pub(crate) struct Newborn {
    child: Option<Child>,
    /// The mount of its program.
    held: Option<OwnedFd>,
    /// Where its pod goes.
    handover: UnixStream,
}

impl Newborn {
    /// Starts one. Its command line shows `pod_dir`, or what keeps the place of a pod directory.
    pub(crate) fn start(config: &MonitorConfig, pod_dir: &Path) -> Result<Self> {
        let program = config.podmon_path.as_path();
        let (handover, theirs) = net::UnixStream::pair().map_err(at("make a socket for", program))?;
        let lent = husk_sys::program::lend(program);
        let lent = lent.map_err(|error| at("open", program)(io::Error::other(error)))?;
        // From its standard output's place, which no other descriptor of ours can have taken when the child executes it.
        let mut command = Command::new("/proc/self/fd/1");
        command.arg0(program).args(["--lent", "--standby", "--state-dir"]).arg(pod_dir);
        command.arg("--pause").arg(&config.pause_path);
        if let Some(soft) = config.nofile_soft {
            command.arg("--nofile-soft").arg(soft.to_string());
        }
        let held = lent.try_clone().map_err(at("keep open", program))?;
        // Nothing runs between fork and exec here, so std takes posix_spawn, whose cost does not grow with our memory. Until it
        // has a pod its complaints are ours.
        command.env_clear().stdin(OwnedFd::from(theirs)).stdout(lent);
        let child = command.spawn().map_err(at("start", program))?;
        drop(command);
        let handover = handover.set_nonblocking(true).and_then(|()| UnixStream::from_std(handover));
        Ok(Self { child: Some(child), held: Some(held), handover: handover.map_err(at("watch", program))? })
    }

    /// Starts one, and gives it its pod.
    pub(crate) async fn start_for(config: &MonitorConfig, seat: &Seat<'_>) -> Result<Self> {
        let newborn = Self::start(config, seat.pod_dir)?;
        newborn.adopt(seat).await.map_err(at("give a pod to", &config.podmon_path))?;
        Ok(newborn)
    }

    /// Waits until it has done what can be done without a pod, and until the mount of its program is gone.
    ///
    /// # Errors
    /// When it ends first.
    pub(crate) async fn ready(&mut self) -> io::Result<()> {
        self.handover.read_u8().await?;
        let held = self.held.take();
        let _ = tokio::task::spawn_blocking(move || drop(held)).await;
        Ok(())
    }

    /// Gives it its pod.
    ///
    /// # Errors
    /// `EPIPE` when it has ended.
    pub(crate) async fn adopt(&self, seat: &Seat<'_>) -> io::Result<()> {
        let pod_dir = seat.pod_dir.to_str().ok_or(io::ErrorKind::InvalidFilename)?.to_owned();
        let call = Some(Call::AdoptPod(podmon::AdoptPod { pod_dir }));
        let ends = seat.ends.iter().map(OwnedFd::try_clone).collect::<io::Result<_>>()?;
        wire::write(&self.handover, &wire::encode(&podmon::Request { id: 0, call }, ends)).await
    }

    /// From here on it lives until it is told to end, whatever becomes of this process. It has answered, so it has let go of
    /// its program's mount.
    pub(crate) fn keep(mut self) -> Dissolving {
        if let Some(child) = self.child.take() {
            reap(child);
        }
        let Some(held) = self.held.take() else { return Dissolving::default() };
        Dissolving(Arc::new(Mutex::new(Some(tokio::task::spawn_blocking(move || drop(held))))))
    }
}

impl Drop for Newborn {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Fails only for one that has ended.
            let _ = child.start_kill();
            reap(child);
        }
    }
}

/// The end of the mount that a monitor was started from ([`husk_sys::program`]). The kernel dissolves it when its last
/// descriptor is closed, and lets whoever does that wait for an RCU grace period, of milliseconds. So it is neither the
/// monitor nor the task that starts it, and nobody waits but for what is left of it when the pod's first process runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dissolving(Arc<Mutex<Option<JoinHandle<()>>>>);

impl Dissolving {
    /// Returns when it is gone: no container may find it.
    pub(crate) async fn done(&self) {
        if let Some(task) = self.0.lock().await.take() {
            // Its only other end is that of this process.
            let _ = task.await;
        }
    }
}

/// Collects the exit status of a monitor whenever it ends, so that no zombie stays.
fn reap(mut child: Child) {
    // Without a runtime this process is about to end, and then the node's init reaps.
    let Ok(runtime) = Handle::try_current() else { return };
    runtime.spawn(async move {
        if let Err(error) = child.wait().await {
            warn!(%error, "cannot wait for a monitor");
        }
    });
}

/// Connects to the monitor of a pod directory after proving that it is the one that was started for it.
pub(crate) async fn find(pod_dir: &Path) -> Result<UnixStream> {
    let gone = |reason: String| MonitorError::Gone { pod_dir: pod_dir.to_owned(), reason };
    let record = record::read_monitor(pod_dir)?.ok_or_else(|| gone("it left no monitor.json".into()))?;
    if record.boot_id != record::boot_id()? {
        return Err(gone("the node was rebooted".into()));
    }
    if !husk_node::process::is_alive(record.process) {
        return Err(gone(format!("process {} does not exist any more", record.process.pid)));
    }
    let path = socket_path(pod_dir);
    let connected = match Address::of(pod_dir) {
        Ok(address) => UnixStream::connect(&address.path).await,
        Err(error) => Err(error),
    };
    connected.map_err(|source| match source.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
            gone(format!("{}: {source}", path.display()))
        }
        _ => MonitorError::Local { step: "connect to", path, source },
    })
}

/// Whether somebody holds the socket of a pod directory.
pub(crate) fn is_listening(pod_dir: &Path) -> bool {
    Address::of(pod_dir).is_ok_and(|address| net::UnixStream::connect(&address.path).is_ok())
}

fn socket_path(pod_dir: &Path) -> PathBuf {
    pod_dir.join("monitor.sock")
}

/// A name of the socket that fits into `sun_path`, however deep the state directory is.
struct Address {
    path: PathBuf,
    /// Keeps a path of the form `/proc/self/fd/<n>/…` valid.
    _dir: Option<File>,
}

impl Address {
    fn of(pod_dir: &Path) -> io::Result<Self> {
        let path = socket_path(pod_dir);
        if path.as_os_str().len() < SUN_PATH {
            return Ok(Self { path, _dir: None });
        }
        let dir = File::open(pod_dir)?;
        let path = format!("/proc/self/fd/{}/monitor.sock", dir.as_raw_fd()).into();
        Ok(Self { path, _dir: Some(dir) })
    }
}
