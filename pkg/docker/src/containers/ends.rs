//! The end of a container: learned from the engine, taken in once.

use std::sync::Arc;

use husk_model::{ContainerId, ContainerState, Exit, ExitReason};

use super::{container::Container, record::Phase, restarts::restarts, runs::note, store::Store};

impl Store {
    /// The engine says that one of its containers has ended.
    pub(super) fn ended(&self, id: &ContainerId) {
        let is_it = |container: &Arc<Container>| {
            container.record().state.run.as_ref().is_some_and(|run| run.container.as_ref() == Some(id))
        };
        let Some(container) = self.all().into_iter().find(is_it) else { return };
        let (store, id) = (self.clone(), id.clone());
        tokio::spawn(async move {
            // A start that is under way ends first, and knows by itself when it failed.
            let _turn = container.turn().await;
            if container.running().is_ok_and(|(_, running)| running == id)
                && let Ok(status) = store.0.shared.engine.container_status(id.as_str())
                && let ContainerState::Exited { exit, .. } = &status.state
            {
                store.finish(&container, exit.clone()).await;
            }
        });
    }

    /// Takes in an end, and what follows from it. The container's turn is the caller's.
    pub(super) async fn finish(&self, container: &Arc<Container>, exit: Exit) {
        let is_written = self.take_in(container, |record| {
            let state = &mut record.state;
            (state.phase, state.paused) = (Phase::Exited, false);
            (state.exit_code, state.finished_at) = (exit.code, exit.finished_at);
            state.oom_killed = exit.reason == ExitReason::OomKilled;
            if let Some(run) = &mut state.run {
                run.ended = true;
            }
            // In one step: whoever waits for its end must not take a pause for it.
            if restarts(record) {
                record.state.phase = Phase::Restarting;
            }
        });
        let record = container.record();
        if exit.reason == ExitReason::OomKilled {
            self.publish(&record, "oom", []);
        }
        self.publish(&record, "die", [("exitCode", exit.code.to_string())]);
        if self.go_if_over(container).await {
            return;
        }
        match is_written {
            true => note(&container.id, self.undo_run(container).await),
            false => self.undo_when_written(container),
        }
        if record.state.phase == Phase::Restarting {
            self.restart_by_policy(container);
        }
    }
    /// Leaves the pod until the disk knows of its end, of which until then only the engine could tell another daemon.
    fn undo_when_written(&self, container: &Arc<Container>) {
        let (store, container) = (self.clone(), Arc::clone(container));
        tokio::spawn(async move {
            let mut ends = container.ends();
            tokio::select! {
                () = container.written() => {}
                _ = ends.wait_for(|ends| ends.gone) => return,
                () = store.0.shared.closed() => return,
            }
            let _turn = container.turn().await;
            if !container.record().state.is_running() {
                note(&container.id, store.undo_run(&container).await);
            }
        });
    }
}
