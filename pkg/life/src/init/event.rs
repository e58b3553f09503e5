//! What can happen to a container's init, and what its monitor has to do about it.

use std::time::Duration;

use husk_model::{Exit, UnixNanos};

/// Something that happened, or that somebody wants. `C` names a call that waits for its answer, `F` is a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<C, F> {
    /// Everything is set up; it waits at the gate before execve.
    Ready,
    /// It gave up, and said why. Its end follows.
    Failed(F),
    /// StartContainer.
    Start(C),
    /// The log that a start needs is open.
    LogOpened {
        /// The present, from which on it counts as started.
        at: UnixNanos,
    },
    /// The log that a start needs can't be opened.
    LogRefused(F),
    /// Its command runs.
    Executed,
    /// KillContainer, or the end of the whole pod.
    Kill,
    /// StopContainer.
    Stop {
        /// Whose call.
        by: C,
        /// What asks it to end.
        signal: u32,
        /// How long it may take; zero kills at once.
        grace: Duration,
    },
    /// The signal of a stop can't be sent.
    SignalRefused {
        /// The stop's call.
        by: C,
        /// Why.
        why: F,
    },
    /// The grace of a stop is over.
    GraceOver,
    /// RemoveContainer.
    Remove(C),
    /// It was reaped.
    Ended {
        /// Exit code, or 128 plus the signal.
        code: i32,
        /// When.
        at: UnixNanos,
        /// The kernel killed a process of its group for memory.
        oom_killed: bool,
    },
    /// Its output was read to the end.
    Drained,
    /// Something else holds its output, or it is endless: what has come is all.
    DrainOver,
    /// Its group is removed.
    GroupGone,
    /// Something still lives in its group.
    GroupStays {
        /// Whether the end may be held back for it any longer.
        patience: bool,
    },
}

/// What its monitor has to do. The effects of an event are carried out in order; one that brings an event with it (the
/// last of its list, or one that failed) ends the list, and the event comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect<C, F> {
    /// Write down what is known of it.
    WriteRecord,
    /// Answer a call.
    Answer(C, Reply<F>),
    /// Tell everybody that its command runs.
    PublishStarted(UnixNanos),
    /// Tell everybody how it ended.
    PublishExited(Exit),
    /// Open its log: [`Event::LogOpened`] or [`Event::LogRefused`].
    OpenLog,
    /// Let it go on; [`Event::Failed`] if it is not there any more.
    OpenGate,
    /// Send the signal of a stop; [`Event::SignalRefused`] if that does not work.
    Signal {
        /// The stop's call.
        by: C,
        /// Its number.
        number: u32,
    },
    /// Let [`Event::GraceOver`] come after so long, unless it comes sooner already.
    ArmGrace(Duration),
    /// Let it not come any more.
    DisarmGrace,
    /// SIGKILL to everything in its group, and to itself.
    Kill,
    /// Let [`Event::DrainOver`] come in a while.
    ArmDrain,
    /// Let it not come any more.
    DisarmDrain,
    /// Read what its output has left; [`Event::Drained`] if that was all.
    ReadOutput,
    /// Read what has come and stop reading.
    CutOutput,
    /// Nothing more will come: leave the log with whole lines.
    EndLog,
    /// Try to remove its group: [`Event::GroupGone`] or [`Event::GroupStays`].
    RemoveGroup,
    /// Try again when the group may be empty.
    LookAgain,
    /// Close its input.
    CloseInput,
    /// Answer everybody who is attached to it, and let them go.
    Detach(Exit),
    /// Delete its record.
    Forget,
}

/// What a call is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply<F> {
    /// CreateContainer: it waits at the gate.
    Created,
    /// StartContainer: its command runs since then.
    Started(UnixNanos),
    /// StopContainer: how it ended.
    Exited(Exit),
    /// RemoveContainer: it is forgotten.
    Removed,
    /// The call failed.
    Failed(Cause<F>),
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause<F> {
    /// As the init or the kernel said.
    Told(F),
    /// The kernel killed it for memory before it was built.
    TooLittleMemory,
    /// Somebody killed it before it was built.
    KilledWhileBuilt,
    /// Somebody killed it before its command ran.
    KilledWhileStarted,
}

impl<C, F> Event<C, F> {
    /// It, in words for people.
    pub fn name(&self) -> &'static str {
        match self {
            Event::Ready => "its readiness",
            Event::Failed(_) => "its failure",
            Event::Start(_) => "starting it",
            Event::LogOpened { .. } => "opening its log",
            Event::LogRefused(_) => "failing to open its log",
            Event::Executed => "executing its command",
            Event::Kill => "killing it",
            Event::Stop { grace, .. } if grace.is_zero() => "stopping it at once",
            Event::Stop { .. } => "stopping it",
            Event::SignalRefused { .. } => "failing to signal it",
            Event::GraceOver => "the end of its grace",
            Event::Remove(_) => "removing it",
            Event::Ended { .. } => "its end",
            Event::Drained => "the end of its output",
            Event::DrainOver => "the end of the wait for its output",
            Event::GroupGone => "the removal of its group",
            Event::GroupStays { patience: true } => "the wait for its group",
            Event::GroupStays { patience: false } => "the end of the wait for its group",
        }
    }
}
