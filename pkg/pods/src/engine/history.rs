//! How pods and containers came to be and why they ended, for people who ask.

use husk_model::{History, PodMetadata};
use husk_telemetry::phases::Phases;

use super::Engine;
use crate::{
    error::Result,
    registry::{Afterwards, AttemptView, Attempted, Going},
};

/// Bytes of an image's name, or of a pod's with its namespace and uid.
const LONGEST_NAME: usize = 1024;

/// A pull that goes on for a pod. Dropped, it was given up.
#[derive(Debug)]
#[must_use = "dropped, the pull is told as given up"]
pub struct Pulling {
    going: Going,
    phases: Phases,
}

impl Engine {
    /// What a sandbox has gone through and who wanted it to end.
    ///
    /// # Errors
    /// [`crate::PodsError::NoSuchPod`].
    pub fn pod_history(&self, id: &str) -> Result<History> {
        Ok(self.pod(id)?.chronicle().now())
    }

    /// What a container has gone through and who wanted it to end. Its start's phases are known to the daemon that started it.
    ///
    /// # Errors
    /// [`crate::PodsError::NoSuchContainer`].
    pub fn container_history(&self, id: &str) -> Result<History> {
        Ok(self.container(id)?.chronicle().now())
    }

    /// What is being made or pulled, then what lately failed to be made and pulls that have ended: as much as is kept, which is the
    /// last hundred or so.
    pub fn attempts(&self) -> Vec<AttemptView> {
        let all = self.parts().registry.attempts().all();
        all.into_iter().filter(|attempt| self.door_is(attempt.door)).collect()
    }

    /// A pull of `image` begins, for a pod if one is named.
    pub fn pulling(&self, image: &str, pod: Option<PodMetadata>) -> Pulling {
        let (phases, attempts) = (Phases::default(), self.parts().registry.attempts());
        // Others are kept after the request: what no name is as long as is not worth it.
        let image: String = image.chars().take(LONGEST_NAME).collect();
        let short = |pod: &PodMetadata| pod.name.len() + pod.uid.len() + pod.namespace.len() <= LONGEST_NAME;
        let going = attempts.begin(Attempted::Pull(image), pod.filter(short), self.door(), phases.clone());
        Pulling { going, phases }
    }
}

impl Pulling {
    /// Does the work of the pull: its steps are told as this pull's.
    pub async fn during<F: Future>(&self, work: F) -> F::Output {
        self.phases.during(work).await
    }

    /// How far it is, in words.
    pub fn progress(&self, text: String) {
        self.going.progress(text);
    }

    /// It has ended, with this error if it failed.
    pub fn end(self, error: Option<String>) {
        self.going.end(error, Afterwards::Keep);
    }
}
