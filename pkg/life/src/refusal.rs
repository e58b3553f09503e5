//! What a machine says to an event that it does not take.

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
