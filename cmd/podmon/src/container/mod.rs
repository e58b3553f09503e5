//! A container from its clone to its end.
//!
//! Where it is in its life, and what follows from what happens, says `husk_life::init`: [`life`] asks it and carries out
//! what it says. [`create`] builds a container of its parts: its [`init`] process, its cgroup, what it reads ([`input`])
//! and writes ([`output`]), what its commands are given ([`execs`]). This file holds what is asked of it; [`record`] what
//! is told and written down.

mod create;
mod execs;
mod init;
mod input;
mod life;
mod output;
mod record;

use std::{os::fd::OwnedFd, time::Duration};

use husk_cgroup::Cgroup;
use husk_life::init::{Event, InitLife};
use husk_model::{Command, Stdio, UnixNanos};
use husk_proto::podmon::error::Code;
use husk_runtime::{ExecPlan, Report};
use rustix::process::WaitStatus;

use self::{execs::Execs, init::Init, input::Input, output::Output};
use crate::{
    attach::{Attachment, Attachments},
    clients::Caller,
    core::Core,
    failure::Failure,
    fault::{Fault, Outcome, fault, fault_of, fault_of_failure},
    group::Group,
    life::Lives,
    log::Stream,
    poll::Key,
    record::exit_code,
    steps::Steps,
};

/// A container.
#[derive(Debug)]
pub struct Container {
    key: Key,
    id: String,
    created_at: UnixNanos,
    /// What a stop that says nothing else begins with.
    stop_signal: u32,
    /// Limits that the node could not set, until they are told.
    degraded: Vec<String>,
    /// What was done for the call that is under way, until that is told.
    steps: Steps,
    life: InitLife<Caller, Failure>,
    init: Init,
    group: Group,
    /// The group's path, relative to the hierarchy's root.
    cgroup_path: String,
    input: Input,
    output: Output,
    execs: Execs,
    attachments: Attachments,
}

/// Exit code of a process that SIGKILL ended.
const KILLED: i32 = 137;

// === what it is ===

impl Container {
    pub fn key(&self) -> Key {
        self.key
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its init lives, as far as anybody knows.
    pub fn is_alive(&self) -> bool {
        self.life.is_alive()
    }

    /// Something of it is still to come: an answer, an event, a cgroup to remove.
    pub fn is_alive_or_ending(&self) -> bool {
        self.life.is_alive_or_ending()
    }

    /// It was made: before that, nobody but the creating call knows it.
    pub fn is_built(&self) -> bool {
        self.life.is_built()
    }

    /// It can be forgotten.
    pub fn is_gone(&self) -> bool {
        self.life.is_gone()
    }

    pub fn cgroup(&self) -> Option<&Cgroup> {
        self.group.cgroup()
    }

    /// pidfd of its init.
    pub fn pidfd(&self) -> &OwnedFd {
        self.init.pidfd()
    }

    /// Refuses what only a running container can do.
    pub fn require_running(&self) -> Outcome<()> {
        match self.life.is_running() {
            true => Ok(()),
            false => Err(self.not("running", self.life.name())),
        }
    }

    /// Refuses what only a container can do that lives: one that waits to be started, too.
    pub fn require_alive(&self) -> Outcome<()> {
        match self.is_alive() {
            true => Ok(()),
            false => Err(self.not("created or running", self.life.name())),
        }
    }

    fn not(&self, wanted: &str, state: &str) -> Fault {
        fault(Code::FailedPrecondition, format!("container is not {wanted} but {state}"))
    }
}

// === what its init does ===

impl Container {
    /// The child said something.
    pub fn on_report(&mut self, core: &mut Core) {
        while let Some(report) = self.init.read_report() {
            match report {
                Ok(None) => return,
                Ok(Some(Report::Ready(ready))) => {
                    if let Err(fault) = self.on_ready(core, ready) {
                        self.fail(core, fault);
                    }
                }
                Ok(Some(Report::Moved { former })) => {
                    core.poller.remove(&former);
                    self.on_moved(core);
                }
                // Only a container without a pod is.
                Ok(Some(Report::Prepared | Report::Listener(_))) => {}
                Ok(Some(Report::Executed)) => {
                    self.init.unlink(core);
                    self.steps.end();
                    self.happen(core, Event::Executed);
                }
                Ok(Some(Report::Failed(failure))) => self.fail(core, fault_of_failure(failure)),
                Err(error) => self.fail(core, fault_of(&error)),
            }
        }
    }

    /// Notes why the child gives up and makes sure that it does. The caller is answered when it is reaped.
    fn fail(&mut self, core: &mut Core, fault: Fault) {
        self.init.unlink(core);
        self.happen(core, Event::Failed(Failure(fault)));
    }

    /// A process of it was reaped: its init, or the one from which that has just taken over.
    pub fn on_reaped(&mut self, core: &mut Core, pid: u32, status: WaitStatus) {
        // It may have died with its last words still in the socket.
        self.on_report(core);
        if self.init.is(pid) {
            self.end(core, exit_code(status));
        }
    }

