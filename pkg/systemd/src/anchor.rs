//! The process that a scope begins with.
//!
//! systemd makes no scope without a process, and takes the scope away as soon as it has none. The pod's own first process,
//! pause, can be cloned into its cgroup only after the scope is there. So an anchor holds the scope open for the
//! milliseconds between: systemd moves it into the scope, husk moves it on into the cgroup that pause is going to have (no
//! process may stay in a v2 group that has controllers enabled for the groups below it), and it ends when pause runs.
//!
//! The anchor is the monitor's binary in a mode of its own: it waits for the end of its standard input, which is a pipe of
//! ours. However this daemon ends, the anchor ends with it, and an otherwise empty scope ends with the anchor.

use std::{path::Path, process::Stdio};

use husk_model::Process;
use husk_node::process::identify;
use tokio::process::{Child, Command};
use tracing::warn;

use crate::{Error, Result};

/// A process that does nothing until this is dropped.
#[derive(Debug)]
pub struct Anchor {
    child: Child,
    process: Process,
}

impl Anchor {
    /// Starts `<program> --anchor`.
    pub(crate) fn start(program: &Path) -> Result<Self> {
        let mut command = Command::new(program);
        command.arg("--anchor").env_clear();
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let started = command.spawn().and_then(|child| {
            // Not waited for, so it has its number.
            let process = identify(child.id().unwrap_or_default())?;
            Ok(Self { child, process })
        });
        started.map_err(|source| Error::Anchor { program: program.to_owned(), source })
    }

    /// The process. Its pid stays its own for as long as this is there: nobody but us reaps it.
    pub(crate) fn process(&self) -> Process {
        self.process
    }

    /// Ends it, and returns when it is gone from its cgroup.
    pub async fn release(mut self) {
        if let Err(error) = self.child.kill().await {
            warn!(%error, "cannot end the anchor of a scope; it ends with this daemon");
        }
    }
}
