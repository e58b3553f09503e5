//! Start, stop and end of a container, and what its restart policy makes of that.
//!
//! A run is a pod of one in the engine: made by the start, taken away after the end. It is on record from before it is made until all
//! of it is gone, so whatever happens to huskd in between, the next start takes away what no container has.

use std::{net::IpAddr, sync::Arc, time::Duration};

use husk_model::{ContainerId, ContainerState, Exit, ExitReason, PodSandboxId, Signal};
use husk_pods::{Lifecycle, Unfollowed};
use tracing::{info, warn};

use super::{
    container::Container,
    mounts, plan, ports,
    record::{LOST, Phase, Record, Run, State},
    runs::{exit_code_of, note},
    store::Store,
};
use crate::{
    error::{Failure, Result},
    volumes::Held,
};

/// Grace of a stop that nobody says another of, seconds.
const GRACE: u64 = 10;
/// Pause before the first restart; each following one takes twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Who ran that long was well: the pauses begin anew. Nanoseconds.
const WELL: i64 = 10_000_000_000;

impl Store {
    // === start ===

    /// Starts a container.
    ///
    /// # Errors
    /// 304 when it runs already; of the step that failed, and then it does not run.
    pub(super) async fn start(&self, container: &Arc<Container>) -> Result<()> {
        let _turn = container.turn().await;
        let record = container.record();
        match record.state.phase {
            Phase::Running if record.state.paused => {
                return Err(Failure::conflict("cannot start a paused container, try unpause instead"));
            }
            Phase::Running => return Err(Failure::not_modified()),
            Phase::Removing => {
                return Err(Failure::conflict("container is marked for removal and cannot be started"));
            }
            Phase::Created | Phase::Exited | Phase::Restarting => {}
        }
        container.no_restart.notify_waiters();
        container.change_state(|state| (state.restarts, state.stopped_by_hand) = (0, false))?;
        let started = self.run(container).await;
        if started.is_err() && record.host.auto_remove {
            // Its client waits for that.
            note(&container.id, self.remove_now(container, true).await);
        }
        started
    }

    /// The container's turn is the caller's.
    async fn run(&self, container: &Arc<Container>) -> Result<()> {
        let attempt = container.record().state.run.as_ref().map_or(0, |run| run.attempt.wrapping_add(1));
        self.undo_run(container).await?;
        let started = self.build_and_start(container, attempt).await;
        if let Err(failure) = &started {
            container.waiting().clear();
            let code = exit_code_of(failure);
            self.undo_run(container).await.unwrap_or_else(|error| {
                warn!(
                    container = container.id,
                    error = error.message(),
                    "what a failed start made stays until the next"
                );
            });
            let message = failure.message().to_owned();
            container.change_state(|state| {
                // One that never ran has not exited.
                if state.started_at != 0 {
                    state.phase = Phase::Exited;
                }
                (state.exit_code, state.error) = (code, message);
            })?;
            container.ended_at_once(code);
        }
        started
    }

    async fn build_and_start(&self, container: &Arc<Container>, attempt: u32) -> Result<()> {
        let (record, engine) = (container.record(), &self.0.shared.engine);
        let (mounts, _held) = self.mounts(&record)?;
        let joined = self.joined(&record)?;
        let linked = self.linked(container, &record)?;
        let (run, pod) = match record.host.network_mode.strip_prefix(plan::CONTAINER) {
            Some(other) => self.enter_pod_of(container, other, attempt)?,
            None => self.own_pod(container, &record, attempt, linked.hosts).await?,
        };
        let config = plan::container(&record, &container.dir, mounts, &joined, &linked.env)?;
        let id = engine.create_container(pod.as_str(), config).await?;
        let run = Run { container: Some(id.clone()), ..run };
        container.change_state(|state| state.run = Some(run))?;
        self.attach_waiting(container, &id);
        engine.start_container(id.as_str()).await?;
        container.change_state(|state| {
            (state.phase, state.paused, state.error) = (Phase::Running, false, String::new());
            (state.exit_code, state.oom_killed) = (0, false);
            (state.started_at, state.finished_at) = (husk_node::now(), 0);
        })?;
        self.publish(&container.record(), "start", []);
        self.look_after(container, id);
        Ok(())
    }

