//! A pod sandbox as huskd knows it.
//!
//! ```text
//! Making ─ Made ─▶ Ready ─ Ended ─▶ Ended ──┐
//!                    │                      │
//!   Unreadable ──────┴───── StopBegun ──────┴──▶ Stopping ─ every step, Stopped ─▶ Stopped ─ Removed ─▶ Removed
//! ```
//!
//! Whatever a stop has done stays done: a stop that failed half-way leaves [`PodLife::Stopping`], from which a retry goes on.

use husk_model::UnixNanos;
use serde::{Deserialize, Serialize};

use crate::refusal::Refusal;

/// How a sandbox ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    at: UnixNanos,
    why: String,
}

impl End {
    /// An end at a time, with a sentence for people; it may be empty where nothing went wrong.
    pub fn new(at: UnixNanos, why: impl Into<String>) -> Self {
        Self { at, why: why.into() }
    }

    /// When.
    pub fn at(&self) -> UnixNanos {
        self.at
    }

    /// Why, for people; may be empty.
    pub fn why(&self) -> &str {
        &self.why
    }
}

/// A part of StopPodSandbox. Each may be repeated; none is undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// All containers have ended.
    Containers,
    /// Plugins know that the pod stops: its containers have ended, its network may still be there.
    Plugins,
    /// The pause process has ended and the pod's cgroup is gone.
    Pause,
    /// The network is taken back.
    Network,
}

impl Step {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Containers, Self::Plugins, Self::Pause, Self::Network];
}

/// Which steps of a stop are done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Steps(u8);

impl Steps {
    /// Whether a step is done.
    pub fn has(self, step: Step) -> bool {
        self.0 & (1 << step as u8) != 0
    }

    fn with(self, step: Step) -> Self {
        Self(self.0 | 1 << step as u8)
    }

    fn all(self) -> bool {
        Step::ALL.into_iter().all(|step| self.has(step))
    }
}

/// Where a sandbox is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodLife {
    /// RunPodSandbox is at work and nobody sees the pod. After a crash, start-up undoes what was made.
    Making,
    /// Its pause process runs; containers can be created.
    Ready,
    /// Its pause process or its monitor ended unasked. The network is still there; the pod waits to be stopped.
    Ended(End),
    /// StopPodSandbox has begun: no container is created from here on, and a retry goes on with the steps that are not done.
    Stopping {
        /// What is done.
        done: Steps,
        /// How the sandbox ended, if that has been announced.
        end: Option<End>,
    },
    /// Containers, pause and network have ended. Records of its containers are kept until the pod is removed.
    Stopped {
        /// How the sandbox ended; unknown of one that a daemon before 0.2 stopped.
        end: Option<End>,
    },
    /// Nothing of it is left.
    Removed,
    /// Its record cannot be read: it can be stopped and removed, nothing else.
    Unreadable {
        /// Why, for people.
        reason: String,
    },
}

/// Something that happens to a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodEvent {
    /// Everything was built.
    Made,
    /// The sandbox ended unasked: its pause process did, or everything was ended in a dead monitor's stead.
    Ended(End),
    /// Its monitor died unasked, or is gone after a restart.
    MonitorLost,
    /// StopPodSandbox begins, or goes on after a failure.
    StopBegun,
    /// A step of the stop is done.
    StepDone(Step),
    /// All of the stop is done.
    Stopped {
        /// Now.
        at: UnixNanos,
    },
    /// The last of it is gone.
    Removed,
}

/// What followers of the node hear of a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodNews {
    /// It became ready.
    Ready,
    /// It ended. Told once.
    NotReady,
    /// It is gone.
    Deleted,
}

/// What the owner of a sandbox has to do, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodEffect {
    /// Write [`PodLife::record`] down before the new state is seen.
    Record,
    /// Tell those who follow the node, in one step with the change.
    Announce(PodNews),
    /// End what the monitor left, learn what it recorded, and come back with [`PodEvent::Ended`].
    Abandon,
}

/// A state as it stands in a pod's record. Steps of a stop are not recorded: each may be repeated, and writing them down
/// would cost more than doing them again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PodRecordLife {
    /// [`PodLife::Making`]
    Making,
    /// [`PodLife::Ready`]; whether it has ended since is for its monitor's record to say.
    Ready,
    /// [`PodLife::Stopping`]
    Stopping,
    /// [`PodLife::Stopped`]
    Stopped {
        /// When its end was announced.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<UnixNanos>,
    },
}

