//! The states of a container's init.

use husk_model::{Exit, UnixNanos};

use super::{callers::Callers, event::Cause};

/// Where a container's init is in its life. `C` names a call that waits for its answer, `F` is a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InitLife<C, F> {
    /// It was cloned and sets itself up. Only the call that made it knows of it.
    Building {
        /// CreateContainer.
        creator: C,
        /// Why it gives up; answered when it is reaped.
        failure: Option<F>,
    },
    /// It waits at the gate.
    Created {
        /// Why it gives up.
        failure: Option<F>,
        /// Who waits for its end.
        callers: Callers<C>,
    },
    /// It is to be started, and its log is being opened.
    Opening {
        /// StartContainer.
        starter: C,
        /// Why it gives up.
        failure: Option<F>,
        /// Who waits for its end.
        callers: Callers<C>,
    },
    /// The gate is open; the command does not run yet.
    Starting {
        /// StartContainer.
        starter: C,
        /// When the gate was opened.
        started_at: UnixNanos,
        /// Why it gives up; answered when it is reaped.
        failure: Option<F>,
        /// Who waits for its end.
        callers: Callers<C>,
    },
    /// Its command runs.
    Running {
        /// When the gate was opened.
        started_at: UnixNanos,
        /// Who waits for its end.
        callers: Callers<C>,
    },
    /// It ended; its last output is being read.
    Draining {
        /// When the gate was opened.
        started_at: Option<UnixNanos>,
        /// How it ended.
        exit: Exit,
        /// StartContainer, if it ended before its command ran, and what that is answered.
        starter: Option<(C, Cause<F>)>,
        /// Who waits for its end.
        callers: Callers<C>,
    },
    /// Its end is on disk; its group is being removed.
    Removing {
        /// When the gate was opened.
        started_at: Option<UnixNanos>,
        /// How it ended.
        exit: Exit,
        /// StartContainer, if it ended before its command ran, and what that is answered.
        starter: Option<(C, Cause<F>)>,
        /// Who waits for its end.
        callers: Callers<C>,
    },
    /// Its end was told.
    Exited {
        /// When the gate was opened.
        started_at: Option<UnixNanos>,
        /// How it ended.
        exit: Exit,
        /// What became of its group.
        group: Group,
    },
    /// It ended before it was built; its group is being removed.
    Discarded {
        /// CreateContainer.
        creator: C,
        /// What that is answered.
        cause: Cause<F>,
    },
    /// Nothing is left of it.
    Gone,
}

/// What became of the group of an init that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// It is removed.
    Gone,
    /// A process in it can't die, and was waited for long enough.
    Held,
}

impl<C, F> InitLife<C, F> {
    /// That of an init that was cloned this moment.
    pub fn new(creator: C) -> Self {
        InitLife::Building { creator, failure: None }
    }

    /// Its init lives, as far as anybody knows.
    pub fn is_alive(&self) -> bool {
        matches!(
            self,
            InitLife::Building { .. }
                | InitLife::Created { .. }
                | InitLife::Opening { .. }
                | InitLife::Starting { .. }
                | InitLife::Running { .. }
        )
    }

    /// Something of it is still to come: an answer, an event, a group to remove.
    pub fn is_alive_or_ending(&self) -> bool {
        self.is_alive() || matches!(self, InitLife::Draining { .. } | InitLife::Removing { .. })
    }

    /// It was made: before that, nobody but the creating call knows it.
    pub fn is_built(&self) -> bool {
        !matches!(self, InitLife::Building { .. } | InitLife::Discarded { .. } | InitLife::Gone)
    }

    /// Its command runs.
    pub fn is_running(&self) -> bool {
        matches!(self, InitLife::Running { .. })
    }

    /// Its last output is being read.
    pub fn is_draining(&self) -> bool {
        matches!(self, InitLife::Draining { .. })
    }

    /// Its group is to be removed, and is not.
    pub fn waits_for_group(&self) -> bool {
        matches!(
            self,
            InitLife::Removing { .. }
                | InitLife::Discarded { .. }
                | InitLife::Exited { group: Group::Held, .. }
        )
    }

    /// Its end was told.
    pub fn is_exited(&self) -> bool {
        matches!(self, InitLife::Exited { .. })
    }

    /// Nothing is left of it.
    pub fn is_gone(&self) -> bool {
        matches!(self, InitLife::Gone)
    }

    /// When the gate was opened.
    pub fn started_at(&self) -> Option<UnixNanos> {
        match self {
            InitLife::Starting { started_at, .. } | InitLife::Running { started_at, .. } => Some(*started_at),
            InitLife::Draining { started_at, .. }
            | InitLife::Removing { started_at, .. }
            | InitLife::Exited { started_at, .. } => *started_at,
            _ => None,
        }
    }

    /// How it ended, told or not: what its record says.
    pub fn exit(&self) -> Option<&Exit> {
        match self {
            InitLife::Draining { exit, .. }
            | InitLife::Removing { exit, .. }
            | InitLife::Exited { exit, .. } => Some(exit),
            _ => None,
        }
    }

    /// How it ended, once that was told.
    pub fn told_exit(&self) -> Option<&Exit> {
        self.exit().filter(|_| self.is_exited())
    }

    /// The state, in words for people.
    pub fn name(&self) -> &'static str {
        match self {
            InitLife::Building { .. } => "being created",
            InitLife::Created { .. } => "created",
            InitLife::Opening { .. } | InitLife::Starting { .. } => "being started",
            InitLife::Running { .. } => "running",
            InitLife::Draining { .. } | InitLife::Removing { .. } => "ending",
            InitLife::Exited { .. } | InitLife::Discarded { .. } | InitLife::Gone => "exited",
        }
    }
}