    /// A pod of its own.
    async fn own_pod(
        &self,
        container: &Container,
        record: &Record,
        attempt: u32,
        linked: Vec<(IpAddr, String)>,
    ) -> Result<(Run, PodSandboxId)> {
        let around = plan::Surroundings {
            networking: self.networking(record)?,
            host_gateway: self.host_gateway(record).await?,
            linked,
        };
        let mut pod = plan::pod(record, &container.dir, attempt, around)?;
        let taken: Vec<_> = self.all().iter().flat_map(|other| self.bound_ports(&other.record())).collect();
        ports::choose(&record.host, &mut pod.host_ports, |port| {
            taken.iter().any(|other| (other.protocol, other.host_port) == (port.protocol, port.host_port))
        });
        // On record before anything is made: whoever comes next finds it by its name.
        let former = record.state.run.as_ref().map(|run| run.addresses.clone()).unwrap_or_default();
        let run = Run { attempt, pod: None, container: None, guest: false, addresses: former };
        container.change_state(|state| state.run = Some(run.clone()))?;
        let pod = self.0.shared.engine.run_pod_sandbox(pod).await?;
        let attached = self.0.shared.network.user().of(&pod).into_iter();
        let addresses = attached.flat_map(|attached| attached.addresses).map(|net| net.addr()).collect();
        let run = Run { pod: Some(pod.clone()), addresses, ..run };
        container.change_state(|state| state.run = Some(run.clone()))?;
        Ok((run, pod))
    }

    /// The pod of another, whose network it shares. It ends with that.
    fn enter_pod_of(&self, container: &Container, other: &str, attempt: u32) -> Result<(Run, PodSandboxId)> {
        let other = self.find(other)?;
        let not_running = |_| {
            Failure::conflict(format!(
                "cannot join network namespace of a non running container: container {} is not running",
                other.id
            ))
        };
        let (record, _) = other.going().map_err(not_running)?;
        let pod = record.state.run.as_ref().and_then(|run| run.pod.clone()).ok_or_else(|| {
            Failure::conflict(format!("container {} has no pod of its own to join", other.id))
        })?;
        let run =
            Run { attempt, pod: Some(pod.clone()), container: None, guest: true, addresses: Vec::new() };
        container.change_state(|state| state.run = Some(run.clone()))?;
        Ok((run, pod))
    }

    /// What is mounted, and the volumes among it, which stay until the engine has them.
    fn mounts(&self, record: &Record) -> Result<(Vec<husk_model::Mount>, Vec<Held>)> {
        let (mut mounts, mut held) = (Vec::new(), Vec::new());
        for point in &record.mounts {
            let volume = match point.kind.as_str() {
                "volume" => Some(self.0.shared.volumes.hold(&point.name)?),
                _ => None,
            };
            mounts.push(mounts::to_engine(point, volume.as_ref().map(|held| &**held.volume()))?);
            held.extend(volume);
        }
        Ok((mounts, held))
    }

    /// Clients that attached before the start, each in a task of its own. The monitor hears of them before it hears of the start,
    /// because each task's first step is taken here.
    fn attach_waiting(&self, container: &Container, id: &ContainerId) {
        for mut waiting in container.waiting().drain(..) {
            let (engine, id) = (Arc::clone(&self.0.shared.engine), id.clone());
            let mut attached = Box::pin(async move {
                let attached = tokio::select! {
                    attached = engine.attach_whole(id.as_str(), waiting.theirs) => attached,
                    // The client went away; the monitor is told.
                    () = waiting.over.closed() => return,
                };
                if let Err(error) = attached {
                    info!(container = %id, error = &error as &dyn std::error::Error, "a client is not attached any more");
                }
                let _ = waiting.over.send(());
            });
            let begun = futures_util::FutureExt::now_or_never(&mut attached);
            if begun.is_none() {
                tokio::spawn(attached);
            }
        }
    }

    // === stop ===

