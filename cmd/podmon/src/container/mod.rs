//! A container from its clone to its end.
//!
//! ```text
//! Building ── Ready ──▶ Created ── StartContainer ──▶ Starting ── Executed ──▶ Running
//!    │ Failed              │                              │ Failed                │
//!    └─────────────────────┴────────── init reaped ───────┴───────────────────────┘
//!                                           ▼
//!   Draining: the rest of the cgroup is killed, output is read to its end (or DRAIN)
//!   Removing: exit recorded on disk, cgroup removed (or CGROUP_PATIENCE)
//!   Exited:   event pushed, callers answered          (Discarded, if it was never built)
//! ```
//!
//! [`create`] builds it, [`end`] is the lower half, [`input`] its stdin; this file holds the calls on a living one.

mod create;
mod end;
mod input;

use std::{
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use husk_cgroup::Cgroup;
use husk_model::{ContainerRecord, Exit, IdMappings, Process, SeccompFilter, UnixNanos};
use husk_node::now;
use husk_proto::podmon::{self, error::Code, event};
use husk_runtime::{Account, Child, Report};

use crate::{
    attach::Attachments,
    clients::{Answer, Caller},
    core::Core,
    fault::{Fault, Outcome, describe, fault, fault_of, fault_of_failure, os_fault},
    journal,
    log::{Log, Stream},
    poll::{Key, Source},
    record,
    stdio::Output,
};

/// A container.
#[derive(Debug)]
pub struct Container {
    pub key: Key,
    pub id: String,
    pub phase: Phase,
    process: Process,
    created_at: UnixNanos,
    started_at: UnixNanos,
    exit: Option<Exit>,
    /// The link to its init until the command is executed.
    child: Option<Child>,
    /// What the child reported; answered once it is reaped.
    failure: Option<Fault>,
    /// The CreateContainer or StartContainer call in flight.
    pending: Option<Caller>,
    pub pidfd: OwnedFd,
    pub cgroup: Option<Cgroup>,
    cgroup_path: String,
    /// Until when an exit is held back for the cgroup.
    cgroup_patience: Option<Instant>,
    degraded: Vec<String>,
    /// For execs.
    pub spec_process: oci_spec::runtime::Process,
    pub raw_env: Vec<Vec<u8>>,
    pub seccomp: Option<SeccompFilter>,
    pub account: Account,
    /// Of its user namespace.
    pub user_mappings: Option<IdMappings>,
    /// Sub-cgroups of execs that left background processes.
    lingering: Vec<Cgroup>,
    lingering_since: Instant,
    log: Log,
    outputs: [Option<Output>; 2],
    /// Write end of its stdin, or its terminal.
    pub stdin: Option<OwnedFd>,
    pub stdin_once: bool,
    pub tty: bool,
    pub attachments: Attachments,
    /// Input that the container has not taken yet, and whether room for it is waited for.
    backlog: Vec<u8>,
    backlog_watched: bool,
    stop_signal: u32,
    /// StopContainer and RemoveContainer calls that wait for the end.
    stopping: Vec<Caller>,
    removing: Vec<Caller>,
}

/// SIGKILL
const KILL: u32 = 9;
/// SIGTERM
const TERM: u32 = 15;

/// Where it is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Building,
    Created,
    Starting,
    Running,
    Draining,
    Removing,
    Exited,
    Discarded,
}

impl Container {
    /// Its init lives, as far as anybody knows.
    pub fn is_alive(&self) -> bool {
        matches!(self.phase, Phase::Building | Phase::Created | Phase::Starting | Phase::Running)
    }

    /// Something of it is still to come: an answer, an event, a cgroup to remove.
    pub fn is_ending_or_alive(&self) -> bool {
        self.is_alive() || matches!(self.phase, Phase::Draining | Phase::Removing)
    }

    /// It was made: before that, nobody but the creating call knows it.
    pub fn is_built(&self) -> bool {
        !matches!(self.phase, Phase::Building | Phase::Discarded)
    }

