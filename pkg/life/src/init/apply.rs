//! The transitions of a container's init.

use std::{fmt::Display, time::Duration};

use husk_model::{Exit, ExitReason, UnixNanos};

use super::{
    callers::Callers,
    event::{Cause, Effect, Event, Reply},
    state::{Group, InitLife},
};
use crate::Refusal;

/// Exit code of a container whose command could not be executed (as in containerd).
const START_ERROR: i32 = 128;

/// The next state, and what is to be done; or the same state, and nothing of it.
type Outcome<C, F> = (InitLife<C, F>, Option<Vec<Effect<C, F>>>);

impl<C: Copy + PartialEq, F: Display> InitLife<C, F> {
    /// What follows from an event: the next state, and what is to be done. An event that has no place in the state changes
    /// nothing. A failure that becomes an exit's message is written as it displays.
    #[must_use = "the state is the one that comes back"]
    pub fn apply(self, event: Event<C, F>) -> (Self, Result<Vec<Effect<C, F>>, Refusal>) {
        let name = event.name();
        let (life, outcome) = match event {
            Event::Ready => self.ready(),
            Event::Failed(failure) => self.failed(failure),
            Event::Start(starter) => self.start(starter),
            Event::LogOpened { at } => self.log_opened(at),
            Event::LogRefused(failure) => self.log_refused(failure),
            Event::Executed => self.executed(),
            Event::Kill => self.kill(),
            Event::Stop { by, signal, grace } => self.stop(by, signal, grace),
            Event::SignalRefused { by, why } => self.signal_refused(by, why),
            Event::GraceOver => self.grace_over(),
            Event::Remove(caller) => self.remove(caller),
            Event::Ended { code, at, oom_killed } => self.ended(code, at, oom_killed),
            Event::Drained => self.drained(Effect::DisarmDrain),
            Event::DrainOver => self.drained(Effect::CutOutput),
            Event::GroupGone => self.group_gone(),
            Event::GroupStays { patience } => self.group_stays(patience),
        };
        let state = life.name();
        (life, outcome.ok_or(Refusal { state, event: name }))
    }

    fn refuse(self) -> Outcome<C, F> {
        (self, None)
    }

    // === until its command runs ===

    fn ready(self) -> Outcome<C, F> {
        match self {
            InitLife::Building { creator, failure } => (
                InitLife::Created { failure, callers: Callers::default() },
                Some(vec![Effect::WriteRecord, Effect::Answer(creator, Reply::Created)]),
            ),
            other => other.refuse(),
        }
    }

    /// Of several failures the first is the reason.
    fn failed(mut self, why: F) -> Outcome<C, F> {
        match &mut self {
            InitLife::Building { failure, .. }
            | InitLife::Created { failure, .. }
            | InitLife::Opening { failure, .. }
            | InitLife::Starting { failure, .. } => {
                failure.get_or_insert(why);
                (self, Some(vec![Effect::Kill]))
            }
            _ => self.refuse(),
        }
    }

    fn start(self, starter: C) -> Outcome<C, F> {
        match self {
            InitLife::Created { failure, callers } => {
                (InitLife::Opening { starter, failure, callers }, Some(vec![Effect::OpenLog]))
            }
            other => other.refuse(),
        }
    }

    fn log_opened(self, started_at: UnixNanos) -> Outcome<C, F> {
        match self {
            InitLife::Opening { starter, failure, callers } => {
                (InitLife::Starting { starter, started_at, failure, callers }, Some(vec![Effect::OpenGate]))
            }
            other => other.refuse(),
        }
    }

    fn log_refused(self, why: F) -> Outcome<C, F> {
        match self {
            InitLife::Opening { starter, failure, callers } => (
                InitLife::Created { failure, callers },
                Some(vec![Effect::Answer(starter, Reply::Failed(Cause::Told(why)))]),
            ),
            other => other.refuse(),
        }
    }

