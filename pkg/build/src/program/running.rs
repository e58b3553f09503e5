//! buildkitd running: its start, the wait until it answers, its end.

use std::{
    fs,
    io::{self, Read, Seek, SeekFrom, Write},
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use husk_cgroup::{Cgroup, CgroupPath, Hierarchy};
use husk_model::chain;
use rustix::{
    process::{Pid, PidfdFlags, Signal, pidfd_open},
    thread::{LinkNameSpaceType, UnshareFlags},
};
use tokio::{
    net::{UnixDatagram, UnixStream},
    sync::{oneshot, watch},
};
use tracing::{info, warn};

use super::{LAUNCH, Settings};
use crate::{
    error::{BuildError, Result},
    grpc::{self, Caller},
};

/// How long it may take until it answers: it looks through its cache.
const START: Duration = Duration::from_secs(60);
/// How long it may take to end when it is asked to.
const END: Duration = Duration::from_secs(10);
/// How much of its log an error quotes.
const QUOTED: u64 = 2 << 10;
/// A log of more than this is begun anew with the next start.
const LOG_MAX: u64 = 8 << 20;
/// What of huskd's environment it gets: where programs are (git), and how the node reaches the outside.
const ENVIRONMENT: [&str; 9] = [
    "PATH",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
];

/// A buildkitd that answers. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Running {
    socket: PathBuf,
    process: Arc<OwnedFd>,
    ended: watch::Receiver<Option<String>>,
    cgroup: Option<Cgroups>,
}

impl Running {
    /// Starts `program` in the network namespace `ns`, with its sockets in `directory`, which it empties.
    ///
    /// # Errors
    /// [`BuildError::Missing`], [`BuildError::File`]; [`BuildError::Start`] and [`BuildError::Slow`] when it does not come up.
    pub(crate) async fn start(
        program: &Path,
        settings: &Settings,
        ns: OwnedFd,
        directory: &Path,
        log: PathBuf,
    ) -> Result<Self> {
        let program = find(program)?;
        fresh(directory)?;
        let configuration = directory.join("buildkitd.toml");
        fs::write(&configuration, settings.toml()).map_err(BuildError::file("write", &configuration))?;
        let ready = directory.join("ready.sock");
        let told = UnixDatagram::bind(&ready).map_err(BuildError::file("bind", &ready))?;
        let file = open_log(&log)?;
        let begin = file.metadata().map_or(0, |file| file.len());
        let arguments =
            [LAUNCH.into(), program.into_os_string(), "--config".into(), configuration.into_os_string()];
        let mut command = Command::new("/proc/self/exe");
        let environment = ENVIRONMENT.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
        command.args(arguments).env_clear().envs(environment).env("NOTIFY_SOCKET", &ready);
        let copy = file.try_clone().map_err(BuildError::file("open", &log))?;
        command.stdin(Stdio::piped()).stdout(copy).stderr(file);
        let cgroup = Cgroups::make(&settings.cgroup);
        let cgroup = cgroup.map_err(BuildError::file("make a cgroup", &settings.cgroup))?;
        let (process, ended) =
            spawn(command, ns, &cgroup.own).await.map_err(BuildError::file("start", program_of(&log)))?;
        let running = Self { socket: settings.socket.clone(), process, ended, cgroup: Some(cgroup) };
        running.answers(&told, &log, begin).await?;
        info!(pid_namespace = true, socket = %running.socket.display(), "buildkitd runs");
        Ok(running)
    }

    /// Waits until it says that it is ready.
    async fn answers(&self, told: &UnixDatagram, log: &Path, begin: u64) -> Result<()> {
        let ready = async {
            let mut message = [0; 256];
            loop {
                match told.recv(&mut message).await {
                    Ok(length)
                        if message[..length].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") =>
                    {
                        return;
                    }
                    Ok(_) => {}
                    // It does not happen to a socket that is open; then the deadline tells.
                    Err(_) => std::future::pending().await,
                }
            }
        };
        let waited = tokio::select! {
            waited = tokio::time::timeout(START, ready) => waited,
            how = self.ended() => {
                let last = last_words(log, begin).unwrap_or_default();
                let reason = if last.is_empty() { how } else { format!("{how}: {last}") };
                return Err(BuildError::Start { reason, log: log.to_owned() });
            }
        };
        waited.map_err(|_| BuildError::Slow { after: START, log: log.to_owned() })
    }

