//! What a look at one thing says.

use serde::Serialize;

/// What was found out about one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// husk runs, but not everything works, or not for long.
    Warning,
    /// husk cannot run pods without it.
    Missing,
}

impl State {
    /// `ok`, `warning` or `missing`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Missing => "missing",
        }
    }
}

/// One line of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub subject: &'static str,
    /// The verdict.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What follows from it; empty when all is well.
    pub consequence: &'static str,
    /// What to do about it; empty when all is well.
    pub remedy: String,
}

impl Check {
    pub(crate) fn ok(subject: &'static str, found: impl Into<String>) -> Self {
        Self { subject, state: State::Ok, found: found.into(), consequence: "", remedy: String::new() }
    }

    pub(crate) fn warning(
        subject: &'static str,
        found: impl Into<String>,
        consequence: &'static str,
        remedy: impl Into<String>,
    ) -> Self {
        Self { subject, state: State::Warning, found: found.into(), consequence, remedy: remedy.into() }
    }

    pub(crate) fn missing(
        subject: &'static str,
        found: impl Into<String>,
        consequence: &'static str,
        remedy: impl Into<String>,
    ) -> Self {
        Self { subject, state: State::Missing, found: found.into(), consequence, remedy: remedy.into() }
    }
}
