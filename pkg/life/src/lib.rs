//! The lives of pods and containers as pure state machines: no I/O, no clock, no lock.
//!
//! A machine is an enum whose variants carry what is meaningful in them, and a total function `apply(state, event)` that
//! returns the next state and the effects: what its owner (huskd, or a pod's monitor) has to carry out, in order. An event
//! that has no place in a state is refused by name and changes nothing. docs/states.md shows every state with every event.
//!
//! | module | whose state | owner |
//! | --- | --- | --- |
//! | `pod` | a pod sandbox | huskd |
//! | `container` | a container | huskd |
//! | `reach` | whether a pod's monitor can be asked | huskd |
//! | [`init`] | a container's init, from its clone to the end of its cgroup | the monitor |
//! | [`pause`] | a pod's pause process | the monitor |
#![forbid(unsafe_code)]

mod container;
pub mod init;
pub mod pause;
mod pod;
mod reach;
mod refusal;
#[cfg(test)]
mod table;
#[cfg(test)]
mod walk;

pub use container::{ContainerEffect, ContainerEvent, ContainerLife, ContainerNews};
pub use pod::{End, PodEffect, PodEvent, PodLife, PodNews, PodRecordLife, Step, Steps};
pub use reach::Reach;
pub use refusal::Refusal;
