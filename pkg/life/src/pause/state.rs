//! The states of a pause process.

use husk_model::{Exit, UnixNanos};

use super::event::Cause;

/// Where a pause process is in its life. `C` names a call that waits for its answer, `F` is a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PauseLife<C, F> {
    /// It was cloned and does not run yet.
    Starting {
        /// RunSandbox or ReleaseSandbox. Of one that is held there is nobody to answer between the two.
        caller: Option<C>,
        /// Why it gives up; answered when it is reaped.
        failure: Option<F>,
        /// StopSandbox.
        stops: Vec<C>,
    },
    /// Containers can join it.
    Running {
        /// Since when.
        started_at: UnixNanos,
    },
    /// It is being killed with everything in the pod.
    Stopping {
        /// Since when it ran.
        started_at: UnixNanos,
        /// StopSandbox.
        stops: Vec<C>,
    },
    /// It ended before ReleaseSandbox, which is told why.
    Stillborn(Cause<F>),
    /// It ended by itself; nothing can be run in this pod any more.
    Ended {
        /// Since when it ran.
        started_at: UnixNanos,
        /// How it ended.
        exit: Exit,
    },
    /// It ended and the pod is to be stopped: its containers' ends and its group are waited for.
    Emptying {
        /// Since when it ran.
        started_at: UnixNanos,
        /// How it ended.
        exit: Exit,
        /// StopSandbox.
        stops: Vec<C>,
    },
    /// Nothing of the pod lives.
    Stopped {
        /// Since when it ran.
        started_at: UnixNanos,
        /// How it ended.
        exit: Exit,
    },
    /// It never ran, and whoever wanted it knows.
    Gone,
}

impl<C, F> PauseLife<C, F> {
    /// That of a process that was cloned this moment. Without a caller it waits for its release.
    pub fn new(caller: Option<C>) -> Self {
        PauseLife::Starting { caller, failure: None, stops: Vec::new() }
    }

    /// It does not run yet.
    pub fn is_starting(&self) -> bool {
        matches!(self, PauseLife::Starting { .. })
    }

    /// Containers can join it.
    pub fn is_running(&self) -> bool {
        matches!(self, PauseLife::Running { .. })
    }

    /// It was not reaped yet.
    pub fn is_alive(&self) -> bool {
        matches!(self, PauseLife::Starting { .. } | PauseLife::Running { .. } | PauseLife::Stopping { .. })
    }

    /// Nothing of the pod is left to wait for.
    pub fn is_over(&self) -> bool {
        matches!(self, PauseLife::Stopped { .. } | PauseLife::Stillborn(_) | PauseLife::Gone)
    }

    /// Only its containers and its group are waited for.
    pub fn is_emptying(&self) -> bool {
        matches!(self, PauseLife::Emptying { .. })
    }

    /// Nothing is left of it.
    pub fn is_gone(&self) -> bool {
        matches!(self, PauseLife::Gone)
    }

    /// StopSandbox was called.
    pub fn was_stopped(&self) -> bool {
        match self {
            PauseLife::Starting { stops, .. } => !stops.is_empty(),
            PauseLife::Stopping { .. } | PauseLife::Emptying { .. } | PauseLife::Stopped { .. } => true,
            _ => false,
        }
    }

    /// Since when it runs or ran.
    pub fn started_at(&self) -> Option<UnixNanos> {
        match self {
            PauseLife::Running { started_at }
            | PauseLife::Stopping { started_at, .. }
            | PauseLife::Ended { started_at, .. }
            | PauseLife::Emptying { started_at, .. }
            | PauseLife::Stopped { started_at, .. } => Some(*started_at),
            _ => None,
        }
    }

    /// How it ended, if it ever ran.
    pub fn exit(&self) -> Option<&Exit> {
        match self {
            PauseLife::Ended { exit, .. }
            | PauseLife::Emptying { exit, .. }
            | PauseLife::Stopped { exit, .. } => Some(exit),
            _ => None,
        }
    }

    /// The state, in words for people.
    pub fn name(&self) -> &'static str {
        match self {
            PauseLife::Starting { .. } => "being started",
            PauseLife::Running { .. } => "running",
            PauseLife::Stopping { .. } | PauseLife::Emptying { .. } => "being stopped",
            PauseLife::Ended { .. } | PauseLife::Stillborn(_) | PauseLife::Gone => "ended",
            PauseLife::Stopped { .. } => "stopped",
        }
    }
}