    /// Refuses what only a running container can do.
    pub fn require_running(&self) -> Outcome<()> {
        match self.phase {
            Phase::Running => Ok(()),
            phase => {
                Err(fault(Code::FailedPrecondition, format!("container is not running but {}", phase.name())))
            }
        }
    }

    /// The child said something.
    pub fn on_report(&mut self, core: &mut Core) {
        while let Some(child) = &mut self.child {
            match child.read_report() {
                Ok(None) => return,
                Ok(Some(Report::Ready(ready))) => {
                    if let Err(fault) = self.on_ready(core, ready) {
                        self.fail(core, fault);
                    }
                }
                Ok(Some(Report::Moved { former })) => {
                    core.poller.remove(&former);
                    if let Err(fault) = self.on_moved(core) {
                        self.fail(core, fault);
                    }
                }
                Ok(Some(Report::Executed)) => self.on_executed(core),
                Ok(Some(Report::Failed(failure))) => self.fail(core, fault_of_failure(failure)),
                Err(error) => self.fail(core, fault_of(&error)),
            }
        }
    }

    /// Opens the gate. The caller is answered when the command runs, or when it is known why it does not.
    pub fn start(&mut self, caller: Caller) -> Outcome<()> {
        if self.phase != Phase::Created {
            let text = format!("container is not created but {}", self.phase.name());
            return Err(fault(Code::FailedPrecondition, text));
        }
        let path = self.log.path().unwrap_or_default();
        self.log.open().map_err(|error| os_fault("open log", path.to_string_lossy(), &error))?;
        self.started_at = now();
        self.phase = Phase::Starting;
        self.pending = Some(caller);
        if let Some(child) = &mut self.child
            && let Err(error) = child.open_gate()
        {
            // It died at the gate; its pidfd has the rest of the story.
            self.failure.get_or_insert(os_fault("open gate", "", &error));
        }
        Ok(())
    }

    fn on_executed(&mut self, core: &mut Core) {
        self.unlink(core);
        self.phase = Phase::Running;
        self.write_record(core);
        let started = podmon::ContainerStarted { container_id: self.id.clone(), started_at: self.started_at };
        if let Some(caller) = self.pending.take() {
            core.reply(caller, Ok(Answer::ContainerStarted(started.clone())));
        }
        core.publish(event::Event::ContainerStarted(started));
    }

    /// Notes why the child gives up and makes sure that it does. The caller is answered when it is reaped.
    fn fail(&mut self, core: &mut Core, fault: Fault) {
        self.failure.get_or_insert(fault);
        self.unlink(core);
        self.kill();
    }

    fn unlink(&mut self, core: &mut Core) {
        if let Some(child) = self.child.take() {
            core.poller.remove(child.report_fd());
        }
    }

    /// Output arrived on a stream.
    pub fn on_output(&mut self, core: &mut Core, stream: Stream) {
        self.pump(core, stream, false);
        if self.phase == Phase::Draining {
            self.advance(core);
        }
    }

    fn pump(&mut self, core: &mut Core, stream: Stream, all: bool) {
        let slot = &mut self.outputs[stream as usize];
        if let Some(output) = slot
            && !output.pump(core, &mut self.log, &mut self.attachments, all)
            && let Some(output) = slot.take()
        {
            output.close(core, &mut self.log);
        }
    }

    /// Signals its init; one that has ended is not there to be signalled.
    pub fn signal(&self, number: u32) -> Outcome<()> {
        husk_sys::send::signal(&self.pidfd, number)
            .map_err(|error| os_fault("send signal", number.to_string(), &error))
    }

    /// SIGKILL to everything in its cgroup.
    pub fn kill(&self) {
        let killed = self.cgroup.as_ref().map_or(Ok(()), Cgroup::kill);
        if let Err(error) = killed {
            journal!("kill {}: {}", self.id, describe(&fault_of(&error)));
        }
        // SIGKILL to a child of ours is never refused.
        let _ = self.signal(KILL);
    }

