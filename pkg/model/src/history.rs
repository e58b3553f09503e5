//! How a pod or a container came to be and why it ended, for people who ask.

use std::{borrow::Cow, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{Door, UnixNanos};

/// One step of what was done for an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phase {
    /// What was done, in a few words.
    pub name: Cow<'static, str>,
    /// 0 for a step of the whole, 1 for a step of that, and so on.
    #[serde(default)]
    pub depth: u8,
    /// When it began.
    pub began: UnixNanos,
    /// Nanoseconds that it took; `None` while it goes on.
    pub took: Option<u64>,
    /// It failed, or was given up.
    #[serde(default)]
    pub failed: bool,
}

/// What made somebody end a container or a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// It was to be stopped.
    Stop {
        /// Through which door; `None` is huskd itself.
        door: Option<Door>,
        /// How long it had from its stop signal to SIGKILL. Of a pod, nothing: its containers are killed.
        grace: Duration,
    },
    /// Its pod was stopped or removed.
    OfPod,
    /// It was removed while it lived.
    Removal {
        /// Through which door; `None` is huskd itself.
        door: Option<Door>,
    },
    /// An NRI plugin evicted it.
    Eviction {
        /// The plugin.
        plugin: String,
        /// In its words.
        reason: String,
    },
    /// Its pod's monitor was lost, and huskd ended what that left.
    Cleanup {
        /// How the monitor was lost.
        reason: String,
    },
}

/// A wish that something ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedEnd {
    /// When.
    pub at: UnixNanos,
    /// By whom and how.
    pub what: Ending,
}

/// What is known of an object's way. Bounded: whoever keeps one keeps a few dozen steps and a few wishes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// In the order in which they began.
    #[serde(default)]
    pub phases: Vec<Phase>,
    /// The wishes that it ends, oldest first.
    #[serde(default)]
    pub asked: Vec<AskedEnd>,
}

impl History {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.phases.is_empty() && self.asked.is_empty()
    }
}
