//! The handle: one async function per call of the protocol.

use std::{os::fd::OwnedFd, path::Path, sync::Arc, time::Duration};

use husk_model::{Command, ContainerId, Exit, Process, ResolvedUser, Signal, Streams, UnixNanos, WindowSize};
use husk_proto::podmon::{self, request::Call};
use husk_telemetry::traces::told;
use tokio::net::UnixStream;

use crate::{
    ContainerRequest, Events, MonitorConfig, MonitorError, Result, SandboxRequest, Snapshot,
    convert::{self, Answer},
    link::Link,
    request,
    spawn::{self, Dissolving, Newborn, Seat},
    wire,
};

/// Calls that only touch the monitor's memory or send a signal.
const QUICK: Duration = Duration::from_secs(10);
/// Calls that build something in the kernel: on a node out of memory or I/O these take seconds.
const BUILD: Duration = Duration::from_secs(60);
/// Building a container whose volumes are relabelled file by file, of which there may be millions.
const RELABEL: Duration = Duration::from_secs(15 * 60);
/// What a monitor may need beyond the time it was given: killing a large cgroup, draining its output.
const MARGIN: Duration = Duration::from_secs(30);

/// A pod's monitor. Clones share one connection; every call may be dropped at any time.
#[derive(Debug, Clone)]
pub struct Monitor {
    link: Arc<Link>,
    process: Process,
    dissolving: Dissolving,
}

/// A monitor of a former daemon, and what it has to tell.
#[derive(Debug)]
pub struct Rejoined {
    /// The handle.
    pub monitor: Monitor,
    /// What happened after `state` was told.
    pub events: Events,
    /// Everything the monitor knew then.
    pub state: Result<Snapshot>,
}

/// A container whose init waits at the gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// Its init.
    pub process: Process,
    /// Who it runs as.
    pub user: ResolvedUser,
    /// Limits that the node could not set, one sentence each.
    pub degraded: Vec<String>,
}

/// What a command printed, and how it ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecOutput {
    /// Exit code, or 128 plus the signal.
    pub exit_code: i32,
    /// At most the limit of the call.
    pub stdout: Vec<u8>,
    /// At most the limit of the call.
    pub stderr: Vec<u8>,
    /// It was killed, with its descendants, because its time ran out.
    pub timed_out: bool,
    /// More was printed than the limit.
    pub truncated: bool,
}

impl Monitor {
    /// Starts a monitor for an existing, empty pod directory and connects to it.
    pub async fn spawn(config: &MonitorConfig, pod_dir: &Path) -> Result<Self> {
        let seat = Seat::prepare(pod_dir)?;
        Self::begin(Newborn::start_for(config, &seat).await?, seat).await
    }

    /// Speaks to a monitor that was given its pod a moment ago.
    pub(crate) async fn begin(newborn: Newborn, seat: Seat<'_>) -> Result<Self> {
        // The socket is its own from here on: it ends when the monitor does.
        let link = Link::new(seat.leave().await?);
        let process = greet(&link).await?;
        Ok(Self { link: Arc::new(link), process, dissolving: newborn.keep() })
    }

    /// Connects to the monitor that was started for this pod directory, by whichever daemon. An error for which
    /// [`MonitorError::is_gone`] means that there is none any more; [`crate::read_records`] tells what it left.
    pub async fn connect(pod_dir: &Path) -> Result<Self> {
        let link = Link::new(spawn::find(pod_dir).await?);
        let process = greet(&link).await?;
        Ok(Self::over(link, process))
    }

    /// As [`Self::connect`], and takes the monitor's account at once: a daemon that starts has hundreds to ask, and each answer
    /// that is waited for before the next question wakes two processes.
    pub async fn rejoin(pod_dir: &Path) -> Result<Rejoined> {
        let link = Link::new(spawn::find(pod_dir).await?);
        let events = link.events();
        // In this order on the wire: what happens after the account was given is an event.
        let (process, state) = tokio::join!(biased; greet(&link), state(&link));
        Ok(Rejoined { monitor: Self::over(link, process?), events, state })
    }

    fn over(link: Link, process: Process) -> Self {
        Self { link: Arc::new(link), process, dissolving: Dissolving::default() }
    }

    /// The monitor's process.
    pub fn process(&self) -> Process {
        self.process
    }

    /// Whether calls can still succeed.
    pub fn is_connected(&self) -> bool {
        self.link.is_connected()
    }

    /// Events from now on. To miss nothing, take the stream first and then [`Monitor::state`].
    pub fn events(&self) -> Events {
        self.link.events()
    }

