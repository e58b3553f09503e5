//! The start of a container, and its restart by hand.
//!
//! A run is a pod of one in the engine: made by the start, taken away after the end. It is on record from before it is made until all
//! of it is gone, so whatever happens to huskd in between, the next start takes away what no container has.

use std::{net::IpAddr, sync::Arc};

use husk_model::{ContainerId, PodSandboxId, Signal};
use tracing::{info, warn};

use super::{
    container::Container,
    mounts, plan, ports,
    record::{Phase, Record, Run},
    runs::{exit_code_of, not_started},
    store::Store,
};
use crate::{
    error::{Failure, Result},
    volumes::Held,
};

impl Store {
    /// Starts a container.
    ///
    /// # Errors
    /// 304 when it runs already; of the step that failed, and then it does not run.
    pub(super) async fn start(&self, container: &Arc<Container>) -> Result<()> {
        let _turn = container.turn().await;
        self.start_now(container).await
    }

    /// Stops it, if it runs, and starts it. One that goes with its end does not go with this one, as with dockerd.
    ///
    /// # Errors
    /// Those of a stop and a start.
    pub(super) async fn restart(
        &self,
        container: &Arc<Container>,
        grace: Option<i64>,
        signal: Option<Signal>,
    ) -> Result<()> {
        let kept = container.keep();
        let stopped = self.stop(container, grace, signal).await;
        let _turn = container.turn().await;
        drop(kept);
        match stopped {
            Err(failure) if failure.status() != 304 => {
                // It may have ended all the same, and was kept.
                self.go_if_over(container).await;
                return Err(failure);
            }
            _ => {}
        }
        match self.start_now(container).await {
            // Somebody else has started it meanwhile.
            Err(failure) if failure.status() != 304 => return Err(failure),
            _ => {}
        }
        self.publish(&container.record(), "restart", []);
        Ok(())
    }

    /// The container's turn is the caller's.
    async fn start_now(&self, container: &Arc<Container>) -> Result<()> {
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
        let begun = container.change_state(|state| (state.restarts, state.stopped_by_hand) = (0, false));
        let started = match begun {
            Ok(_) => {
                container.no_restart.notify_waiters();
                self.run(container).await
            }
            // Its policy still wants it to.
            Err(failure) => Err(failure),
        };
        if started.is_err() && record.host.auto_remove {
            // Its client waits for that.
            self.go(container).await;
        }
        started
    }

    /// Makes a run, or undoes what a failed one made. The container's turn is the caller's.
    ///
    /// # Errors
    /// Of the step that failed.
    pub(super) async fn run(&self, container: &Arc<Container>) -> Result<()> {
        let attempt = container.record().state.run.as_ref().map_or(0, |run| run.attempt.wrapping_add(1));
        self.undo_run(container).await?;
        let started = self.build_and_start(container, attempt).await;
        if let Err(failure) = &started {
            container.waiting().clear();
            let code = exit_code_of(failure.message());
            self.undo_run(container).await.unwrap_or_else(|error| {
                warn!(
                    container = container.id,
                    error = error.message(),
                    "what a failed start made stays until the next"
                );
            });
            let message = failure.message().to_owned();
            self.take_in(container, |record| not_started(&mut record.state, code, message));
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
        container.change_state(|state| state.has_started(husk_node::now()))?;
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
        let run = Run { attempt, pod: None, container: None, guest: false, ended: false, addresses: former };
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
        let run = Run {
            attempt,
            pod: Some(pod.clone()),
            container: None,
            guest: true,
            ended: false,
            addresses: Vec::new(),
        };
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
}
