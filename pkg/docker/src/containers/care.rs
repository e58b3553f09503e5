//! Looking after a running container: its health check, run now and then.

use std::{sync::Arc, time::Duration};

use husk_model::ContainerId;

use super::{
    container::Container,
    health::{Health, Look, command},
    store::Store,
};

/// What dockerd takes where nothing is said.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: i64 = 3;
/// Bytes that are kept of what a look said.
const MOST_OUTPUT: usize = 4096;

/// A duration of a request, or the usual one.
fn nanos(value: i64, usual: Duration) -> Duration {
    u64::try_from(value).ok().filter(|nanos| *nanos > 0).map_or(usual, Duration::from_nanos)
}

impl Store {
    /// Begins to look after a run that has just been started, until it has ended.
    pub(super) fn look_after(&self, container: &Arc<Container>, run: ContainerId) {
        let record = container.record();
        let Some(check) = &record.config.healthcheck else { return container.set_health(None) };
        let Some(argv) = command(Some(check)) else { return container.set_health(None) };
        container.set_health(Some(Health::starting()));
        let check = check.clone();
        let (store, container) = (self.clone(), Arc::clone(container));
        let mut ends = container.ends();
        let seen = ends.borrow_and_update().count;
        tokio::spawn(async move {
            let began = tokio::time::Instant::now();
            let start_period = nanos(check.start_period, Duration::ZERO);
            loop {
                let starting = began.elapsed() < start_period;
                let is_starting = container.health().is_some_and(|health| health.status() == "starting");
                let pause = match starting && is_starting {
                    true => nanos(check.start_interval, START_INTERVAL).min(nanos(check.interval, INTERVAL)),
                    false => nanos(check.interval, INTERVAL),
                };
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    _ = ends.wait_for(|ends| ends.count > seen || ends.gone) => return,
                    () = store.0.shared.closed() => return,
                }
                if container.record().state.paused {
                    continue;
                }
                let look = store.look(&run, argv.clone(), nanos(check.timeout, TIMEOUT)).await;
                if container.running().is_ok_and(|(_, now)| now == run) {
                    let starting = began.elapsed() < start_period;
                    store.take_in_look(&container, look, starting, check.retries);
                }
            }
        });
    }

    async fn look(&self, run: &ContainerId, argv: Vec<String>, timeout: Duration) -> Look {
        let from = husk_node::now();
        let output = self.0.shared.engine.exec_sync(run.as_str(), argv, Some(timeout)).await;
        let (exit_code, output) = match output {
            Ok(output) => {
                let text = [output.stdout, output.stderr].concat();
                let cut = &text[..text.len().min(MOST_OUTPUT)];
                (output.exit_code, String::from_utf8_lossy(cut).into_owned())
            }
            Err(error) => (-1, husk_model::chain(&error)),
        };
        Look { from, until: husk_node::now(), exit_code, output }
    }

    fn take_in_look(&self, container: &Container, look: Look, starting: bool, retries: i64) {
        let retries = if retries > 0 { retries } else { RETRIES };
        let Some(mut health) = container.health() else { return };
        let changed = health.take_in(look, starting, retries);
        let status = health.status();
        container.set_health(Some(health));
        if changed {
            self.publish(&container.record(), &format!("health_status: {status}"), []);
        }
    }
}