    /// Everything the monitor knows.
    pub async fn state(&self) -> Result<Snapshot> {
        state(&self.link).await
    }

    /// The monitor's account as of now, and the events after it.
    pub async fn account(self) -> Rejoined {
        let events = self.events();
        let state = self.state().await;
        Rejoined { monitor: self, events, state }
    }

    /// Makes the pod's cgroup and its pause process, once per monitor. The process waits for [`Monitor::release_sandbox`].
    pub async fn run_sandbox(&self, request: SandboxRequest) -> Result<Process> {
        const CALL: &str = "run sandbox";
        let run = self.call(CALL, "", Call::RunSandbox(request.into()), BUILD);
        let (answer, ()) = tokio::join!(run, self.dissolving.done());
        match answer? {
            Answer::SandboxStarted(s) => Ok(paused(s)),
            _ => Err(MonitorError::Protocol { call: CALL }),
        }
    }

    /// Lets the pause process go on: the pod's network and its files are there.
    pub async fn release_sandbox(&self) -> Result<Process> {
        const CALL: &str = "release sandbox";
        match self.call(CALL, "", Call::ReleaseSandbox(podmon::ReleaseSandbox {}), BUILD).await? {
            Answer::SandboxStarted(s) => Ok(paused(s)),
            _ => Err(MonitorError::Protocol { call: CALL }),
        }
    }

    /// Builds a container up to its gate. On failure nothing of it is left.
    pub async fn create_container(&self, request: ContainerRequest) -> Result<Created> {
        const CALL: &str = "create container";
        let id = request.id.clone();
        let deadline = if request.relabel.is_empty() { BUILD } else { RELABEL };
        match self.call(CALL, id.as_str(), Call::CreateContainer(request.into()), deadline).await? {
            Answer::ContainerCreated(c) => {
                told(convert::steps(c.steps));
                Ok(Created {
                    process: Process { pid: c.pid, start_time: c.start_time },
                    user: convert::user(c.user),
                    degraded: c.degraded,
                })
            }
            _ => Err(MonitorError::Protocol { call: CALL }),
        }
    }

    /// Opens the gate; the log file exists when this returns. When the command cannot be executed the container has
    /// exited with [`husk_model::ExitReason::StartError`]. Returns when it was started.
    pub async fn start_container(&self, id: &ContainerId) -> Result<UnixNanos> {
        const CALL: &str = "start container";
        let call = Call::StartContainer(podmon::StartContainer { container_id: id.to_string() });
        match self.call(CALL, id.as_str(), call, BUILD).await? {
            Answer::ContainerStarted(s) => {
                told(convert::steps(s.steps));
                Ok(s.started_at)
            }
            _ => Err(MonitorError::Protocol { call: CALL }),
        }
    }

    /// Sends a signal to the container's init; nothing happens if it has exited.
    pub async fn signal(&self, id: &ContainerId, signal: Signal) -> Result<()> {
        let call = podmon::Signal { container_id: id.to_string(), signal: signal.0.into() };
        self.done("signal container", id.as_str(), Call::Signal(call), QUICK).await
    }

    /// SIGKILL to every process in the container's cgroup.
    pub async fn kill_container(&self, id: &ContainerId) -> Result<()> {
        let call = podmon::KillContainer { container_id: id.to_string() };
        self.done("kill container", id.as_str(), Call::KillContainer(call), QUICK).await
    }

    /// Stop signal (`None`: the container's own), grace, kill; returns how the container ended. Of concurrent stops
    /// the one that ends earliest counts for all. A caller that goes away does not call the stop off.
    pub async fn stop_container(
        &self,
        id: &ContainerId,
        signal: Option<Signal>,
        grace: Duration,
    ) -> Result<Exit> {
        const CALL: &str = "stop container";
        let call = podmon::StopContainer {
            container_id: id.to_string(),
            signal: signal.map_or(0, |s| s.0.into()),
            timeout_ms: millis(grace),
        };
        let deadline = grace.saturating_add(MARGIN);
        match self.call(CALL, id.as_str(), Call::StopContainer(call), deadline).await? {
            Answer::ContainerExited(podmon::ContainerExited { exit: Some(exit), .. }) => {
                Ok(convert::exit(exit))
            }
            _ => Err(MonitorError::Protocol { call: CALL }),
        }
    }

