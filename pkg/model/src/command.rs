//! A command that is run in a running container.

use crate::UserRequest;

/// What is run, and how it differs from the container's own process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Command {
    /// Program and arguments; never empty.
    pub argv: Vec<String>,
    /// `NAME=value` entries, in the place of the container's own of the same name.
    pub env: Vec<String>,
    /// Working directory, absolute; `None` is the container's.
    pub cwd: Option<String>,
    /// Who runs it, looked up in the container's files; `None` is the container's user.
    pub user: Option<UserRequest>,
    /// With every capability. The container's filter stays.
    pub privileged: bool,
}

impl From<Vec<String>> for Command {
    /// As the container's own process.
    fn from(argv: Vec<String>) -> Self {
        Self { argv, ..Self::default() }
    }
}
