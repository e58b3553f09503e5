//! Building a container: cgroup, streams, clone.

use std::{os::fd::OwnedFd, time::Duration};

use husk_cgroup::{Cgroup, Version};
use husk_life::init::{Event, InitLife};
use husk_model::{ContainerId, LogLimits, Process, Stdio, Streams};
use husk_node::now;
use husk_proto::podmon::{self, PidMode, error::Code};
use husk_runtime::{Account, Ready, spawn_container};

use super::{
    Container,
    execs::{Execs, Left},
    init::Init,
    input::{Input, Kind},
    output::Output,
};
use crate::{
    attach::Attachments,
    clients::Caller,
    core::{Core, cgroup_target, dup, input_pipe, output_pipe},
    fault::{Fault, Outcome, fault, fault_of, os_fault},
    group::{self, Group},
    life::Lives,
    log::{Log, LogPath, Stream},
    plan,
    poll::Source,
    sandbox::{Sandbox, pod_files},
    steps::Steps,
};

/// How long an exit is held back for its cgroup. A process in uninterruptible sleep may stay far longer.
const CGROUP_PATIENCE: Duration = Duration::from_secs(5);
/// SIGTERM
const TERM: u32 = 15;

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
        let log = Log::new(log_path(sandbox, &request.log_path)?, rotation(&request));
        let target = match (request.pid_mode(), target, request.pid_process) {
            (PidMode::Target, Some(container), _) if container.is_alive() => Some(dup(container.pidfd())?),
            (PidMode::Process, _, Some(process)) => Some(open_process("the target container", process)?),
            _ => None,
        };
        let pause = |process| open_process("the pod whose IPC is shared", process);
        let ipc_of = request.ipc_process.map(pause).transpose()?;
        let (sandbox_pidfd, user_namespace) = (dup(sandbox.pidfd()?)?, sandbox.user_namespace()?);
        let mut steps = Steps::begin("make cgroup");
        let cgroup = core.create_cgroup(&request.cgroup_path)?;
        let undo = |cgroup: &Cgroup, fault: Fault| {
            group::undo(cgroup);
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
        let cgroup_namespace = match request.cgroup_namespace() {
            podmon::CgroupNamespace::Usual => {
                !request.privileged && core.hierarchy()?.version() == Version::V2
            }
            podmon::CgroupNamespace::Own => true,
            podmon::CgroupNamespace::Node => false,
        };
        let (stop_signal, input_kind) = (stop_signal(&request), input_kind(&request));
        let cgroup_path = request.cgroup_path.clone();
        let execs = Execs {
            process: spec_process,
            raw_env: request.raw_env.clone(),
            seccomp: plan::seccomp(&request),
            account: Account::default(),
            user_mappings: user_namespace.as_ref().map(|user| user.mappings.clone()),
            left: Left::default(),
        };
        steps.next("clone init");
        let cloned = streams(&request).and_then(|(stdio, ends)| {
            let cgroup = cgroup_target(&cgroup)?;
            let (sandbox, user) = (sandbox_pidfd, user_namespace);
            let pod_files = pod_files(&core.pod_dir);
            let parts = plan::Parts {
                spec,
                sandbox,
                user,
                target,
                ipc_of,
                cgroup,
                cgroup_namespace,
                pod_files,
                stdio,
            };
            let child =
                spawn_container(plan::container(request, parts)?).map_err(|error| fault_of(&error))?;
            let pidfd = dup(&child.pidfd)?;
            Ok((child, pidfd, ends))
        });
        let (child, pidfd, ends) = cloned.map_err(|fault| undo(&cgroup, fault))?;
        // The child's own work: its root and mounts, what it may do, the seccomp filter.
        steps.next("set up init");
        let key = core.new_key();
        // From here the child must be in the table: it is ours to reap.
        let init = Init::adopt(core, key, child, pidfd);
        let mut container = Self {
            key,
            id: id.to_string(),
            created_at: now(),
            stop_signal,
            degraded,
            steps,
            life: InitLife::new(caller),
            init,
            group: Group::new(cgroup, Source::InitCgroup(key), CGROUP_PATIENCE),
            cgroup_path,
            input: Input::new(key, input_kind, ends.stdin),
            output: Output::new(log),
            execs,
            attachments: Attachments::default(),
        };
        if let Err(fault) = container.watch(core, ends.stdout, ends.stderr) {
            container.fail(core, fault);
        }
        Ok(container)
    }

    fn watch(&mut self, core: &Core, stdout: Option<OwnedFd>, stderr: Option<OwnedFd>) -> Outcome<()> {
        self.init.watch(core, self.key)?;
        for (fd, stream) in [(stdout, Stream::Stdout), (stderr, Stream::Stderr)] {
            if let Some(fd) = fd {
                self.output.watch(core, self.key, fd, stream)?;
            }
        }
        Ok(())
    }

    /// The child waits at the gate.
    pub(super) fn on_ready(&mut self, core: &mut Core, ready: Ready) -> Outcome<()> {
        self.execs.account = ready.account;
        self.degraded.extend(ready.warnings);
        if let Some(terminal) = ready.terminal {
            self.input.set_terminal(dup(&terminal)?);
            self.output.watch(core, self.key, terminal, Stream::Stdout)?;
        }
        self.happen(core, Event::Ready);
        Ok(())
    }
}

/// The log of a request; none where either half of its path is missing (critest does both).
fn log_path(sandbox: &Sandbox, relative: &str) -> Outcome<Option<LogPath>> {
    if relative.is_empty() || sandbox.log_directory().is_empty() {
        return Ok(None);
    }
    let invalid =
        || Fault { object: relative.into(), ..fault(Code::InvalidArgument, "log path leaves its directory") };
    LogPath::new(sandbox.log_directory(), relative).map(Some).ok_or_else(invalid)
}

/// When another file of the log is begun.
fn rotation(request: &podmon::CreateContainer) -> Option<LogLimits> {
    (request.log_max_size != 0)
        .then(|| LogLimits { size: request.log_max_size, files: request.log_max_files.max(1) })
}

/// A process of another pod, which may have ended since it was chosen.
fn open_process(what: &str, process: podmon::Process) -> Outcome<OwnedFd> {
    let process = Process { pid: process.pid, start_time: process.start_time };
    husk_node::process::open(process)
        .map_err(|error| os_fault(format!("open {what}"), format!("process {}", process.pid), &error))
}

fn stop_signal(request: &podmon::CreateContainer) -> u32 {
    if request.stop_signal == 0 { TERM } else { request.stop_signal }
}

fn input_kind(request: &podmon::CreateContainer) -> Kind {
    match (request.tty, request.stdin_once) {
        (true, _) => Kind::Terminal,
        (false, true) => Kind::PipeOnce,
        (false, false) => Kind::Pipe,
    }
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