    /// Forgets a container, killing it first if it lives. An unknown one is fine.
    pub async fn remove_container(&self, id: &ContainerId) -> Result<()> {
        let call = podmon::RemoveContainer { container_id: id.to_string() };
        self.done("remove container", id.as_str(), Call::RemoveContainer(call), MARGIN).await
    }

    /// Runs a command and captures what it prints, at most 16 MiB a stream. Without a timeout it may take as long as
    /// it likes; dropping this future kills the command.
    pub async fn exec_sync(
        &self,
        id: &ContainerId,
        argv: Vec<String>,
        timeout: Option<Duration>,
    ) -> Result<ExecOutput> {
        const CALL: &str = "exec in container";
        let call = podmon::ExecSync {
            container_id: id.to_string(),
            argv,
            timeout_ms: timeout.map_or(0, |t| millis(t).max(1)),
            output_limit: 0,
        };
        let deadline = timeout.map(|t| t.saturating_add(MARGIN));
        let answer = self.link.call(CALL, Call::ExecSync(call), Vec::new(), deadline).await?;
        match convert::success(CALL, id.as_str(), answer)? {
            Answer::ExecOutput(o) => Ok(ExecOutput {
                exit_code: o.exit_code,
                stdout: o.stdout,
                stderr: o.stderr,
                timed_out: o.timed_out,
                truncated: o.stdout_truncated || o.stderr_truncated,
            }),
            _ => Err(MonitorError::Protocol { call: CALL }),
        }
    }

    /// Runs a command on a terminal of its own until it ends; returns its exit code. `on_master` gets the terminal's
    /// master, once: reading, writing, resizing and closing it (which hangs the command up) are the caller's. Dropping
    /// this future kills the command. Without a size, the window has the kernel's default.
    pub async fn exec_terminal(
        &self,
        id: &ContainerId,
        command: Command,
        size: Option<WindowSize>,
        on_master: impl FnOnce(OwnedFd) + Send,
    ) -> Result<i32> {
        const CALL: &str = "exec in container";
        let local = |source| MonitorError::Local { step: "make socket for", path: "terminal".into(), source };
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(local)?;
        ours.set_nonblocking(true).map_err(local)?;
        let ours = UnixStream::from_std(ours).map_err(local)?;
        let (rows, columns) = size.map_or((0, 0), |size| (size.rows.into(), size.columns.into()));
        let request = podmon::Exec { terminal: true, rows, columns, ..exec(id, command) };
        let call = self.link.call(CALL, Call::Exec(request), vec![theirs.into()], None);
        tokio::pin!(call);
        let answer = tokio::select! {
            // Cancel-safe: the descriptor is taken in one readiness callback or not at all.
            master = wire::receive_fd(&ours) => {
                if let Ok(master) = master {
                    on_master(master);
                }
                call.await
            }
            answer = &mut call => {
                // Of a command that was over at once the terminal has been sent as well; its output is in there.
                if let Ok(master) = wire::take_fd(&ours) {
                    on_master(master);
                }
                answer
            }
        };
        match convert::success(CALL, id.as_str(), answer?)? {
            Answer::ExecExited(exited) => Ok(exited.exit_code),
            _ => Err(MonitorError::Protocol { call: CALL }),
        }
    }

    /// Runs a command on the given streams until it ends; returns its exit code. The descriptors are handed to the monitor,
    /// which closes them at the end. Dropping this future kills the command.
    pub async fn exec(&self, id: &ContainerId, command: Command, streams: Streams<OwnedFd>) -> Result<i32> {
        const CALL: &str = "exec in container";
        let request = podmon::Exec {
            stdin: streams.stdin.is_some(),
            stdout: streams.stdout.is_some(),
            stderr: streams.stderr.is_some(),
            ..exec(id, command)
        };
        let answer = self.link.call(CALL, Call::Exec(request), streams.into_ends().collect(), None).await?;
        match convert::success(CALL, id.as_str(), answer)? {
            Answer::ExecExited(exited) => Ok(exited.exit_code),
            _ => Err(MonitorError::Protocol { call: CALL }),
        }
    }

    /// Copies between the container's own streams and the given ones until the container ends. Dropping this future
    /// lets go. A client that is not `awaited` is cut off when it falls behind; one that is may attach to a created container
    /// too, and misses nothing.
    pub async fn attach(&self, id: &ContainerId, streams: Streams<OwnedFd>, awaited: bool) -> Result<()> {
        const CALL: &str = "attach to container";
        let request = podmon::Attach {
            container_id: id.to_string(),
            stdin: streams.stdin.is_some(),
            stdout: streams.stdout.is_some(),
            stderr: streams.stderr.is_some(),
            awaited,
        };
        let answer = self.link.call(CALL, Call::Attach(request), streams.into_ends().collect(), None).await?;
        convert::success(CALL, id.as_str(), answer).map(drop)
    }