    fn executed(self) -> Outcome<C, F> {
        match self {
            InitLife::Starting { starter, started_at, callers, .. } => (
                InitLife::Running { started_at, callers },
                Some(vec![
                    Effect::WriteRecord,
                    Effect::Answer(starter, Reply::Started(started_at)),
                    Effect::PublishStarted(started_at),
                ]),
            ),
            other => other.refuse(),
        }
    }

    // === what ends it ===

    fn kill(self) -> Outcome<C, F> {
        match self {
            InitLife::Exited { group: Group::Gone, .. } => (self, Some(Vec::new())),
            InitLife::Discarded { .. } | InitLife::Gone => self.refuse(),
            _ => (self, Some(vec![Effect::Kill])),
        }
    }

    fn stop(mut self, by: C, signal: u32, grace: Duration) -> Outcome<C, F> {
        if let InitLife::Exited { exit, .. } = &self {
            let reply = Reply::Exited(exit.clone());
            return (self, Some(vec![Effect::Answer(by, reply)]));
        }
        // Nothing but a command that runs can do something about a signal.
        let effects = match self.is_running() && !grace.is_zero() {
            true => vec![Effect::Signal { by, number: signal }, Effect::ArmGrace(grace)],
            false if self.is_alive() => vec![Effect::DisarmGrace, Effect::Kill],
            false => Vec::new(),
        };
        match self.callers() {
            Some(callers) => callers.add_stop(by),
            None => return self.refuse(),
        }
        (self, Some(effects))
    }

    /// A stop that could not begin is none.
    fn signal_refused(mut self, by: C, why: F) -> Outcome<C, F> {
        let begun = match &mut self {
            InitLife::Running { callers, .. } => callers.drop_stop(&by),
            _ => false,
        };
        let answer = Effect::Answer(by, Reply::Failed(Cause::Told(why)));
        (self, begun.then(|| vec![answer]))
    }

    fn grace_over(self) -> Outcome<C, F> {
        match self {
            InitLife::Created { .. }
            | InitLife::Opening { .. }
            | InitLife::Starting { .. }
            | InitLife::Running { .. } => (self, Some(vec![Effect::Kill])),
            _ => self.refuse(),
        }
    }

    fn remove(mut self, by: C) -> Outcome<C, F> {
        if self.is_exited() {
            return (InitLife::Gone, Some(vec![Effect::Forget, Effect::Answer(by, Reply::Removed)]));
        }
        let effects = if self.is_alive() { vec![Effect::Kill] } else { Vec::new() };
        match self.callers() {
            Some(callers) => callers.add_removal(by),
            None => return self.refuse(),
        }
        (self, Some(effects))
    }

    /// Who waits for its end, where anybody can.
    fn callers(&mut self) -> Option<&mut Callers<C>> {
        match self {
            InitLife::Created { callers, .. }
            | InitLife::Opening { callers, .. }
            | InitLife::Starting { callers, .. }
            | InitLife::Running { callers, .. }
            | InitLife::Draining { callers, .. }
            | InitLife::Removing { callers, .. } => Some(callers),
            _ => None,
        }
    }

    // === its end ===

    fn ended(self, code: i32, at: UnixNanos, oom_killed: bool) -> Outcome<C, F> {
        let started_at = self.started_at();
        let plain = || exit(code, at, oom_killed);
        let (exit, starter, callers) = match self {
            InitLife::Building { creator, failure } => return discard(creator, failure, oom_killed),
            InitLife::Created { callers, .. } | InitLife::Running { callers, .. } => (plain(), None, callers),
            InitLife::Opening { starter, failure: None, callers }
            | InitLife::Starting { starter, failure: None, callers, .. } => {
                (plain(), Some((starter, Cause::KilledWhileStarted)), callers)
            }
            InitLife::Opening { starter, failure: Some(failure), callers }
            | InitLife::Starting { starter, failure: Some(failure), callers, .. } => {
                (start_error(at, &failure), Some((starter, Cause::Told(failure))), callers)
            }
            other => return other.refuse(),
        };
        // Nothing of it is to live any more. The kernel ends the processes of a PID namespace with its init, but it may
        // have none of its own.
        (
            InitLife::Draining { started_at, exit, starter, callers },
            Some(vec![Effect::DisarmGrace, Effect::Kill, Effect::ArmDrain, Effect::ReadOutput]),
        )
    }

