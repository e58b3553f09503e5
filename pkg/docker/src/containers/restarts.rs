//! Restart policies: whether a container is started again, and when.

use std::{sync::Arc, time::Duration};

use tracing::info;

use super::{
    container::Container,
    record::{Phase, Record},
    store::Store,
};
/// Pause before the first restart; each following one takes twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Who ran that long was well: the pauses begin anew. Nanoseconds.
const WELL: i64 = 10_000_000_000;

impl Store {
    /// Starts it again after a pause, until it runs or nobody wants it to. A task of its own, which ends with the next run.
    pub(super) fn restart_by_policy(&self, container: &Arc<Container>) {
        let (store, container) = (self.clone(), Arc::clone(container));
        tokio::spawn(async move {
            let mut failures = 0;
            while store.restart_once(&container, failures).await == Again::Failed {
                failures += 1;
            }
        });
    }

    async fn restart_once(&self, container: &Arc<Container>, failures: u32) -> Again {
        let state = container.record().state.clone();
        let well = state.finished_at.saturating_sub(state.started_at) >= WELL;
        let times = if well { failures } else { state.restarts.max(failures) }.min(10);
        let pause = FIRST_PAUSE.saturating_mul(1 << times).min(LONGEST_PAUSE);
        let stopped = container.no_restart.notified();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stopped => return Again::Settled,
            () = self.0.shared.closed() => return Again::Settled,
        }
        let _turn = container.turn().await;
        // Somebody may have started it meanwhile, or wanted it to stay as it is.
        if container.record().state.phase != Phase::Restarting {
            return Again::Settled;
        }
        let counted =
            container.change_state(|state| state.restarts = if well { 1 } else { state.restarts + 1 });
        let restarted = match counted {
            Ok(_) => self.run(container).await,
            // Nothing is started that cannot be written down.
            Err(failure) => Err(failure),
        };
        let Err(failure) = restarted else { return Again::Settled };
        info!(container = container.id, error = failure.message(), "a container could not be restarted");
        if !restarts(&container.record()) {
            return Again::Settled;
        }
        self.take_in(container, |record| record.state.phase = Phase::Restarting);
        Again::Failed
    }
}

/// What an attempt to restart came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    /// It runs, or is not to.
    Settled,
    /// It could not be started, and its policy wants it to.
    Failed,
}

/// Whether its policy starts it again after this end.
pub(super) fn restarts(record: &Record) -> bool {
    let state = &record.state;
    let policy = &record.host.restart_policy;
    if state.stopped_by_hand {
        return false;
    }
    match policy.name.as_str() {
        "always" | "unless-stopped" => true,
        "on-failure" => {
            let most = u32::try_from(policy.maximum_retry_count).unwrap_or(0);
            state.exit_code != 0 && (most == 0 || state.restarts < most)
        }
        _ => false,
    }
}

/// Whether it is to run once the door is open.
pub(super) fn starts_with_the_node(record: &Record) -> bool {
    let ran = record.state.started_at != 0;
    match record.host.restart_policy.name.as_str() {
        "always" => ran,
        "unless-stopped" => ran && !record.state.stopped_by_hand,
        "on-failure" => ran && restarts(record),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::record::State, *};

    fn record(policy: &str, state: State) -> Record {
        let host = serde_json::from_str(&format!(r#"{{"RestartPolicy":{policy}}}"#)).unwrap();
        Record {
            id: "0".repeat(64),
            name: "a".into(),
            created: 0,
            image: husk_model::ImageId::new(format!("sha256:{}", "0".repeat(64)).parse().unwrap()),
            config: Default::default(),
            host,
            networks: Default::default(),
            mounts: Vec::new(),
            state,
        }
    }

    #[test]
    fn a_policy_starts_what_ended_unless_somebody_stopped_it() {
        let failed = State { exit_code: 1, restarts: 2, started_at: 1, ..State::default() };
        let done = State { started_at: 1, ..State::default() };
        let stopped = State { stopped_by_hand: true, ..failed.clone() };
        for (policy, state, expected) in [
            (r#"{"Name":"no"}"#, &failed, (false, false)),
            (r#"{"Name":""}"#, &failed, (false, false)),
            (r#"{"Name":"always"}"#, &done, (true, true)),
            (r#"{"Name":"always"}"#, &stopped, (false, true)),
            (r#"{"Name":"unless-stopped"}"#, &stopped, (false, false)),
            (r#"{"Name":"on-failure"}"#, &failed, (true, true)),
            (r#"{"Name":"on-failure"}"#, &done, (false, false)),
            (r#"{"Name":"on-failure","MaximumRetryCount":2}"#, &failed, (false, false)),
            (r#"{"Name":"on-failure","MaximumRetryCount":3}"#, &failed, (true, true)),
        ] {
            let record = record(policy, state.clone());
            assert_eq!((restarts(&record), starts_with_the_node(&record)), expected, "{policy} {state:?}");
        }
    }
}