    /// Sets the window size of the container's own terminal. (An exec's is set on its master.)
    pub async fn resize_terminal(&self, id: &ContainerId, size: WindowSize) -> Result<()> {
        let call = podmon::ResizeTerminal {
            container_id: id.to_string(),
            rows: size.rows.into(),
            columns: size.columns.into(),
        };
        self.done("resize terminal of container", id.as_str(), Call::ResizeTerminal(call), QUICK).await
    }

    /// Opens the container's log file anew. Lines written before are in the old file, later ones in the new.
    pub async fn reopen_log(&self, id: &ContainerId) -> Result<()> {
        let call = podmon::ReopenLog { container_id: id.to_string() };
        self.done("reopen log of container", id.as_str(), Call::ReopenLog(call), QUICK).await
    }

    /// Applies limits (JSON of an OCI `LinuxResources`) to a container, or to the pod's cgroup when `id` is `None`.
    /// Returns those that the node could not set, one sentence each.
    pub async fn update_resources(
        &self,
        id: Option<&ContainerId>,
        resources_json: Vec<u8>,
    ) -> Result<Vec<String>> {
        const CALL: &str = "update resources of container";
        let id = id.map(ContainerId::as_str).unwrap_or_default();
        let call = podmon::UpdateResources { container_id: id.to_owned(), resources_json };
        match self.call(CALL, id, Call::UpdateResources(call), BUILD).await? {
            Answer::Done(done) => Ok(done.degraded),
            _ => Err(MonitorError::Protocol { call: CALL }),
        }
    }

    /// Kills all containers and pause and removes the pod's cgroup. May be repeated.
    pub async fn stop_sandbox(&self) -> Result<()> {
        self.done("stop sandbox", "", Call::StopSandbox(podmon::StopSandbox {}), BUILD).await
    }

    /// Ends the monitor. Refused while the sandbox lives.
    pub async fn shutdown(&self) -> Result<()> {
        self.done("shut down monitor", "", Call::Shutdown(podmon::Shutdown {}), QUICK).await
    }

    async fn done(&self, name: &'static str, object: &str, call: Call, deadline: Duration) -> Result<()> {
        self.call(name, object, call, deadline).await.map(drop)
    }

    async fn call(&self, name: &'static str, object: &str, call: Call, deadline: Duration) -> Result<Answer> {
        checked(&self.link, name, object, call, deadline).await
    }
}

/// Says who asks, and asks for events; returns the monitor's process.
fn paused(started: podmon::SandboxStarted) -> Process {
    told(convert::steps(started.steps));
    Process { pid: started.pid, start_time: started.start_time }
}

async fn greet(link: &Link) -> Result<Process> {
    const CALL: &str = "greet";
    let hello = podmon::Hello { protocol: podmon::PROTOCOL, version: env!("CARGO_PKG_VERSION").into() };
    let hello = checked(link, CALL, "", Call::Hello(hello), QUICK);
    let subscribe = checked(link, "subscribe", "", Call::Subscribe(podmon::Subscribe {}), QUICK);
    let (reply, subscribed) = tokio::join!(biased; hello, subscribe);
    let Answer::Hello(reply) = reply? else { return Err(MonitorError::Protocol { call: CALL }) };
    subscribed?;
    Ok(Process { pid: reply.pid, start_time: reply.start_time })
}

async fn state(link: &Link) -> Result<Snapshot> {
    const CALL: &str = "read the state of the pod";
    match checked(link, CALL, "", Call::GetState(podmon::GetState {}), QUICK).await? {
        Answer::State(state) => convert::snapshot(CALL, state),
        _ => Err(MonitorError::Protocol { call: CALL }),
    }
}

async fn checked(
    link: &Link,
    name: &'static str,
    object: &str,
    call: Call,
    deadline: Duration,
) -> Result<Answer> {
    convert::success(name, object, link.call(name, call, Vec::new(), Some(deadline)).await?)
}

/// A command on no streams yet.
fn exec(id: &ContainerId, command: Command) -> podmon::Exec {
    podmon::Exec {
        container_id: id.to_string(),
        argv: command.argv,
        env: command.env,
        cwd: command.cwd.unwrap_or_default(),
        user: command.user.map(request::user),
        privileged: command.privileged,
        ..Default::default()
    }
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}
