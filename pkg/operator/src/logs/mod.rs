//! A container's log, from the file that its monitor writes and that the kubelet rotates.
//!
//! The file is reached below the pod's log directory without following links: a container that has the node's log directory mounted
//! must not choose what is shown in its name.

mod changes;
mod file;
mod line;

use std::{io, path::Path, sync::Arc};

use husk_model::{ContainerStatus, PodStatus, UnixNanos};
use husk_pods::Engine;
use husk_proto::admin as v1;
use tokio::sync::mpsc;
use tonic::Status;

use self::{changes::Changes, file::LogFile};
use crate::error::{OperatorError, Result};

/// What of a log is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    /// Go on until the container has ended.
    pub(crate) follow: bool,
    /// So many lines of the end; all without.
    pub(crate) tail: Option<u64>,
    /// Nothing older.
    pub(crate) since: UnixNanos,
}

/// Where lines go.
pub(crate) type Lines = mpsc::Sender<std::result::Result<v1::LogsResponse, Status>>;

/// A log that can be read.
pub(crate) struct Log {
    engine: Arc<Engine>,
    id: String,
    file: LogFile,
    changes: Option<Changes>,
    wanted: Wanted,
}

impl Log {
    /// Opens the log of a container.
    ///
    /// # Errors
    /// It has none, or it cannot be opened.
    pub(crate) fn open(
        engine: &Arc<Engine>,
        pod: &PodStatus,
        container: &ContainerStatus,
        wanted: Wanted,
    ) -> Result<Self> {
        let id = container.id.to_string();
        if container.log_path.is_empty() {
            return Err(OperatorError::NoLog { id });
        }
        let path = container.log_path.clone();
        let failed = |source: io::Error| OperatorError::Log { id: id.clone(), path: path.clone(), source };
        // Before the first look, so that what comes after it is an event.
        let dir = Path::new(&path).parent().unwrap_or(Path::new("/"));
        let changes = wanted.follow.then(|| Changes::of(dir)).transpose().map_err(failed)?;
        let directory = Path::new(&pod.config.log_directory);
        let file = LogFile::open(directory, &container.config.log_path).map_err(failed)?;
        Ok(Self { engine: Arc::clone(engine), id, file, changes, wanted })
    }

    /// Sends what is wanted of it, until its end or until nobody listens.
    pub(crate) async fn send(mut self, lines: Lines) {
        let sent = tokio::select! {
            sent = self.pump(&lines) => sent,
            () = lines.closed() => return,
        };
        if let Err(error) = sent {
            // Nobody listens any more where this fails.
            let _ = lines
                .send(Err(Status::internal(format!("read the log of container {}: {error}", self.id))))
                .await;
        }
    }

    async fn pump(&mut self, lines: &Lines) -> io::Result<()> {
        let mut events = self.engine.follow();
        if let Some(tail) = self.wanted.tail {
            self.file.seek_tail(tail).await?;
        }
        loop {
            // Seen before the read: what an ended container wrote is in the file.
            let is_over = !self.is_alive();
            while let Some(line) = self.file.next().await? {
                if line.at >= self.wanted.since && lines.send(Ok(line)).await.is_err() {
                    return Ok(());
                }
            }
            if self.file.goes_on_in_another()? {
                continue;
            }
            let Some(changes) = &self.changes else { return Ok(()) };
            if is_over {
                return Ok(());
            }
            tokio::select! {
                changed = changes.next() => changed?,
                // Whatever happened, or was missed: the container is looked at again.
                event = events.next() => if event.is_err() {
                    events = self.engine.follow();
                },
            }
        }
    }

    fn is_alive(&self) -> bool {
        self.engine.container_status(&self.id).is_ok_and(|status| status.state.is_alive())
    }
}
