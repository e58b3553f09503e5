//! The transitions of a container's init.

use std::{fmt::Display, time::Duration};

use husk_model::{Exit, ExitReason, UnixNanos};

use super::{
    event::{Cause, Effect, End, Event, Reply},
    state::{Callers, Ending, Group, InitLife},
};
use crate::Refusal;

/// Exit code of a container whose command could not be executed (as in containerd).
const START_ERROR: i32 = 128;

/// The next state, and what is to be done; or the same state, and why nothing is.
type Outcome<C, F> = (InitLife<C, F>, Result<Vec<Effect<C, F>>, Refusal>);

impl<C: Copy + PartialEq, F: Display> InitLife<C, F> {
    /// What follows from an event: the next state, and what is to be done. An event that has no place in the state changes
    /// nothing. A failure that becomes an exit's message is written as it displays.
    #[must_use = "the state is the one that comes back"]
    pub fn apply(self, event: Event<C, F>) -> (Self, Result<Vec<Effect<C, F>>, Refusal>) {
        match event {
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
            Event::Ended(end) => self.ended(&end),
            Event::Drained => self.drained(Effect::DisarmDrain, "the end of its output"),
            Event::DrainOver => self.drained(Effect::CutOutput, "the end of the wait for its output"),
            Event::GroupGone => self.group_gone(),
            Event::GroupStays { patience } => self.group_stays(patience),
        }
    }

    fn refuse(self, event: &'static str) -> Outcome<C, F> {
        let state = self.name();
        (self, Err(Refusal { state, event }))
    }

    // === until its command runs ===

    fn ready(self) -> Outcome<C, F> {
        match self {
            InitLife::Building { creator, failure } => (
                InitLife::Created { failure, callers: Callers::default() },
                Ok(vec![Effect::WriteRecord, Effect::Answer(creator, Reply::Created)]),
            ),
            other => other.refuse("to be ready"),
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
                (self, Ok(vec![Effect::Kill]))
            }
            _ => self.refuse("to fail"),
        }
    }

    fn start(self, starter: C) -> Outcome<C, F> {
        match self {
            InitLife::Created { failure, callers } => {
                (InitLife::Opening { starter, failure, callers }, Ok(vec![Effect::OpenLog]))
            }
            other => other.refuse("to start it"),
        }
    }

    fn log_opened(self, started_at: UnixNanos) -> Outcome<C, F> {
        match self {
            InitLife::Opening { starter, failure, callers } => {
                (InitLife::Starting { starter, started_at, failure, callers }, Ok(vec![Effect::OpenGate]))
            }
            other => other.refuse("to open its log"),
        }
    }

    fn log_refused(self, why: F) -> Outcome<C, F> {
        match self {
            InitLife::Opening { starter, failure, callers } => (
                InitLife::Created { failure, callers },
                Ok(vec![Effect::Answer(starter, Reply::Failed(Cause::Told(why)))]),
            ),
            other => other.refuse("to go without its log"),
        }
    }

    fn executed(self) -> Outcome<C, F> {
        match self {
            InitLife::Starting { starter, started_at, callers, .. } => (
                InitLife::Running { started_at, callers },
                Ok(vec![
                    Effect::WriteRecord,
                    Effect::Answer(starter, Reply::Started(started_at)),
                    Effect::PublishStarted(started_at),
                ]),
            ),
            other => other.refuse("to execute its command"),
        }
    }

    // === what ends it ===

    fn kill(self) -> Outcome<C, F> {
        match self {
            InitLife::Exited { group: Group::Gone, .. } => (self, Ok(Vec::new())),
            InitLife::Discarded { .. } | InitLife::Gone => self.refuse("to kill it"),
            _ => (self, Ok(vec![Effect::Kill])),
        }
    }

    fn stop(mut self, by: C, signal: u32, grace: Duration) -> Outcome<C, F> {
        if let InitLife::Exited { exit, .. } = &self {
            let reply = Reply::Exited(exit.clone());
            return (self, Ok(vec![Effect::Answer(by, reply)]));
        }
        // Nothing but a command that runs can do something about a signal.
        let effects = match self.is_running() && !grace.is_zero() {
            true => vec![Effect::Signal { by, number: signal }, Effect::ArmGrace(grace)],
            false if self.is_alive() => vec![Effect::DisarmGrace, Effect::Kill],
            false => Vec::new(),
        };
        match self.callers() {
            Some(callers) => callers.stops.push(by),
            None => return self.refuse("to stop it"),
        }
        (self, Ok(effects))
    }

    /// A stop that could not begin is none.
    fn signal_refused(mut self, by: C, why: F) -> Outcome<C, F> {
        match &mut self {
            InitLife::Running { callers, .. } if callers.stops.contains(&by) => {
                callers.stops.retain(|caller| *caller != by);
                (self, Ok(vec![Effect::Answer(by, Reply::Failed(Cause::Told(why)))]))
            }
            _ => self.refuse("to go without a signal"),
        }
    }

    fn grace_over(self) -> Outcome<C, F> {
        match self {
            InitLife::Created { .. }
            | InitLife::Opening { .. }
            | InitLife::Starting { .. }
            | InitLife::Running { .. } => (self, Ok(vec![Effect::Kill])),
            _ => self.refuse("to end its grace"),
        }
    }

    fn remove(mut self, by: C) -> Outcome<C, F> {
        if self.is_exited() {
            return (InitLife::Gone, Ok(vec![Effect::Forget, Effect::Answer(by, Reply::Removed)]));
        }
        let effects = if self.is_alive() { vec![Effect::Kill] } else { Vec::new() };
        match self.callers() {
            Some(callers) => callers.removals.push(by),
            None => return self.refuse("to remove it"),
        }
        (self, Ok(effects))
    }

    /// Who waits for its end, where anybody can.
    fn callers(&mut self) -> Option<&mut Callers<C>> {
        match self {
            InitLife::Created { callers, .. }
            | InitLife::Opening { callers, .. }
            | InitLife::Starting { callers, .. }
            | InitLife::Running { callers, .. } => Some(callers),
            InitLife::Draining(ending) | InitLife::Removing(ending) => Some(&mut ending.callers),
            _ => None,
        }
    }

    // === its end ===

    fn ended(self, end: &End) -> Outcome<C, F> {
        let started_at = self.started_at();
        let plain = || exit(end, String::new());
        let (exit, starter, callers) = match self {
            InitLife::Building { creator, failure } => return discard(creator, failure, end),
            InitLife::Created { callers, .. } | InitLife::Running { callers, .. } => (plain(), None, callers),
            InitLife::Opening { starter, failure: None, callers }
            | InitLife::Starting { starter, failure: None, callers, .. } => {
                (plain(), Some((starter, Cause::KilledWhileStarted)), callers)
            }
            InitLife::Opening { starter, failure: Some(failure), callers }
            | InitLife::Starting { starter, failure: Some(failure), callers, .. } => {
                (start_error(end, &failure), Some((starter, Cause::Told(failure))), callers)
            }
            other => return other.refuse("to end"),
        };
        // Nothing of it is to live any more. The kernel ends the processes of a PID namespace with its init, but it may
        // have none of its own.
        (
            InitLife::Draining(Ending { started_at, exit, starter, callers }),
            Ok(vec![Effect::DisarmGrace, Effect::Kill, Effect::ArmDrain, Effect::ReadOutput]),
        )
    }

    fn drained(self, first: Effect<C, F>, event: &'static str) -> Outcome<C, F> {
        match self {
            InitLife::Draining(ending) => (
                InitLife::Removing(ending),
                Ok(vec![first, Effect::EndLog, Effect::WriteRecord, Effect::RemoveGroup]),
            ),
            other => other.refuse(event),
        }
    }

    fn group_gone(self) -> Outcome<C, F> {
        match self {
            InitLife::Removing(ending) => conclude(ending, Group::Gone, Vec::new()),
            InitLife::Discarded { creator, cause } => answer_creator(creator, cause, Vec::new()),
            InitLife::Exited { started_at, exit, group: Group::Held } => {
                (InitLife::Exited { started_at, exit, group: Group::Gone }, Ok(Vec::new()))
            }
            other => other.refuse("to lose its group"),
        }
    }

    /// Killed again each time, for what it forked meanwhile.
    fn group_stays(self, patience: bool) -> Outcome<C, F> {
        let again = vec![Effect::Kill, Effect::LookAgain];
        match self {
            InitLife::Removing(ending) if !patience => conclude(ending, Group::Held, again),
            InitLife::Discarded { creator, cause } if !patience => {
                answer_creator(creator, cause, vec![Effect::Kill])
            }
            InitLife::Removing(_)
            | InitLife::Discarded { .. }
            | InitLife::Exited { group: Group::Held, .. } => (self, Ok(again)),
            other => other.refuse("to wait for its group"),
        }
    }
}

