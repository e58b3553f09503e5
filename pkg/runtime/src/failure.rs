//! Turning an error of a call into the failure of a step, and telling whose fault that is.

use std::fmt::Display;

use rustix::io::Errno;

use husk_model::{Blame, Classify, Kind};
use husk_sys::Refusal;

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
            errno: Some(error.errno()),
            detail: error.call(),
        })
    }
}

impl<T> At<T> for Result<T, Errno> {
    fn at(self, step: Step, object: impl Display) -> Result<T, Failure> {
        self.map_err(|errno| Failure {
            step,
            object: object.to_string(),
            errno: Some(errno),
            detail: String::new(),
        })
    }
}

impl<T> At<T> for std::io::Result<T> {
    fn at(self, step: Step, object: impl Display) -> Result<T, Failure> {
        self.map_err(|error| Failure {
            step,
            object: object.to_string(),
            errno: Errno::from_io_error(&error),
            detail: String::new(),
        })
    }
}

impl Failure {
    /// A failure that no system call caused.
    pub(crate) fn because(step: Step, object: impl Display, detail: impl Into<String>) -> Self {
        Self { step, object: object.to_string(), errno: None, detail: detail.into() }
    }

    /// Whose fault it is. What the image or the request got wrong is told apart from what the node did.
    pub fn blame(&self) -> Blame {
        let refusal = self.errno.map(Refusal::from);
        match (self.step, refusal) {
            // What runs, and as whom, is what the request and the image say.
            (Step::Lookup | Step::Execute | Step::ResolveUser, None | Some(Refusal::Path)) => Blame::Caller,
            // What is mounted and entered was named before anybody could know what is there.
            (Step::Source | Step::WorkDir, None | Some(Refusal::Path)) => Blame::Workload,
            // A profile that is not loaded.
            (Step::Label, _) if self.errno == Some(Errno::NOENT) => Blame::Caller,
            // What the kernel did not refuse, but the request and the image contradict each other.
            (Step::Mount, None) => Blame::Caller,
            (Step::Sysctl | Step::Hostname | Step::Rlimit, refusal)
                if refusal != Some(Refusal::Exhausted) =>
            {
                Blame::Caller
            }
            _ => blame(self.errno),
        }
    }

    /// Replaces the detail by something a user can act on.
    pub(crate) fn explain(self, detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), ..self }
    }
}

impl Classify for Failure {
    fn kind(&self) -> Kind {
        self.blame().kind()
    }
}

/// Whose fault it is that the kernel refused a call of which no more is known; `None` is an error that is not the kernel's.
pub fn blame(errno: Option<Errno>) -> Blame {
    match errno.map(Refusal::from) {
        Some(Refusal::Value) => Blame::Caller,
        Some(Refusal::Exhausted) => Blame::Node,
        Some(Refusal::Path | Refusal::Other) | None => Blame::Husk,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_command_is_the_callers_fault_an_absent_volume_the_workloads_and_a_failed_mount_ours() {
        let of = |step, errno| Failure { errno, ..Failure::because(step, "/x", "") }.blame();
        assert_eq!(of(Step::Lookup, Some(Errno::NOENT)), Blame::Caller);
        assert_eq!(of(Step::Label, Some(Errno::INVAL)), Blame::Caller);
        assert_eq!(of(Step::Label, Some(Errno::NOENT)), Blame::Caller);
        assert_eq!(of(Step::Rlimit, Some(Errno::PERM)), Blame::Caller);
        assert_eq!(of(Step::Mount, None), Blame::Caller);
        assert_eq!(of(Step::Source, Some(Errno::NOENT)), Blame::Workload);
        assert_eq!(of(Step::Execute, Some(Errno::NOMEM)), Blame::Node);
        assert_eq!(of(Step::Sysctl, Some(Errno::NOMEM)), Blame::Node);
        assert_eq!(of(Step::Mount, Some(Errno::NOENT)), Blame::Husk);
        assert_eq!(of(Step::Died, None), Blame::Husk);
    }
}