    /// Stop signal, grace, SIGKILL. Returns when it has ended.
    ///
    /// # Errors
    /// 304 when it does not run.
    pub(super) async fn stop(
        &self,
        container: &Arc<Container>,
        grace: Option<i64>,
        signal: Option<Signal>,
    ) -> Result<()> {
        let mut ends = container.ends();
        let mut seen = ends.borrow_and_update().count;
        let (record, id) = match container.running() {
            Ok(running) => running,
            Err(_) if container.record().state.phase == Phase::Restarting => {
                if !self.cancel_restart(container).await? {
                    return Ok(());
                }
                seen = ends.borrow_and_update().count;
                match container.running() {
                    Ok(running) => running,
                    Err(_) => return Ok(()),
                }
            }
            Err(_) => return Err(Failure::not_modified()),
        };
        container.change_state(stay_stopped)?;
        self.thaw(container, &id).await?;
        let engine = &self.0.shared.engine;
        let grace = match grace.or(record.config.stop_timeout) {
            None => Duration::from_secs(GRACE),
            // Forever, in an engine that has bounds.
            Some(..0) => Duration::from_secs(u64::from(u32::MAX)),
            Some(seconds) => Duration::from_secs(seconds.unsigned_abs()),
        };
        let grace = match signal {
            Some(signal) if !grace.is_zero() => {
                engine.signal(id.as_str(), signal).await?;
                // Whoever asks for another signal does not want the usual one.
                let ended = ends.wait_for(|ends| ends.count > seen || ends.gone);
                if tokio::time::timeout(grace, ended).await.is_ok() {
                    self.publish(&container.record(), "stop", []);
                    return Ok(());
                }
                Duration::ZERO
            }
            _ => grace,
        };
        engine.stop_container(id.as_str(), grace).await?;
        // An error is the end of the container itself.
        let _ = ends.wait_for(|ends| ends.count > seen || ends.gone).await;
        self.publish(&container.record(), "stop", []);
        Ok(())
    }

    /// Keeps it from being started again. Returns whether that came too late, so that it runs.
    async fn cancel_restart(&self, container: &Arc<Container>) -> Result<bool> {
        container.no_restart.notify_waiters();
        let _turn = container.turn().await;
        container.change_state(stay_stopped)?;
        Ok(container.record().state.is_running())
    }

    /// Sends a signal; SIGKILL is waited for, as its sender does not ask again.
    ///
    /// # Errors
    /// 409 when it does not run.
    pub(super) async fn kill(&self, container: &Arc<Container>, signal: Signal) -> Result<()> {
        let not_running = |_| {
            Failure::conflict(format!(
                "cannot kill container: {}: container {} is not running",
                container.id, container.id
            ))
        };
        let (record, id) = container.running().map_err(not_running)?;
        let stop = plan::signal(&record.config.stop_signal)?.unwrap_or(Signal::TERM);
        if signal == Signal::KILL || signal == stop {
            container.change_state(stay_stopped)?;
        }
        if signal == Signal::KILL {
            self.thaw(container, &id).await?;
        }
        let mut ends = container.ends();
        let seen = ends.borrow_and_update().count;
        self.0.shared.engine.signal(id.as_str(), signal).await?;
        self.publish(&record, "kill", [("signal", signal.0.to_string())]);
        if signal == Signal::KILL {
            // Clients remove it next. One that the kernel cannot end is not waited for.
            let ended = ends.wait_for(|ends| ends.count > seen || ends.gone);
            let _ = tokio::time::timeout(Duration::from_secs(GRACE), ended).await;
        }
        Ok(())
    }

    /// Lets it go on if it is paused: what is frozen hears no signal.
    async fn thaw(&self, container: &Container, id: &ContainerId) -> Result<()> {
        if container.record().state.paused {
            self.0.shared.engine.thaw(id.as_str()).await?;
            container.change_state(|state| state.paused = false)?;
        }
        Ok(())
    }

