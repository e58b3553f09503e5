//! Building a container: cgroup, streams, clone.

use std::{os::fd::OwnedFd, time::Instant};

use husk_cgroup::{Cgroup, Version};
use husk_model::{ContainerId, Stdio, Streams};
use husk_node::now;
use husk_proto::podmon::{self, PidMode, error::Code};
use husk_runtime::{Account, Ready, spawn_container};

use super::{Container, Phase, TERM};
use crate::{
    attach::Attachments,
    clients::{Answer, Caller},
    core::{Core, Owner, cgroup_target, dup, input_pipe, output_pipe, try_remove},
    fault::{Fault, Outcome, fault, fault_of, os_fault},
    log::{Log, LogPath, Stream},
    plan,
    poll::{Interest, Source},
    sandbox::{Sandbox, pod_files},
    stdio::Output,
};

/// Exit code of a process that SIGKILL ended.
const KILLED: i32 = 137;

impl Container {
    /// Clones the init of a container. The caller is answered when it waits at the gate, or when what was made of it
    /// is gone again.
    pub fn create(
        core: &mut Core,
        sandbox: &Sandbox,
        target: Option<&Container>,
        caller: Caller,
        request: podmon::CreateContainer,
    ) -> Outcome<Self> {
        let id: ContainerId =
            request.container_id.parse().map_err(|error| fault(Code::InvalidArgument, format!("{error}")))?;
        let spec = plan::parse_spec(&request.spec_json)?;
        let no_process = || fault(Code::InvalidArgument, "the spec has no process");
        let spec_process = spec.process().clone().ok_or_else(no_process)?;
        let log = Log::new(log_path(sandbox, &request.log_path)?);
        let target = match (request.pid_mode(), target) {
            (PidMode::Target, Some(container)) if container.is_alive() => Some(dup(&container.pidfd)?),
            _ => None,
        };
        let (sandbox_pidfd, user_namespace) = (dup(sandbox.pidfd()?)?, sandbox.user_namespace()?);
        let user_mappings = user_namespace.as_ref().map(|user| user.mappings);
        let cgroup = core.create_cgroup(&request.cgroup_path)?;
        let undo = |cgroup: &Cgroup, fault: Fault| {
            let _ = cgroup.kill();
            try_remove(cgroup);
            fault
        };
        let degraded = match spec.linux().as_ref().and_then(|linux| linux.resources().as_ref()) {
            Some(resources) => cgroup
                .apply(resources)
                .map_err(|error| undo(&cgroup, fault_of(&error)))?
                .iter()
                .map(ToString::to_string)
                .collect(),
            None => Vec::new(),
        };
        let cgroup_namespace = !request.privileged && core.hierarchy()?.version() == Version::V2;
        let (tty, stdin_once) = (request.tty, request.stdin_once);
        let (stop_signal, seccomp) = (request.stop_signal, plan::seccomp(&request));
        let (cgroup_path, raw_env) = (request.cgroup_path.clone(), request.raw_env.clone());
        let cloned = streams(&request).and_then(|(stdio, ends)| {
            let cgroup = cgroup_target(&cgroup)?;
            let (sandbox, user) = (sandbox_pidfd, user_namespace);
            let pod_files = pod_files(&core.pod_dir);
            let parts =
                plan::Parts { spec, sandbox, user, target, cgroup, cgroup_namespace, pod_files, stdio };
            let child =
                spawn_container(plan::container(request, parts)?).map_err(|error| fault_of(&error))?;
            let pidfd = dup(&child.pidfd)?;
            Ok((child, pidfd, ends))
        });
        let (child, pidfd, ends) = cloned.map_err(|fault| undo(&cgroup, fault))?;
        let key = core.new_key();
        // From here the child must be in the table: it is ours to reap.
        let process = core.adopt(child.pid, Owner::Container(key));
        let mut container = Self {
            key,
            id: id.to_string(),
            phase: Phase::Building,
            process,
            created_at: now(),
            started_at: 0,
            exit: None,
            pidfd,
            child: Some(child),
            failure: None,
            pending: Some(caller),
            cgroup: Some(cgroup),
            cgroup_path,
            cgroup_patience: None,
            degraded,
            spec_process,
            raw_env,
            seccomp,
            account: Account::default(),
            user_mappings,
            lingering: Vec::new(),
            lingering_since: Instant::now(),
            log,
            outputs: [None, None],
            stdin: ends.stdin,
            stdin_once,
            tty,
            attachments: Attachments::default(),
            backlog: Vec::new(),
            backlog_watched: false,
            stop_signal: if stop_signal == 0 { TERM } else { stop_signal },
            stopping: Vec::new(),
            removing: Vec::new(),
        };
        if let Err(fault) = container.watch(core, ends.stdout, ends.stderr) {
            container.fail(core, fault);
        }
        Ok(container)
    }