    /// Whether it runs.
    pub(crate) fn is_alive(&self) -> bool {
        self.ended.borrow().is_none()
    }

    /// Resolves at its end, with how it ended.
    pub(crate) async fn ended(&self) -> String {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(how) => how.clone().unwrap_or_default(),
            Err(_) => "nobody waits for it any more".to_owned(),
        }
    }

    /// A connection to it.
    ///
    /// # Errors
    /// [`BuildError::File`], [`BuildError::Broken`].
    pub(crate) async fn connect(&self) -> Result<Caller> {
        let stream = UnixStream::connect(&self.socket).await;
        let stream = stream.map_err(BuildError::file("connect to", &self.socket))?;
        let connected = grpc::connect(stream).await;
        connected
            .map(|(caller, _)| caller)
            .map_err(|error| BuildError::Broken { call: "a connection", reason: chain(&error) })
    }

    /// Asks it to end, and ends it when it does not.
    pub(crate) async fn stop(&self) {
        if let Err(error) = husk_sys::pidfd::signal(&*self.process, Signal::TERM) {
            warn!(%error, "cannot ask buildkitd to end");
        }
        if tokio::time::timeout(END, self.ended()).await.is_err() {
            self.kill();
            let _how = self.ended().await;
        }
    }

    fn kill(&self) {
        // Only a process that has ended cannot be killed by root.
        let _ended = husk_sys::pidfd::signal(&*self.process, Signal::KILL);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
        if let Some(cgroups) = self.cgroup.take() {
            let remove = move || cgroups.remove();
            match tokio::runtime::Handle::try_current() {
                Ok(handle) => drop(handle.spawn_blocking(remove)),
                Err(_) => remove(),
            }
        }
    }
}

/// The groups of buildkitd and of the steps of builds.
#[derive(Debug)]
struct Cgroups {
    all: Cgroup,
    own: Cgroup,
}

impl Cgroups {
    /// `path` is the parent of the steps'.
    fn make(path: &str) -> io::Result<Self> {
        let steps = CgroupPath::parse(path).map_err(io::Error::other)?;
        let above = steps.parent().ok_or_else(|| io::Error::other("it is the root"))?;
        let hierarchy = Hierarchy::detect().map_err(io::Error::other)?;
        // What a builder of a huskd that was killed has left; its processes died with it. The groups go, too: Linux 6.18
        // kills a process that is cloned into a group when its parent's was once killed by cgroup.kill, so no step would live.
        match hierarchy.open(&above) {
            Ok(left) => left.kill().and_then(|()| left.remove()).map_err(io::Error::other)?,
            Err(husk_cgroup::Error::NotFound { .. }) => {}
            Err(error) => return Err(io::Error::other(error)),
        }
        let all = hierarchy.create(&above).map_err(io::Error::other)?;
        hierarchy.create(&steps).map_err(io::Error::other)?;
        let own = above.join("daemon").map_err(io::Error::other)?;
        let own = hierarchy.create(&own).map_err(io::Error::other)?;
        Ok(Self { all, own })
    }

    fn remove(self) {
        drop(self.own);
        if let Err(error) = self.all.kill().and_then(|()| self.all.remove()) {
            warn!(%error, "the builder's cgroup is left");
        }
    }
}

/// A directory with nothing in it, which only root enters.
fn fresh(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(BuildError::file("empty", directory)(error));
        }
        _ => {}
    }
    let made = fs::DirBuilder::new().mode(0o700).recursive(true).create(directory);
    made.map_err(BuildError::file("make", directory))
}

/// Where a program is that is named by a path, or is in `PATH`.
fn find(program: &Path) -> Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let is_program = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = match program.components().count() {
        1 => std::env::split_paths(&path).map(|directory| directory.join(program)).collect(),
        _ => vec![program.to_owned()],
    };
    places.retain(is_program);
    places.into_iter().next().ok_or_else(|| BuildError::Missing { program: program.to_owned() })
}

