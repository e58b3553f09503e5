//! The whole machine as a table, made by asking it.

use husk_model::{Exit, ExitReason};

use super::{
    event::{Cause, Effect, Event, Reply},
    state::PauseLife,
};
use crate::table::{Row, markdown};

type Life = PauseLife<u8, &'static str>;

/// Every state by every event, for docs/states.md.
pub fn table() -> String {
    let mut rows = Vec::new();
    for life in states() {
        for (event, happened) in events() {
            let (next, effects) = life.clone().apply(happened);
            let outcome = effects.ok().map(|effects| (name(&next), effects.iter().map(words).collect()));
            rows.push(Row { state: name(&life), event, outcome });
        }
    }
    markdown(&rows)
}

/// One of each state, with somebody waiting wherever somebody can.
fn states() -> [Life; 9] {
    let exit = Exit { code: 137, finished_at: 1, reason: ExitReason::Error, message: String::new() };
    [
        PauseLife::Starting { caller: None, failure: None, stops: Vec::new() },
        PauseLife::Starting { caller: Some(0), failure: None, stops: Vec::new() },
        PauseLife::Running { started_at: 1 },
        PauseLife::Stopping { started_at: 1, stops: vec![1] },
        PauseLife::Stillborn(Cause::Died(1)),
        PauseLife::Ended { started_at: 1, exit: exit.clone() },
        PauseLife::Emptying { started_at: 1, exit: exit.clone(), stops: vec![1] },
        PauseLife::Stopped { started_at: 1, exit },
        PauseLife::Gone,
    ]
}

/// One of each event.
fn events() -> [(&'static str, Event<u8, &'static str>); 8] {
    [
        ("ReleaseSandbox", Event::Release(2)),
        ("it fails", Event::Failed("it")),
        ("it runs", Event::Executed { at: 1 }),
        ("it is reaped", Event::Reaped { code: 137, at: 1 }),
        ("StopSandbox", Event::Stop(3)),
        ("no container is left", Event::Alone),
        ("its group is removed", Event::GroupGone),
        ("its group is in use", Event::GroupStays),
    ]
}

fn name<C, F>(life: &PauseLife<C, F>) -> &'static str {
    match life {
        PauseLife::Starting { caller: None, .. } => "Starting, unreleased",
        PauseLife::Starting { .. } => "Starting",
        PauseLife::Running { .. } => "Running",
        PauseLife::Stopping { .. } => "Stopping",
        PauseLife::Stillborn(_) => "Stillborn",
        PauseLife::Ended { .. } => "Ended",
        PauseLife::Emptying { .. } => "Emptying",
        PauseLife::Stopped { .. } => "Stopped",
        PauseLife::Gone => "Gone",
    }
}

fn words<C, F>(effect: &Effect<C, F>) -> &'static str {
    match effect {
        Effect::WriteRecord => "write its record",
        Effect::Answer(_, Reply::Started) => "answer that it runs",
        Effect::Answer(_, Reply::Stopped) => "answer the stop",
        Effect::Answer(_, Reply::Failed(_)) => "answer with the failure",
        Effect::PublishExited(_) => "publish its end",
        Effect::OpenGate => "open the gate",
        Effect::Kill => "kill the pod's group",
        Effect::DropGroup => "kill and remove the pod's group",
        Effect::RemoveGroup => "remove the pod's group",
        Effect::LookAgain => "look again",
    }
}