    fn watch(&mut self, core: &mut Core, stdout: Option<OwnedFd>, stderr: Option<OwnedFd>) -> Outcome<()> {
        if let Some(child) = &self.child {
            self.watch_report(core, child)?;
        }
        self.watch_output(core, stdout, Stream::Stdout)?;
        self.watch_output(core, stderr, Stream::Stderr)
    }

    fn watch_report(&self, core: &Core, child: &husk_runtime::Child) -> Outcome<()> {
        core.poller
            .add(child.report_fd(), Source::InitReport(self.key), Interest::Read)
            .map_err(|error| os_fault("watch init", "", &error))
    }

    fn watch_output(&mut self, core: &mut Core, fd: Option<OwnedFd>, stream: Stream) -> Outcome<()> {
        let Some(fd) = fd else { return Ok(()) };
        let source = match stream {
            Stream::Stdout => Source::InitStdout(self.key),
            Stream::Stderr => Source::InitStderr(self.key),
        };
        let output =
            Output::watch(core, fd, stream, source).map_err(|error| os_fault("watch output", "", &error))?;
        self.outputs[stream as usize] = Some(output);
        Ok(())
    }

    /// Another process has taken over from the one we cloned. That one's end concerns nobody any more.
    pub(super) fn on_moved(&mut self, core: &mut Core) -> Outcome<()> {
        let Some(child) = &self.child else { return Ok(()) };
        self.watch_report(core, child)?;
        core.children.remove(&self.process.pid);
        self.pidfd = dup(&child.pidfd)?;
        self.process = core.adopt(child.pid, Owner::Container(self.key));
        // It may have been killed, and collected as somebody unknown, before we heard of it.
        if husk_sys::pidfd::is_reaped(&self.pidfd).unwrap_or(false) {
            core.children.remove(&self.process.pid);
            self.end(core, KILLED);
        }
        Ok(())
    }

    /// The child waits at the gate.
    pub(super) fn on_ready(&mut self, core: &mut Core, ready: Ready) -> Outcome<()> {
        self.account = ready.account;
        self.degraded.extend(ready.warnings);
        if let Some(terminal) = ready.terminal {
            self.stdin = Some(dup(&terminal)?);
            self.watch_output(core, Some(terminal), Stream::Stdout)?;
        }
        self.phase = Phase::Created;
        self.write_record(core);
        let created = podmon::ContainerCreated {
            pid: self.process.pid,
            start_time: self.process.start_time,
            user: Some(self.user_message()),
            degraded: std::mem::take(&mut self.degraded),
        };
        if let Some(caller) = self.pending.take() {
            core.reply(caller, Ok(Answer::ContainerCreated(created)));
        }
        Ok(())
    }
}

/// The log of a request; none where either half of its path is missing (critest does both).
fn log_path(sandbox: &Sandbox, relative: &str) -> Outcome<Option<LogPath>> {
    if relative.is_empty() || sandbox.log_directory.is_empty() {
        return Ok(None);
    }
    let invalid =
        || Fault { object: relative.into(), ..fault(Code::InvalidArgument, "log path leaves its directory") };
    LogPath::new(&sandbox.log_directory, relative).map(Some).ok_or_else(invalid)
}

/// The child's streams and our ends of them.
fn streams(request: &podmon::CreateContainer) -> Outcome<(Stdio<OwnedFd>, Streams<OwnedFd>)> {
    if request.tty {
        return Ok((Stdio::Terminal(None), Streams::default()));
    }
    let (stdin, our_stdin) = match request.stdin {
        true => input_pipe().map(|(read, write)| (Some(read), Some(write)))?,
        false => (None, None),
    };
    let (our_stdout, stdout) = output_pipe()?;
    let (our_stderr, stderr) = output_pipe()?;
    let stdio = Stdio::Pipes(Streams { stdin, stdout: Some(stdout), stderr: Some(stderr) });
    Ok((stdio, Streams { stdin: our_stdin, stdout: Some(our_stdout), stderr: Some(our_stderr) }))
}
