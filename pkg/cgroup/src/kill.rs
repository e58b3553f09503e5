//! Killing everything in a group.
//!
//! `cgroup.kill` does it in one write. Without it (pure v1, or Linux before 5.14) every process is signalled. Nothing
//! is waited for: forks are refused meanwhile by `pids.max`, so two or three lists find everybody, and a pid that is
//! reused between the list and the signal is noticed by a second list. (Freezing first would give the same guarantees,
//! but a v1 group may take its whole patience to become FROZEN: one process in uninterruptible sleep is enough.)

use std::{collections::HashSet, os::fd::OwnedFd};

use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use crate::{Cgroup, Controller, Error, Result};

/// Rounds of list and signal without `cgroup.kill`. Without a pids controller a group may fork faster than it is
/// listed; the caller's deadline decides what then.
const ROUNDS: usize = 64;
/// Rounds after which a group that can't be kept from forking is put into the freezer, which at least slows it down.
const PATIENCE: usize = 4;
/// Processes signalled at once, each with a descriptor; far below the usual limit of 1024.
const CHUNK: usize = 128;

/// What killing one by one took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Effort {
    /// Rounds of list and signal, the last of which found nobody new.
    pub(crate) rounds: usize,
    /// Processes signalled.
    pub(crate) signalled: usize,
}

impl Cgroup {
    /// Sends SIGKILL to every process of the group and below, frozen or not, and lets them die at once: see
    /// [`Self::hurry`]. It does not wait for them to end: see [`Self::wait_empty`]. A group that does not exist any more
    /// counts as done.
    ///
    /// # Errors
    /// The write or a signal was refused.
    pub fn kill(&self) -> Result<()> {
        if !self.kill_at_once()? {
            self.kill_each()?;
        }
        // Only now: before, its processes would have had more than their share to run their own code with.
        self.hurry();
        Ok(())
    }

    /// By `cgroup.kill`; `false` where that does not work.
    fn kill_at_once(&self) -> Result<bool> {
        if !self.hierarchy.has_kill() {
            return Ok(false);
        }
        let index = self.hierarchy.tracking();
        match self.try_write(index, "cgroup.kill", "1") {
            Ok(()) | Err(Errno::NODEV) => Ok(true),
            // A threaded group; or the group is gone, and then there are no pids below either.
            Err(Errno::NOENT | Errno::OPNOTSUPP) => Ok(false),
            Err(errno) => Err(self.write_error(index, "cgroup.kill", "1", errno)),
        }
    }

    /// Refuses forks, signals everybody, allows forks again (a process with a pending SIGKILL can't fork) and thaws: a
    /// frozen process of v1 dies only then.
    pub(crate) fn kill_each(&self) -> Result<Effort> {
        let limit = self.refuse_forks();
        let effort = self.signal_all(limit.is_some());
        if let Some((index, limit)) = limit {
            // A group that is gone needs no limit.
            let _ = self.try_write(index, "pids.max", &limit);
        }
        self.thaw_v1();
        effort
    }

    /// Sets `pids.max` to 0, and returns what to set it back to. `None` without a controller of the group's own.
    pub(crate) fn refuse_forks(&self) -> Option<(usize, String)> {
        let (index, _) = self.dir_of(Controller::Pids)?;
        self.member(index).filter(|member| member.own)?;
        let limit = self.read_opt(index, "pids.max").ok()??;
        self.try_write(index, "pids.max", "0").ok()?;
        Some((index, limit.trim().to_owned()))
    }

    fn signal_all(&self, forks_refused: bool) -> Result<Effort> {
        let mut known = HashSet::new();
        for rounds in 1..=ROUNDS {
            if rounds > PATIENCE && !forks_refused {
                self.freeze_v1();
            }
            let mut new = self.pids()?;
            new.retain(|pid| known.insert(*pid));
            if new.is_empty() {
                return Ok(Effort { rounds, signalled: known.len() });
            }
            for chunk in new.chunks(CHUNK) {
                self.signal(chunk)?;
            }
        }
        Ok(Effort { rounds: ROUNDS, signalled: known.len() })
    }

    /// A pid may be reused at any time, by somebody who is none of ours; but a process that has a pidfd *and* is listed
    /// after that was opened is one of the group.
    fn signal(&self, pids: &[u32]) -> Result<()> {
        let opened: Vec<(u32, OwnedFd)> = pids
            .iter()
            .filter_map(|pid| {
                let target = Pid::from_raw(i32::try_from(*pid).ok()?)?;
                Some((*pid, pidfd_open(target, PidfdFlags::empty()).ok()?))
            })
            .collect();
        let members: HashSet<u32> = self.pids()?.into_iter().collect();
        for (pid, pidfd) in opened.iter().filter(|(pid, _)| members.contains(pid)) {
            match pidfd_send_signal(pidfd, Signal::KILL) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(errno) => return Err(Error::Signal { pid: *pid, source: errno.into() }),
            }
        }
        Ok(())
    }
}
