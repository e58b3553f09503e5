//! What is being made, and what became of it where nothing else tells: pods and containers whose making goes on or has failed, and
//! pulls of images for pods. For people; nothing is decided by it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use husk_model::{ContainerId, Door, Phase, PodMetadata, PodSandboxId, UnixNanos};
use husk_node::now;
use husk_telemetry::phases::Phases;

/// How many that have ended are kept.
const KEPT: usize = 128;
/// Longest text of an error, in bytes.
const ERROR_MAX: usize = 2048;

/// What is attempted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempted {
    /// A pod sandbox.
    Pod(PodSandboxId),
    /// A container of a pod that exists, with the name that it has there.
    Container(PodSandboxId, ContainerId, String),
    /// A pull of an image, for this pod as a rule.
    Pull(String),
}

/// An attempt as it is now.
#[derive(Debug, Clone)]
pub struct AttemptView {
    /// What it is to bring about.
    pub what: Attempted,
    /// The pod, if it is known for which one.
    pub pod: Option<PodMetadata>,
    /// Through which door it came.
    pub door: Option<Door>,
    /// When it began.
    pub began: UnixNanos,
    /// When it ended, if it has.
    pub ended: Option<UnixNanos>,
    /// Why it failed, if it did.
    pub error: Option<String>,
    /// How far it is, in words; of pulls alone.
    pub progress: String,
    /// What it has gone through.
    pub phases: Vec<Phase>,
}

/// All of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attempts(Arc<Mutex<All>>);

#[derive(Debug, Default)]
struct All {
    next: u64,
    running: BTreeMap<u64, Attempt>,
    ended: VecDeque<Attempt>,
}

#[derive(Debug)]
struct Attempt {
    view: AttemptView,
    phases: Phases,
}

impl Attempt {
    fn now(&self) -> AttemptView {
        AttemptView { phases: self.phases.now(), ..self.view.clone() }
    }
}

/// Whether what an attempt brought about tells of itself from then on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Afterwards {
    Forget,
    Keep,
}

/// An attempt that goes on. Dropped without an end, it was given up.
#[derive(Debug)]
pub(crate) struct Going {
    attempts: Attempts,
    number: u64,
}

impl Attempts {
    /// Begins one, whose steps are noted in `phases`.
    pub(crate) fn begin(
        &self,
        what: Attempted,
        pod: Option<PodMetadata>,
        door: Option<Door>,
        phases: Phases,
    ) -> Going {
        let mut all = self.lock();
        all.next += 1;
        let number = all.next;
        let view = AttemptView {
            what,
            pod,
            door,
            began: now(),
            ended: None,
            error: None,
            progress: String::new(),
            phases: Vec::new(),
        };
        all.running.insert(number, Attempt { view, phases });
        Going { attempts: self.clone(), number }
    }

    /// Those that go on, then those that have ended; each in the order of their beginning or end.
    pub(crate) fn all(&self) -> Vec<AttemptView> {
        let all = self.lock();
        all.running.values().chain(&all.ended).map(Attempt::now).collect()
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Going {
    /// How far it is.
    pub(crate) fn progress(&self, text: String) {
        if let Some(attempt) = self.attempts.lock().running.get_mut(&self.number) {
            attempt.view.progress = text;
        }
    }

    /// It has ended, with this error if it failed. What failed is kept for a while.
    pub(crate) fn end(self, error: Option<String>, afterwards: Afterwards) {
        self.finish(error, afterwards);
    }

    fn finish(&self, error: Option<String>, afterwards: Afterwards) {
        let mut all = self.attempts.lock();
        let Some(mut attempt) = all.running.remove(&self.number) else { return };
        if error.is_none() && afterwards == Afterwards::Forget {
            return;
        }
        attempt.view.ended = Some(now());
        attempt.view.error = error.map(|mut error| {
            let end = (0..=ERROR_MAX.min(error.len())).rev().find(|end| error.is_char_boundary(*end));
            error.truncate(end.unwrap_or(0));
            error
        });
        if all.ended.len() == KEPT {
            all.ended.pop_front();
        }
        all.ended.push_back(attempt);
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        // Nothing is left to do where it has ended.
        self.finish(Some("it was given up: whoever asked for it went away".to_owned()), Afterwards::Keep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pull(attempts: &Attempts) -> Going {
        attempts.begin(Attempted::Pull("image".to_owned()), None, None, Phases::default())
    }

    #[test]
    fn what_goes_on_and_what_failed_is_told_and_what_came_to_be_tells_of_itself() {
        let attempts = Attempts::default();
        pull(&attempts).end(None, Afterwards::Forget);
        assert!(attempts.all().is_empty());
        pull(&attempts).end(None, Afterwards::Keep);
        pull(&attempts).end(Some("x".repeat(2 * ERROR_MAX)), Afterwards::Forget);
        drop(pull(&attempts));
        let going = pull(&attempts);
        going.progress("1 of 2 layers".to_owned());
        let all = attempts.all();
        assert_eq!((all.len(), all[0].ended, &*all[0].progress), (4, None, "1 of 2 layers"));
        assert_eq!((all[1].error.as_ref(), all[1].ended.is_some()), (None, true));
        assert_eq!(all[2].error.as_ref().map(String::len), Some(ERROR_MAX));
        assert!(all[3].error.as_ref().is_some_and(|error| error.contains("given up")));
    }

    #[test]
    fn only_the_latest_are_kept() {
        let attempts = Attempts::default();
        for number in 0..2 * KEPT {
            pull(&attempts).end(Some(number.to_string()), Afterwards::Keep);
        }
        let all = attempts.all();
        assert_eq!((all.len(), all[0].error.as_deref()), (KEPT, Some(&*KEPT.to_string())));
    }
}
