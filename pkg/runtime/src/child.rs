//! The parent's handle on a child.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use crate::{Report, Result};

/// A process of ours. Dropping it before the gate was opened makes the child exit; it must be reaped in any case.
#[derive(Debug)]
pub struct Child {
    /// Process id in the caller's PID namespace.
    pub pid: u32,
    /// For epoll, signals and `waitid(P_PIDFD)`.
    pub pidfd: OwnedFd,
    socket: OwnedFd,
}

impl Child {
    /// Becomes readable when [`Self::read_report`] has something.
    pub fn report_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The next report, or `None` if there is none yet. Never blocks.
    ///
    /// # Errors
    /// When the parent cannot read its own socket.
    pub fn read_report(&mut self) -> Result<Option<Report>> {
        Ok(None)
    }

    /// Lets a [`Report::Ready`] child go on to `execve`.
    ///
    /// # Errors
    /// `EPIPE` when the child is gone.
    pub fn open_gate(&mut self) -> io::Result<()> {
        Ok(())
    }
}