    fn drained(self, first: Effect<C, F>) -> Outcome<C, F> {
        match self {
            InitLife::Draining { started_at, exit, starter, callers } => (
                InitLife::Removing { started_at, exit, starter, callers },
                Some(vec![first, Effect::EndLog, Effect::WriteRecord, Effect::RemoveGroup]),
            ),
            other => other.refuse(),
        }
    }

    fn group_gone(self) -> Outcome<C, F> {
        match self {
            life @ InitLife::Removing { .. } => life.conclude(Group::Gone, Vec::new()),
            InitLife::Discarded { creator, cause } => answer_creator(creator, cause, Vec::new()),
            InitLife::Exited { started_at, exit, group: Group::Held } => {
                (InitLife::Exited { started_at, exit, group: Group::Gone }, Some(Vec::new()))
            }
            other => other.refuse(),
        }
    }

    /// Killed again each time, for what it forked meanwhile.
    fn group_stays(self, patience: bool) -> Outcome<C, F> {
        let again = vec![Effect::Kill, Effect::LookAgain];
        match self {
            life @ InitLife::Removing { .. } if !patience => life.conclude(Group::Held, again),
            InitLife::Discarded { creator, cause } if !patience => {
                answer_creator(creator, cause, vec![Effect::Kill])
            }
            InitLife::Removing { .. }
            | InitLife::Discarded { .. }
            | InitLife::Exited { group: Group::Held, .. } => (self, Some(again)),
            other => other.refuse(),
        }
    }

    /// Makes the end known, once, and forgets it if that was asked for.
    fn conclude(self, group: Group, mut effects: Vec<Effect<C, F>>) -> Outcome<C, F> {
        let InitLife::Removing { started_at, exit, starter, callers } = self else { return self.refuse() };
        let (stops, removals) = callers.into_parts();
        effects.extend([Effect::CloseInput, Effect::PublishExited(exit.clone())]);
        effects.extend(starter.map(|(caller, cause)| Effect::Answer(caller, Reply::Failed(cause))));
        effects.push(Effect::Detach(exit.clone()));
        effects.extend(stops.into_iter().map(|caller| Effect::Answer(caller, Reply::Exited(exit.clone()))));
        if removals.is_empty() {
            return (InitLife::Exited { started_at, exit, group }, Some(effects));
        }
        effects.push(Effect::Forget);
        effects.extend(removals.into_iter().map(|caller| Effect::Answer(caller, Reply::Removed)));
        (InitLife::Gone, Some(effects))
    }
}

fn exit(code: i32, finished_at: UnixNanos, oom_killed: bool) -> Exit {
    let reason = match code {
        0 => ExitReason::Completed,
        // Whichever of its processes was hit: what the user has to know is the limit.
        _ if oom_killed => ExitReason::OomKilled,
        _ => ExitReason::Error,
    };
    Exit { code, finished_at, reason, message: String::new() }
}

fn start_error(finished_at: UnixNanos, failure: &impl Display) -> Exit {
    let reason = ExitReason::StartError;
    Exit { code: START_ERROR, finished_at, reason, message: failure.to_string() }
}

/// It ended before it was built, where it may not have been able to say why.
fn discard<C, F>(creator: C, failure: Option<F>, oom_killed: bool) -> Outcome<C, F> {
    let cause = match failure {
        _ if oom_killed => Cause::TooLittleMemory,
        Some(failure) => Cause::Told(failure),
        None => Cause::KilledWhileBuilt,
    };
    (InitLife::Discarded { creator, cause }, Some(vec![Effect::Kill, Effect::RemoveGroup]))
}

fn answer_creator<C, F>(creator: C, cause: Cause<F>, mut effects: Vec<Effect<C, F>>) -> Outcome<C, F> {
    effects.push(Effect::Answer(creator, Reply::Failed(cause)));
    (InitLife::Gone, Some(effects))
}
