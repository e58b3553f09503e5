//! What can happen to a pause process, and what its monitor has to do about it.

use husk_model::{Exit, UnixNanos};

/// Something that happened, or that somebody wants. `C` names a call that waits for its answer, `F` is a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<C, F> {
    /// ReleaseSandbox: its network is there, it may go on.
    Release(C),
    /// It gave up, and said why. Its end follows.
    Failed(F),
    /// It runs.
    Executed {
        /// Since when.
        at: UnixNanos,
    },
    /// It ended.
    Reaped {
        /// Exit code, or 128 plus the signal.
        code: i32,
        /// When.
        at: UnixNanos,
    },
    /// StopSandbox.
    Stop(C),
    /// No container of the pod has anything to come any more.
    Alone,
    /// The pod's group is removed.
    GroupGone,
    /// Something still lives in it.
    GroupStays,
}

/// What its monitor has to do. The effects of an event are carried out in order; one that brings an event with it ends the
/// list, and the event comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect<C, F> {
    /// Write down what is known of it.
    WriteRecord,
    /// Answer a call.
    Answer(C, Reply<F>),
    /// Tell everybody how it ended.
    PublishExited(Exit),
    /// Let it go on; [`Event::Failed`] if it is not there any more.
    OpenGate,
    /// SIGKILL to everything in the pod's group, and to itself.
    Kill,
    /// Kill the pod's group and try to remove it, once: nothing but pause was in it.
    DropGroup,
    /// Try to remove the pod's group: [`Event::GroupGone`] or [`Event::GroupStays`].
    RemoveGroup,
    /// Let [`Event::Alone`] come again when the group may be empty.
    LookAgain,
}

/// What a call is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply<F> {
    /// RunSandbox, ReleaseSandbox: it runs.
    Started,
    /// StopSandbox: nothing of the pod lives.
    Stopped,
    /// RunSandbox, ReleaseSandbox: it does not.
    Failed(Cause<F>),
}

/// Why it does not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause<F> {
    /// As it said.
    Told(F),
    /// It ended without a word, with this code.
    Died(i32),
}

impl<C, F> Event<C, F> {
    /// It, in words for people.
    pub fn name(&self) -> &'static str {
        match self {
            Event::Release(_) => "releasing it",
            Event::Failed(_) => "its failure",
            Event::Executed { .. } => "executing it",
            Event::Reaped { .. } => "its end",
            Event::Stop(_) => "stopping the pod",
            Event::Alone => "the end of the last container",
            Event::GroupGone => "the removal of the pod's group",
            Event::GroupStays => "the wait for the pod's group",
        }
    }
}
