//! Walks through the machine: every sequence of events up to a length.

use super::{
    event::{Effect, Event, Reply},
    state::PauseLife,
};
use crate::walk::{Calls, Story as _, walk};

type Life = PauseLife<u32, &'static str>;

const DEPTH: usize = 9;

/// A life with everything that was done in it.
#[derive(Clone)]
struct Story {
    life: Life,
    calls: Calls,
    recorded: bool,
    published: usize,
}

fn events(caller: u32) -> Vec<(&'static str, Event<u32, &'static str>)> {
    vec![
        ("release", Event::Release(caller)),
        ("", Event::Failed("told")),
        ("", Event::Executed { at: 10 }),
        ("", Event::Reaped { code: 137, at: 20 }),
        ("stop", Event::Stop(caller)),
        ("", Event::Alone),
        ("", Event::GroupGone),
        ("", Event::GroupStays),
    ]
}

impl crate::walk::Story for Story {
    type Event = Event<u32, &'static str>;

    fn events(&self) -> Vec<(&'static str, Self::Event)> {
        events(self.calls.next_caller())
    }

    fn happen(&mut self, call: &'static str, event: Self::Event) -> bool {
        let before = self.life.clone();
        let (after, outcome) = before.clone().apply(event);
        let Ok(effects) = outcome else {
            assert_eq!(before, after, "a refusal changes nothing");
            return false;
        };
        self.calls.take(call);
        for effect in effects {
            match effect {
                Effect::WriteRecord => self.recorded = after.exit().is_some(),
                Effect::PublishExited(exit) => {
                    assert!(self.recorded, "an end is told once it is on disk");
                    assert_eq!(Some(&exit), after.exit());
                    self.published += 1;
                }
                Effect::Answer(caller, reply) => self.answer(caller, &reply, &after),
                _ => {}
            }
        }
        if let Some(exit) = before.exit() {
            assert_eq!(after.exit(), Some(exit), "an exit is never lost or changed");
        }
        assert!(!before.was_stopped() || after.was_stopped() || after.is_over(), "a stop is never forgotten");
        self.life = after;
        assert_eq!(self.published, usize::from(self.life.exit().is_some()), "an end is told exactly once");
        if self.life.is_over() {
            self.calls.assert_answered(&self.life);
        }
        true
    }
}

impl Story {
    fn new(caller: Option<u32>) -> Self {
        let mut calls = Calls::default();
        calls.take(if caller.is_some() { "run" } else { "" });
        Self { life: PauseLife::new(caller), calls, recorded: false, published: 0 }
    }

    fn answer(&mut self, caller: u32, reply: &Reply<&'static str>, after: &Life) {
        let call = self.calls.answer(caller);
        match reply {
            Reply::Stopped => assert!(call == "stop" && after.is_over(), "{call} {after:?}"),
            Reply::Started | Reply::Failed(_) => assert_ne!(call, "stop"),
        }
    }
}

#[test]
fn no_sequence_of_events_loses_an_exit_an_answer_or_an_event() {
    for caller in [None, Some(0)] {
        let steps = walk(&Story::new(caller), DEPTH);
        assert!(steps > 1000, "{steps}");
    }
}

#[test]
fn a_pause_that_dies_unreleased_is_told_to_whoever_releases_it() {
    let mut story = Story::new(None);
    assert!(story.happen("", Event::Reaped { code: 1, at: 1 }));
    assert!(story.life.is_over());
    let effects = story.life.apply(Event::Release(7)).1.unwrap();
    assert!(matches!(effects[..], [Effect::Answer(7, Reply::Failed(_))]));
}