fn exit(end: &End, message: String) -> Exit {
    let reason = match end.code {
        0 => ExitReason::Completed,
        // Whichever of its processes was hit: what the user has to know is the limit.
        _ if end.oom_killed => ExitReason::OomKilled,
        _ => ExitReason::Error,
    };
    Exit { code: end.code, finished_at: end.at, reason, message }
}

fn start_error(end: &End, failure: &impl Display) -> Exit {
    let reason = ExitReason::StartError;
    Exit { code: START_ERROR, finished_at: end.at, reason, message: failure.to_string() }
}

/// It ended before it was built, where it may not have been able to say why.
fn discard<C, F>(creator: C, failure: Option<F>, end: &End) -> Outcome<C, F> {
    let cause = match failure {
        _ if end.oom_killed => Cause::TooLittleMemory,
        Some(failure) => Cause::Told(failure),
        None => Cause::KilledWhileBuilt,
    };
    (InitLife::Discarded { creator, cause }, Ok(vec![Effect::Kill, Effect::RemoveGroup]))
}

fn answer_creator<C, F>(creator: C, cause: Cause<F>, mut effects: Vec<Effect<C, F>>) -> Outcome<C, F> {
    effects.push(Effect::Answer(creator, Reply::Failed(cause)));
    (InitLife::Gone, Ok(effects))
}

/// Makes the end known, once, and forgets it if that was asked for.
fn conclude<C, F>(ending: Ending<C, F>, group: Group, mut effects: Vec<Effect<C, F>>) -> Outcome<C, F> {
    let Ending { started_at, exit, starter, callers } = ending;
    effects.extend([Effect::CloseInput, Effect::PublishExited(exit.clone())]);
    effects.extend(starter.map(|(caller, cause)| Effect::Answer(caller, Reply::Failed(cause))));
    effects.push(Effect::Detach(exit.clone()));
    let told = |caller| Effect::Answer(caller, Reply::Exited(exit.clone()));
    effects.extend(callers.stops.into_iter().map(told));
    if callers.removals.is_empty() {
        return (InitLife::Exited { started_at, exit, group }, Ok(effects));
    }
    effects.push(Effect::Forget);
    effects.extend(callers.removals.into_iter().map(|caller| Effect::Answer(caller, Reply::Removed)));
    (InitLife::Gone, Ok(effects))
}
