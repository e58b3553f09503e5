//! The run of a container: its pod taken away, whoever follows told, and what a failed one is.

use std::sync::Arc;

use husk_model::PodSandboxId;
use tracing::warn;

use super::{
    container::{Container, short},
    record::{Phase, Record, State},
    store::Store,
};
use crate::{error::Result, events::Subject};

impl Store {
    /// Takes away the pod of the last run, if there is one.
    ///
    /// # Errors
    /// Those of the engine.
    pub(super) async fn undo_run(&self, container: &Arc<Container>) -> Result<()> {
        let record = container.record();
        let Some(run) = &record.state.run else { return Ok(()) };
        let engine = &self.0.shared.engine;
        if run.guest {
            if let Some(id) = &run.container {
                engine.remove_container(id.as_str()).await?;
            }
            self.cleared(container);
            return Ok(());
        }
        let pod = match &run.pod {
            Some(pod) => Some(pod.clone()),
            // Its making was interrupted: the engine knows it by name, or undid it.
            None => self.pod_named(&record.id, run.attempt),
        };
        if let Some(pod) = pod {
            engine.remove_pod_sandbox(pod.as_str()).await?;
        }
        self.cleared(container);
        Ok(())
    }

    fn cleared(&self, container: &Arc<Container>) {
        self.take_in(container, |record| {
            if let Some(run) = &mut record.state.run {
                (run.pod, run.container, run.guest) = (None, None, false);
            }
        });
    }

    fn pod_named(&self, uid: &str, attempt: u32) -> Option<PodSandboxId> {
        let pods = self.0.shared.engine.list_pods();
        let is_it = |metadata: &husk_model::PodMetadata| metadata.uid == uid && metadata.attempt == attempt;
        pods.iter().find(|pod| is_it(&pod.config.metadata)).map(|pod| pod.id.clone())
    }

    /// Tells whoever follows the door.
    pub(super) fn publish<const N: usize>(&self, record: &Record, action: &str, more: [(&str, String); N]) {
        let mut attributes = record.config.labels.clone();
        attributes.insert("image".to_owned(), record.config.image.clone());
        attributes.insert("name".to_owned(), record.name.clone());
        attributes.extend(more.map(|(name, value)| (name.to_owned(), value)));
        self.0.shared.events.publish(Subject::Container, action, record.id.clone(), attributes);
    }
}

/// As a shell has it: 127 for a command that is not there, 126 for one that cannot be executed, else 128.
pub(super) fn exit_code_of(message: &str) -> i32 {
    if message.contains("not found") || message.contains("no such file") || message.contains("No such file") {
        127
    } else if message.contains("ermission denied") || message.contains("is a directory") {
        126
    } else {
        128
    }
}

/// It could not be started: why, and with which code.
pub(super) fn not_started(state: &mut State, code: i32, message: String) {
    // One that never ran has not exited.
    if state.started_at != 0 {
        state.phase = Phase::Exited;
    }
    (state.exit_code, state.error) = (code, message);
}

/// What cannot be told to anybody.
pub(super) fn note(container: &str, outcome: Result<()>) {
    if let Err(failure) = outcome {
        warn!(
            container = short(container),
            error = failure.message(),
            "cannot take in what became of a container"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_that_failed_has_the_exit_code_of_a_shell() {
        assert_eq!(exit_code_of("exec: \"x\": executable file not found in $PATH"), 127);
        assert_eq!(exit_code_of("execve /etc: Permission denied"), 126);
        assert_eq!(exit_code_of("no memory"), 128);
    }
}
