//! What happens to a container goes to the machine of its life, and what that says is carried out here.
//!
//! What is promised at its end, in this order: every process of it is dead, its log is complete, its exit is on disk, its
//! cgroup is gone; only then does anybody hear of it.

use std::{
    mem,
    time::{Duration, Instant},
};

use husk_life::{
    Refusal,
    init::{Cause, Effect, Event, InitLife, Reply},
};
use husk_model::Exit;
use husk_node::now;
use husk_proto::podmon::{self, error::Code, event};

use super::Container;
use crate::{
    clients::{Answer, Caller},
    core::Core,
    failure::Failure,
    fault::{Fault, Outcome, fault},
    life::Lives,
    poll::Source,
};

/// How long the output of an ended container is waited for when something outside of it holds the pipe.
const DRAIN: Duration = Duration::from_secs(2);
/// SIGKILL
const KILL: u32 = 9;

impl Lives for Container {
    type Event = Event<Caller, Failure>;
    type Effect = Effect<Caller, Failure>;

    fn step(&mut self, event: Self::Event) -> Result<Vec<Self::Effect>, Refusal> {
        let (life, outcome) = mem::replace(&mut self.life, InitLife::Gone).apply(event);
        self.life = life;
        outcome
    }

    fn carry_out(&mut self, core: &mut Core, effect: Self::Effect) -> Option<Self::Event> {
        match effect {
            Effect::WriteRecord => self.write_record(core),
            Effect::Answer(caller, reply) => {
                let answer = self.answer(reply);
                core.reply(caller, answer);
            }
            Effect::PublishStarted(at) => core.publish(event::Event::ContainerStarted(self.started(at))),
            Effect::PublishExited(exit) => core.publish(event::Event::ContainerExited(self.exited(&exit))),
            Effect::OpenLog => {
                self.steps.next("open log");
                return Some(match self.output.open_log() {
                    Ok(()) => Event::LogOpened { at: now() },
                    Err(fault) => Event::LogRefused(Failure(fault)),
                });
            }
            Effect::OpenGate => {
                self.steps.next("execute");
                return self.init.open_gate().err().map(|fault| Event::Failed(Failure(fault)));
            }
            Effect::Signal { by, number } => {
                let refused = |fault| Event::SignalRefused { by, why: Failure(fault) };
                return self.init.signal(number).err().map(refused);
            }
            Effect::ArmGrace(grace) => self.arm_grace(core, grace),
            Effect::DisarmGrace => core.poller.clear_deadline(Source::InitGrace(self.key)),
            Effect::Kill => self.kill_now(core),
            Effect::ArmDrain => {
                core.poller.set_deadline(Source::InitDrain(self.key), Instant::now() + DRAIN);
            }
            Effect::DisarmDrain => core.poller.clear_deadline(Source::InitDrain(self.key)),
            Effect::ReadOutput => {
                self.output.read_rest(core, &mut self.attachments);
                return self.output.is_over().then_some(Event::Drained);
            }
            Effect::CutOutput => self.output.cut(core, &mut self.attachments),
            Effect::EndLog => self.output.end_log(),
            Effect::RemoveGroup => return Some(self.remove_group(core)),
            Effect::LookAgain => self.group.look_again(core),
            Effect::CloseInput => self.input.close(core, &self.attachments),
            Effect::Detach(exit) => self.detach_all(core, &exit),
            Effect::Forget => {
                self.forget_record(core);
                self.group.let_go(core);
            }
        }
        None
    }
}

impl Container {
    /// Nothing of it is to live any more.
    pub(super) fn end(&mut self, core: &mut Core, code: i32) {
        self.init.unlink(core);
        let (at, oom_killed) = (now(), self.group.was_short_of_memory());
        self.happen(core, Event::Ended { code, at, oom_killed });
    }

    /// Its cgroup may be empty now, or has to be killed on.
    pub fn on_cgroup(&mut self, core: &mut Core) {
        if !self.group.kill_on(core) && self.life.waits_for_group() {
            let event = self.remove_group(core);
            self.happen(core, event);
        }
    }

    fn kill_now(&mut self, core: &mut Core) {
        self.group.kill(core);
        if self.is_alive() {
            // SIGKILL to a child of ours is never refused.
            let _ = self.init.signal(KILL);
        }
    }

    fn remove_group(&mut self, core: &mut Core) -> Event<Caller, Failure> {
        if self.group.try_remove(core) {
            self.execs.forget(core, self.key);
            return Event::GroupGone;
        }
        Event::GroupStays { patience: self.group.is_worth_waiting() }
    }

    /// Of concurrent stops the earliest deadline counts.
    fn arm_grace(&self, core: &mut Core, grace: Duration) {
        let source = Source::InitGrace(self.key);
        let earlier = match (core.poller.deadline(source), Instant::now().checked_add(grace)) {
            (Some(set), Some(wanted)) => Some(set.min(wanted)),
            (set, wanted) => set.or(wanted),
        };
        if let Some(at) = earlier {
            core.poller.set_deadline(source, at);
        }
    }

    fn detach_all(&mut self, core: &mut Core, exit: &Exit) {
        for caller in self.attachments.finish(&core.poller) {
            core.reply(caller, Ok(Answer::ContainerExited(self.exited(exit))));
        }
    }

    fn answer(&mut self, reply: Reply<Failure>) -> Outcome<Answer> {
        match reply {
            Reply::Created => Ok(Answer::ContainerCreated(self.created())),
            Reply::Started(at) => {
                let steps = self.steps.take();
                Ok(Answer::ContainerStarted(podmon::ContainerStarted { steps, ..self.started(at) }))
            }
            Reply::Exited(exit) => Ok(Answer::ContainerExited(self.exited(&exit))),
            Reply::Removed => Ok(Answer::Done(podmon::Done::default())),
            Reply::Failed(cause) => Err(fault_of_cause(cause)),
        }
    }
}

fn fault_of_cause(cause: Cause<Failure>) -> Fault {
    match cause {
        Cause::Told(Failure(fault)) => fault,
        Cause::TooLittleMemory => {
            fault(Code::InvalidArgument, "the memory limit is too low to set the container up")
        }
        Cause::KilledWhileBuilt => fault(Code::Aborted, "it was killed while it was set up"),
        Cause::KilledWhileStarted => fault(Code::Aborted, "it was killed while it was started"),
    }
}
