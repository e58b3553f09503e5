//! The pod itself: its cgroup and its pause process.
//!
//! Where pause is in its life, and what follows from what happens, says `husk_life::pause`: [`life`] asks it and carries
//! out what it says. [`plan`] is what pause is made of.

mod life;
mod plan;

use std::{
    os::fd::OwnedFd,
    path::Path,
    time::{Duration, Instant},
};

use husk_cgroup::Cgroup;
use husk_life::pause::{Event, PauseLife};
use husk_model::{IdMaps, Process, SandboxRecord};
use husk_node::now;
use husk_proto::podmon::{self, error::Code};
use husk_runtime::{Child, Report, UserNamespace, spawn_sandbox};
use rustix::process::WaitStatus;

pub use self::plan::{apply_json, pod_files};
use crate::{
    clients::{Answer, Caller},
    core::{Core, Owner, dup},
    failure::Failure,
    fault::{Outcome, fault, fault_of, fault_of_failure, os_fault},
    group::{self, Group},
    journal::journal,
    life::Lives,
    poll::{Interest, Source},
    record, setup,
    steps::Steps,
};

/// A sandbox that was asked for, from then on.
#[derive(Debug)]
pub struct Sandbox {
    life: PauseLife<Caller, Failure>,
    process: Process,
    pidfd: OwnedFd,
    /// The link to it until it runs or ends.
    link: Option<Child>,
    /// Of the whole pod.
    group: Group,
    /// Where the containers' logs are.
    log_directory: String,
    user: Option<UserNamespace>,
    /// What was done for the call that is under way, until that is told.
    steps: Steps,
}

impl Sandbox {
    /// Makes the pod's cgroup and clones pause; the caller is answered when it runs, or at once where it is to wait for its
    /// release.
    pub fn run(core: &mut Core, pause: &Path, caller: Caller, request: podmon::RunSandbox) -> Outcome<Self> {
        let mappings = plan::mappings(&request)?;
        if request.every_hierarchy {
            core.use_every_hierarchy()?;
        }
        let mut steps = Steps::begin("make cgroup");
        let cgroup = core.create_cgroup(&request.cgroup_path)?;
        // Without the mark a group that loses its pod is left alone instead of removed: no reason to fail.
        if let Err(error) = setup::mark(&core.pod_dir).and_then(|mark| Ok(cgroup.mark(&mark)?)) {
            journal!("mark the pod's cgroup: {error}");
        }
        let log_directory = request.log_directory.clone();
        let owns_network = request.new_netns;
        let held = request.held || mappings.is_some();
        steps.next("clone pause");
        let cloned = apply_json(&cgroup, &request.resources_json)
            // Pause has no limits of its own, so no group in each hierarchy.
            .and_then(|_| {
                cgroup.delegate().and_then(|()| cgroup.sub("pause")).map_err(|error| fault_of(&error))
            })
            .and_then(|pause_cgroup| plan::plan(&pause_cgroup, pause, &core.pod_dir, mappings, request))
            .and_then(|plan| spawn_sandbox(plan).map_err(|error| fault_of(&error)))
            .and_then(|child| watch(core, &child).map(|()| child))
            .and_then(|child| {
                let open = |mappings| -> Outcome<_> {
                    let fd = child.user_namespace().map_err(|error| fault_of(&error))?;
                    Ok(UserNamespace { fd, mappings: IdMaps::from(mappings), owns_network })
                };
                let user = mappings.map(open).transpose()?;
                let pidfd = dup(&child.pidfd)?;
                Ok((child, pidfd, user))
            });
        let (child, pidfd, user) = match cloned {
            Ok(cloned) => cloned,
            Err(fault) => {
                group::undo(&cgroup);
                return Err(fault);
            }
        };
        steps.end();
        let process = core.adopt(child.pid, Owner::Sandbox);
        let mut sandbox = Self {
            life: PauseLife::new(Some(caller).filter(|_| !held)),
            process,
            pidfd,
            link: Some(child),
            group: Group::new(cgroup, Source::PauseCgroup(0), Duration::MAX),
            log_directory,
            user,
            steps,
        };
        if held {
            core.reply(caller, Ok(Answer::SandboxStarted(sandbox.started())));
        }
        Ok(sandbox)
    }

