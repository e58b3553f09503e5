//! A fault as the machines of `husk-life` keep it.

use std::fmt;

use crate::fault::{Fault, describe};

/// It displays as it stands in an exit's message.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure(pub Fault);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&describe(&self.0))
    }
}
