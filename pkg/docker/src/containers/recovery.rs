//! Taking up what a former daemon left, and following the engine from there on.

use std::sync::Arc;

use husk_model::{ContainerState, Exit, ExitReason};
use husk_pods::{Lifecycle, Unfollowed};
use tracing::warn;

use super::{
    container::Container,
    record::{LOST, Phase},
    restarts::starts_with_the_node,
    runs::note,
    store::Store,
};

impl Store {
    /// Takes up what a former daemon left, starts what has to run, and follows the engine.
    pub(crate) async fn resume(&self) {
        let mut follower = self.0.shared.engine.follow();
        for container in self.all() {
            Box::pin(self.catch_up(&container)).await;
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
                        for container in store.all() {
                            Box::pin(store.catch_up(&container)).await;
                        }
                    }
                    Err(Unfollowed::Stopping) => return,
                }
            }
        });
        for container in self.all() {
            let record = container.record();
            if !record.state.is_running() && starts_with_the_node(&record) {
                // As if it had just ended: an earlier stop is over.
                let restarting = container
                    .change_state(|state| (state.phase, state.stopped_by_hand) = (Phase::Restarting, false));
                note(&container.id, restarting.map(drop));
                self.restart_by_policy(&container);
            }
        }
    }

    /// Looks at what a run became while nobody followed.
    async fn catch_up(&self, container: &Arc<Container>) {
        let record = container.record();
        let run = record.state.run.as_ref().and_then(|run| run.container.clone());
        let engine = &self.0.shared.engine;
        let status = run.as_ref().and_then(|id| engine.container_status(id.as_str()).ok());
        match status.map(|status| status.state.clone()) {
            Some(ContainerState::Running { started_at }) => {
                // Its start may have been interrupted between the command and the record of it.
                let running = container.change_state(|state| {
                    if state.phase != Phase::Running {
                        (state.phase, state.started_at, state.finished_at) = (Phase::Running, started_at, 0);
                    }
                });
                note(&container.id, running.map(drop));
                if let (Some(id), None) = (run, container.health()) {
                    self.look_after(container, id);
                }
            }
            Some(ContainerState::Exited { exit, .. }) if record.state.is_running() => {
                self.finish(container, exit).await;
            }
            _ if record.state.is_running() => {
                let lost = Exit {
                    code: LOST,
                    finished_at: husk_node::now(),
                    reason: ExitReason::Unknown,
                    message: String::new(),
                };
                self.finish(container, lost).await;
            }
            _ => {
                if record.state.phase == Phase::Restarting {
                    note(
                        &container.id,
                        container.change_state(|state| state.phase = Phase::Exited).map(drop),
                    );
                }
                note(&container.id, self.undo_run(container).await);
            }
        }
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