type Outcome = Result<(PodLife, Vec<PodEffect>), Refusal>;

impl PodLife {
    /// The state after an event, and what is to be done about it.
    ///
    /// # Errors
    /// The event has no place in this state; nothing changes.
    pub fn apply(&self, event: &PodEvent) -> Outcome {
        match (self, event) {
            (Self::Making, PodEvent::Made) => {
                Ok((Self::Ready, vec![PodEffect::Record, PodEffect::Announce(PodNews::Ready)]))
            }
            // Of what is gone there is nothing to stop.
            (Self::Removed, PodEvent::StopBegun) => Ok((Self::Removed, Vec::new())),
            (Self::Making | Self::Removed, _) | (_, PodEvent::Made) => Err(self.refuse(event)),
            (_, PodEvent::Ended(end)) => Ok(self.ended(end)),
            (_, PodEvent::MonitorLost) => Ok((self.clone(), self.without_monitor())),
            (_, PodEvent::StopBegun) => Ok(self.stop_begun()),
            (Self::Stopping { done, end }, PodEvent::StepDone(step)) => {
                Ok((Self::Stopping { done: done.with(*step), end: end.clone() }, Vec::new()))
            }
            (Self::Stopping { done, end }, PodEvent::Stopped { at }) if done.all() => Ok(stopped(end, *at)),
            (Self::Stopped { .. }, PodEvent::Removed) => {
                Ok((Self::Removed, vec![PodEffect::Announce(PodNews::Deleted)]))
            }
            (_, PodEvent::StepDone(_) | PodEvent::Stopped { .. } | PodEvent::Removed) => {
                Err(self.refuse(event))
            }
        }
    }

    /// The first end counts, and it alone is news.
    fn ended(&self, end: &End) -> (Self, Vec<PodEffect>) {
        let news = vec![PodEffect::Announce(PodNews::NotReady)];
        match self {
            Self::Ready => (Self::Ended(end.clone()), news),
            Self::Unreadable { reason } => (Self::Ended(End::new(end.at, reason.as_str())), news),
            Self::Stopping { done, end: None } => {
                (Self::Stopping { done: *done, end: Some(end.clone()) }, news)
            }
            Self::Stopped { end: None } => (Self::Stopped { end: Some(end.clone()) }, news),
            other => (other.clone(), Vec::new()),
        }
    }

    /// Of a pod that is stopped nothing runs; of one without a record nobody knows what does.
    fn without_monitor(&self) -> Vec<PodEffect> {
        match self {
            Self::Ready | Self::Ended(_) | Self::Stopping { .. } => vec![PodEffect::Abandon],
            _ => Vec::new(),
        }
    }

    fn stop_begun(&self) -> (Self, Vec<PodEffect>) {
        let end = match self {
            Self::Ready => None,
            Self::Ended(end) => Some(end.clone()),
            // Its end is announced when the stop is over: nobody has seen it ready.
            Self::Unreadable { .. } => None,
            already => return (already.clone(), Vec::new()),
        };
        (Self::Stopping { done: Steps::default(), end }, vec![PodEffect::Record])
    }

    /// What a pod's record says of this state; `None` of one that has no record, or none that could be written.
    pub fn record(&self) -> Option<PodRecordLife> {
        match self {
            Self::Making => Some(PodRecordLife::Making),
            Self::Ready | Self::Ended(_) => Some(PodRecordLife::Ready),
            Self::Stopping { .. } => Some(PodRecordLife::Stopping),
            Self::Stopped { end } => Some(PodRecordLife::Stopped { at: end.as_ref().map(End::at) }),
            Self::Removed | Self::Unreadable { .. } => None,
        }
    }

    /// The state of a pod that start-up finds on record.
    pub fn recovered(record: PodRecordLife) -> Self {
        match record {
            PodRecordLife::Making => Self::Making,
            PodRecordLife::Ready => Self::Ready,
            PodRecordLife::Stopping => Self::Stopping { done: Steps::default(), end: None },
            PodRecordLife::Stopped { at } => Self::Stopped { end: at.map(|at| End::new(at, "")) },
        }
    }

