//! Taking up what a former daemon left, and following the engine from there on.

use std::sync::Arc;

use husk_model::{ContainerState, Exit, ExitReason, UnixNanos};
use husk_pods::{Lifecycle, Unfollowed};
use tracing::warn;

use super::{
    container::Container,
    record::{LOST, Phase, State},
    restarts::starts_with_the_node,
    runs::{exit_code_of, not_started, note},
    store::{HalfDone, Store},
};

impl Store {
    /// Takes up what a former daemon left, starts what has to run, and follows the engine.
    pub(crate) async fn resume(&self, half_done: Vec<HalfDone>) {
        let mut follower = self.0.shared.engine.follow();
        for half_done in half_done {
            match half_done {
                HalfDone::Making(dir) => self.undo_making(&dir),
                HalfDone::Removal(dir, record) => self.finish_removal(&dir, &record),
            }
        }
        for container in self.all() {
            Box::pin(self.resume_one(&container)).await;
        }
        self.remove_strays().await;
        self.release_strays().await;
        let store = self.clone();
        tokio::spawn(async move {
            loop {
                match follower.next().await {
                    Ok(event) => {
                        if let Lifecycle::Stopped(_, id) = &event.what {
                            store.ended(id);
                        }
                    }
                    Err(Unfollowed::Behind(_)) => {
                        follower = store.0.shared.engine.follow();
                        store.all().iter().for_each(|container| store.look_again(container));
                    }
                    Err(Unfollowed::Stopping) => return,
                }
            }
        });
        for container in self.all() {
            let record = container.record();
            let waits = record.state.is_running() || record.state.phase == Phase::Restarting;
            if !waits && starts_with_the_node(&record) {
                // As if it had just ended: an earlier stop is over.
                self.take_in(&container, |record| {
                    (record.state.phase, record.state.stopped_by_hand) = (Phase::Restarting, false);
                });
                self.restart_by_policy(&container);
            }
        }
    }

    /// Goes on with what was begun on a container, or undoes it.
    async fn resume_one(&self, container: &Arc<Container>) {
        let _turn = container.turn().await;
        // Whoever was to start it again is no more.
        if container.record().state.phase == Phase::Restarting {
            self.take_in(container, |record| record.state.phase = Phase::Exited);
        }
        self.catch_up(container).await;
        let record = container.record();
        note(&container.id, self.be_called_by_name(&record).await);
        let phase = record.state.phase;
        if matches!(phase, Phase::Created | Phase::Exited) && !self.go_if_over(container).await {
            note(&container.id, self.undo_run(container).await);
        }
    }

    /// Looks at what a container became while too much happened to be followed: when what is being done to it is done, and without
    /// waiting for that here.
    fn look_again(&self, container: &Arc<Container>) {
        let (store, container) = (self.clone(), Arc::clone(container));
        tokio::spawn(async move {
            let _turn = container.turn().await;
            store.catch_up(&container).await;
        });
    }

    /// Looks at what a run became while nobody followed. The container's turn is the caller's.
    async fn catch_up(&self, container: &Arc<Container>) {
        let state = container.record().state.clone();
        let run = state.run.as_ref().and_then(|run| run.container.clone());
        let engine = &self.0.shared.engine;
        let status = run.as_ref().and_then(|id| engine.container_status(id.as_str()).ok());
        match became(&state, status.as_ref().map(|status| &status.state)) {
            Became::AsOnRecord => {}
            Became::Running(started_at) => self.has_started(container, started_at),
            Became::Ended(started_at, exit) => {
                if !state.is_running() {
                    self.has_started(container, started_at);
                }
                self.finish(container, exit).await;
            }
            Became::NotStarted(message) => {
                let code = exit_code_of(&message);
                self.take_in(container, |record| {
                    not_started(&mut record.state, code, message);
                    record.state.run.iter_mut().for_each(|run| run.ended = true);
                });
            }
        }
        if container.record().state.is_running()
            && let (Some(id), None) = (run, container.health())
        {
            self.look_after(container, id);
        }
    }

    /// A start of which nothing is on record: it was interrupted between the command and the record of it.
    fn has_started(&self, container: &Arc<Container>, started_at: UnixNanos) {
        self.take_in(container, |record| record.state.has_started(started_at));
        self.publish(&container.record(), "start", []);
    }

