//! What plugins can be told, and by which call.

use husk_proto::nri;

/// Something that plugins are told of and cannot change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A sandbox is about to become visible. An error undoes it.
    RunPodSandbox,
    /// Its limits were changed.
    PostUpdatePodSandbox,
    /// Its containers have ended, it is about to.
    StopPodSandbox,
    /// It is gone.
    RemovePodSandbox,
    /// A container was created.
    PostCreateContainer,
    /// Its command is about to run. An error keeps it from that.
    StartContainer,
    /// Its command runs.
    PostStartContainer,
    /// Its limits were changed.
    PostUpdateContainer,
    /// It is gone.
    RemoveContainer,
}

impl Event {
    /// The plugin's method.
    pub(crate) fn method(self) -> &'static str {
        match self {
            Event::RunPodSandbox => "RunPodSandbox",
            Event::PostUpdatePodSandbox => "PostUpdatePodSandbox",
            Event::StopPodSandbox => "StopPodSandbox",
            Event::RemovePodSandbox => "RemovePodSandbox",
            Event::PostCreateContainer => "PostCreateContainer",
            Event::StartContainer => "StartContainer",
            Event::PostStartContainer => "PostStartContainer",
            Event::PostUpdateContainer => "PostUpdateContainer",
            Event::RemoveContainer => "RemoveContainer",
        }
    }

    /// Its number in the contract.
    pub(crate) fn number(self) -> nri::Event {
        match self {
            Event::RunPodSandbox => nri::Event::RunPodSandbox,
            Event::PostUpdatePodSandbox => nri::Event::PostUpdatePodSandbox,
            Event::StopPodSandbox => nri::Event::StopPodSandbox,
            Event::RemovePodSandbox => nri::Event::RemovePodSandbox,
            Event::PostCreateContainer => nri::Event::PostCreateContainer,
            Event::StartContainer => nri::Event::StartContainer,
            Event::PostStartContainer => nri::Event::PostStartContainer,
            Event::PostUpdateContainer => nri::Event::PostUpdateContainer,
            Event::RemoveContainer => nri::Event::RemoveContainer,
        }
    }
}

/// The bit of an event in a subscription.
pub(crate) fn bit(event: nri::Event) -> i32 {
    1 << (i32::from(event) - 1)
}

/// All events.
pub(crate) const ALL: i32 = (1 << (nri::Event::Last as i32 - 1)) - 1;
