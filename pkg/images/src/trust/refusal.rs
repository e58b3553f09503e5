//! A refusal, as clients are told of it.

use std::{fmt, path::PathBuf};

/// Why the policy refuses an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub(super) policy: PathBuf,
    pub(super) scope: String,
    /// From 1 on.
    pub(super) rule: usize,
    pub(super) kind: &'static str,
    pub(super) reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { policy, scope, rule, kind, reason } = self;
        write!(f, "{}, {scope}, rule {rule} ({kind}): {reason}", policy.display())
    }
}