    /// Pods of the door that no container has: of a run that was interrupted, or a container that is gone.
    async fn remove_strays(&self) {
        let engine = &self.0.shared.engine;
        for pod in engine.list_pods() {
            let owner = self.find(&pod.config.metadata.uid).ok();
            let owned = owner.is_some_and(|container| {
                container.record().state.run.as_ref().is_some_and(|run| run.pod.as_ref() == Some(&pod.id))
            });
            if !owned && let Err(error) = engine.remove_pod_sandbox(pod.id.as_str()).await {
                warn!(pod = %pod.id, error = &error as &dyn std::error::Error, "a pod of no container stays");
            }
        }
    }
}

/// What became of a run while nobody followed.
#[derive(Debug, PartialEq, Eq)]
enum Became {
    /// What is on record is so.
    AsOnRecord,
    /// It runs since, and that is not on record.
    Running(UnixNanos),
    /// It ran since, and ended, and that is not on record.
    Ended(UnixNanos, Exit),
    /// Its command could not be executed: why.
    NotStarted(String),
}

/// What became of a run, by its record and what the engine says of its container.
fn became(state: &State, seen: Option<&ContainerState>) -> Became {
    let is_taken_in = |exit: &Exit| {
        !state.is_running()
            && (state.finished_at == exit.finished_at || state.run.as_ref().is_some_and(|run| run.ended))
    };
    match seen {
        _ if state.phase == Phase::Removing => Became::AsOnRecord,
        Some(ContainerState::Running { .. }) if state.is_running() => Became::AsOnRecord,
        Some(ContainerState::Running { started_at }) => Became::Running(*started_at),
        Some(ContainerState::Exited { exit, .. }) if is_taken_in(exit) => Became::AsOnRecord,
        Some(ContainerState::Exited { started_at: 0, exit }) if !state.is_running() => {
            Became::NotStarted(exit.message.clone())
        }
        Some(ContainerState::Exited { started_at, exit }) => Became::Ended(*started_at, exit.clone()),
        Some(ContainerState::Created | ContainerState::Unknown { .. }) | None if state.is_running() => {
            let exit = Exit {
                code: LOST,
                finished_at: husk_node::now(),
                reason: ExitReason::Unknown,
                message: String::new(),
            };
            Became::Ended(state.started_at, exit)
        }
        Some(ContainerState::Created | ContainerState::Unknown { .. }) | None => Became::AsOnRecord,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::record::Run, *};

    fn state(phase: Phase, run_ended: bool) -> State {
        let run = Run {
            attempt: 1,
            pod: None,
            container: None,
            guest: false,
            ended: run_ended,
            addresses: Vec::new(),
        };
        State { phase, run: Some(run), finished_at: 7, ..State::default() }
    }

    fn exited(started_at: UnixNanos, finished_at: UnixNanos) -> ContainerState {
        let (reason, message) = (ExitReason::Error, "why".to_owned());
        ContainerState::Exited { started_at, exit: Exit { code: 3, finished_at, reason, message } }
    }

    #[test]
    fn an_end_is_taken_in_once_whether_the_start_before_it_was_on_record_or_not() {
        let ContainerState::Exited { exit, .. } = exited(8, 9) else { unreachable!() };
        for (phase, run_ended, seen, expected) in [
            (Phase::Running, false, exited(8, 9), Became::Ended(8, exit.clone())),
            (Phase::Created, false, exited(8, 9), Became::Ended(8, exit.clone())),
            (Phase::Exited, false, exited(8, 9), Became::Ended(8, exit.clone())),
            (Phase::Exited, true, exited(8, 9), Became::AsOnRecord),
            // By a huskd that did not write down which run has ended.
            (Phase::Exited, false, exited(6, 7), Became::AsOnRecord),
            (Phase::Exited, false, exited(0, 9), Became::NotStarted("why".to_owned())),
            (Phase::Created, true, exited(0, 9), Became::AsOnRecord),
            (Phase::Removing, false, exited(8, 9), Became::AsOnRecord),
            (Phase::Created, false, ContainerState::Running { started_at: 8 }, Became::Running(8)),
            (Phase::Running, false, ContainerState::Running { started_at: 8 }, Became::AsOnRecord),
            (Phase::Exited, false, ContainerState::Created, Became::AsOnRecord),
        ] {
            let state = state(phase, run_ended);
            assert_eq!(became(&state, Some(&seen)), expected, "{phase:?} {run_ended} {seen:?}");
        }
    }

    #[test]
    fn one_that_ran_and_that_the_engine_does_not_know_has_ended() {
        let Became::Ended(_, exit) = became(&state(Phase::Running, false), None) else { panic!("it ran") };
        assert_eq!((exit.code, exit.reason), (LOST, ExitReason::Unknown));
        assert_eq!(became(&state(Phase::Exited, true), None), Became::AsOnRecord);
    }
}
