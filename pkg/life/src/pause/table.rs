//! The whole machine as a table of docs/states.md, made by asking it.

use husk_model::{Exit, ExitReason};

use super::{
    event::{Cause, Effect, Event, Reply},
    state::PauseLife,
};
use crate::table::{Row, cell, table};

type Life = PauseLife<u8, &'static str>;

#[test]
fn the_page_of_states_has_this_table() {
    let states = states();
    let row = |event: Event<u8, &'static str>| Row {
        event: event.name().to_owned(),
        cells: states.iter().map(|life| field(life, event.clone())).collect(),
    };
    let names = states.iter().map(|life| name(life).to_owned()).collect::<Vec<_>>();
    table("pause", &names, events().into_iter().map(row).collect());
}

fn field(life: &Life, event: Event<u8, &'static str>) -> String {
    match life.clone().apply(event) {
        (_, Err(_)) => "refused".to_owned(),
        (next, Ok(effects)) => {
            let next = (name(&next) != name(life)).then(|| name(&next));
            cell(next, effects.iter().map(|effect| words(effect).to_owned()))
        }
    }
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
fn events() -> [Event<u8, &'static str>; 8] {
    [
        Event::Release(2),
        Event::Failed("it"),
        Event::Executed { at: 1 },
        Event::Reaped { code: 137, at: 1 },
        Event::Stop(3),
        Event::Alone,
        Event::GroupGone,
        Event::GroupStays,
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
