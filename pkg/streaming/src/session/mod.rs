//! What runs on a connection once it stands.
//!
//! | module | concern |
//! | --- | --- |
//! | `command` | exec and attach |
//! | `copy` | between streams and descriptors |
//! | `forward` | one connection to a port of a pod |
//! | `ports` | the connections of a port-forward |

mod command;
mod copy;
mod forward;
mod ports;

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

pub(crate) use command::{Channels, attach, exec, gather};
pub(crate) use ports::{channel_numbers, forward_channels, forward_streams};

use crate::{Containers, activity::Activity, link::Link};

/// What every session has.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) containers: Arc<dyn Containers>,
    /// Becomes true when the daemon ends.
    pub(crate) ending: watch::Receiver<bool>,
    pub(crate) activity: Activity,
    pub(crate) idle_timeout: Duration,
    pub(crate) creation_timeout: Duration,
}

/// Why a session ends before its work does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The client is gone.
    Gone,
    /// Nothing moved for the idle timeout.
    Idle,
    /// The daemon ends.
    Ending,
}

impl Stop {
    /// For the client, if it is there to be told.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Stop::Gone => "the client is gone",
            Stop::Idle => "nothing was sent for the idle timeout of the streaming server",
            Stop::Ending => "huskd is shutting down",
        }
    }
}

impl Context {
    /// Resolves when the session must end.
    pub(crate) async fn stop(&self, link: &Link) -> Stop {
        let mut ending = self.ending.clone();
        tokio::select! {
            () = link.closed() => Stop::Gone,
            () = self.activity.idle_for(self.idle_timeout) => Stop::Idle,
            // An error means that the server is gone, and with it the daemon.
            _ = ending.wait_for(|ending| *ending) => Stop::Ending,
        }
    }
}
