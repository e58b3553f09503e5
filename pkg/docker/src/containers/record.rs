//! What is written down of a container: all that a restart of huskd or of the node has to know.
//!
//! ```text
//! <root>/docker/containers/<id>/container.json   the record, which outlives a power cut
//! <root>/docker/containers/<id>/state.json       what became of it, which after a power cut may be absent: it has ended then
//! <root>/docker/containers/<id>/layer/{upper,work} its writable layer, kept from run to run
//! <root>/docker/containers/<id>/log              what it wrote, in the CRI's form; before it log.1, log.2, ...
//! <root>/docker/containers/<id>/seccomp.json     a profile that came with the request
//! <root>/docker/containers/<id>/making.json      until there is a record: volumes that are made up for it
//! <root>/docker/containers/.removing-<n>         what was removed and is not deleted yet
//! ```

use std::{
    collections::BTreeMap,
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use husk_model::{ContainerId, ImageId, PodSandboxId, UnixNanos};
use husk_node::file::{self, Outlives};
use serde::{Deserialize, Serialize};

use super::mounts::MountPoint;
use crate::api::{
    container::{Config, HostConfig},
    network::EndpointSettings,
};

/// Docker's network for those that ask for none.
pub(crate) const BRIDGE: &str = "bridge";

const RECORD: &str = "container.json";
const STATE: &str = "state.json";

/// A container, as it is on record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// 64 hex characters.
    pub(crate) id: String,
    /// Without a slash; unique.
    pub(crate) name: String,
    /// When it was made.
    pub(crate) created: UnixNanos,
    /// The image's id.
    pub(crate) image: ImageId,
    /// What it is, the image's part included.
    pub(crate) config: Config,
    /// What it has of this node.
    pub(crate) host: HostConfig,
    /// Its places in networks, by the network's name.
    pub(crate) networks: BTreeMap<String, EndpointSettings>,
    /// Its volumes and binds.
    pub(crate) mounts: Vec<MountPoint>,
    /// What became of it.
    #[serde(skip)]
    pub(crate) state: State,
}

/// What became of a container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    /// Where it is in its life.
    pub(crate) phase: Phase,
    /// Of its last end.
    pub(crate) exit_code: i32,
    /// The kernel ended it for memory.
    pub(crate) oom_killed: bool,
    /// Why it could not be started.
    pub(crate) error: String,
    /// Of its last run; 0 before the first.
    pub(crate) started_at: UnixNanos,
    /// Of its last end; 0 before the first.
    pub(crate) finished_at: UnixNanos,
    /// How often it was restarted by its policy since somebody started it.
    pub(crate) restarts: u32,
    /// Somebody stopped it: no policy starts it again, but `always` with the node.
    pub(crate) stopped_by_hand: bool,
    /// Everything in it is frozen.
    pub(crate) paused: bool,
    /// The pod of this run, from before anything of it is made until all of it is gone.
    pub(crate) run: Option<Run>,
    /// With [`Phase::Removing`]: the volumes that were made up for it go with it.
    #[serde(default)]
    pub(crate) with_volumes: bool,
}

/// The pod and the container of the engine that a run is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// Attempt: the pod's name in the engine.
    pub(crate) attempt: u32,
    /// Once it is there.
    pub(crate) pod: Option<PodSandboxId>,
    /// Once it is there.
    pub(crate) container: Option<ContainerId>,
    /// The pod is another container's.
    #[serde(default)]
    pub(crate) guest: bool,
    /// Its end was taken in.
    #[serde(default)]
    pub(crate) ended: bool,
    /// Addresses of the pod, which the next run gets again if they are free.
    #[serde(default)]
    pub(crate) addresses: Vec<IpAddr>,
}

/// Where it is in its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    /// Made, and never run.
    #[default]
    Created,
    /// Its command runs.
    Running,
    /// It ended, and its policy starts it again in a moment.
    Restarting,
    /// It ended.
    Exited,
    /// It is being removed.
    Removing,
}

impl State {
    /// As `docker ps` has it.
    pub(crate) fn status(&self) -> &'static str {
        match self.phase {
            Phase::Created => "created",
            Phase::Running if self.paused => "paused",
            Phase::Running => "running",
            Phase::Restarting => "restarting",
            Phase::Exited => "exited",
            Phase::Removing => "removing",
        }
    }

    /// Its command runs.
    pub(crate) fn has_started(&mut self, at: UnixNanos) {
        (self.phase, self.paused, self.error) = (Phase::Running, false, String::new());
        (self.exit_code, self.oom_killed) = (0, false);
        (self.started_at, self.finished_at) = (at, 0);
    }

    /// Whether nothing of it is left to be done: it has run, or could not be started.
    pub(crate) fn is_over(&self) -> bool {
        match self.phase {
            Phase::Exited => true,
            Phase::Created => !self.error.is_empty(),
            Phase::Running | Phase::Restarting | Phase::Removing => false,
        }
    }

    /// Whether it has processes.
    pub(crate) fn is_running(&self) -> bool {
        self.phase == Phase::Running
    }
}

impl Record {
    /// Writes all of it, whole.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn write(&self, dir: &Path) -> io::Result<()> {
        self.write_state(dir)?;
        // One that goes with its end has nothing that a power cut could take.
        let outlives = if self.host.auto_remove { Outlives::Process } else { Outlives::PowerCut };
        file::replace(&dir.join(RECORD), &serde_json::to_vec(self)?, outlives)
    }

    /// Writes what became of it. Every run does so four times, so no disk is waited for.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn write_state(&self, dir: &Path) -> io::Result<()> {
        file::replace(&dir.join(STATE), &serde_json::to_vec(&self.state)?, Outlives::Process)
    }

    /// Reads that of a directory; `None` when there is none.
    ///
    /// # Errors
    /// When it is not what husk writes.
    pub(crate) fn read(dir: &Path) -> io::Result<Option<Self>> {
        let bytes = match fs::read(dir.join(RECORD)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        let mut record: Self = serde_json::from_slice(&bytes)?;
        // What a power cut took or halved.
        let lost = State { phase: Phase::Exited, exit_code: LOST, ..State::default() };
        let state = fs::read(dir.join(STATE)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        record.state = state.unwrap_or(lost);
        Ok(Some(record))
    }
}

/// Exit code of a container of whose end nothing is known.
pub(crate) const LOST: i32 = 255;

/// Directory of its writable layer.
pub(crate) fn layer(dir: &Path) -> PathBuf {
    dir.join("layer")
}

/// The name of its log in its directory.
pub(crate) const LOG: &str = "log";