    /// Freezes it.
    ///
    /// # Errors
    /// 409 when it does not run or is frozen.
    pub(super) async fn pause(&self, container: &Arc<Container>) -> Result<()> {
        let _turn = container.turn().await;
        let (record, id) = container.running()?;
        if record.state.paused {
            return Err(Failure::conflict(format!("Container {} is already paused", record.name)));
        }
        self.0.shared.engine.freeze(id.as_str()).await?;
        container.change_state(|state| state.paused = true)?;
        self.publish(&record, "pause", []);
        Ok(())
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// 409 when it is not frozen.
    pub(super) async fn unpause(&self, container: &Arc<Container>) -> Result<()> {
        let _turn = container.turn().await;
        let (record, id) = container.running()?;
        if !record.state.paused {
            return Err(Failure::conflict(format!("Container {} is not paused", record.name)));
        }
        self.thaw(container, &id).await?;
        self.publish(&record, "unpause", []);
        Ok(())
    }

    // === end ===

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

    /// The engine says that one of its containers has ended.
    fn ended(&self, id: &ContainerId) {
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
    async fn finish(&self, container: &Arc<Container>, exit: Exit) {
        let changed = container.change_and_state(|record| {
            let state = &mut record.state;
            (state.phase, state.paused) = (Phase::Exited, false);
            (state.exit_code, state.finished_at) = (exit.code, exit.finished_at);
            state.oom_killed = exit.reason == ExitReason::OomKilled;
            // In one step: whoever waits for its end must not take a pause for it.
            if restarts(record) {
                record.state.phase = Phase::Restarting;
            }
        });
        let record = container.record();
        note(&container.id, changed.map(drop));
        if exit.reason == ExitReason::OomKilled {
            self.publish(&record, "oom", []);
        }
        self.publish(&record, "die", [("exitCode", exit.code.to_string())]);
        note(&container.id, self.undo_run(container).await);
        if record.host.auto_remove {
            return note(&container.id, self.remove_now(container, true).await);
        }
        if record.state.phase == Phase::Restarting {
            self.restart_by_policy(container);
        }
    }

    /// Starts it again after a pause, until it runs or nobody wants it to. A task of its own, which ends with the next run.
    fn restart_by_policy(&self, container: &Arc<Container>) {
        let (store, container) = (self.clone(), Arc::clone(container));
        tokio::spawn(async move { while let Ok(Again::Failed) = store.restart_once(&container).await {} });
    }

    async fn restart_once(&self, container: &Arc<Container>) -> Result<Again> {
        let state = container.record().state.clone();
        let well = state.finished_at.saturating_sub(state.started_at) >= WELL;
        let times = if well { 0 } else { state.restarts.min(10) };
        let pause = FIRST_PAUSE.saturating_mul(1 << times).min(LONGEST_PAUSE);
        let stopped = container.no_restart.notified();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stopped => return Ok(Again::Settled),
            () = self.0.shared.closed() => return Ok(Again::Settled),
        }
        let _turn = container.turn().await;
        // Somebody may have started it meanwhile, or wanted it to stay as it is.
        if container.record().state.phase != Phase::Restarting {
            return Ok(Again::Settled);
        }
        container.change_state(|state| state.restarts = if well { 1 } else { state.restarts + 1 })?;
        let Err(failure) = self.run(container).await else { return Ok(Again::Settled) };
        info!(container = container.id, error = failure.message(), "a container could not be restarted");
        if !restarts(&container.record()) {
            return Ok(Again::Settled);
        }
        container.change_state(|state| state.phase = Phase::Restarting)?;
        Ok(Again::Failed)
    }
}

/// What an attempt to restart came to.
enum Again {
    /// It runs, or is not to.
    Settled,
    /// It could not be started, and its policy wants it to.
    Failed,
}

/// Somebody wants it to end, also if it has ended already and waits to be started again.
fn stay_stopped(state: &mut State) {
    state.stopped_by_hand = true;
    if state.phase == Phase::Restarting {
        state.phase = Phase::Exited;
    }
}

/// Whether its policy starts it again after this end.
fn restarts(record: &Record) -> bool {
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
fn starts_with_the_node(record: &Record) -> bool {
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
    use super::*;

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
