//! Following a pod's monitor: exits become state, a lost monitor becomes a dead pod.

use std::sync::Arc;

use husk_life::{ContainerEvent, End, PodEvent, PodLife};
use husk_model::{Exit, ExitReason, SandboxRecord, UnixNanos, chain};
use husk_monitor::{Event, Events, Monitor, Snapshot};
use husk_node::now;
use tracing::{info, warn};

use crate::{
    node::Cgroups,
    observing::Changes,
    records::Records,
    registry::{Container, Pod, Registry},
};

/// What following needs.
#[derive(Debug, Clone)]
pub(crate) struct Follow {
    pub(crate) registry: Arc<Registry>,
    pub(crate) records: Arc<Records>,
    pub(crate) changes: Changes,
    pub(crate) cgroups: Cgroups,
}

impl Follow {
    /// Follows the monitor of a pod until it or the pod ends.
    pub(crate) fn begin(&self, pod: &Arc<Pod>) {
        let Ok(monitor) = pod.monitor() else { return };
        // Taken before the state is asked for, so that nothing falls between the two.
        let events = monitor.events();
        let (this, pod) = (self.clone(), Arc::clone(pod));
        tokio::spawn(async move { this.watch(&pod, &monitor, events).await });
    }

    async fn watch(&self, pod: &Arc<Pod>, monitor: &Monitor, mut events: Events) {
        self.catch_up(pod, monitor).await;
        while let Some(event) = events.next().await {
            match event {
                Event::ContainerStarted { id, at } => {
                    if let Some(container) = self.registry.container_of(pod, &id) {
                        self.started(&container, at);
                    }
                }
                Event::ContainerExited { id, exit } => {
                    // Kept first and taken by whoever finds the container: its creation may be just ending.
                    pod.keep_early_exit(id.clone(), exit);
                    if let Some(container) = self.registry.container_of(pod, &id) {
                        self.take_early_exit(&container);
                    }
                }
                Event::SandboxExited { exit } => {
                    if pod.is_ready() {
                        warn!(pod = %pod.id(), code = exit.code, "the pause process ended; the pod is not ready any more");
                        self.pod_ended(pod, End::new(exit.finished_at, ""));
                    }
                }
                Event::Missed => self.catch_up(pod, monitor).await,
                Event::Disconnected => break,
            }
        }
        self.lost(pod).await;
    }

    /// Takes in everything the monitor knows.
    async fn catch_up(&self, pod: &Arc<Pod>, monitor: &Monitor) {
        match monitor.state().await {
            Ok(snapshot) => self.learn(pod, snapshot),
            // The connection is gone: its end is the next event.
            Err(error) => info!(pod = %pod.id(), %error, "cannot read the state of the pod"),
        }
    }

    /// Takes in a monitor's account, be it from memory or from its files.
    pub(crate) fn learn(&self, pod: &Arc<Pod>, snapshot: Snapshot) {
        for record in snapshot.containers {
            let Some(container) = self.registry.container_of(pod, &record.id) else { continue };
            if record.started_at != 0 {
                self.started(&container, record.started_at);
            }
            match record.exit {
                Some(exit) => self.exited(&container, exit),
                None => container.note_init(record.process, record.user),
            }
        }
        match snapshot.sandbox {
            Some(SandboxRecord { exit: Some(exit), .. }) => {
                self.pod_ended(pod, End::new(exit.finished_at, ""));
            }
            Some(SandboxRecord { stopped: true, .. }) => self.pod_ended(pod, End::new(now(), "")),
            _ => {}
        }
    }

    /// Takes in what the monitor wrote down, for when it cannot be asked.
    pub(crate) fn learn_records(&self, pod: &Arc<Pod>) {
        match husk_monitor::read_records(&self.records.pod(pod.id())) {
            Ok(snapshot) => self.learn(pod, snapshot),
            Err(error) => warn!(pod = %pod.id(), %error, "cannot read what the monitor recorded"),
        }
    }

    /// Takes in a start. One that is heard of after the exit only fills in the time.
    pub(crate) fn started(&self, container: &Arc<Container>, at: UnixNanos) {
        self.container(container, &ContainerEvent::Started(at));
    }

    /// Takes in an exit.
    pub(crate) fn exited(&self, container: &Arc<Container>, exit: Exit) {
        self.container(container, &ContainerEvent::Exited(exit));
    }

    fn container(&self, container: &Arc<Container>, event: &ContainerEvent) {
        if let Err(error) = self.changes.container(container, event) {
            // What is heard late of a container that was removed is nobody's business.
            info!(container = %container.id(), %error, "the monitor tells something that cannot be");
        }
    }