    /// Another process has taken over from the one we cloned. That one's end concerns nobody any more.
    fn on_moved(&mut self, core: &mut Core) {
        match self.init.take_over(core, self.key) {
            Ok(true) => {}
            // It was killed, and collected as somebody unknown, before we heard of it.
            Ok(false) => self.end(core, KILLED),
            Err(fault) => self.fail(core, fault),
        }
    }
}

// === what is asked of it ===

impl Container {
    /// Opens the gate. The caller is answered when the command runs, or when it is known why it does not.
    pub fn start(&mut self, core: &mut Core, caller: Caller) -> Outcome<()> {
        self.offer(core, Event::Start(caller)).map_err(|refusal| self.not("created", refusal.state))
    }

    /// Signals its init; one that has ended is not there to be signalled.
    pub fn signal(&self, number: u32) -> Outcome<()> {
        self.init.signal(number)
    }

    /// SIGKILL to everything in its cgroup.
    pub fn kill(&mut self, core: &mut Core) {
        self.happen(core, Event::Kill);
    }

    /// StopContainer; 0 is its own stop signal. Of concurrent stops the earliest deadline counts (as in CRI-O): a caller
    /// who wants it gone sooner must not be held up by one who wanted to wait.
    pub fn stop(&mut self, core: &mut Core, by: Caller, signal: u32, grace: Duration) {
        let signal = if signal == 0 { self.stop_signal } else { signal };
        self.happen(core, Event::Stop { by, signal, grace });
    }

    /// The grace of a stop is over.
    pub fn on_grace_deadline(&mut self, core: &mut Core) {
        self.happen(core, Event::GraceOver);
    }

    /// RemoveContainer: answered once it has ended.
    pub fn remove(&mut self, core: &mut Core, caller: Caller) {
        self.happen(core, Event::Remove(caller));
    }

    /// ReopenLog.
    pub fn reopen_log(&mut self) -> Outcome<()> {
        if !self.is_alive() || self.life.started_at().is_none() {
            return Err(fault(Code::FailedPrecondition, format!("container is {}", self.life.name())));
        }
        self.output.open_log()
    }

    /// ResizeTerminal.
    pub fn resize(&self, rows: u32, columns: u32) -> Outcome<()> {
        self.input.resize(rows, columns)
    }

    /// What a command in it is run with; `target` is the cgroup that it joins.
    pub fn exec_plan(
        &self,
        command: Command,
        stdio: Stdio<OwnedFd>,
        target: husk_runtime::CgroupTarget,
    ) -> Outcome<ExecPlan> {
        self.execs.plan(self.init.pidfd(), command, stdio, target)
    }

    /// Takes over the cgroup of an exec that left something running, to remove it once that has ended.
    pub fn keep_exec_cgroup(&mut self, core: &mut Core, cgroup: Cgroup) {
        self.execs.keep(core, self.key, cgroup);
    }

    /// Looks at those cgroups again.
    pub fn sweep_exec_cgroups(&mut self, core: &mut Core) {
        self.execs.sweep(core, self.key);
    }
}

// === its streams ===

impl Container {
    /// Output arrived on a stream.
    pub fn on_output(&mut self, core: &mut Core, stream: Stream) {
        self.output.pump(core, &mut self.attachments, stream, false);
        if self.life.is_draining() && self.output.is_over() {
            self.happen(core, Event::Drained);
        }
    }

    /// Something outside of the container holds its output, or it is endless: what has come is all.
    pub fn on_drain_deadline(&mut self, core: &mut Core) {
        self.happen(core, Event::DrainOver);
    }

    /// A client is attached from now on.
    pub fn attach(&mut self, core: &Core, attachment: Attachment) -> std::io::Result<()> {
        self.input.admit(core, &attachment)?;
        self.attachments.push(attachment);
        Ok(())
    }

    /// Lets a client go, whose call nobody waits for any longer.
    pub fn detach(&mut self, core: &Core, call: Caller) {
        self.attachments.detach(&core.poller, call);
        self.read_on(core);
    }

    /// Whether it is this container's client.
    pub fn has_client(&self, client: Key) -> bool {
        self.attachments.contains(client)
    }

    /// An attached client can take output again.
    pub fn on_client_room(&mut self, core: &Core, client: Key) {
        self.attachments.writable(&core.poller, client);
        self.read_on(core);
    }

    /// Nobody may have to be awaited any more.
    fn read_on(&mut self, core: &Core) {
        if !self.attachments.must_be_awaited() {
            self.output.resume(core);
        }
    }

    /// An attached client sent input or closed its side.
    pub fn on_input(&mut self, core: &mut Core, client: Key) {
        self.input.receive(core, &mut self.attachments, client);
    }

    /// The container takes input again.
    pub fn on_stdin_room(&mut self, core: &mut Core) {
        self.input.flush(core, &self.attachments);
    }
}
