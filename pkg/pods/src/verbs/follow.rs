//! Following a pod's monitor: exits become state, a lost monitor becomes a dead pod.

use std::sync::Arc;

use husk_life::{ContainerEvent, End, PodEvent, PodLife};
use husk_model::{ContainerId, Ending, Exit, ExitReason, SandboxRecord, UnixNanos, chain};
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
    /// Follows the monitor of a pod, of which nothing is known yet, until it or the pod ends.
    pub(crate) fn begin(&self, pod: &Arc<Pod>) {
        let Ok(monitor) = pod.monitor() else { return };
        // Taken before the state is asked for, so that nothing falls between the two.
        let events = monitor.events();
        let (this, pod) = (self.clone(), Arc::clone(pod));
        tokio::spawn(async move {
            this.catch_up(&pod, &monitor).await;
            this.watch(&pod, &monitor, events).await;
        });
    }

    /// As [`Self::begin`], where the monitor's account was taken in already, or there is none yet; `events` are those after it.
    pub(crate) fn go_on(&self, pod: &Arc<Pod>, events: Events) {
        let Ok(monitor) = pod.monitor() else { return };
        let (this, pod) = (self.clone(), Arc::clone(pod));
        tokio::spawn(async move { this.watch(&pod, &monitor, events).await });
    }

    async fn watch(&self, pod: &Arc<Pod>, monitor: &Monitor, mut events: Events) {
        while let Some(event) = events.next().await {
            match event {
                Event::ContainerStarted { id, at } => {
                    if let Some(container) = self.registry.container_of(pod, &id) {
                        self.started(&container, at);
                    }
                }
                Event::ContainerExited { id, exit } => self.exited_of(pod, &id, exit),
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
            let container = self.registry.container_of(pod, &record.id);
            if let Some(container) = &container
                && record.started_at != 0
            {
                self.started(container, record.started_at);
            }
            match (record.exit, container) {
                (Some(exit), _) => self.exited_of(pod, &record.id, exit),
                (None, Some(container)) => container.note_init(record.process, record.user),
                (None, None) => {}
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

    /// Takes in an exit of which a monitor told. Kept first and taken by whoever finds the container: its creation may be just
    /// ending.
    fn exited_of(&self, pod: &Arc<Pod>, id: &ContainerId, exit: Exit) {
        pod.keep_early_exit(id.clone(), exit);
        if let Some(container) = self.registry.container_of(pod, id) {
            self.take_early_exit(&container);
        }
    }

    fn take_early_exit(&self, container: &Arc<Container>) {
        if let Some(exit) = container.pod().take_early_exit(container.id()) {
            self.exited(container, exit);
        }
    }

    /// A container is known from now on: what became of it while its creation was recorded counts.
    pub(crate) fn appeared(&self, container: &Arc<Container>) {
        self.take_early_exit(container);
        // Whoever saw the monitor's end has perhaps ended the pod's containers already, and did not see this one.
        if container.pod().is_lost() && container.is_alive() {
            self.lost_exit(container);
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
                container.chronicle().asked_to_end(Ending::Cleanup { reason: reason.to_owned() });
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

#[cfg(test)]
mod tests {
    use husk_life::{ContainerLife, Reach};
    use husk_model::{ContainerRecord, PodSandboxId, Process, ResolvedUser};

    use super::*;
    use crate::{
        node::CgroupDriver,
        observing::{Events, Plugins},
        planning,
        records::{ContainerFile, PodFile},
        registry::{Chronicle, NewContainer, NewPod},
    };

    /// A node without anything on it, and a pod that lost its monitor, or waits for it.
    fn world(dir: &std::path::Path, reach: Reach<Monitor>) -> (Follow, Arc<Pod>) {
        let records = Arc::new(Records::open(&dir.join("root"), &dir.join("state")).unwrap());
        let registry = Arc::<Registry>::default();
        let (plugins, _) = Plugins::new(Arc::clone(&records));
        let events = Arc::new(Events::new());
        let changes = Changes::new(Arc::clone(&registry), Arc::clone(&records), events, plugins);
        let cgroups = Cgroups::find(CgroupDriver::Cgroupfs, "/husk").unwrap();
        let file = PodFile::unreadable("boot", &PodSandboxId::generate());
        let pod = NewPod {
            file,
            life: PodLife::Ready,
            process: None,
            reach,
            selinux_level: None,
            chronicle: Chronicle::default(),
        };
        (Follow { registry, records, changes, cgroups }, Arc::new(Pod::new(pod)))
    }

    fn container(pod: &Arc<Pod>) -> Arc<Container> {
        let file = ContainerFile::unreadable(&ContainerId::generate());
        Arc::new(Container::new(NewContainer {
            pod: Arc::clone(pod),
            life: ContainerLife::Making,
            status: planning::shown(pod.id(), &file),
            file: None,
            leases: Vec::new(),
            upper: "/nonexistent".into(),
            chronicle: Chronicle::default(),
        }))
    }

    fn exit_of(container: &Container) -> Option<Exit> {
        match container.life() {
            ContainerLife::Exited { exit, .. } => Some(exit),
            _ => None,
        }
    }

    #[tokio::test]
    async fn a_container_that_appears_after_its_monitor_died_has_ended() {
        let dir = tempfile::tempdir().unwrap();
        let (follow, pod) = world(dir.path(), Reach::Lost);
        // The pod's containers were ended, when this one was not known yet.
        follow.abandon(&pod, "its monitor died").await;
        let container = container(&pod);
        follow.changes.container(&container, &ContainerEvent::Made).unwrap();
        follow.appeared(&container);
        assert_eq!(exit_of(&container).map(|exit| exit.code), Some(255));
    }

    #[tokio::test]
    async fn an_exit_that_is_learned_before_its_container_appears_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (follow, pod) = world(dir.path(), Reach::Awaited);
        let container = container(&pod);
        let exit = Exit { code: 7, finished_at: 9, reason: ExitReason::Error, message: String::new() };
        let record = ContainerRecord {
            id: container.id().clone(),
            process: Process { pid: 2, start_time: 3 },
            created_at: 4,
            started_at: 0,
            exit: Some(exit.clone()),
            user: ResolvedUser::default(),
            cgroup_path: String::new(),
            log_dropped_bytes: 0,
        };
        follow.learn(&pod, Snapshot { sandbox: None, containers: vec![record] });
        follow.changes.container(&container, &ContainerEvent::Made).unwrap();
        follow.appeared(&container);
        assert_eq!(exit_of(&container), Some(exit));
    }
}