    /// Takes in the exit of a container that came before the container was known.
    pub(crate) fn take_early_exit(&self, container: &Arc<Container>) {
        if let Some(exit) = container.pod().take_early_exit(container.id()) {
            self.exited(container, exit);
        }
    }

    /// Takes in the end of a sandbox that nobody asked for.
    fn pod_ended(&self, pod: &Arc<Pod>, end: End) {
        // Refused of a pod that is gone; an end asks nothing of its teller.
        let _ = self.changes.pod(pod, &PodEvent::Ended(end));
    }

    /// The monitor is gone without having been asked to: without it nobody drains the containers' output or sees their exits, so
    /// what still runs is killed and the pod is not ready.
    async fn lost(&self, pod: &Arc<Pod>) {
        pod.lost();
        // A stop or removal in progress ends the monitor itself, or what it left.
        pod.settled().await;
        let abandoned = self.changes.pod(pod, &PodEvent::MonitorLost).is_ok_and(|changed| changed.abandon);
        if abandoned {
            warn!(pod = %pod.id(), "the pod's monitor died; its containers are killed");
            self.abandon(pod, "its monitor died, so its containers were killed").await;
        }
    }

    /// Ends what a dead monitor left: recorded exits count, everything else is killed and has an unknown exit. What is found out
    /// here is recorded in the monitor's stead, so that a later start tells the same.
    pub(crate) async fn abandon(&self, pod: &Arc<Pod>, reason: &str) {
        pod.lost();
        let recorded = self.learn_containers(pod);
        if let Err(error) = self.cgroups.kill(&pod.cgroup_path()).await {
            warn!(pod = %pod.id(), %error, "cannot kill what the pod left; its removal tries again");
        }
        for container in self.registry.containers_of(pod) {
            if container.is_alive() {
                self.lost_exit(&container);
            }
        }
        let ended = now();
        if let Err(error) = husk_monitor::record_sandbox_exit(&self.records.pod(pod.id()), &unseen(ended)) {
            warn!(pod = %pod.id(), %error, "cannot record the end of a pod");
        }
        self.pod_ended(pod, End::new(recorded.unwrap_or(ended), reason));
    }

    /// Takes in what a dead monitor wrote down of its containers; the end of the pod is told last. Returns when that was, if it
    /// is on record.
    fn learn_containers(&self, pod: &Arc<Pod>) -> Option<UnixNanos> {
        match husk_monitor::read_records(&self.records.pod(pod.id())) {
            Ok(Snapshot { sandbox, containers }) => {
                self.learn(pod, Snapshot { sandbox: None, containers });
                Some(sandbox?.exit?.finished_at)
            }
            Err(error) => {
                warn!(pod = %pod.id(), %error, "cannot read what the monitor recorded");
                None
            }
        }
    }

    /// The end of a container that nobody saw: its monitor is dead, and so is what it left. An exit that the monitor wrote down
    /// without having told it counts.
    pub(crate) fn lost_exit(&self, container: &Arc<Container>) {
        let dir = self.records.pod(container.pod().id());
        let exit = match husk_monitor::record_exit(&dir, container.id(), &unseen(now())) {
            Ok(recorded) => recorded,
            Err(error) => {
                warn!(container = %container.id(), %error, "cannot record the end of a container");
                unseen(now())
            }
        };
        self.exited(container, exit);
    }

    /// Kills the pod's monitor as its record names it: one that was never spoken to.
    pub(crate) fn kill_recorded_monitor(&self, pod: &Pod) {
        if let Err(error) = husk_monitor::kill_recorded(&self.records.pod(pod.id())) {
            warn!(pod = %pod.id(), error = chain(&error), "cannot kill the pod's monitor");
        }
    }

    /// What start-up finds of a pod whose monitor is gone.
    pub(crate) async fn found_without_monitor(&self, pod: &Arc<Pod>, reason: &str) {
        pod.lost();
        if pod.life() == PodLife::Ready {
            warn!(pod = %pod.id(), reason, "a pod lost its monitor while the daemon was down");
        }
        match self.changes.pod(pod, &PodEvent::MonitorLost) {
            Ok(changed) if changed.abandon => self.abandon(pod, reason).await,
            _ => self.learn_records(pod),
        }
    }
}

/// The exit of a process whose monitor died: nobody saw it.
fn unseen(at: UnixNanos) -> Exit {
    Exit {
        code: 255,
        finished_at: at,
        reason: ExitReason::Unknown,
        message: "the pod's monitor died, so the exit of the container was not seen".to_owned(),
    }
}