    /// Whether containers can be created in it.
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Ready)
    }

    /// What of a stop is done; `None` when none is under way.
    pub fn stopping(&self) -> Option<Steps> {
        match self {
            Self::Stopping { done, .. } => Some(*done),
            _ => None,
        }
    }

    /// How it ended, once that has been announced.
    pub fn end(&self) -> Option<&End> {
        match self {
            Self::Ended(end) => Some(end),
            Self::Stopping { end, .. } | Self::Stopped { end } => end.as_ref(),
            Self::Making | Self::Ready | Self::Removed | Self::Unreadable { .. } => None,
        }
    }

    /// Why it is as it is, for people; empty where there is nothing to explain.
    pub fn explanation(&self) -> &str {
        match self {
            Self::Unreadable { reason } => reason,
            other => other.end().map(End::why).unwrap_or_default(),
        }
    }

    /// The state in words for people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Making => "being made",
            Self::Ready => "ready",
            Self::Ended(_) => "ended",
            Self::Stopping { .. } => "being stopped",
            Self::Stopped { .. } => "stopped",
            Self::Removed => "removed",
            Self::Unreadable { .. } => "unreadable",
        }
    }

    fn refuse(&self, event: &PodEvent) -> Refusal {
        Refusal { state: self.name(), event: event.name() }
    }
}

/// The end is announced with the last step, unless it was before.
fn stopped(end: &Option<End>, at: UnixNanos) -> (PodLife, Vec<PodEffect>) {
    match end {
        Some(end) => (PodLife::Stopped { end: Some(end.clone()) }, vec![PodEffect::Record]),
        None => (
            PodLife::Stopped { end: Some(End::new(at, "")) },
            vec![PodEffect::Record, PodEffect::Announce(PodNews::NotReady)],
        ),
    }
}

impl PodEvent {
    /// The event in words for people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Made => "completing the pod",
            Self::Ended(_) => "the end of the sandbox",
            Self::MonitorLost => "the loss of the monitor",
            Self::StopBegun => "stopping the pod",
            Self::StepDone(_) => "a step of the stop",
            Self::Stopped { .. } => "completing the stop",
            Self::Removed => "removing the pod",
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::table::{Row, table};

    fn end(at: UnixNanos) -> End {
        End::new(at, "gone")
    }

    fn events() -> Vec<PodEvent> {
        let mut events = vec![
            PodEvent::Made,
            PodEvent::Ended(end(7)),
            PodEvent::MonitorLost,
            PodEvent::StopBegun,
            PodEvent::Stopped { at: 8 },
            PodEvent::Removed,
        ];
        events.extend(Step::ALL.map(PodEvent::StepDone));
        events
    }

    /// Every state that any sequence of events reaches from one of `from`.
    fn reachable(from: Vec<PodLife>) -> Vec<PodLife> {
        let (mut found, mut open) = (from.clone(), from);
        while let Some(state) = open.pop() {
            for next in events().iter().filter_map(|event| Some(state.apply(event).ok()?.0)) {
                if !found.contains(&next) {
                    found.push(next.clone());
                    open.push(next);
                }
            }
        }
        found
    }

    fn beginnings() -> Vec<PodLife> {
        let records = [
            PodRecordLife::Ready,
            PodRecordLife::Stopping,
            PodRecordLife::Stopped { at: None },
            PodRecordLife::Stopped { at: Some(6) },
        ];
        let mut from = vec![PodLife::Making, PodLife::Unreadable { reason: "torn".into() }];
        from.extend(records.map(PodLife::recovered));
        from
    }

    fn edges() -> impl Iterator<Item = (PodLife, PodEvent, PodLife, Vec<PodEffect>)> {
        reachable(beginnings()).into_iter().flat_map(|state| {
            events().into_iter().filter_map(move |event| {
                let (next, effects) = state.apply(&event).ok()?;
                Some((state.clone(), event, next, effects))
            })
        })
    }

    #[test]
    fn every_beginning_can_be_stopped_and_removed() {
        for mut life in beginnings() {
            if life == PodLife::Making {
                life = life.apply(&PodEvent::Made).unwrap().0;
            }
            life = life.apply(&PodEvent::StopBegun).unwrap().0;
            if life.stopping().is_some() {
                for step in Step::ALL {
                    assert!(life.apply(&PodEvent::Stopped { at: 9 }).is_err(), "{step:?} is not done");
                    life = life.apply(&PodEvent::StepDone(step)).unwrap().0;
                }
                life = life.apply(&PodEvent::Stopped { at: 9 }).unwrap().0;
            }
            assert_eq!(life.apply(&PodEvent::Removed).unwrap().0, PodLife::Removed);
        }
    }

