//! Processes by pidfd: a pid alone may have been reused.

use std::os::fd::AsFd;

use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use crate::{Result, error::Named};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By `_exit` or returning from `main`.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

impl Exit {
    /// As shells and the CRI have it: the code, or 128 plus the signal.
    pub const fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

/// Sends a signal. A process that has ended is success: there is nothing left to signal.
///
/// # Errors
/// Those of pidfd_send_signal(2) other than `ESRCH`.
pub fn signal(pidfd: impl AsFd, signal: Signal) -> Result<()> {
    match pidfd_send_signal(pidfd, signal) {
        Err(rustix::io::Errno::SRCH) => Ok(()),
        other => other.named("pidfd_send_signal", || format!("pidfd, {}", signal.as_raw())),
    }
}

/// Waits for a child to end and reaps it.
///
/// # Errors
/// `ECHILD` when it is not our child or was reaped before.
pub fn reap(pidfd: impl AsFd) -> Result<Exit> {
    loop {
        if let Some(exit) = reap_with(&pidfd, WaitIdOptions::EXITED)? {
            return Ok(exit);
        }
    }
}

/// Whether a child of ours has been reaped already, by whoever collects our children. One that only ended has not.
///
/// # Errors
/// Those of waitid(2) other than `ECHILD`.
pub fn is_reaped(pidfd: impl AsFd) -> Result<bool> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match reap_with(pidfd, options) {
        Ok(_) => Ok(false),
        Err(error) if error.errno() == rustix::io::Errno::CHILD => Ok(true),
        Err(error) => Err(error),
    }
}

fn reap_with(pidfd: impl AsFd, options: WaitIdOptions) -> Result<Option<Exit>> {
    let status = loop {
        match waitid(WaitId::PidFd(pidfd.as_fd()), options) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other.named("waitid", || "pidfd".into())?,
        }
    };
    Ok(status.map(|status| match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, signal) => Exit::Signal(signal.unwrap_or_default()),
    }))
}
