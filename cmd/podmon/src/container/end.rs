//! The end of a container. What is promised, in this order: every process of it is dead, its log is complete, its exit
//! is on disk, its cgroup is gone; only then does anybody hear of it.

use std::time::{Duration, Instant};

use husk_cgroup::Cgroup;
use husk_model::{Exit, ExitReason};
use husk_node::now;
use husk_proto::podmon::{self, error::Code, event};
use rustix::process::WaitStatus;

use super::{Container, Phase};
use crate::{
    clients::Answer,
    core::{Core, next_look, try_remove},
    fault::{describe, fault},
    journal,
    log::Stream,
    poll::Source,
    record::exit_code,
};

/// How long the output of an ended container is waited for when something outside of it holds the pipe.
const DRAIN: Duration = Duration::from_secs(2);
/// How long an exit is held back for its cgroup. A process in uninterruptible sleep may stay far longer.
const CGROUP_PATIENCE: Duration = Duration::from_secs(5);

/// How seldom the cgroups of background processes that execs left are looked at.
const SWEEP_MAX: Duration = Duration::from_secs(60);

/// Exit code of a container whose command could not be executed (as in containerd).
const START_ERROR: i32 = 128;

impl Container {
    /// A process of it was reaped: its init, or the one from which that has just taken over.
    pub fn on_reaped(&mut self, core: &mut Core, pid: u32, status: WaitStatus) {
        // It may have died with its last words still in the socket.
        self.on_report(core);
        if self.process.pid == pid {
            self.end(core, exit_code(status));
        }
    }

    /// Nothing of it is to live any more.
    pub(super) fn end(&mut self, core: &mut Core, code: i32) {
        self.unlink(core);
        core.poller.clear_deadline(Source::InitGrace(self.key));
        let finished_at = now();
        if let Some(cgroup) = &self.cgroup {
            // The kernel ends the processes of a PID namespace with its init, but the container may have none of its own.
            if let Err(error) = cgroup.kill() {
                journal!("kill {}: {error}", self.id);
            }
        }
        if self.phase == Phase::Building {
            self.explain_death();
        }
        self.exit = Some(self.describe_exit(code, finished_at));
        self.phase = if self.phase == Phase::Building { Phase::Discarded } else { Phase::Draining };
        if self.phase == Phase::Draining {
            core.poller.set_deadline(Source::InitDrain(self.key), Instant::now() + DRAIN);
            for stream in [Stream::Stdout, Stream::Stderr] {
                self.pump(core, stream, true);
            }
        }
        self.advance(core);
    }

    /// Why it died before it was built, where it could not say so itself.
    fn explain_death(&mut self) {
        if self.cgroup.as_ref().is_some_and(|cgroup| cgroup.oom_kills().unwrap_or(0) > 0) {
            self.failure =
                Some(fault(Code::InvalidArgument, "the memory limit is too low to set the container up"));
        }
        self.failure.get_or_insert_with(|| fault(Code::Aborted, "it was killed while it was set up"));
    }

    fn describe_exit(&self, code: i32, finished_at: i64) -> Exit {
        if let (Phase::Starting, Some(failure)) = (self.phase, &self.failure) {
            let message = describe(failure);
            return Exit { code: START_ERROR, finished_at, reason: ExitReason::StartError, message };
        }
        let oom_kills = self.cgroup.as_ref().map_or(0, |cgroup| cgroup.oom_kills().unwrap_or(0));
        let reason = match code {
            0 => ExitReason::Completed,
            // Whichever of its processes was hit: what the user has to know is the limit.
            _ if oom_kills > 0 => ExitReason::OomKilled,
            _ => ExitReason::Error,
        };
        Exit { code, finished_at, reason, message: String::new() }
    }

    /// Goes on with the end as far as it can.
    pub fn advance(&mut self, core: &mut Core) {
        if self.phase == Phase::Draining && self.outputs.iter().all(Option::is_none) {
            core.poller.clear_deadline(Source::InitDrain(self.key));
            self.log.end();
            self.write_record(core);
            self.phase = Phase::Removing;
        }
        if matches!(self.phase, Phase::Removing | Phase::Discarded | Phase::Exited) {
            self.remove_cgroup(core);
        }
    }

