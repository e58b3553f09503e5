//! The whole machine as a table of docs/states.md, made by asking it.

use std::time::Duration;

use husk_model::{Exit, ExitReason};

use super::{
    callers::Callers,
    event::{Cause, Effect, Event, Reply},
    state::{Group, InitLife},
};
use crate::table::{Row, cell, table};

type Life = InitLife<u8, &'static str>;

#[test]
fn the_page_of_states_has_this_table() {
    let states = states();
    let row = |event: Event<u8, &'static str>| Row {
        event: event.name().to_owned(),
        cells: states.iter().map(|life| field(life, event.clone())).collect(),
    };
    let names = states.iter().map(|life| name(life).to_owned()).collect::<Vec<_>>();
    table("init", &names, events().into_iter().map(row).collect());
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
fn states() -> [Life; 11] {
    let mut callers = Callers::default();
    callers.add_stop(2);
    let exit = Exit { code: 0, finished_at: 1, reason: ExitReason::Completed, message: String::new() };
    let (started_at, starter) = (Some(1), None);
    let exited = |group| InitLife::Exited { started_at, exit: exit.clone(), group };
    [
        InitLife::Building { creator: 0, failure: None },
        InitLife::Created { failure: None, callers: callers.clone() },
        InitLife::Opening { starter: 1, failure: None, callers: callers.clone() },
        InitLife::Starting { starter: 1, started_at: 1, failure: None, callers: callers.clone() },
        InitLife::Running { started_at: 1, callers: callers.clone() },
        InitLife::Draining { started_at, exit: exit.clone(), starter: None, callers: callers.clone() },
        InitLife::Removing { started_at, exit: exit.clone(), starter, callers },
        exited(Group::Held),
        exited(Group::Gone),
        InitLife::Discarded { creator: 0, cause: Cause::KilledWhileBuilt },
        InitLife::Gone,
    ]
}

/// One of each event.
fn events() -> [Event<u8, &'static str>; 18] {
    let stop = |grace| Event::Stop { by: 4, signal: 15, grace };
    [
        Event::Ready,
        Event::Failed("it"),
        Event::Start(3),
        Event::LogOpened { at: 1 },
        Event::LogRefused("log"),
        Event::Executed,
        Event::Kill,
        stop(Duration::from_secs(1)),
        stop(Duration::ZERO),
        Event::SignalRefused { by: 2, why: "signal" },
        Event::GraceOver,
        Event::Remove(5),
        Event::Ended { code: 0, at: 1, oom_killed: false },
        Event::Drained,
        Event::DrainOver,
        Event::GroupGone,
        Event::GroupStays { patience: true },
        Event::GroupStays { patience: false },
    ]
}

fn name<C, F>(life: &InitLife<C, F>) -> &'static str {
    match life {
        InitLife::Building { .. } => "Building",
        InitLife::Created { .. } => "Created",
        InitLife::Opening { .. } => "Opening",
        InitLife::Starting { .. } => "Starting",
        InitLife::Running { .. } => "Running",
        InitLife::Draining { .. } => "Draining",
        InitLife::Removing { .. } => "Removing",
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
