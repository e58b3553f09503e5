//! Stopping containers and pods. Every function may be repeated and goes on where it stopped.

use std::{sync::Arc, time::Duration};

use husk_life::{PodEvent, Step};
use husk_model::{Classify, Ending, Kind};
use husk_monitor::MonitorError;
use husk_node::now;
use husk_telemetry::step;
use tracing::{Instrument, warn};

use super::{ends::Ends, follow::Follow, hang::Hang};
use crate::{
    error::{PodsError, Result},
    node::Networks,
    registry::{Container, Pod},
};

/// What stopping needs.
#[derive(Debug, Clone)]
pub(crate) struct Stop {
    pub(crate) follow: Follow,
    pub(crate) ends: Ends,
    pub(crate) networks: Networks,
    pub(crate) hang: Hang,
}

impl Stop {
    // === a container ===

    /// Ends a container; returns when EXITED is visible.
    pub(crate) async fn container(&self, container: &Arc<Container>, grace: Duration) -> Result<()> {
        if container.is_alive() {
            self.end_container(container, grace).await?;
        }
        self.ends.tell(container).await;
        Ok(())
    }

    async fn end_container(&self, container: &Arc<Container>, grace: Duration) -> Result<()> {
        if let Ok(monitor) = container.pod().monitor() {
            let stop = monitor.stop_container(container.id(), None, grace);
            match step!("stop container", stop, container = %container.id()).await {
                Ok(exit) => {
                    self.follow.exited(container, exit);
                    return Ok(());
                }
                // A removal was faster.
                Err(error) if error.kind() == Kind::NotFound => return Ok(()),
                Err(MonitorError::Disconnected { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        check_not_silent(container.pod())?;
        self.follow.cgroups.kill(&container.status().cgroup_path).await?;
        self.follow.lost_exit(container);
        Ok(())
    }

    // === a pod ===

    /// Stops a pod: containers, network, pause. The containers stay, as EXITED.
    pub(crate) async fn pod(&self, pod: &Arc<Pod>) -> Result<()> {
        let _gate = self.hang.turn_of(pod, pod.close()).await;
        self.closed_pod(pod).await
    }

    /// As [`Stop::pod`], for whoever has closed the pod's gate.
    pub(crate) async fn closed_pod(&self, pod: &Arc<Pod>) -> Result<()> {
        if pod.is_silent() {
            self.give_up_monitor(pod).await;
        }
        // No container is created from here on; the end is announced when all is over.
        self.change(pod, &PodEvent::StopBegun)?;
        if pod.life().stopping().is_none() {
            return Ok(());
        }
        let network = self.members_and_network(pod).await?;
        self.step(pod, Step::Pause, self.hang.unless_hung(&self.follow, pod, self.sandbox(pod))).await?;
        // Nothing of the pod runs any more, whatever its network has come to.
        network?;
        self.change(pod, &PodEvent::Stopped { at: now() })
    }

    /// A pod that cannot be written down stops all the same: on a full disk pods must go more than ever, and a start that finds
    /// the old record learns the end from the monitor.
    fn change(&self, pod: &Arc<Pod>, event: &PodEvent) -> Result<()> {
        match self.follow.changes.pod(pod, event) {
            Err(error) if error.kind() == Kind::ResourceExhausted => {
                warn!(pod = %pod.id(), error = &error as &dyn std::error::Error, "the stop of a pod is not recorded");
                self.follow.changes.pod_unrecorded(pod, event).map(drop)
            }
            changed => changed.map(drop),
        }
    }

    /// Does a step of a stop, unless it is done already.
    async fn step(&self, pod: &Arc<Pod>, step: Step, work: impl Future<Output = Result<()>>) -> Result<()> {
        if pod.life().stopping().is_none_or(|done| done.has(step)) {
            return Ok(());
        }
        work.await?;
        self.follow.changes.pod(pod, &PodEvent::StepDone(step)).map(drop)
    }

    /// Containers and network do not need each other; but a plugin may take something back from the pod's network namespace.
    /// Returns how it went with the network.
    async fn members_and_network(&self, pod: &Arc<Pod>) -> Result<Result<()>> {
        let config = pod.config();
        let containers = self.hang.unless_hung(&self.follow, pod, self.containers(pod));
        let containers = self.step(pod, Step::Containers, containers);
        let network = step!("network", self.networks.tear_down(pod.id(), &config));
        let network = self.step(pod, Step::Network, network);
        let (stopped, network) = if self.follow.changes.plugins().active() {
            let stopped = containers.await;
            if stopped.is_ok() {
                self.tell_stop(pod).await?;
            }
            (stopped, network.await)
        } else {
            tokio::join!(containers, network)
        };
        stopped?;
        self.tell_stop(pod).await?;
        Ok(network)
    }

    async fn containers(&self, pod: &Arc<Pod>) -> Result<()> {
        let mut stops = tokio::task::JoinSet::new();
        for container in self.follow.registry.containers_of(pod) {
            let this = self.clone();
            if container.is_alive() {
                container.chronicle().asked_to_end(Ending::OfPod);
            }
            let stop = async move { this.container(&container, Duration::ZERO).await };
            stops.spawn(stop.in_current_span());
        }
        stops.join_all().await.into_iter().collect()
    }

    async fn tell_stop(&self, pod: &Arc<Pod>) -> Result<()> {
        let told = async {
            for container in self.follow.registry.containers_of(pod) {
                self.ends.tell(&container).await;
            }
            self.follow.changes.plugins().pod_stops(pod).await;
            Ok(())
        };
        self.step(pod, Step::Plugins, told).await
    }

    async fn sandbox(&self, pod: &Arc<Pod>) -> Result<()> {
        let asked = match pod.monitor() {
            Ok(monitor) => step!("stop pause", monitor.stop_sandbox()).await,
            Err(_) => Err(MonitorError::Disconnected { call: "stop sandbox" }),
        };
        match asked {
            Err(MonitorError::Disconnected { .. }) => self.follow.cgroups.kill(&pod.cgroup_path()).await?,
            answered => answered.map_err(PodsError::Monitor)?,
        }
        self.follow.cgroups.end_unit(&pod.cgroup_path());
        Ok(())
    }

    async fn give_up_monitor(&self, pod: &Arc<Pod>) {
        self.follow.kill_recorded_monitor(pod);
        self.follow.abandon(pod, "its monitor did not answer and was killed").await;
    }
}

/// Fails when the monitor lives but does not answer: what it holds is ended behind its back with the whole pod only.
pub(crate) fn check_not_silent(pod: &Pod) -> Result<()> {
    if pod.is_silent() { pod.monitor().map(drop) } else { Ok(()) }
}
