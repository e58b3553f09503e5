//! The records a monitor leaves on disk, for when it cannot be asked.

use std::{fs, io, path::Path};

use husk_model::{ContainerRecord, MonitorRecord, SandboxRecord};
use serde::de::DeserializeOwned;

use crate::{MonitorError, Result};

/// Everything a monitor knows about its pod.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// The pause process; `None` before `run_sandbox`.
    pub sandbox: Option<SandboxRecord>,
    /// Containers, in no order.
    pub containers: Vec<ContainerRecord>,
}

/// Reads what the monitor of this pod wrote last. For pods whose monitor is gone: exits that it recorded are kept
/// there; a container without one ended unseen with the monitor. A record that cannot be read is left out.
pub fn read_records(pod_dir: &Path) -> Result<Snapshot> {
    let sandbox = read(&pod_dir.join("sandbox.json"))?;
    let mut containers = Vec::new();
    let dir = pod_dir.join("containers");
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Snapshot { sandbox, containers }),
        Err(source) => return Err(MonitorError::Local { step: "read", path: dir, source }),
    };
    for entry in entries.flatten() {
        if let Ok(Some(record)) = read::<ContainerRecord>(&entry.path().join("state.json")) {
            containers.push(record);
        }
    }
    Ok(Snapshot { sandbox, containers })
}

pub(crate) fn read_monitor(pod_dir: &Path) -> Result<Option<MonitorRecord>> {
    read(&pod_dir.join("monitor.json"))
}

/// `None` when the file does not exist.
fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let local = |source| MonitorError::Local { step: "read", path: path.to_owned(), source };
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(local(error)),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| local(error.into()))
}
