//! Monitors as processes: waiting for one that may have been started a moment ago, ending one, killing one that does not
//! end; and the network namespace of a process that a monitor told of.

use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use husk_model::Process;
use husk_node::process;
use tokio::time::{Instant, sleep};

use crate::{Monitor, MonitorError, Result, record, spawn};

/// How long a monitor may take from its start to its record.
const START: Duration = Duration::from_secs(5);
/// There is no event for a process that writes a file, so what remains is to look again, after this long.
const LOOK: Duration = Duration::from_millis(5);

impl Monitor {
    /// The monitor of a pod directory for which one may have been started a moment ago, by us or by a daemon that was killed:
    /// then it has a socket already, and its record is about to come. `None` when there is none.
    ///
    /// # Errors
    /// When there is one that cannot be spoken to.
    pub async fn await_started(pod_dir: &Path) -> Result<Option<Self>> {
        let deadline = Instant::now() + START;
        loop {
            match Self::connect(pod_dir).await {
                Ok(monitor) => return Ok(Some(monitor)),
                Err(error) if !error.is_gone() => return Err(error),
                Err(_) => {}
            }
            // One that left a record and is gone will not come any more, nor one whose socket nobody holds.
            if record::read_monitor(pod_dir)?.is_some()
                || !spawn::is_listening(pod_dir)
                || Instant::now() > deadline
            {
                return Ok(None);
            }
            sleep(LOOK).await;
        }
    }

    /// Ends a monitor whose sandbox is gone. One that refuses is killed, since nothing would ever end it.
    ///
    /// # Errors
    /// Why it was killed, or that it could not be.
    pub async fn end(&self) -> Result<()> {
        match self.shutdown().await {
            // It may close the connection before its answer is read.
            Ok(()) | Err(MonitorError::Disconnected { .. } | MonitorError::Gone { .. }) => Ok(()),
            Err(refusal) => self.kill().and(Err(refusal)),
        }
    }

    /// Kills it. One that has ended is fine.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn kill(&self) -> Result<()> {
        kill(self.process())
    }
}

/// Kills the monitor of a pod directory as its record names it: one that was never spoken to.
///
/// # Errors
/// When its record cannot be read, or those of the kernel.
pub fn kill_recorded(pod_dir: &Path) -> Result<()> {
    record::recorded_process(pod_dir)?.map_or(Ok(()), kill)
}

fn kill(process: Process) -> Result<()> {
    process::kill(process).map_err(at("kill the monitor", format!("/proc/{}", process.pid)))
}

/// The network namespace of this very process.
///
/// # Errors
/// When it has ended, or those of opening the namespace's file.
pub fn network_namespace(process: Process) -> Result<OwnedFd> {
    let path = format!("/proc/{}/ns/net", process.pid);
    let ns = husk_sys::netns::open(Path::new(&path)).map_err(at("open", &path))?;
    // Checked after it was opened: so it is this process's, and not that of another one with its number.
    if process::is_alive(process) {
        return Ok(ns);
    }
    let gone = io::Error::new(io::ErrorKind::NotFound, "the pod's process has ended");
    Err(at("open", path)(gone))
}

fn at(step: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> MonitorError {
    let path = path.into();
    move |source| MonitorError::Local { step, path, source }
}
