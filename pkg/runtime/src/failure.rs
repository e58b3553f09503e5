//! Turning an error of a call into the failure of a step.

use std::fmt::Display;

use rustix::io::Errno;

use crate::{Failure, Step};

/// Says which step a result belongs to, and what it was applied to.
pub(crate) trait At<T> {
    fn at(self, step: Step, object: impl Display) -> Result<T, Failure>;
}

impl<T> At<T> for Result<T, husk_sys::Error> {
    fn at(self, step: Step, object: impl Display) -> Result<T, Failure> {
        self.map_err(|error| Failure {
            step,
            object: object.to_string(),
            errno: error.errno().raw_os_error(),
            detail: error.call(),
        })
    }
}

impl<T> At<T> for Result<T, Errno> {
    fn at(self, step: Step, object: impl Display) -> Result<T, Failure> {
        self.map_err(|errno| Failure {
            step,
            object: object.to_string(),
            errno: errno.raw_os_error(),
            detail: String::new(),
        })
    }
}

impl<T> At<T> for std::io::Result<T> {
    fn at(self, step: Step, object: impl Display) -> Result<T, Failure> {
        self.map_err(|error| Failure {
            step,
            object: object.to_string(),
            errno: error.raw_os_error().unwrap_or_default(),
            detail: String::new(),
        })
    }
}

impl Failure {
    /// A failure that no system call caused.
    pub(crate) fn because(step: Step, object: impl Display, detail: impl Into<String>) -> Self {
        Self { step, object: object.to_string(), errno: 0, detail: detail.into() }
    }

    /// Replaces the detail by something a user can act on.
    pub(crate) fn explain(self, detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), ..self }
    }
}
