//! The pod itself: its cgroup and its pause process.

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Instant,
};

use husk_cgroup::Cgroup;
use husk_model::{
    Exit, ExitReason, IdMapping, IdMappings, InvalidSysctl, Process, SandboxRecord, SeLinuxContexts,
    SeccompFilter, Sysctl, UnixNanos,
};
use husk_node::now;
use husk_proto::podmon::{self, error::Code, event};
use husk_runtime::{Child, NetNs, Report, SandboxNamespaces, SandboxPlan, UserNamespace, spawn_sandbox};
use oci_spec::runtime::LinuxResources;
use rustix::process::{Signal, WaitStatus};

use crate::{
    clients::{Answer, Caller},
    core::{Core, Owner, cgroup_target, dup, next_look, try_remove},
    fault::{Fault, Outcome, describe, fault, fault_of, fault_of_failure, os_fault},
    journal,
    poll::{Interest, Source},
    record, setup,
};

/// A sandbox that was asked for, from then on.
#[derive(Debug)]
pub struct Sandbox {
    /// Of the whole pod.
    cgroup: Option<Cgroup>,
    /// Where the containers' logs are.
    pub log_directory: String,
    user: Option<UserNamespace>,
    phase: Phase,
    process: Process,
    started_at: UnixNanos,
    exit: Option<Exit>,
    stopped: bool,
    /// Since when nothing but its cgroup is waited for.
    ending_since: Option<Instant>,
    /// StopSandbox calls.
    waiting: Vec<Caller>,
    /// Why pause ended before ReleaseSandbox, which is told.
    stillborn: Option<Fault>,
}

#[derive(Debug)]
enum Phase {
    /// Pause was cloned and has not executed yet. A failure that it reported is answered once it is reaped.
    Starting {
        /// With a user namespace there is nobody to answer between RunSandbox and ReleaseSandbox.
        caller: Option<Caller>,
        child: Child,
        failure: Option<Fault>,
    },
    Running {
        pidfd: OwnedFd,
    },
    /// Pause ended; nothing can be run in this pod any more.
    Ended,
}

impl Sandbox {
    /// Makes the pod's cgroup and clones pause; the caller is answered when it runs, or at once where its network is still
    /// to be set up.
    pub fn run(core: &mut Core, pause: &Path, caller: Caller, request: podmon::RunSandbox) -> Outcome<Self> {
        let mappings = mappings(&request)?;
        let cgroup = core.create_cgroup(&request.cgroup_path)?;
        // Without the mark a group that loses its pod is left alone instead of removed: no reason to fail.
        if let Err(error) = setup::mark(&core.pod_dir).and_then(|mark| Ok(cgroup.mark(&mark)?)) {
            journal!("mark the pod's cgroup: {error}");
        }
        let log_directory = request.log_directory.clone();
        let owns_network = request.new_netns;
        let cloned = apply_json(&cgroup, &request.resources_json)
            .and_then(|_| cgroup.path().join("pause").map_err(|error| fault_of(&error)))
            .and_then(|path| core.create_cgroup(path.as_str()))
            .and_then(|pause_cgroup| plan(&pause_cgroup, pause, &core.pod_dir, mappings, request))
            .and_then(|plan| spawn_sandbox(plan).map_err(|error| fault_of(&error)))
            .and_then(|child| watch(core, &child).map(|()| child))
            .and_then(|child| {
                let open = |mappings| -> Outcome<_> {
                    let fd = child.user_namespace().map_err(|error| fault_of(&error))?;
                    Ok(UserNamespace { fd, mappings, owns_network })
                };
                let user = mappings.map(open).transpose()?;
                Ok((child, user))
            });
        let (child, user) = match cloned {
            Ok(cloned) => cloned,
            Err(fault) => {
                let _ = cgroup.kill();
                try_remove(&cgroup);
                return Err(fault);
            }
        };
        let process = core.adopt(child.pid, Owner::Sandbox);
        let mut caller = Some(caller);
        if user.is_some() {
            let born = podmon::SandboxStarted { pid: process.pid, start_time: process.start_time };
            caller.take().into_iter().for_each(|caller| {
                core.reply(caller, Ok(Answer::SandboxStarted(born)));
            });
        }
        Ok(Self {
            cgroup: Some(cgroup),
            log_directory,
            user,
            phase: Phase::Starting { caller, child, failure: None },
            process,
            started_at: 0,
            exit: None,
            stopped: false,
            ending_since: None,
            waiting: Vec::new(),
            stillborn: None,
        })
    }

    /// ReleaseSandbox: opens the gate; the caller is answered when pause runs.
    pub fn release(&mut self, released_by: Caller) -> Outcome<()> {
        if let Some(fault) = self.stillborn.take() {
            return Err(fault);
        }
        match &mut self.phase {
            Phase::Starting { caller: caller @ None, child, failure } => {
                *caller = Some(released_by);
                if let Err(error) = child.open_gate() {
                    // It died at the gate; what it said, or its end, is the story.
                    failure.get_or_insert(os_fault("open gate", "", &error));
                }
                Ok(())
            }
            _ => Err(fault(Code::FailedPrecondition, "the sandbox waits for nothing")),
        }
    }

