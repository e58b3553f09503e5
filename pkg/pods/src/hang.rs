//! Monitors that hang while their pod is to end: stopped by a debugger, stuck in the kernel.
//!
//! A pod must end all the same, and soon: the kubelet waits for it before it frees what the pod had. What an ending asks of the
//! monitor may rightly take long (a large cgroup to kill, output to drain), so the deadlines of these calls are no measure. But a
//! monitor has one thread that waits for nobody, so it tells its state at once whatever else it does. It is asked for that
//! beside the call, from the second [`PAUSE`] on; when it keeps silent for [`SILENCE`] it is killed, and the pod ended without it.

use std::time::Duration;

use husk_model::chain;
use tracing::warn;

use crate::{Engine, Result, pod::Pod, stop::kill_cgroup, watch::abandon};

/// How long is waited before the monitor is asked, and between two times. Most pods have ended by then.
const PAUSE: Duration = Duration::from_secs(1);
/// How long it may take to answer. With the pause less than ten seconds, which is the bound of an ending that a monitor hangs in.
const SILENCE: Duration = Duration::from_secs(7);

/// Does `work`, which asks the pod's monitor. If that hangs, the work is dropped, the monitor killed, and everything of the pod ended
/// in its stead.
///
/// # Errors
/// Those of the work, or of killing what the pod left.
pub(crate) async fn unless_hung(
    engine: &Engine,
    pod: &Pod,
    work: impl Future<Output = Result<()>>,
) -> Result<()> {
    tokio::select! {
        biased;
        done = work => return done,
        () = silence(pod) => {}
    }
    kill(pod);
    abandon(engine, pod, "its monitor hung and was killed").await;
    kill_cgroup(engine, pod.cgroup_path.clone()).await
}

/// Waits for `turn`, which others hold while they ask the pod's monitor. If that hangs, it is killed, which ends their calls.
pub(crate) async fn turn_of<T>(pod: &Pod, turn: impl Future<Output = T>) -> T {
    tokio::pin!(turn);
    tokio::select! {
        biased;
        turn = &mut turn => return turn,
        () = silence(pod) => kill(pod),
    }
    turn.await
}

fn kill(pod: &Pod) {
    if let Some(monitor) = pod.monitor.get() {
        warn!(pod = %pod.id, "the pod's monitor hangs; it is killed");
        if let Err(error) = monitor.kill() {
            warn!(pod = %pod.id, error = chain(&error), "cannot kill the pod's monitor");
        }
    }
}

/// Resolves when the pod's monitor lives and does not answer. Of one that is gone whoever asks it hears.
async fn silence(pod: &Pod) {
    loop {
        tokio::time::sleep(PAUSE).await;
        let Ok(monitor) = pod.monitor() else { return std::future::pending().await };
        if tokio::time::timeout(SILENCE, monitor.state()).await.is_err() {
            return;
        }
    }
}