fn program_of(log: &Path) -> PathBuf {
    log.with_file_name("buildkitd")
}

fn open_log(log: &Path) -> Result<fs::File> {
    let large = fs::metadata(log).is_ok_and(|file| file.len() > LOG_MAX);
    let opened = fs::File::options().create(true).append(true).read(true).mode(0o600).open(log);
    let file = opened.map_err(BuildError::file("open", log))?;
    if large {
        file.set_len(0).map_err(BuildError::file("truncate", log))?;
    }
    Ok(file)
}

/// What was written last, from `begin` on.
fn last_words(log: &Path, begin: u64) -> io::Result<String> {
    let mut file = fs::File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(begin.max(length.saturating_sub(QUOTED))))?;
    let mut text = Vec::new();
    file.take(QUOTED).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).trim().to_owned())
}

/// How it ended, when it has.
type Ended = watch::Receiver<Option<String>>;

/// Starts the process from a thread that lives as long as it does: the process dies with that thread, and so with huskd.
async fn spawn(mut command: Command, ns: OwnedFd, cgroup: &Cgroup) -> io::Result<(Arc<OwnedFd>, Ended)> {
    let (tell, told) = oneshot::channel();
    let (end, ended) = watch::channel(None);
    let doors = cgroup.join_fds().map_err(io::Error::other)?;
    std::thread::Builder::new().name("husk-buildkitd".into()).spawn(move || {
        let begun = begin(&mut command, ns, doors);
        match begun {
            Ok((mut child, stdin, process)) => {
                // Nobody may wait for it any more, which kills it.
                let _gone = tell.send(Ok(process));
                let how = child.wait().map_or_else(|error| error.to_string(), told_of);
                drop(stdin);
                end.send_replace(Some(how));
            }
            Err(error) => {
                let _gone = tell.send(Err(error));
            }
        }
    })?;
    let process = told.await.unwrap_or_else(|_| Err(io::Error::other("its thread ended")))?;
    Ok((Arc::new(process), ended))
}

fn begin(
    command: &mut Command,
    ns: OwnedFd,
    doors: Vec<OwnedFd>,
) -> io::Result<(Child, Option<ChildStdin>, OwnedFd)> {
    husk_sys::namespace::join_one(ns, LinkNameSpaceType::Network).map_err(io::Error::other)?;
    husk_sys::namespace::unshare(UnshareFlags::NEWPID).map_err(io::Error::other)?;
    let mut child = command.spawn()?;
    let begun = (|| {
        let pid = Pid::from_child(&child);
        let process = pidfd_open(pid, PidfdFlags::empty())?;
        for door in doors {
            fs::File::from(door).write_all(pid.as_raw_nonzero().to_string().as_bytes())?;
        }
        Ok(process)
    })();
    match begun {
        Ok(process) => {
            let stdin = child.stdin.take();
            Ok((child, stdin, process))
        }
        Err(error) => {
            child.kill()?;
            child.wait()?;
            Err(error)
        }
    }
}

fn told_of(status: ExitStatus) -> String {
    format!("it ended with {status}")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn nothing_is_cloned_from_a_group_that_was_killed() {
        if !rustix::process::geteuid().is_root() {
            return husk_test_support::skip("root");
        }
        let path = format!("/husk-test-builder-{}/steps", std::process::id());
        let number = |groups: &Cgroups| {
            let points = groups.own.hierarchy().mount_points();
            let numbers = points.map(|point| {
                fs::metadata(point.join(groups.own.path().as_str().trim_start_matches('/'))).unwrap().ino()
            });
            numbers.collect::<Vec<_>>()
        };
        let former = Cgroups::make(&path).unwrap();
        let before = number(&former);
        // As a huskd that is killed leaves them.
        drop(former);
        let next = Cgroups::make(&path).unwrap();
        let after = number(&next);
        next.remove();
        assert!(before.iter().zip(&after).all(|(before, after)| before != after), "{before:?} {after:?}");
    }
}