    /// The pod's user namespace, for a container of it.
    pub fn user_namespace(&self) -> Outcome<Option<UserNamespace>> {
        let Some(user) = &self.user else { return Ok(None) };
        let (fd, mappings) = (dup(&user.fd)?, user.mappings.clone());
        Ok(Some(UserNamespace { fd, mappings, owns_network: user.owns_network }))
    }

    /// pidfd of pause, while containers can join it.
    pub fn pidfd(&self) -> Outcome<&OwnedFd> {
        match &self.phase {
            Phase::Running { pidfd } if !self.stopped => Ok(pidfd),
            _ => Err(fault(Code::FailedPrecondition, "the sandbox is not running")),
        }
    }

    /// The pod's cgroup, until it is removed.
    pub fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.as_ref()
    }

    /// Pause said something.
    pub fn on_report(&mut self, core: &mut Core) {
        // Its first word is the reason; after that comes only its end.
        let Phase::Starting { child, failure: failure @ None, .. } = &mut self.phase else { return };
        match child.read_report() {
            Ok(Some(Report::Failed(reported))) => {
                *failure = Some(fault_of_failure(reported));
                core.poller.remove(child.report_fd());
            }
            Ok(Some(Report::Executed)) => {
                core.poller.remove(child.report_fd());
                self.started(core);
            }
            Ok(Some(Report::Ready(_) | Report::Moved { .. }) | None) => {}
            Err(error) => {
                *failure = Some(fault_of(&error));
                core.poller.remove(child.report_fd());
                self.kill();
            }
        }
    }

    fn started(&mut self, core: &mut Core) {
        if !matches!(self.phase, Phase::Starting { .. }) {
            return;
        }
        let Phase::Starting { caller, child, .. } = std::mem::replace(&mut self.phase, Phase::Ended) else {
            return;
        };
        let Child { pidfd, .. } = child;
        self.phase = Phase::Running { pidfd };
        self.started_at = now();
        self.write_record(core);
        let started = podmon::SandboxStarted { pid: self.process.pid, start_time: self.process.start_time };
        if let Some(caller) = caller {
            core.reply(caller, Ok(Answer::SandboxStarted(started)));
        }
    }

    /// Pause was reaped. False when it never ran, and the sandbox is to be forgotten.
    pub fn on_reaped(&mut self, core: &mut Core, status: WaitStatus) -> bool {
        self.on_report(core);
        if let Phase::Starting { caller, failure, .. } = &mut self.phase {
            let died =
                || fault(Code::Internal, format!("pause ended with code {}", record::exit_code(status)));
            let (caller, fault) = (*caller, failure.take().unwrap_or_else(died));
            if let Some(cgroup) = self.cgroup.take() {
                // Pause was its only process.
                let _ = cgroup.kill();
                try_remove(&cgroup);
            }
            let released = caller.is_some();
            match caller {
                Some(caller) => core.reply(caller, Err(fault)),
                None => self.stillborn = Some(fault),
            }
            self.phase = Phase::Ended;
            // A stop came before pause ran: there is nothing left to stop.
            for caller in self.waiting.drain(..) {
                core.reply(caller, Ok(Answer::Done(podmon::Done::default())));
            }
            return !released;
        }
        self.phase = Phase::Ended;
        let code = record::exit_code(status);
        let reason = if code == 0 { ExitReason::Completed } else { ExitReason::Error };
        let exit = Exit { code, finished_at: now(), reason, message: String::new() };
        let event = event::Event::SandboxExited(record::to_proto(&exit));
        self.exit = Some(exit);
        self.write_record(core);
        core.publish(event);
        true
    }

    /// StopSandbox: everything in the pod dies; the caller is answered when its cgroup is gone.
    pub fn stop(&mut self, core: &mut Core, caller: Caller) {
        self.waiting.push(caller);
        if !self.stopped {
            self.stopped = true;
            self.write_record(core);
        }
        self.kill();
    }

    fn kill(&self) {
        if let Some(cgroup) = &self.cgroup
            && let Err(error) = cgroup.kill()
        {
            journal!("kill the pod's cgroup: {}", describe(&fault_of(&error)));
        }
        // Where the cgroup could not be killed, at least pause goes.
        let pidfd = match &self.phase {
            Phase::Starting { child, .. } => &child.pidfd,
            Phase::Running { pidfd } => pidfd,
            Phase::Ended => return,
        };
        let _ = rustix::process::pidfd_send_signal(pidfd, Signal::KILL);
    }

    /// Completes a stop when nothing of the pod lives any more. Called after everything that ended.
    pub fn check_stopped(&mut self, core: &mut Core, containers_alive: bool) {
        if !self.stopped || containers_alive || !matches!(self.phase, Phase::Ended) {
            return;
        }
        if let Some(cgroup) = &self.cgroup {
            if !try_remove(cgroup) {
                let _ = cgroup.kill();
                let since = *self.ending_since.get_or_insert_with(Instant::now);
                core.poller.set_deadline(Source::PauseCgroup(0), Instant::now() + next_look(since.elapsed()));
                return;
            }
            self.cgroup = None;
        }
        for caller in self.waiting.drain(..) {
            core.reply(caller, Ok(Answer::Done(podmon::Done::default())));
        }
    }

    /// Whether the monitor may end.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Ended) && self.cgroup.is_none()
    }

    pub fn is_starting(&self) -> bool {
        matches!(self.phase, Phase::Starting { .. })
    }

    pub fn state(&self) -> podmon::SandboxState {
        podmon::SandboxState {
            pid: self.process.pid,
            start_time: self.process.start_time,
            started_at: self.started_at,
            exit: self.exit.as_ref().map(record::to_proto),
            stopped: self.stopped,
        }
    }

    /// Writes down what is known of it, and again a while later when the disk is full.
    pub fn write_record(&self, core: &mut Core) {
        let record = SandboxRecord {
            process: self.process,
            started_at: self.started_at,
            exit: self.exit.clone(),
            stopped: self.stopped,
        };
        if let Err(error) = record::write(&core.pod_dir, "sandbox.json", &record) {
            journal!("write sandbox.json: {error}");
            core.poller.set_deadline(Source::PauseRecord(0), Instant::now() + record::RETRY);
        }
    }
}