    /// Something outside of the container holds its output, or it is endless: what has come is all.
    pub fn on_drain_deadline(&mut self, core: &mut Core) {
        if self.phase != Phase::Draining {
            return;
        }
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.pump(core, stream, false);
            if let Some(output) = self.outputs[stream as usize].take() {
                output.close(core, &mut self.log);
            }
        }
        self.advance(core);
    }

    /// The grace of a stop is over.
    pub fn on_grace_deadline(&mut self) {
        if self.is_alive() {
            self.kill();
        }
    }

    /// Takes over the cgroup of an exec that left something running, to remove it once that has ended.
    pub fn keep_exec_cgroup(&mut self, core: &mut Core, cgroup: Cgroup) {
        self.lingering.push(cgroup);
        core.poller.set_deadline(Source::ExecCgroups(self.key), Instant::now() + next_look(Duration::ZERO));
        self.lingering_since = Instant::now();
    }

    /// Looks at them again, ever more seldom: nothing but a directory waits for it.
    pub fn sweep_exec_cgroups(&mut self, core: &mut Core) {
        self.lingering.retain(|cgroup| !try_remove(cgroup));
        if !self.lingering.is_empty() {
            let retry = self.lingering_since.elapsed().clamp(next_look(Duration::ZERO), SWEEP_MAX);
            core.poller.set_deadline(Source::ExecCgroups(self.key), Instant::now() + retry);
        }
    }

    fn remove_cgroup(&mut self, core: &mut Core) {
        let removed = self.cgroup.as_ref().is_none_or(try_remove);
        let started = *self.cgroup_patience.get_or_insert_with(Instant::now);
        let impatient = started.elapsed() > CGROUP_PATIENCE;
        if removed {
            self.cgroup = None;
            self.lingering.clear();
            core.poller.clear_deadline(Source::ExecCgroups(self.key));
        } else {
            // Again, for what it forked meanwhile.
            let _ = self.cgroup.as_ref().map_or(Ok(()), Cgroup::kill);
            let retry = next_look(started.elapsed());
            core.poller.set_deadline(Source::InitCgroup(self.key), Instant::now() + retry);
        }
        if removed || impatient {
            self.conclude(core);
        }
    }

    /// Makes the end known, once.
    fn conclude(&mut self, core: &mut Core) {
        match self.phase {
            Phase::Discarded => {
                let failure = self.failure.take();
                if let (Some(caller), Some(failure)) = (self.pending.take(), failure) {
                    core.reply(caller, Err(failure));
                }
            }
            Phase::Removing => {
                self.phase = Phase::Exited;
                self.close_stdin(core);
                core.publish(event::Event::ContainerExited(self.exited()));
                let failure = self.failure.take();
                if let Some(caller) = self.pending.take() {
                    let aborted = || fault(Code::Aborted, "it was killed while it was started");
                    core.reply(caller, Err(failure.unwrap_or_else(aborted)));
                }
            }
            _ => return,
        }
        for caller in self.attachments.finish(&core.poller) {
            core.reply(caller, Ok(Answer::ContainerExited(self.exited())));
        }
        for caller in std::mem::take(&mut self.stopping) {
            core.reply(caller, Ok(Answer::ContainerExited(self.exited())));
        }
        if self.phase == Phase::Exited {
            core.poller.clear_deadline(Source::InitGrace(self.key));
        }
    }

    /// Whether it can be forgotten: it was asked to be removed, or it was never built; and it is over.
    pub fn is_forgettable(&self) -> bool {
        match self.phase {
            Phase::Discarded => self.pending.is_none(),
            Phase::Exited => !self.removing.is_empty(),
            _ => false,
        }
    }

    /// Answers RemoveContainer and deletes its record.
    pub fn answer_removed(&mut self, core: &mut Core) {
        core.poller.clear_deadline(Source::InitRecord(self.key));
        let record = core.pod_dir.join("containers").join(&self.id).join("state.json");
        if let Err(error) = std::fs::remove_file(&record)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            journal!("remove {}: {error}", record.display());
        }
        for caller in std::mem::take(&mut self.removing) {
            core.reply(caller, Ok(Answer::Done(podmon::Done::default())));
        }
    }
}
