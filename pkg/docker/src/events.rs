//! What happened, for those who follow it; the last of it is kept, so that a client can ask for what it missed.
//!
//! A follower that is slower than the node loses what it has not taken and is told to begin again, by the end of its stream: an
//! event must never wait for a client.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use husk_model::UnixNanos;
use tokio::sync::broadcast;

/// Events that are kept for `since`, and that a follower may be behind.
const KEPT: usize = 1024;

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    /// A container.
    Container,
    /// An image.
    Image,
    /// A volume.
    Volume,
    /// A network.
    Network,
    /// A secret of the swarm.
    Secret,
    /// A config of the swarm.
    Config,
}

impl Subject {
    /// As the API spells it (`Type`).
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Image => "image",
            Self::Volume => "volume",
            Self::Network => "network",
            Self::Secret => "secret",
            Self::Config => "config",
        }
    }

    /// Where it is known (`scope`): in the swarm, or on this node alone.
    pub(crate) fn scope(self) -> &'static str {
        match self {
            Self::Secret | Self::Config => "swarm",
            Self::Container | Self::Image | Self::Volume | Self::Network => "local",
        }
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// When.
    pub(crate) at: UnixNanos,
    /// To what.
    pub(crate) subject: Subject,
    /// `create`, `start`, `die`, `pull`…, or `exec_start: command`.
    pub(crate) action: String,
    /// Id of a container or network, name of an image or volume.
    pub(crate) id: String,
    /// More about it: names, labels, an exit code.
    pub(crate) attributes: BTreeMap<String, String>,
}

/// Where events are published and followed.
#[derive(Debug)]
pub(crate) struct Events {
    kept: Mutex<VecDeque<Arc<Event>>>,
    followers: broadcast::Sender<Arc<Event>>,
}

impl Default for Events {
    fn default() -> Self {
        Self { kept: Mutex::default(), followers: broadcast::channel(KEPT).0 }
    }
}

impl Events {
    /// Says that something happened, now.
    pub(crate) fn publish(
        &self,
        subject: Subject,
        action: impl Into<String>,
        id: impl Into<String>,
        attributes: BTreeMap<String, String>,
    ) {
        let (action, id) = (action.into(), id.into());
        // Under the lock, so that the order of times is that of events, and a follower gets each once.
        let mut kept = self.kept();
        let event = Arc::new(Event { at: husk_node::now(), subject, action, id, attributes });
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(Arc::clone(&event));
        // Without followers nobody hears it.
        let _ = self.followers.send(event);
    }

    /// What is kept, oldest first, and everything after it.
    pub(crate) fn follow(&self) -> (Vec<Arc<Event>>, broadcast::Receiver<Arc<Event>>) {
        let kept = self.kept();
        (kept.iter().cloned().collect(), self.followers.subscribe())
    }

    /// How many follow.
    pub(crate) fn followers(&self) -> usize {
        self.followers.receiver_count()
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Arc<Event>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_events_are_kept_and_each_reaches_a_follower_once() {
        let events = Events::default();
        for number in 0..KEPT + 3 {
            events.publish(Subject::Volume, "create", number.to_string(), BTreeMap::new());
        }
        let (kept, mut new) = events.follow();
        assert_eq!(kept.len(), KEPT);
        assert_eq!(kept[0].id, "3");
        assert!(kept.is_sorted_by_key(|event| event.at));
        events.publish(Subject::Volume, "destroy", "x", BTreeMap::new());
        assert_eq!(new.try_recv().unwrap().action, "destroy");
        assert!(new.try_recv().is_err());
    }
}
