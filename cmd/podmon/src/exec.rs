//! Commands run in a container: one clone into its namespaces and a cgroup of its own below the container's.

use std::{
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use husk_cgroup::Cgroup;
use husk_model::{Command, Stdio, Streams, WindowSize};
use husk_proto::podmon::{self, error::Code};
use husk_runtime::{Child, Report, spawn_exec};
use rustix::{io::Errno, process::WaitStatus};

use crate::{
    clients::{Answer, Caller},
    container::Container,
    core::{Core, Owner, cgroup_target, output_pipe},
    fault::{Fault, Outcome, fault, fault_of, fault_of_failure, os_fault},
    group::{self, Group, next_look},
    log::Stream,
    plan,
    poll::{Interest, Key, Source},
    record::exit_code,
};

/// Cap of each captured stream (CVE-2022-31030: a probe must not fill the node's memory).
const OUTPUT_LIMIT: u64 = 16 << 20;
/// How long output is waited for after the command ended: a child that it left in the background may hold the pipe.
const DRAIN: Duration = Duration::from_millis(250);
/// Exit code of a process that SIGKILL ended.
const KILLED: i32 = 137;
/// How long the answer to a timed-out exec waits for its killed processes to be gone.
const KILL_PATIENCE: Duration = Duration::from_secs(2);
/// Reads per event, and at the end of a command: what its pipe can hold at most (pipe-max-size, 1 MiB). A background
/// process may fill it for ever.
const BURST: usize = 64;

/// A command in flight.
#[derive(Debug)]
pub struct Exec {
    pub key: Key,
    pub container: Key,
    pub caller: Caller,
    child: Option<Child>,
    group: Group,
    capture: bool,
    outputs: [Captured; 2],
    /// Client's socket that wants the terminal.
    terminal_for: Option<OwnedFd>,
    failure: Option<Fault>,
    /// Of its process that ended.
    exit_code: Option<i32>,
    /// Of its process, until that is reaped; another one after it has moved.
    pid: u32,
    /// Its time ran out, or its caller went away: it was killed.
    killed: Option<Killed>,
}

#[derive(Debug, Clone, Copy)]
struct Killed {
    at: Instant,
    timed_out: bool,
}

#[derive(Debug, Default)]
struct Captured {
    fd: Option<OwnedFd>,
    bytes: Vec<u8>,
    limit: usize,
    truncated: bool,
}

/// What a client asked for.
pub struct Request {
    pub command: Command,
    pub stdio: Stdio<OwnedFd>,
    pub timeout: Duration,
}

/// Of a terminal; no size is 0 × 0.
fn window(request: &podmon::Exec) -> Option<WindowSize> {
    let side = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
    let size = WindowSize { columns: side(request.columns), rows: side(request.rows) };
    (size.columns != 0 || size.rows != 0).then_some(size)
}

impl Exec {
    /// ExecSync.
    pub fn capture(
        core: &mut Core,
        container: &Container,
        caller: Caller,
        request: podmon::ExecSync,
    ) -> Outcome<Self> {
        let limit =
            if request.output_limit == 0 { OUTPUT_LIMIT } else { request.output_limit.min(OUTPUT_LIMIT) };
        let (our_stdout, stdout) = output_pipe()?;
        let (our_stderr, stderr) = output_pipe()?;
        let stdio = Stdio::Pipes(Streams { stdin: None, stdout: Some(stdout), stderr: Some(stderr) });
        let timeout = Duration::from_millis(request.timeout_ms);
        let mut exec =
            Self::spawn(core, container, caller, Request { command: request.argv.into(), stdio, timeout })?;
        exec.capture = true;
        for (stream, fd) in [(Stream::Stdout, our_stdout), (Stream::Stderr, our_stderr)] {
            let watched = core.poller.add(&fd, exec.source(stream), Interest::Read);
            exec.outputs[stream as usize] =
                Captured { fd: Some(fd), bytes: Vec::new(), limit: limit as usize, truncated: false };
            if let Err(error) = watched {
                exec.fail(core, os_fault("watch output", "", &error));
            }
        }
        Ok(exec)
    }

    /// Exec on the client's own descriptors, which the command gets as they are: no byte passes through here. For a
    /// terminal the client hands over a socket, through which it is sent the master.
    pub fn stream(
        core: &mut Core,
        container: &Container,
        caller: Caller,
        request: podmon::Exec,
        fds: Vec<OwnedFd>,
    ) -> Outcome<Self> {
        let mut fds = fds.into_iter();
        let mut next = |wanted: bool| if wanted { fds.next() } else { None };
        let mut terminal_for = None;
        let stdio = if request.terminal {
            terminal_for = next(true);
            Stdio::Terminal(window(&request))
        } else {
            Stdio::Pipes(Streams {
                stdin: next(request.stdin),
                stdout: next(request.stdout),
                stderr: next(request.stderr),
            })
        };
        let command = Command {
            argv: request.argv,
            env: request.env,
            cwd: (!request.cwd.is_empty()).then_some(request.cwd),
            user: request.user.map(plan::user),
            privileged: request.privileged,
        };
        let request = Request { command, stdio, timeout: Duration::ZERO };
        let mut exec = Self::spawn(core, container, caller, request)?;
        exec.terminal_for = terminal_for;
        Ok(exec)
    }

    fn spawn(core: &mut Core, container: &Container, caller: Caller, request: Request) -> Outcome<Self> {
        container.require_running()?;
        if request.command.argv.is_empty() {
            return Err(fault(Code::InvalidArgument, "the command is empty"));
        }
        let key = core.new_key();
        let parent = container.cgroup().ok_or_else(|| fault(Code::FailedPrecondition, "no cgroup"))?;
        let cgroup = parent.sub(&format!("exec-{key}")).map_err(|error| fault_of(&error))?;
        let cloned = cgroup_target(&cgroup)
            .and_then(|target| container.exec_plan(request.command, request.stdio, target))
            .and_then(|plan| spawn_exec(plan).map_err(|error| fault_of(&error)));
        let child = match cloned {
            Ok(child) => child,
            Err(fault) => {
                group::undo(&cgroup);
                return Err(fault);
            }
        };
        let pid = child.pid;
        core.adopt(pid, Owner::Exec(key));
        let watched = core.poller.add(child.report_fd(), Source::ExecReport(key), Interest::Read);
        if !request.timeout.is_zero()
            && let Some(at) = Instant::now().checked_add(request.timeout)
        {
            core.poller.set_deadline(Source::ExecTimeout(key), at);
        }
        let mut exec = Self {
            key,
            container: container.key(),
            caller,
            child: Some(child),
            group: Group::new(cgroup, Source::ExecCgroup(key), KILL_PATIENCE),
            capture: false,
            outputs: Default::default(),
            terminal_for: None,
            failure: None,
            exit_code: None,
            pid,
            killed: None,
        };
        if let Err(error) = watched {
            exec.fail(core, os_fault("watch exec", "", &error));
        }
        Ok(exec)
    }

    fn source(&self, stream: Stream) -> Source {
        match stream {
            Stream::Stdout => Source::ExecStdout(self.key),
            Stream::Stderr => Source::ExecStderr(self.key),
        }
    }

    /// The child said something.
    pub fn on_report(&mut self, core: &mut Core) {
        while let Some(child) = &mut self.child {
            match child.read_report() {
                Ok(None) => return,
                Ok(Some(Report::Ready(ready))) => {
                    if let (Some(socket), Some(terminal)) = (self.terminal_for.take(), ready.terminal) {
                        hand_over(&socket, &terminal);
                    }
                }
                // Only a container without a pod is.
                Ok(Some(Report::Prepared | Report::Listener(_))) => {}
                Ok(Some(Report::Executed)) => self.unlink(core),
                Ok(Some(Report::Moved { former })) => {
                    core.poller.remove(&former);
                    self.on_moved(core);
                }
                Ok(Some(Report::Failed(failure))) => self.fail(core, fault_of_failure(failure)),
                Err(error) => self.fail(core, fault_of(&error)),
            }
        }
    }

    /// The process that runs the command has taken over from the one we cloned, whose end concerns nobody any more.
    fn on_moved(&mut self, core: &mut Core) {
        let Some(child) = &self.child else { return };
        let watched = core.poller.add(child.report_fd(), Source::ExecReport(self.key), Interest::Read);
        core.children.remove(&self.pid);
        self.pid = child.pid;
        core.adopt(self.pid, Owner::Exec(self.key));
        // It may have been killed, and collected as somebody unknown, before we heard of it.
        if husk_sys::pidfd::is_reaped(&child.pidfd).unwrap_or(false) {
            core.children.remove(&self.pid);
            self.end(core, KILLED);
        } else if let Err(error) = watched {
            self.fail(core, os_fault("watch exec", "", &error));
        }
    }

    fn fail(&mut self, core: &mut Core, fault: Fault) {
        self.failure.get_or_insert(fault);
        self.unlink(core);
        self.group.kill(core);
    }

    fn unlink(&mut self, core: &mut Core) {
        if let Some(child) = self.child.take() {
            core.poller.remove(child.report_fd());
        }
    }

    /// Goes on with a kill of its cgroup that is under way; false when none is.
    pub fn kill_on(&mut self, core: &mut Core) -> bool {
        self.group.kill_on(core)
    }

    /// Kills the command with everything that it started.
    pub fn kill(&mut self, core: &mut Core, timed_out: bool) {
        if self.killed.is_none() {
            self.killed = Some(Killed { at: Instant::now(), timed_out });
            core.poller.clear_deadline(Source::ExecTimeout(self.key));
        }
        self.group.kill(core);
    }

    /// Reads a stream; what exceeds the limit is read and dropped, so that the command is not held up.
    pub fn on_output(&mut self, core: &mut Core, stream: Stream) {
        let captured = &mut self.outputs[stream as usize];
        for _ in 0..BURST {
            let Some(fd) = &captured.fd else { return };
            match rustix::io::read(fd, &mut core.scratch[..]) {
                Ok(count) if count > 0 => {
                    let room = captured.limit - captured.bytes.len();
                    captured.bytes.extend_from_slice(&core.scratch[..count.min(room)]);
                    captured.truncated |= count > room;
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                Ok(_) | Err(_) => {
                    core.poller.remove(fd);
                    captured.fd = None;
                }
            }
        }
    }

    /// A process of it was reaped: the command itself, or the one from which that has just taken over.
    pub fn on_reaped(&mut self, core: &mut Core, pid: u32, status: WaitStatus) {
        self.on_report(core);
        if self.pid == pid {
            self.end(core, exit_code(status));
        }
    }

    fn end(&mut self, core: &mut Core, exit_code: i32) {
        self.unlink(core);
        self.exit_code = Some(exit_code);
        core.poller.clear_deadline(Source::ExecTimeout(self.key));
        self.on_output(core, Stream::Stdout);
        self.on_output(core, Stream::Stderr);
        core.poller.set_deadline(Source::ExecDrain(self.key), Instant::now() + DRAIN);
    }

    /// Answers if everything is there; true when the exec is over. `late`: its output is waited for no longer.
    pub fn try_finish(&mut self, core: &mut Core, late: bool) -> bool {
        let Some(exit_code) = self.exit_code else { return false };
        if let Some(killed) = self.killed {
            let gone = self.group.try_remove(core);
            if !gone && killed.at.elapsed() < KILL_PATIENCE {
                self.group.kill(core);
                let retry = next_look(killed.at.elapsed());
                core.poller.set_deadline(Source::ExecDrain(self.key), Instant::now() + retry);
                return false;
            }
        } else if !late && self.outputs.iter().any(|captured| captured.fd.is_some()) {
            return false;
        }
        let answer = self.answer(exit_code);
        core.reply(self.caller, answer);
        core.poller.clear_deadline(Source::ExecDrain(self.key));
        for captured in &mut self.outputs {
            if let Some(fd) = captured.fd.take() {
                core.poller.remove(&fd);
            }
        }
        true
    }

    fn answer(&mut self, exit_code: i32) -> Outcome<Answer> {
        let timed_out = self.killed.is_some_and(|killed| killed.timed_out);
        // One that was killed before it was set up (in a frozen container it never is) failed by its time alone.
        if let Some(failure) = self.failure.take().filter(|_| !timed_out) {
            return Err(failure);
        }
        if !self.capture {
            return Ok(Answer::ExecExited(podmon::ExecExited { exit_code }));
        }
        let [stdout, stderr] = &mut self.outputs;
        Ok(Answer::ExecOutput(podmon::ExecOutput {
            exit_code,
            stdout: std::mem::take(&mut stdout.bytes),
            stderr: std::mem::take(&mut stderr.bytes),
            timed_out,
            stdout_truncated: stdout.truncated,
            stderr_truncated: stderr.truncated,
        }))
    }

    /// Its cgroup, if a background process keeps it from being removed.
    pub fn into_lingering(self, core: &Core) -> Option<Cgroup> {
        self.group.into_rest(core)
    }
}

/// Sends a terminal's master to the client. A client that is gone closed its end, which ends the command by SIGHUP
/// when the last copy of the master is closed, here and now.
fn hand_over(socket: &OwnedFd, terminal: &OwnedFd) {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    use std::{io::IoSlice, mem::MaybeUninit, os::fd::AsFd};
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = [terminal.as_fd()];
    if ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let _ = sendmsg(socket, &[IoSlice::new(b"t")], &mut ancillary, flags);
    }
}
