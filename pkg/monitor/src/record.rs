//! The records a monitor leaves on disk, for when it cannot be asked.

use std::{fs, io, path::Path, sync::OnceLock};

use husk_model::{ContainerId, ContainerRecord, Exit, MonitorRecord, Process, SandboxRecord};
use husk_node::file::{self, Outlives};
use serde::{Serialize, de::DeserializeOwned};

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

/// The process that was started as the monitor of this pod, if its record is of this boot. It may be dead.
pub(crate) fn recorded_process(pod_dir: &Path) -> Result<Option<Process>> {
    let boot_id = boot_id()?;
    Ok(read_monitor(pod_dir)?.filter(|record| record.boot_id == boot_id).map(|record| record.process))
}

/// Writes the exit of a container down in place of a monitor that is dead, unless it did so itself. Returns what is on
/// record now.
pub fn record_exit(pod_dir: &Path, id: &ContainerId, exit: &Exit) -> Result<Exit> {
    let path = pod_dir.join("containers").join(id.as_str()).join("state.json");
    // Without a record it was never built, and there is nothing to keep.
    let Some(mut record) = read::<ContainerRecord>(&path)? else { return Ok(exit.clone()) };
    if let Some(recorded) = record.exit {
        return Ok(recorded);
    }
    record.exit = Some(exit.clone());
    write(&path, &record)?;
    Ok(exit.clone())
}

/// As [`record_exit`], for the pause process.
pub fn record_sandbox_exit(pod_dir: &Path, exit: &Exit) -> Result<()> {
    let path = pod_dir.join("sandbox.json");
    match read::<SandboxRecord>(&path)? {
        Some(record) if record.exit.is_none() => {
            write(&path, &SandboxRecord { exit: Some(exit.clone()), ..record })
        }
        _ => Ok(()),
    }
}

/// Writes a record whole and renames it into place.
fn write(path: &Path, record: &impl Serialize) -> Result<()> {
    let local = |source| MonitorError::Local { step: "write", path: path.to_owned(), source };
    let bytes = serde_json::to_vec(record).map_err(|error| local(error.into()))?;
    file::replace(path, &bytes, Outlives::Process).map_err(local)
}

/// Which boot this is. Kept: a daemon that starts asks once for each pod.
pub(crate) fn boot_id() -> Result<&'static str> {
    static BOOT: OnceLock<String> = OnceLock::new();
    if let Some(known) = BOOT.get() {
        return Ok(known);
    }
    let path = husk_node::BOOT_ID;
    let read = husk_node::boot_id().map_err(|source| MonitorError::Local {
        step: "read",
        path: path.into(),
        source,
    })?;
    Ok(BOOT.get_or_init(|| read))
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

#[cfg(test)]
mod tests {
    use husk_model::{ExitReason, ResolvedUser};

    use super::*;

    fn exit(code: i32) -> Exit {
        Exit { code, finished_at: 9, reason: ExitReason::Unknown, message: "lost".to_owned() }
    }

    fn container(exit: Option<Exit>) -> ContainerRecord {
        ContainerRecord {
            id: ContainerId::generate(),
            process: Process { pid: 2, start_time: 3 },
            created_at: 4,
            started_at: 5,
            exit,
            user: ResolvedUser::default(),
            cgroup_path: "/a".to_owned(),
            log_dropped_bytes: 6,
        }
    }

    #[test]
    fn a_lost_exit_is_recorded_once_and_never_in_place_of_a_monitors() {
        let dir = tempfile::tempdir().unwrap();
        let (lost, seen) = (container(None), container(Some(exit(42))));
        for record in [&lost, &seen] {
            let folder = dir.path().join("containers").join(record.id.as_str());
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("state.json"), serde_json::to_vec(record).unwrap()).unwrap();
        }
        assert_eq!(record_exit(dir.path(), &lost.id, &exit(255)).unwrap(), exit(255));
        assert_eq!(record_exit(dir.path(), &lost.id, &exit(1)).unwrap(), exit(255), "the first one counts");
        assert_eq!(record_exit(dir.path(), &seen.id, &exit(255)).unwrap(), exit(42));
        let mut records = read_records(dir.path()).unwrap().containers;
        records.sort_by_key(|record| record.id != lost.id);
        assert_eq!(records, [ContainerRecord { exit: Some(exit(255)), ..lost }, seen]);
        // Never built: nothing to keep.
        let unknown = ContainerId::generate();
        assert_eq!(record_exit(dir.path(), &unknown, &exit(255)).unwrap(), exit(255));
        assert!(!dir.path().join("containers").join(unknown.as_str()).exists());
    }
}
