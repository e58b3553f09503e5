//! What happens to pause goes to the machine of its life, and what that says is carried out here.

use std::{io, mem};

use husk_life::{
    Refusal,
    pause::{Cause, Effect, Event, PauseLife, Reply},
};
use husk_proto::podmon::{self, error::Code, event};
use husk_runtime::Child;
use rustix::process::Signal;

use super::Sandbox;
use crate::{
    clients::{Answer, Caller},
    core::Core,
    failure::Failure,
    fault::{Outcome, fault, os_fault},
    life::Lives,
    record,
};

impl Lives for Sandbox {
    type Event = Event<Caller, Failure>;
    type Effect = Effect<Caller, Failure>;

    fn step(&mut self, event: Self::Event) -> Result<Vec<Self::Effect>, Refusal> {
        let (life, outcome) = mem::replace(&mut self.life, PauseLife::Gone).apply(event);
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
            Effect::PublishExited(exit) => {
                core.publish(event::Event::SandboxExited(record::to_proto(&exit)));
            }
            Effect::OpenGate => {
                self.steps.next("execute");
                return match self.link.as_mut().map_or(Ok(()), Child::open_gate) {
                    Ok(()) => None,
                    // It ended before; what it said, or its end, is the story, and comes.
                    Err(error) if is_gone(&error) => None,
                    Err(error) => Some(Event::Failed(Failure(os_fault("open gate", "", &error)))),
                };
            }
            Effect::Kill => self.kill(core),
            Effect::DropGroup => {
                self.group.kill(core);
                // What could not be removed is left to huskd.
                let _ = self.group.try_remove(core);
                self.group.let_go(core);
            }
            Effect::RemoveGroup => {
                let gone = self.group.try_remove(core);
                return Some(if gone { Event::GroupGone } else { Event::GroupStays });
            }
            Effect::LookAgain => self.group.look_again(core),
        }
        None
    }
}

/// Whether the other end of a socket is closed.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

impl Sandbox {
    fn kill(&mut self, core: &mut Core) {
        self.group.kill(core);
        // Where the cgroup could not be killed, at least pause goes.
        if self.life.is_alive() {
            let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        }
    }

    fn answer(&mut self, reply: Reply<Failure>) -> Outcome<Answer> {
        match reply {
            Reply::Started => Ok(Answer::SandboxStarted(self.started())),
            Reply::Stopped => Ok(Answer::Done(podmon::Done::default())),
            Reply::Failed(Cause::Told(Failure(fault))) => Err(fault),
            Reply::Failed(Cause::Died(code)) => {
                Err(fault(Code::Internal, format!("pause ended with code {code}")))
            }
        }
    }
}
