//! The whole machine as a table, made by asking it.

use std::time::Duration;

use husk_model::{Exit, ExitReason};

use super::{
    event::{Cause, Effect, End, Event, Reply},
    state::{Callers, Ending, Group, InitLife},
};
use crate::table::{Row, markdown};

type Life = InitLife<u8, &'static str>;

/// Every state by every event, for docs/states.md.
pub fn table() -> String {
    let mut rows = Vec::new();
    for (state, life) in states() {
        for (event, happened) in events() {
            let (next, effects) = life.clone().apply(happened);
            let outcome = effects.ok().map(|effects| (name(&next), effects.iter().map(words).collect()));
            rows.push(Row { state, event, outcome });
        }
    }
    markdown(&rows)
}

/// One of each state, with somebody waiting wherever somebody can.
fn states() -> Vec<(&'static str, Life)> {
    let callers = Callers { stops: vec![2], removals: Vec::new() };
    let exit = Exit { code: 0, finished_at: 1, reason: ExitReason::Completed, message: String::new() };
    let starter = Some((1, Cause::KilledWhileStarted));
    let ending = Ending { started_at: Some(1), exit: exit.clone(), starter, callers: callers.clone() };
    let exited = |group| InitLife::Exited { started_at: Some(1), exit: exit.clone(), group };
    let lives = [
        InitLife::Building { creator: 0, failure: None },
        InitLife::Created { failure: None, callers: callers.clone() },
        InitLife::Opening { starter: 1, failure: None, callers: callers.clone() },
        InitLife::Starting { starter: 1, started_at: 1, failure: None, callers: callers.clone() },
        InitLife::Running { started_at: 1, callers },
        InitLife::Draining(ending.clone()),
        InitLife::Removing(ending),
        exited(Group::Held),
        exited(Group::Gone),
        InitLife::Discarded { creator: 0, cause: Cause::KilledWhileBuilt },
        InitLife::Gone,
    ];
    lives.into_iter().map(|life| (name(&life), life)).collect()
}

/// One of each event.
fn events() -> Vec<(&'static str, Event<u8, &'static str>)> {
    vec![
        ("it is ready", Event::Ready),
        ("it fails", Event::Failed("it")),
        ("StartContainer", Event::Start(3)),
        ("its log is open", Event::LogOpened { at: 1 }),
        ("its log can't be opened", Event::LogRefused("log")),
        ("its command runs", Event::Executed),
        ("KillContainer", Event::Kill),
        ("StopContainer, with grace", Event::Stop { by: 4, signal: 15, grace: Duration::from_secs(1) }),
        ("StopContainer, without", Event::Stop { by: 4, signal: 15, grace: Duration::ZERO }),
        ("the signal can't be sent", Event::SignalRefused { by: 2, why: "signal" }),
        ("the grace is over", Event::GraceOver),
        ("RemoveContainer", Event::Remove(5)),
        ("it is reaped", Event::Ended(End { code: 0, at: 1, oom_killed: false })),
        ("its output is read", Event::Drained),
        ("its output is waited for no longer", Event::DrainOver),
        ("its group is removed", Event::GroupGone),
        ("its group is in use", Event::GroupStays { patience: true }),
        ("its group is waited for no longer", Event::GroupStays { patience: false }),
    ]
}

fn name<C, F>(life: &InitLife<C, F>) -> &'static str {
    match life {
        InitLife::Building { .. } => "Building",
        InitLife::Created { .. } => "Created",
        InitLife::Opening { .. } => "Opening",
        InitLife::Starting { .. } => "Starting",
        InitLife::Running { .. } => "Running",
        InitLife::Draining(_) => "Draining",
        InitLife::Removing(_) => "Removing",
        InitLife::Exited { group: Group::Held, .. } => "Exited, group held",
        InitLife::Exited { group: Group::Gone, .. } => "Exited",
        InitLife::Discarded { .. } => "Discarded",
        InitLife::Gone => "Gone",
    }
}

fn words<C, F>(effect: &Effect<C, F>) -> &'static str {
    match effect {
        Effect::WriteRecord => "write its record",
        Effect::Answer(_, Reply::Created) => "answer its creator",
        Effect::Answer(_, Reply::Started(_)) => "answer the start",
        Effect::Answer(_, Reply::Exited(_)) => "answer the stop",
        Effect::Answer(_, Reply::Removed) => "answer the removal",
        Effect::Answer(_, Reply::Failed(_)) => "answer with the failure",
        Effect::PublishStarted(_) => "publish the start",
        Effect::PublishExited(_) => "publish the end",
        Effect::OpenLog => "open its log",
        Effect::OpenGate => "open the gate",
        Effect::Signal { .. } => "send the signal",
        Effect::ArmGrace(_) => "arm the grace",
        Effect::DisarmGrace => "disarm the grace",
        Effect::Kill => "kill its group",
        Effect::ArmDrain => "arm the drain",
        Effect::DisarmDrain => "disarm the drain",
        Effect::ReadOutput => "read its output",
        Effect::CutOutput => "stop reading",
        Effect::EndLog => "end its log",
        Effect::RemoveGroup => "remove its group",
        Effect::LookAgain => "look again",
        Effect::CloseInput => "close its input",
        Effect::Detach(_) => "answer the attached",
        Effect::Forget => "delete its record",
    }
}
