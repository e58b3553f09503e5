//! The lives of pods and containers as pure state machines: no I/O, no clock, no lock.
//!
//! A machine is an enum whose variants carry what is meaningful in them, and a total function `apply(state, event)` that
//! returns the next state and the effects: what its owner (huskd, or a pod's monitor) has to carry out, in order. An event
//! that has no place in a state is refused by name and changes nothing.
#![forbid(unsafe_code)]

use std::fmt;

/// An event that has no place in a state. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The state, in words for people.
    pub state: &'static str,
    /// The event, in words for people.
    pub event: &'static str,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not possible: it is {}", self.event, self.state)
    }
}

impl std::error::Error for Refusal {}
