//! The steps that an object (a pod, a container, a pull) has gone through and the one it is in, for people who ask why it takes so
//! long.
//!
//! Whoever begins work for an object does it within [`Phases::during`]; every [`step!`](crate::step!) and [`phase`] that the work comes
//! to, in the same task or in one that took it over with [`inherited`], is noted there. Work that nobody keeps phases of costs a look
//! at a variable of the task.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use husk_model::Phase;

/// Phases that are kept of one object; a pod's start has some ten. Of later ones nothing is noted.
pub const MOST: usize = 48;
/// Longest name, in bytes: one that is not written in husk names a plugin.
const NAME_MAX: usize = 80;

tokio::task_local! {
    /// For whom this task works.
    static HERE: Here;
}

#[derive(Debug, Clone)]
struct Here {
    phases: Phases,
    depth: u8,
}

/// The phases of one object. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Phases(Arc<Mutex<Vec<Phase>>>);

impl Phases {
    /// Of an object whose first phases are on record.
    pub fn recorded(phases: Vec<Phase>) -> Self {
        Self(Arc::new(Mutex::new(phases)))
    }

    /// All so far, in the order in which they began.
    pub fn now(&self) -> Vec<Phase> {
        self.lock().clone()
    }

    /// Does `work` for this object.
    pub async fn during<F: Future>(&self, work: F) -> F::Output {
        HERE.scope(Here { phases: self.clone(), depth: 0 }, work).await
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Phase>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does fallible work as a phase of the object that this task works for.
///
/// # Errors
/// Those of the work.
pub async fn phase<T, E>(
    name: impl Into<Cow<'static, str>>,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let Ok(here) = HERE.try_with(Clone::clone) else { return work.await };
    let mut open = Open::begin(&here, name.into());
    let deeper = Here { depth: here.depth.saturating_add(1), ..here };
    let outcome = HERE.scope(deeper, work).await;
    open.end(outcome.is_err());
    outcome
}

/// As [`phase`], of what cannot fail: waiting for one's turn.
pub async fn waiting<T>(name: &'static str, work: impl Future<Output = T>) -> T {
    match phase(name, async { Ok::<T, std::convert::Infallible>(work.await) }).await {
        Ok(done) => done,
        Err(never) => match never {},
    }
}

/// Notes phases within the current one that are over already.
pub(crate) fn told(steps: Vec<Phase>) {
    let Ok(here) = HERE.try_with(Clone::clone) else { return };
    let mut phases = here.phases.lock();
    let room = MOST.saturating_sub(phases.len());
    let within = |step: Phase| Phase { name: short(step.name), depth: here.depth, ..step };
    phases.extend(steps.into_iter().take(room).map(within));
}

/// `work` for a task of its own, done for the object that this task works for.
pub fn inherited<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let here = HERE.try_with(Clone::clone).ok();
    async move {
        match here {
            Some(here) => HERE.scope(here, work).await,
            None => work.await,
        }
    }
}

/// A phase that goes on. Dropped, it was given up.
struct Open {
    phases: Phases,
    place: Option<usize>,
    began: Instant,
}

impl Open {
    fn begin(here: &Here, name: Cow<'static, str>) -> Self {
        let mut phases = here.phases.lock();
        let place = (phases.len() < MOST).then_some(phases.len());
        if place.is_some() {
            phases.push(Phase {
                name: short(name),
                depth: here.depth,
                began: now(),
                took: None,
                failed: false,
            });
        }
        drop(phases);
        Self { phases: here.phases.clone(), place, began: Instant::now() }
    }

    fn end(&mut self, failed: bool) {
        let Some(place) = self.place.take() else { return };
        if let Some(phase) = self.phases.lock().get_mut(place) {
            phase.took = Some(u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX));
            phase.failed = failed;
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.end(true);
    }
}

fn short(name: Cow<'static, str>) -> Cow<'static, str> {
    match name.char_indices().find(|(at, _)| *at >= NAME_MAX) {
        Some((end, _)) => Cow::Owned(name[..end].to_owned()),
        None => name,
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ok() -> Result<(), ()> {
        Ok(())
    }

    #[tokio::test]
    async fn steps_are_noted_in_order_with_those_within_them_and_the_one_that_goes_on() {
        let phases = Phases::default();
        let (going_on, watched) = (tokio::sync::Notify::new(), phases.clone());
        let work = phases.during(async {
            phase("first", async { phase("within", ok()).await }).await?;
            phase("waits", async {
                going_on.notified().await;
                Err::<(), ()>(())
            })
            .await
        });
        let look = async {
            let seen = watched.now();
            going_on.notify_one();
            seen
        };
        let (failed, seen) = tokio::join!(work, look);
        let shown = |phases: &[Phase]| {
            let of =
                |phase: &Phase| (phase.name.to_string(), phase.depth, phase.took.is_some(), phase.failed);
            phases.iter().map(of).collect::<Vec<_>>()
        };
        assert!(failed.is_err());
        let ended = |name: &str, depth| (name.to_owned(), depth, true, false);
        assert_eq!(
            shown(&seen),
            [ended("first", 0), ended("within", 1), ("waits".to_owned(), 0, false, false)]
        );
        assert_eq!(shown(&phases.now())[2], ("waits".to_owned(), 0, true, true));
    }

    #[tokio::test]
    async fn what_another_process_did_is_within_the_step_that_it_did_it_for() {
        let step = |name: &'static str| Phase {
            name: name.into(),
            depth: 7,
            began: 5,
            took: Some(6),
            failed: false,
        };
        let phases = Phases::default();
        let step_with = |count: usize| async move {
            told(vec![step("clone"); count]);
            Ok::<(), ()>(())
        };
        phases.during(phase("init", step_with(1))).await.unwrap();
        let shown: Vec<_> =
            phases.now().into_iter().map(|phase| (phase.name, phase.depth, phase.took)).collect();
        assert_eq!((&*shown[0].0, shown[0].1), ("init", 0));
        assert_eq!((&*shown[1].0, shown[1].1, shown[1].2), ("clone", 1, Some(6)));
        phases.during(phase("many", step_with(2 * MOST))).await.unwrap();
        assert_eq!(phases.now().len(), MOST);
        told(vec![step("for nobody")]);
    }

    #[tokio::test]
    async fn another_task_notes_what_it_takes_over_and_nothing_else() {
        let phases = Phases::default();
        phases
            .during(async {
                tokio::spawn(inherited(phase("taken over", ok()))).await.unwrap().unwrap();
                tokio::spawn(phase("nobody's", ok())).await.unwrap().unwrap();
            })
            .await;
        let names: Vec<_> = phases.now().into_iter().map(|phase| phase.name).collect();
        assert_eq!(names, ["taken over"]);
    }

    #[tokio::test]
    async fn what_is_given_up_has_failed_and_no_object_keeps_more_than_it_may() {
        let phases = Phases::default();
        let never = phases.during(phase("given up", std::future::pending::<Result<(), ()>>()));
        drop(tokio::time::timeout(std::time::Duration::ZERO, never).await);
        assert!(phases.now()[0].failed && phases.now()[0].took.is_some());
        phases
            .during(async {
                for _ in 0..2 * MOST {
                    phase("é".repeat(NAME_MAX), ok()).await.unwrap();
                }
            })
            .await;
        assert_eq!(phases.now().len(), MOST);
        assert!(phases.now().iter().all(|phase| phase.name.len() <= NAME_MAX + 1));
    }
}