fn watch(core: &Core, child: &Child) -> Outcome<()> {
    core.poller
        .add(child.report_fd(), Source::PauseReport(0), Interest::Read)
        .map_err(|error| os_fault("watch pause", "", &error))
}

/// Applies limits given as JSON; returns those that the node could not set.
pub fn apply_json(cgroup: &Cgroup, json: &[u8]) -> Outcome<Vec<String>> {
    if json.is_empty() {
        return Ok(Vec::new());
    }
    let resources: LinuxResources = serde_json::from_slice(json).map_err(|error| Fault {
        detail: error.to_string(),
        ..fault(Code::InvalidArgument, "parse resources")
    })?;
    let degraded = cgroup.apply(&resources).map_err(|error| fault_of(&error))?;
    Ok(degraded.iter().map(ToString::to_string).collect())
}

fn sysctl(message: podmon::Sysctl) -> Outcome<(Sysctl, String)> {
    let invalid = |error: InvalidSysctl| Fault {
        object: message.name.clone(),
        detail: error.to_string(),
        ..fault(Code::InvalidArgument, "set sysctl")
    };
    Ok((message.name.parse().map_err(invalid)?, message.value))
}

/// The user namespace of a request, if it wants one.
fn mappings(request: &podmon::RunSandbox) -> Outcome<Option<IdMappings>> {
    let mapping = |m: &podmon::IdMapping| IdMapping {
        container_id: m.container_id,
        host_id: m.host_id,
        length: m.length,
    };
    match (request.uid_mappings.as_slice(), request.gid_mappings.as_slice()) {
        ([], []) => Ok(None),
        ([uids], [gids]) => Ok(Some(IdMappings { uids: mapping(uids), gids: mapping(gids) })),
        _ => Err(fault(Code::InvalidArgument, "a user namespace has one range of users and one of groups")),
    }
}

/// Files that huskd writes for a pod before its pause goes on, and of which the pod's containers see copies.
const FILES: [&str; 3] = ["hostname", "hosts", "resolv.conf"];

/// Where they are on the node: the sources of their mounts.
pub fn pod_files(pod_dir: &Path) -> Vec<PathBuf> {
    FILES.iter().map(|name| pod_dir.join(name)).collect()
}

fn plan(
    cgroup: &Cgroup,
    pause: &Path,
    pod_dir: &Path,
    user: Option<IdMappings>,
    request: podmon::RunSandbox,
) -> Outcome<SandboxPlan> {
    let net = match request.netns_path.as_str() {
        _ if request.new_netns => NetNs::New,
        "" => NetNs::Host,
        path => NetNs::Path(path.into()),
    };
    Ok(SandboxPlan {
        hostname: request.hostname,
        sysctls: request.sysctls.into_iter().map(sysctl).collect::<Outcome<_>>()?,
        namespaces: SandboxNamespaces {
            net,
            pid: request.own_pid,
            ipc: request.own_ipc,
            uts: request.own_uts,
            user,
        },
        cgroup: cgroup_target(cgroup)?,
        // Containers that share the pod's PID namespace see /proc/1/exe: not the node's file (CVE-2019-5736).
        pause: husk_sys::program::sealed_copy(pause).map_err(|error| fault_of(&error))?,
        shm_size: request.shm_size,
        files: pod_files(pod_dir),
        oom_score_adj: request.oom_score_adj,
        seccomp: (!request.seccomp.is_empty())
            .then_some(SeccompFilter { program: request.seccomp, flags: 0 }),
        selinux: (!request.selinux_process.is_empty())
            .then_some(SeLinuxContexts { process: request.selinux_process, mount: request.selinux_mount }),
    })
}
