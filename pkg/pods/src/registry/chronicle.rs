//! What is kept of the way of a pod or a container: the phases of its making, and who wanted it to end. For people; nothing is
//! decided by it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use husk_model::{AskedEnd, Ending, History};
use husk_node::now;
use husk_telemetry::phases::Phases;

/// Wishes that are kept: the first say why, later ones repeat them.
const MOST_ASKED: usize = 8;
/// Longest text that a plugin gives as its reason, in bytes.
const REASON_MAX: usize = 256;

/// The chronicle of one object. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chronicle {
    phases: Phases,
    asked: Arc<Mutex<Vec<AskedEnd>>>,
}

impl Chronicle {
    /// Of an object that was found on record.
    pub(crate) fn recorded(history: History) -> Self {
        let History { phases, asked } = history;
        Self { phases: Phases::recorded(phases), asked: Arc::new(Mutex::new(asked)) }
    }

    /// All so far.
    pub(crate) fn now(&self) -> History {
        History { phases: self.phases.now(), asked: self.asked().clone() }
    }

    /// Where its phases are noted.
    pub(crate) fn phases(&self) -> &Phases {
        &self.phases
    }

    /// Does `work` for the object: its steps become phases.
    pub(crate) async fn during<F: Future>(&self, work: F) -> F::Output {
        self.phases.during(work).await
    }

    /// Somebody wants the object to end.
    pub(crate) fn asked_to_end(&self, mut what: Ending) {
        if let Ending::Eviction { reason, .. } = &mut what {
            let end = (0..=REASON_MAX.min(reason.len())).rev().find(|end| reason.is_char_boundary(*end));
            reason.truncate(end.unwrap_or(0));
        }
        let mut asked = self.asked();
        if asked.len() < MOST_ASKED {
            asked.push(AskedEnd { at: now(), what });
        }
    }

    fn asked(&self) -> MutexGuard<'_, Vec<AskedEnd>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_wishes_are_kept_and_a_plugins_reason_is_cut() {
        let chronicle = Chronicle::default();
        let reason = "é".repeat(REASON_MAX);
        chronicle.asked_to_end(Ending::Eviction { plugin: "p".to_owned(), reason });
        for _ in 0..2 * MOST_ASKED {
            chronicle.asked_to_end(Ending::OfPod);
        }
        let asked = chronicle.now().asked;
        assert_eq!(asked.len(), MOST_ASKED);
        assert!(
            matches!(&asked[0].what, Ending::Eviction { reason, .. } if reason.len() <= REASON_MAX && reason.starts_with('é'))
        );
        assert_eq!(Chronicle::recorded(chronicle.now()).now(), chronicle.now());
    }
}
