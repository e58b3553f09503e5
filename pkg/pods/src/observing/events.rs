//! What happens on the node, in order, for those who follow it (GetContainerEvents).
//!
//! A change and its announcement are one step under one lock, which is held for neither work nor I/O: so the snapshots in
//! an event are those of its moment, a pod's events come in the order of its life, and whoever begins to follow gets
//! everything after the state that the beginning shows.
//!
//! A follower that is slower than the node does not hold it up: it is told how far it fell behind and starts over. What
//! it could miss for good are ends, so following begins with those of the last [`RECENT`] that can still be asked for: seen
//! by nobody, by the follower's own earlier connection (an end may come twice, never not at all), or while the daemon was
//! away. Everything else that a follower missed is in the lists.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use husk_model::{ContainerId, ContainerState, ContainerStatus, Door, PodSandboxId, PodStatus, UnixNanos};
use husk_node::now;
use tokio::sync::broadcast::{self, error::RecvError};

use crate::registry::{Pod, Registry};

/// Something that happened, for those who follow the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lifecycle {
    /// A container was created.
    Created(PodSandboxId, ContainerId),
    /// Its command runs.
    Started(PodSandboxId, ContainerId),
    /// It ended.
    Stopped(PodSandboxId, ContainerId),
    /// It was removed.
    Deleted(PodSandboxId, ContainerId),
    /// A sandbox became ready.
    PodReady(PodSandboxId),
    /// A sandbox ended: after its containers when it was stopped, before them when its pause process died.
    PodNotReady(PodSandboxId),
    /// A sandbox was removed.
    PodDeleted(PodSandboxId),
}

/// What happened, with the pod as it was right after it.
#[derive(Debug, Clone)]
pub struct PodEvent {
    /// What.
    pub what: Lifecycle,
    /// When it was announced; of an end that a follower is told at its beginning, when it happened.
    pub at: UnixNanos,
    /// The sandbox.
    pub pod: Arc<PodStatus>,
    /// Its containers, oldest first; one that was removed is not among them.
    pub containers: Vec<Arc<ContainerStatus>>,
}

/// Why no more events come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfollowed {
    /// The follower was too slow; this many events are lost to it.
    Behind(u64),
    /// The daemon stops.
    Stopping,
}

/// How many events a slow follower may be behind: a hundred pods of two containers come and go.
const BACKLOG: usize = 1024;

/// How old an end may be to be told to a new follower. A kubelet that was away for longer lists the node anyway.
pub(crate) const RECENT: Duration = Duration::from_secs(300);

/// Events from a moment on.
#[derive(Debug)]
pub struct Follower {
    recent: VecDeque<Arc<PodEvent>>,
    live: broadcast::Receiver<Arc<PodEvent>>,
    /// Whose pods it follows; all without one.
    door: Option<Door>,
}

impl Follower {
    /// The next event. Cancel-safe. After an error there is nothing more.
    ///
    /// # Errors
    /// [`Unfollowed`].
    pub async fn next(&mut self) -> Result<Arc<PodEvent>, Unfollowed> {
        loop {
            let event = match self.recent.pop_front() {
                Some(event) => event,
                None => self.live.recv().await.map_err(|error| match error {
                    RecvError::Lagged(lost) => Unfollowed::Behind(lost),
                    RecvError::Closed => Unfollowed::Stopping,
                })?,
            };
            if self.door.is_none_or(|door| event.pod.config.door == door) {
                return Ok(event);
            }
        }
    }
}

/// Where events go.
#[derive(Debug)]
pub(crate) struct Events(Mutex<Option<broadcast::Sender<Arc<PodEvent>>>>);

