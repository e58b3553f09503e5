//! `ps`, `pause` and `resume`: all processes of a container, by its cgroup.

use crate::{
    Container, Error, Result, Status,
    group::{self, PATIENCE},
};

/// Process ids of a container.
///
/// # Errors
/// Its cgroup cannot be read.
pub fn pids(container: &Container) -> Result<Vec<u32>> {
    let mut pids = group::of(container.record.cgroup.as_deref())?
        .map(|group| group.pids())
        .transpose()?
        .unwrap_or_default();
    pids.sort_unstable();
    Ok(pids)
}

/// What `pause` and `resume` do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pausing {
    /// Stops all of a container.
    Pause,
    /// Lets it go on.
    Resume,
}

impl Pausing {
    /// Does it.
    ///
    /// # Errors
    /// [`Error::WrongState`] for a container that is not in the state for it; those of husk-cgroup.
    pub fn apply(self, container: &Container) -> Result<()> {
        let status = container.status()?;
        let group = group::of(container.record.cgroup.as_deref())?.ok_or(Error::NotRunning)?;
        match (self, status) {
            (Self::Pause, Status::Running | Status::Created) => Ok(group.pause(PATIENCE)?),
            (Self::Resume, Status::Paused) => Ok(group.resume()?),
            (Self::Pause, _) => Err(Error::WrongState("container not running or created".to_owned())),
            (Self::Resume, _) => Err(Error::WrongState("container not paused".to_owned())),
        }
    }
}
