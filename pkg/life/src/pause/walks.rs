//! Walks through the machine: every sequence of events up to a length.

use std::collections::BTreeMap;

use super::{
    event::{Effect, Event, Reply},
    state::PauseLife,
};

type Life = PauseLife<u32, &'static str>;

const DEPTH: usize = 9;

/// A life with everything that was done in it.
#[derive(Clone)]
struct Story {
    life: Life,
    taken: BTreeMap<u32, &'static str>,
    answers: BTreeMap<u32, usize>,
    recorded: bool,
    published: usize,
}

fn events(caller: u32) -> [(&'static str, Event<u32, &'static str>); 8] {
    [
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

impl Story {
    fn new(caller: Option<u32>) -> Self {
        let taken = caller.iter().map(|caller| (*caller, "run")).collect();
        Self { life: PauseLife::new(caller), taken, answers: BTreeMap::new(), recorded: false, published: 0 }
    }

    fn next_caller(&self) -> u32 {
        100 + self.taken.len() as u32
    }

    /// Lets the event happen and checks what must hold at every step; false when it was refused.
    fn happen(&mut self, call: &'static str, event: Event<u32, &'static str>) -> bool {
        let before = self.life.clone();
        let (after, outcome) = before.clone().apply(event);
        let Ok(effects) = outcome else {
            assert_eq!(before, after, "a refusal changes nothing");
            return false;
        };
        if !call.is_empty() {
            self.taken.insert(self.next_caller(), call);
        }
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
            for (caller, call) in &self.taken {
                assert_eq!(self.answers.get(caller), Some(&1), "{call} is answered by then: {:?}", self.life);
            }
        }
        true
    }

    fn answer(&mut self, caller: u32, reply: &Reply<&'static str>, after: &Life) {
        let call = self.taken[&caller];
        *self.answers.entry(caller).or_default() += 1;
        assert_eq!(self.answers[&caller], 1, "{call} is answered once");
        match reply {
            Reply::Stopped => assert!(call == "stop" && after.is_over(), "{call} {after:?}"),
            Reply::Started | Reply::Failed(_) => assert_ne!(call, "stop"),
        }
    }
}

fn walk(story: &Story, left: usize, steps: &mut usize) {
    if left == 0 {
        return;
    }
    for (call, event) in events(story.next_caller()) {
        let mut next = story.clone();
        if next.happen(call, event) {
            *steps += 1;
            walk(&next, left - 1, steps);
        }
    }
}

#[test]
fn no_sequence_of_events_loses_an_exit_an_answer_or_an_event() {
    for caller in [None, Some(1)] {
        let mut steps = 0;
        walk(&Story::new(caller), DEPTH, &mut steps);
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
