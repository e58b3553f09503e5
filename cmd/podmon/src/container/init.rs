//! A container's init process, and the link to it until its command is executed.

use std::os::fd::OwnedFd;

use husk_model::Process;
use husk_runtime::{Child, Report};

use crate::{
    core::{Core, Owner, dup},
    fault::{Outcome, os_fault},
    poll::{Interest, Key, Source},
};

/// The process.
#[derive(Debug)]
pub struct Init {
    process: Process,
    pidfd: OwnedFd,
    /// The link.
    child: Option<Child>,
}

impl Init {
    /// Takes a fresh child in: it is ours to reap from now on.
    pub fn adopt(core: &mut Core, key: Key, child: Child, pidfd: OwnedFd) -> Self {
        let process = core.adopt(child.pid, Owner::Container(key));
        Self { process, pidfd, child: Some(child) }
    }

    pub fn process(&self) -> Process {
        self.process
    }

    pub fn pidfd(&self) -> &OwnedFd {
        &self.pidfd
    }

    /// Whether it has this pid.
    pub fn is(&self, pid: u32) -> bool {
        self.process.pid == pid
    }

    /// Waits for what it says.
    pub fn watch(&self, core: &Core, key: Key) -> Outcome<()> {
        let Some(child) = &self.child else { return Ok(()) };
        core.poller
            .add(child.report_fd(), Source::InitReport(key), Interest::Read)
            .map_err(|error| os_fault("watch init", "", &error))
    }

    /// What it says, while it is linked.
    pub fn read_report(&mut self) -> Option<Result<Option<Report>, husk_runtime::Error>> {
        Some(self.child.as_mut()?.read_report())
    }

    /// The process of the link is another one now; false when that is dead already.
    pub fn take_over(&mut self, core: &mut Core, key: Key) -> Outcome<bool> {
        self.watch(core, key)?;
        let Some(child) = &self.child else { return Ok(true) };
        core.children.remove(&self.process.pid);
        self.pidfd = dup(&child.pidfd)?;
        self.process = core.adopt(child.pid, Owner::Container(key));
        let dead = husk_sys::pidfd::is_reaped(&self.pidfd).unwrap_or(false);
        if dead {
            core.children.remove(&self.process.pid);
        }
        Ok(!dead)
    }

    /// Lets it execute its command.
    pub fn open_gate(&mut self) -> Outcome<()> {
        let opened = self.child.as_mut().map_or(Ok(()), Child::open_gate);
        // It died at the gate; its pidfd has the rest of the story.
        opened.map_err(|error| os_fault("open gate", "", &error))
    }

    /// Lets go of the link.
    pub fn unlink(&mut self, core: &Core) {
        if let Some(child) = self.child.take() {
            core.poller.remove(child.report_fd());
        }
    }

    /// Sends a signal. One that has ended is not there to be signalled.
    pub fn signal(&self, number: u32) -> Outcome<()> {
        husk_sys::send::signal(&self.pidfd, number)
            .map_err(|error| os_fault("send signal", number.to_string(), &error))
    }
}
