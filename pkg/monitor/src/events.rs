//! What a monitor tells unasked.

use husk_model::{ContainerId, Exit, UnixNanos};
use tokio::sync::broadcast::{self, error::RecvError};

/// Something that happened in a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A container's gate was opened.
    ContainerStarted {
        /// Which one.
        id: ContainerId,
        /// When.
        at: UnixNanos,
    },
    /// A container ended. Its log is complete, its record is on disk and its cgroup is gone.
    ContainerExited {
        /// Which one.
        id: ContainerId,
        /// How.
        exit: Exit,
    },
    /// The pause process ended.
    SandboxExited {
        /// How.
        exit: Exit,
    },
    /// The reader was too slow and events were lost: ask for the state.
    Missed,
    /// The connection ended, most likely because the monitor died. The last event.
    Disconnected,
}

/// A stream of events, from the moment it was made.
#[derive(Debug)]
pub struct Events(pub(crate) broadcast::Receiver<Event>);

impl Events {
    /// The next event; `None` after [`Event::Disconnected`]. Cancel-safe.
    pub async fn next(&mut self) -> Option<Event> {
        match self.0.recv().await {
            Ok(event) => Some(event),
            Err(RecvError::Lagged(_)) => Some(Event::Missed),
            Err(RecvError::Closed) => None,
        }
    }
}
