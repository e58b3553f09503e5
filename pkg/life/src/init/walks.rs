//! Walks through the machine: every sequence of events up to a length, and long random ones.

use std::time::Duration;

use husk_model::Exit;

use super::{
    event::{Effect, Event, Reply},
    state::InitLife,
};
use crate::walk::{Calls, Story as _, walk};

type Life = InitLife<u32, &'static str>;

/// The call that made it.
const CREATOR: u32 = 0;
/// Long enough for every state from either beginning, and for two of anything.
const DEPTH: usize = 6;

/// A life with everything that was done in it.
#[derive(Clone)]
struct Story {
    life: Life,
    calls: Calls,
    exit: Option<Exit>,
    log_ended: bool,
    end_recorded: bool,
    published: usize,
    started: usize,
    forgotten: usize,
}

fn events(caller: u32) -> Vec<(&'static str, Event<u32, &'static str>)> {
    let end = |code, at, oom_killed| Event::Ended { code, at, oom_killed };
    vec![
        ("", Event::Ready),
        ("", Event::Failed("told")),
        ("start", Event::Start(caller)),
        ("", Event::LogOpened { at: 10 }),
        ("", Event::LogRefused("no log")),
        ("", Event::Executed),
        ("", Event::Kill),
        ("stop", Event::Stop { by: caller, signal: 15, grace: Duration::from_secs(1) }),
        ("stop", Event::Stop { by: caller, signal: 15, grace: Duration::ZERO }),
        ("", Event::SignalRefused { by: caller.saturating_sub(1), why: "no signal" }),
        ("", Event::GraceOver),
        ("removal", Event::Remove(caller)),
        ("", end(0, 20, false)),
        ("", end(137, 30, true)),
        ("", Event::Drained),
        ("", Event::DrainOver),
        ("", Event::GroupGone),
        ("", Event::GroupStays { patience: true }),
        ("", Event::GroupStays { patience: false }),
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
        for effect in &effects {
            self.carry_out(&after, effect);
        }
        self.life = after;
        if before.is_exited() {
            assert!(self.life.is_exited() || self.life.is_gone(), "nothing but a removal leaves the end");
        }
        assert!(!before.is_gone(), "nothing happens to what is gone");
        if let Some(known) = &self.exit {
            assert!(
                self.life.is_gone() || self.life.exit() == Some(known),
                "an exit is never lost or changed"
            );
        }
        self.exit = self.life.exit().cloned().or(self.exit.take());
        if self.life.is_exited() || self.life.is_gone() {
            self.check_over();
        }
        true
    }
}

impl Story {
    fn new() -> Self {
        let mut calls = Calls::default();
        calls.take("creation");
        Self {
            life: InitLife::new(CREATOR),
            calls,
            exit: None,
            log_ended: false,
            end_recorded: false,
            published: 0,
            started: 0,
            forgotten: 0,
        }
    }

    fn carry_out(&mut self, after: &Life, effect: &Effect<u32, &'static str>) {
        match effect {
            Effect::EndLog => self.log_ended = true,
            Effect::WriteRecord => self.end_recorded |= after.exit().is_some() && self.log_ended,
            Effect::PublishStarted(_) => self.started += 1,
            Effect::PublishExited(exit) => {
                assert!(self.log_ended && self.end_recorded, "an end is told once it is on disk");
                assert_eq!(Some(exit), self.exit.as_ref(), "what is told is what was recorded");
                self.published += 1;
            }
            Effect::Forget => {
                assert_eq!(self.published, 1, "an end is told before it is forgotten");
                self.forgotten += 1;
            }
            Effect::Answer(caller, reply) => self.answer(*caller, reply),
            _ => {}
        }
    }

    fn answer(&mut self, caller: u32, reply: &Reply<&'static str>) {
        let call = self.calls.answer(caller);
        let fits = match reply {
            Reply::Created => call == "creation",
            Reply::Started(_) => call == "start",
            Reply::Exited(exit) => call == "stop" && Some(exit) == self.exit.as_ref(),
            Reply::Removed => call == "removal" && self.forgotten == 1,
            Reply::Failed(_) => call != "removal",
        };
        assert!(fits, "{call} is not answered {reply:?}");
    }

    /// What must hold once the end was told.
    fn check_over(&self) {
        self.calls.assert_answered(&self.life);
        assert!(self.started <= 1);
        let told = usize::from(self.exit.is_some());
        assert_eq!(self.published, told, "the end of what was built is told exactly once");
    }
}

#[test]
fn no_sequence_of_events_loses_an_exit_an_answer_or_an_event() {
    let mut running = Story::new();
    for (call, event) in [
        ("", Event::Ready),
        ("start", Event::Start(1)),
        ("", Event::LogOpened { at: 5 }),
        ("", Event::Executed),
    ] {
        assert!(running.happen(call, event));
    }
    for story in [Story::new(), running] {
        let steps = walk(&story, DEPTH);
        assert!(steps > 10_000, "{steps}");
    }
}

#[test]
fn no_long_life_does_either_and_every_life_can_end() {
    let mut seed: u64 = 0x5eed;
    // The constants of Knuth's MMIX generator; the high bits are the good ones.
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    for _ in 0..5000 {
        let mut story = Story::new();
        for _ in 0..60 {
            let mut all = story.events();
            let (call, event) = all.swap_remove(random(all.len()));
            story.happen(call, event);
        }
        for end in [12, 14, 16] {
            let mut all = story.events();
            let (call, event) = all.swap_remove(end);
            story.happen(call, event);
        }
        assert!(story.life.is_exited() || story.life.is_gone(), "{:?}", story.life);
    }
}

#[test]
fn an_init_that_was_never_built_is_a_failed_creation_and_nothing_else() {
    for (end, words) in [(false, "KilledWhileBuilt"), (true, "TooLittleMemory")] {
        let mut story = Story::new();
        assert!(story.happen("", Event::Ended { code: 137, at: 1, oom_killed: end }));
        assert!(format!("{:?}", story.life).contains(words), "{:?}", story.life);
        assert!(story.happen("", Event::GroupGone));
        assert!(story.life.is_gone());
        assert_eq!(story.published, 0);
    }
}

#[test]
fn a_command_that_cannot_be_executed_exits_with_128_and_its_reason() {
    let mut story = Story::new();
    for (call, event) in [
        ("", Event::Ready),
        ("start", Event::Start(1)),
        ("", Event::LogOpened { at: 5 }),
        ("", Event::Failed("no such file")),
        ("", Event::Failed("a later one")),
        ("", Event::Ended { code: 1, at: 6, oom_killed: false }),
    ] {
        assert!(story.happen(call, event));
    }
    let exit = story.life.exit().unwrap();
    assert_eq!((exit.code, exit.message.as_str()), (128, "no such file"));
    assert_eq!(story.life.started_at(), Some(5));
    assert_eq!(story.life.told_exit(), None, "nobody is told before its group is gone");
}