    #[test]
    fn the_end_is_announced_with_the_change_that_brings_it_and_never_again() {
        for (state, event, next, effects) in edges() {
            let told = effects.contains(&PodEffect::Announce(PodNews::NotReady));
            let known = state.end().is_none() && next.end().is_some();
            assert_eq!(told, known, "{state:?} {event:?}");
        }
    }

    #[test]
    fn an_end_once_known_stays_as_it_is() {
        for (state, event, next, _) in edges() {
            if let (Some(before), Some(after)) = (state.end(), next.end()) {
                assert_eq!(before, after, "{state:?} {event:?}");
            }
        }
    }

    #[test]
    fn nothing_becomes_ready_again_and_nothing_comes_after_the_removal() {
        for (state, event, next, _) in edges() {
            assert!(
                !next.is_ready() || matches!(state, PodLife::Making | PodLife::Ready),
                "{state:?} {event:?}"
            );
            assert!(state != PodLife::Removed || next == PodLife::Removed, "{event:?}");
        }
    }

    #[test]
    fn what_a_stop_has_done_stays_done_whatever_comes_between() {
        for (state, event, next, _) in edges() {
            let (Some(before), Some(after)) = (state.stopping(), next.stopping()) else { continue };
            for step in Step::ALL.into_iter().filter(|step| before.has(*step)) {
                assert!(after.has(step), "{step:?} after {event:?}");
            }
        }
    }

    #[test]
    fn a_state_that_is_recorded_differently_is_recorded() {
        for (state, event, next, effects) in edges() {
            let changes = next.record().is_some_and(|next| !same_record(Some(next), state.record()));
            // Whoever reads the record asks the monitor's as well, which has the end.
            let ended = matches!(event, PodEvent::Ended(_));
            assert_eq!(
                effects.first() == Some(&PodEffect::Record),
                changes && !ended,
                "{state:?} {event:?} {next:?}"
            );
        }
    }

    /// A stop's time is for followers: it does not tell one record from another.
    fn same_record(a: Option<PodRecordLife>, b: Option<PodRecordLife>) -> bool {
        let kind = |record: Option<PodRecordLife>| record.map(|record| std::mem::discriminant(&record));
        kind(a) == kind(b)
    }

    #[test]
    fn a_recovered_state_is_the_recorded_one() {
        for state in reachable(beginnings()) {
            let Some(record) = state.record() else { continue };
            let json = serde_json::to_string(&record).unwrap();
            let again = PodLife::recovered(serde_json::from_str(&json).unwrap());
            assert_eq!(again.record(), Some(record), "{json}");
        }
    }

    #[test]
    fn the_page_of_states_has_this_table() {
        let states = [
            PodLife::Making,
            PodLife::Ready,
            PodLife::Ended(end(1)),
            PodLife::Stopping { done: Steps::default(), end: None },
            Step::ALL
                .into_iter()
                .fold(PodLife::Stopping { done: Steps::default(), end: None }, |life, step| {
                    life.apply(&PodEvent::StepDone(step)).unwrap().0
                }),
            PodLife::Stopped { end: Some(end(1)) },
            PodLife::Removed,
            PodLife::Unreadable { reason: String::new() },
        ];
        let shown = |state: &PodLife| match state.stopping() {
            Some(done) if done.all() => format!("{}, every step done", state.name()),
            _ => state.name().to_owned(),
        };
        let events = events()
            .into_iter()
            .filter(|event| !matches!(event, PodEvent::StepDone(step) if *step != Step::Containers));
        let rows = events.map(|event| Row {
            event: event.name().to_owned(),
            cells: states
                .iter()
                .map(|state| match state.apply(&event) {
                    Err(_) => "refused".to_owned(),
                    Ok((next, effects)) => crate::table::cell(
                        (next != *state).then(|| next.name()),
                        effects.iter().map(|effect| match effect {
                            PodEffect::Record => "record".to_owned(),
                            PodEffect::Announce(news) => format!("announce {news:?}"),
                            PodEffect::Abandon => "end what is left".to_owned(),
                        }),
                    ),
                })
                .collect(),
        });
        table("pod", &states.iter().map(shown).collect::<Vec<_>>(), rows.collect());
    }
}
