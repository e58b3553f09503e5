//! The transitions of a pause process.

use husk_model::{Exit, ExitReason, UnixNanos};

use super::{
    event::{Cause, Effect, Event, Reply},
    state::PauseLife,
};
use crate::Refusal;

/// The next state, and what is to be done; or the same state, and nothing of it.
type Outcome<C, F> = (PauseLife<C, F>, Option<Vec<Effect<C, F>>>);

impl<C: Copy, F> PauseLife<C, F> {
    /// What follows from an event: the next state, and what is to be done. An event that has no place in the state changes
    /// nothing.
    #[must_use = "the state is the one that comes back"]
    pub fn apply(self, event: Event<C, F>) -> (Self, Result<Vec<Effect<C, F>>, Refusal>) {
        let name = event.name();
        let (life, outcome) = match event {
            Event::Release(caller) => self.release(caller),
            Event::Failed(why) => self.failed(why),
            Event::Executed { at } => self.executed(at),
            Event::Reaped { code, at } => self.reaped(code, at),
            Event::Stop(caller) => self.stop(caller),
            Event::Alone => self.while_emptying(vec![Effect::RemoveGroup]),
            Event::GroupGone => self.group_gone(),
            Event::GroupStays => self.while_emptying(vec![Effect::Kill, Effect::LookAgain]),
        };
        let state = life.name();
        (life, outcome.ok_or(Refusal { state, event: name }))
    }

    fn refuse(self) -> Outcome<C, F> {
        (self, None)
    }

    fn while_emptying(self, effects: Vec<Effect<C, F>>) -> Outcome<C, F> {
        let effects = self.is_emptying().then_some(effects);
        (self, effects)
    }

    fn release(self, by: C) -> Outcome<C, F> {
        match self {
            PauseLife::Starting { caller: None, failure, stops } => {
                (PauseLife::Starting { caller: Some(by), failure, stops }, Some(vec![Effect::OpenGate]))
            }
            PauseLife::Stillborn(cause) => {
                (PauseLife::Gone, Some(vec![Effect::Answer(by, Reply::Failed(cause))]))
            }
            other => other.refuse(),
        }
    }

    /// Of several failures the first is the reason.
    fn failed(mut self, why: F) -> Outcome<C, F> {
        match &mut self {
            PauseLife::Starting { failure, .. } => {
                failure.get_or_insert(why);
                (self, Some(vec![Effect::Kill]))
            }
            _ => self.refuse(),
        }
    }

    fn executed(self, started_at: UnixNanos) -> Outcome<C, F> {
        match self {
            // One that nobody let go on does not run: what looks like it is its end.
            PauseLife::Starting { caller: Some(caller), stops, .. } => {
                let effects = vec![Effect::WriteRecord, Effect::Answer(caller, Reply::Started)];
                match stops.is_empty() {
                    true => (PauseLife::Running { started_at }, Some(effects)),
                    false => (PauseLife::Stopping { started_at, stops }, Some(effects)),
                }
            }
            other => other.refuse(),
        }
    }

    fn reaped(self, code: i32, at: UnixNanos) -> Outcome<C, F> {
        let reason = if code == 0 { ExitReason::Completed } else { ExitReason::Error };
        let exit = Exit { code, finished_at: at, reason, message: String::new() };
        let told = Some(vec![Effect::WriteRecord, Effect::PublishExited(exit.clone())]);
        match self {
            PauseLife::Starting { caller, failure, stops } => never_ran(caller, failure, stops, code),
            PauseLife::Running { started_at } => (PauseLife::Ended { started_at, exit }, told),
            PauseLife::Stopping { started_at, stops } => {
                (PauseLife::Emptying { started_at, exit, stops }, told)
            }
            other => other.refuse(),
        }
    }

    fn stop(mut self, by: C) -> Outcome<C, F> {
        let first = Some(vec![Effect::WriteRecord, Effect::Kill]);
        match &mut self {
            PauseLife::Starting { stops, .. } if stops.is_empty() => {
                stops.push(by);
                return (self, first);
            }
            PauseLife::Starting { stops, .. }
            | PauseLife::Stopping { stops, .. }
            | PauseLife::Emptying { stops, .. } => {
                stops.push(by);
                return (self, Some(vec![Effect::Kill]));
            }
            _ => {}
        }
        match self {
            PauseLife::Running { started_at } => (PauseLife::Stopping { started_at, stops: vec![by] }, first),
            PauseLife::Ended { started_at, exit } => {
                (PauseLife::Emptying { started_at, exit, stops: vec![by] }, first)
            }
            PauseLife::Stillborn(_) | PauseLife::Stopped { .. } => {
                (self, Some(vec![Effect::Answer(by, Reply::Stopped)]))
            }
            other => other.refuse(),
        }
    }

    fn group_gone(self) -> Outcome<C, F> {
        match self {
            PauseLife::Emptying { started_at, exit, stops } => {
                (PauseLife::Stopped { started_at, exit }, Some(stopped(stops).collect()))
            }
            other => other.refuse(),
        }
    }
}

fn stopped<C, F>(stops: Vec<C>) -> impl Iterator<Item = Effect<C, F>> {
    stops.into_iter().map(|caller| Effect::Answer(caller, Reply::Stopped))
}

/// Where nobody is there to be told yet, the release will be. For those who wanted it stopped nothing is left to stop.
fn never_ran<C: Copy, F>(caller: Option<C>, failure: Option<F>, stops: Vec<C>, code: i32) -> Outcome<C, F> {
    let cause = failure.map_or(Cause::Died(code), Cause::Told);
    let mut effects = vec![Effect::DropGroup];
    let life = match caller {
        Some(caller) => {
            effects.push(Effect::Answer(caller, Reply::Failed(cause)));
            PauseLife::Gone
        }
        None => PauseLife::Stillborn(cause),
    };
    effects.extend(stopped(stops));
    (life, Some(effects))
}
