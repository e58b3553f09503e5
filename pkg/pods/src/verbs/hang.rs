//! Monitors that hang while their pod is to end: stopped by a debugger, stuck in the kernel.
//!
//! A pod must end all the same, and soon: the kubelet waits for it before it frees what the pod had. What an ending asks of the
//! monitor may rightly take long (a large cgroup to kill, output to drain), so the deadlines of these calls are no measure. But a
//! monitor has one thread that waits for nobody, so it tells its state at once whatever else it does. It is asked for that
//! beside the call, from the second [`Hang::pause`] on; when it keeps silent for [`Hang::silence`] it is killed, and the pod ended without it.

use std::{sync::Arc, time::Duration};

use husk_model::chain;
use tracing::warn;

use super::follow::Follow;
use crate::{error::Result, registry::Pod};

/// When a monitor whose pod is to end counts as hung.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hang {
    /// How long is waited before the monitor is asked, and between two times. Most pods have ended by then.
    pub pause: Duration,
    /// How long it may take to answer.
    pub silence: Duration,
}

impl Default for Hang {
    /// Together less than ten seconds, which is the bound of an ending that a monitor hangs in.
    fn default() -> Self {
        Self { pause: Duration::from_secs(1), silence: Duration::from_secs(7) }
    }
}

impl Hang {
    /// Does `work`, which asks the pod's monitor. If that hangs, the work is dropped, the monitor killed, and everything of the pod ended
    /// in its stead.
    ///
    /// # Errors
    /// Those of the work, or of killing what the pod left.
    pub(crate) async fn unless_hung(
        self,
        follow: &Follow,
        pod: &Arc<Pod>,
        work: impl Future<Output = Result<()>>,
    ) -> Result<()> {
        tokio::select! {
            biased;
            done = work => return done,
            () = self.silent(pod) => {}
        }
        kill(pod);
        follow.abandon(pod, "its monitor hung and was killed").await;
        follow.cgroups.kill(&pod.cgroup_path()).await
    }

    /// Waits for `turn`, which others hold while they ask the pod's monitor. If that hangs, it is killed, which ends their calls.
    pub(crate) async fn turn_of<T>(self, pod: &Pod, turn: impl Future<Output = T>) -> T {
        tokio::pin!(turn);
        tokio::select! {
            biased;
            turn = &mut turn => return turn,
            () = self.silent(pod) => kill(pod),
        }
        turn.await
    }

    /// Resolves when the pod's monitor lives and does not answer. Of one that is gone whoever asks it hears.
    async fn silent(self, pod: &Pod) {
        loop {
            tokio::time::sleep(self.pause).await;
            let Ok(monitor) = pod.monitor() else { return std::future::pending().await };
            if tokio::time::timeout(self.silence, monitor.state()).await.is_err() {
                return;
            }
        }
    }
}

fn kill(pod: &Pod) {
    if let Ok(monitor) = pod.monitor() {
        warn!(pod = %pod.id(), "the pod's monitor hangs; it is killed");
        if let Err(error) = monitor.kill() {
            warn!(pod = %pod.id(), error = chain(&error), "cannot kill the pod's monitor");
        }
    }
}