    /// StopContainer. Of concurrent stops the earliest deadline counts (as in CRI-O): a caller who wants it gone sooner
    /// must not be held up by one who wanted to wait.
    pub fn stop(&mut self, core: &mut Core, caller: Caller, signal: u32, timeout: Duration) -> Outcome<()> {
        if self.phase == Phase::Exited {
            core.reply(caller, Ok(Answer::ContainerExited(self.exited())));
            return Ok(());
        }
        let number = if signal == 0 { self.stop_signal } else { signal };
        let grace = Source::InitGrace(self.key);
        if self.is_alive() {
            if timeout.is_zero() || self.phase != Phase::Running {
                core.poller.clear_deadline(grace);
                self.kill();
            } else {
                self.signal(number)?;
                self.set_grace(core, timeout);
            }
        }
        self.stopping.push(caller);
        Ok(())
    }

    fn set_grace(&self, core: &mut Core, timeout: Duration) {
        let grace = Source::InitGrace(self.key);
        let deadline = Instant::now().checked_add(timeout);
        let earlier = match (core.poller.deadline(grace), deadline) {
            (Some(set), Some(wanted)) => Some(set.min(wanted)),
            (set, wanted) => set.or(wanted),
        };
        if let Some(at) = earlier {
            core.poller.set_deadline(grace, at);
        }
    }

    /// RemoveContainer: answered once it has ended. True when it can be forgotten now.
    pub fn remove(&mut self, core: &mut Core, caller: Caller) -> bool {
        self.removing.push(caller);
        if self.phase == Phase::Exited {
            self.answer_removed(core);
            return true;
        }
        if self.is_alive() {
            self.kill();
        }
        false
    }

    /// ReopenLog.
    pub fn reopen_log(&mut self) -> Outcome<()> {
        if !self.is_alive() || self.started_at == 0 {
            return Err(fault(Code::FailedPrecondition, format!("container is {}", self.phase.name())));
        }
        let path = self.log.path().unwrap_or_default();
        self.log.open().map_err(|error| os_fault("open log", path.to_string_lossy(), &error))
    }

    pub fn state(&self) -> podmon::ContainerState {
        let visible = self.exit.as_ref().filter(|_| self.phase == Phase::Exited);
        podmon::ContainerState {
            container_id: self.id.clone(),
            pid: self.process.pid,
            start_time: self.process.start_time,
            started_at: self.started_at,
            exit: visible.map(record::to_proto),
            user: Some(self.user_message()),
            log_dropped_bytes: self.log.dropped(),
            cgroup_path: self.cgroup_path.clone(),
            created_at: self.created_at,
        }
    }

    fn user_message(&self) -> podmon::ResolvedUser {
        let user = self.account.user.clone();
        podmon::ResolvedUser { uid: user.uid, gid: user.gid, groups: user.groups }
    }

    fn exited(&self) -> podmon::ContainerExited {
        let exit = self.exit.as_ref().map(record::to_proto);
        podmon::ContainerExited { container_id: self.id.clone(), exit }
    }

    /// Writes down what is known of it, and again a while later when the disk is full.
    pub fn write_record(&self, core: &mut Core) {
        let Ok(id) = self.id.parse() else { return };
        let record = ContainerRecord {
            id,
            process: self.process,
            created_at: self.created_at,
            started_at: self.started_at,
            exit: self.exit.clone(),
            user: self.account.user.clone(),
            cgroup_path: self.cgroup_path.clone(),
            log_dropped_bytes: self.log.dropped(),
        };
        let dir = core.pod_dir.join("containers").join(&self.id);
        let written = std::fs::create_dir_all(&dir).and_then(|()| record::write(&dir, "state.json", &record));
        if let Err(error) = written {
            journal!("write the state of {}: {error}", self.id);
            core.poller.set_deadline(Source::InitRecord(self.key), Instant::now() + record::RETRY);
        }
    }
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Phase::Building => "being created",
            Phase::Created => "created",
            Phase::Starting => "being started",
            Phase::Running => "running",
            Phase::Draining | Phase::Removing => "ending",
            Phase::Exited | Phase::Discarded => "exited",
        }
    }
}