    /// ReleaseSandbox: opens the gate; the caller is answered when pause runs.
    pub fn release(&mut self, core: &mut Core, caller: Caller) -> Outcome<()> {
        let refused = |_| fault(Code::FailedPrecondition, "the sandbox waits for nothing");
        self.offer(core, Event::Release(caller)).map_err(refused)
    }

    /// The pod's user namespace, for a container of it.
    pub fn user_namespace(&self) -> Outcome<Option<UserNamespace>> {
        let Some(user) = &self.user else { return Ok(None) };
        let (fd, mappings) = (dup(&user.fd)?, user.mappings.clone());
        Ok(Some(UserNamespace { fd, mappings, owns_network: user.owns_network }))
    }

    /// pidfd of pause, while containers can join it.
    pub fn pidfd(&self) -> Outcome<&OwnedFd> {
        match self.life.is_running() {
            true => Ok(&self.pidfd),
            false => Err(fault(Code::FailedPrecondition, "the sandbox is not running")),
        }
    }

    /// The pod's cgroup, until it is removed.
    pub fn cgroup(&self) -> Option<&Cgroup> {
        self.group.cgroup()
    }

    /// Where the containers' logs are; empty when none are wanted.
    pub fn log_directory(&self) -> &str {
        &self.log_directory
    }

    /// Pause said something. Its first word is the reason; after that comes only its end.
    pub fn on_report(&mut self, core: &mut Core) {
        let Some(child) = &mut self.link else { return };
        let event = match child.read_report() {
            Ok(Some(Report::Failed(reported))) => Event::Failed(Failure(fault_of_failure(reported))),
            Ok(Some(Report::Executed)) => Event::Executed { at: now() },
            Ok(
                Some(Report::Ready(_) | Report::Prepared | Report::Listener(_) | Report::Moved { .. }) | None,
            ) => return,
            Err(error) => Event::Failed(Failure(fault_of(&error))),
        };
        self.unlink(core);
        self.happen(core, event);
    }

    fn unlink(&mut self, core: &Core) {
        if let Some(child) = self.link.take() {
            core.poller.remove(child.report_fd());
        }
    }

    /// Pause was reaped.
    pub fn on_reaped(&mut self, core: &mut Core, status: WaitStatus) {
        self.on_report(core);
        self.unlink(core);
        self.happen(core, Event::Reaped { code: record::exit_code(status), at: now() });
    }

    /// StopSandbox: everything in the pod dies; the caller is answered when its cgroup is gone.
    pub fn stop(&mut self, core: &mut Core, caller: Caller) {
        self.happen(core, Event::Stop(caller));
    }

    /// Goes on with a kill of the pod's cgroup that is under way; false when none is.
    pub fn kill_on(&mut self, core: &mut Core) -> bool {
        self.group.kill_on(core)
    }

    /// No container has anything to come. Completes a stop when nothing of the pod lives any more; called after everything
    /// that ended.
    pub fn on_alone(&mut self, core: &mut Core) {
        self.happen(core, Event::Alone);
    }

    /// Whether the monitor may end.
    pub fn is_over(&self) -> bool {
        self.life.is_over()
    }

    pub fn is_starting(&self) -> bool {
        self.life.is_starting()
    }

    /// It never ran, and is to be forgotten.
    pub fn is_gone(&self) -> bool {
        self.life.is_gone()
    }

    fn started(&mut self) -> podmon::SandboxStarted {
        let Process { pid, start_time } = self.process;
        podmon::SandboxStarted { pid, start_time, steps: self.steps.take() }
    }

    pub fn state(&self) -> podmon::SandboxState {
        podmon::SandboxState {
            pid: self.process.pid,
            start_time: self.process.start_time,
            started_at: self.life.started_at().unwrap_or(0),
            exit: self.life.exit().map(record::to_proto),
            stopped: self.life.was_stopped(),
        }
    }

    /// Writes down what is known of it, and again a while later when the disk is full.
    pub fn write_record(&self, core: &mut Core) {
        let record = SandboxRecord {
            process: self.process,
            started_at: self.life.started_at().unwrap_or(0),
            exit: self.life.exit().cloned(),
            stopped: self.life.was_stopped(),
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