impl Events {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Some(broadcast::channel(BACKLOG).0)))
    }

    /// Follows the node from now on, beginning with what ended lately.
    pub(crate) fn follow(&self, registry: &Registry, door: Option<Door>) -> Follower {
        Follower { door, ..self.follow_after(|| recent_ends(registry)) }
    }

    /// Changes something of a pod and announces it, in one step. `change` says what happened, if anything did; it must not
    /// block.
    pub(crate) fn happen(&self, registry: &Registry, pod: &Pod, change: impl FnOnce() -> Option<Lifecycle>) {
        self.step(change, |what| event(registry, pod, what, now()));
    }

    /// Ends the streams of all followers, who would otherwise hold up the end of the daemon.
    pub(crate) fn end(&self) {
        self.lock().take();
    }

    fn follow_after(&self, recent: impl FnOnce() -> VecDeque<Arc<PodEvent>>) -> Follower {
        let events = self.lock();
        let live = match &*events {
            Some(sender) => sender.subscribe(),
            None => broadcast::channel(1).1,
        };
        Follower { recent: recent(), live, door: None }
    }

    /// Makes the event of a change, if that says that there is one, and sends it.
    fn step(&self, change: impl FnOnce() -> Option<Lifecycle>, event: impl FnOnce(Lifecycle) -> PodEvent) {
        let events = self.lock();
        let Some(what) = change() else { return };
        let Some(sender) = events.as_ref().filter(|sender| sender.receiver_count() > 0) else { return };
        // It has a receiver, or had one a moment ago.
        let _ = sender.send(Arc::new(event(what)));
    }

    fn lock(&self) -> MutexGuard<'_, Option<broadcast::Sender<Arc<PodEvent>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The ends of what is still there, oldest first.
fn recent_ends(registry: &Registry) -> VecDeque<Arc<PodEvent>> {
    let since = now().saturating_sub(i64::try_from(RECENT.as_nanos()).unwrap_or(i64::MAX));
    let mut ends = Vec::new();
    for pod in registry.pods() {
        for container in registry.containers_of(&pod) {
            if let ContainerState::Exited { exit, .. } = &container.status().state {
                let what = Lifecycle::Stopped(pod.id().clone(), container.id().clone());
                ends.push((exit.finished_at, Arc::clone(&pod), what));
            }
        }
        if let Some(end) = pod.life().end() {
            let what = Lifecycle::PodNotReady(pod.id().clone());
            ends.push((end.at(), Arc::clone(&pod), what));
        }
    }
    ends.retain(|(at, ..)| *at >= since);
    // Stable: of one moment, a sandbox's end comes after its containers'.
    ends.sort_by_key(|(at, ..)| *at);
    ends.into_iter().map(|(at, pod, what)| Arc::new(event(registry, &pod, what, at))).collect()
}

/// What happened to a pod, with the pod as it is now.
fn event(registry: &Registry, pod: &Pod, what: Lifecycle, at: UnixNanos) -> PodEvent {
    let mut containers: Vec<_> =
        registry.containers_of(pod).iter().map(|container| container.status()).collect();
    containers.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
    PodEvent { what, at, pod: pod.status(), containers }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Announces `count` events, told apart by their times.
    fn announce(events: &Events, count: usize) {
        let id = PodSandboxId::generate();
        let pod = Arc::new(husk_test_support::pod_status(id.clone(), "p"));
        for at in 0..count {
            let event =
                |what| PodEvent { what, at: at as i64, pod: Arc::clone(&pod), containers: Vec::new() };
            events.step(|| Some(Lifecycle::PodReady(id.clone())), event);
        }
    }

    #[tokio::test]
    async fn a_slow_follower_is_told_and_a_quick_one_loses_nothing() {
        let events = Events::new();
        let (mut slow, mut quick) = (events.follow_after(VecDeque::new), events.follow_after(VecDeque::new));
        for round in 0..2 {
            announce(&events, BACKLOG / 2 + 10);
            for at in 0..BACKLOG / 2 + 10 {
                assert_eq!(quick.next().await.unwrap().at, at as i64, "round {round}");
            }
        }
        assert_eq!(slow.next().await.unwrap_err(), Unfollowed::Behind(20));
    }

    #[tokio::test]
    async fn the_end_of_the_daemon_ends_the_stream_after_what_was_announced() {
        let events = Events::new();
        let mut follower = events.follow_after(VecDeque::new);
        announce(&events, 1);
        events.end();
        follower.next().await.unwrap();
        assert_eq!(follower.next().await.unwrap_err(), Unfollowed::Stopping);
        assert_eq!(events.follow_after(VecDeque::new).next().await.unwrap_err(), Unfollowed::Stopping);
    }
}
