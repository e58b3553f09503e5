//! What huskd writes down about pods and containers, beside the monitor's records.
//!
//! ```text
//! <state>/pods/<id>/pod.json                      PodFile         before anything is built, and when it is ready
//! <state>/pods/<id>/containers/<id>/container.json ContainerFile  likewise
//! <state>/pods/<id>/{hostname,hosts,resolv.conf}  bound into the containers
//! <state>/trash/<name>                            directories on their way out
//! <root>/containers/<id>/{upper,work}             writable layers
//! <root>/trash/<name>                             writable layers on their way out
//! ```
//!
//! A file says `complete: false` until its object works; start-up undoes what it finds incomplete. Files are written
//! whole and renamed, without a sync: they die with the boot that they describe. Directories leave by one rename into
//! the trash, which is emptied in the background and at start-up, so no removal is ever seen half done.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use husk_model::{
    ContainerConfig, ContainerId, ImageId, PodConfig, PodSandboxId, Resources, Signal, UnixNanos,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tracing::warn;

use crate::{PodsError, Result};

/// Version of the files below; raised when an older huskd could misread a newer one's.
const FORMAT: u32 = 1;

/// A pod as huskd knows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PodFile {
    pub(crate) format: u32,
    pub(crate) boot_id: String,
    pub(crate) id: PodSandboxId,
    pub(crate) config: Arc<PodConfig>,
    pub(crate) created_at: UnixNanos,
    pub(crate) ips: Vec<std::net::IpAddr>,
    /// Everything was built; otherwise an attempt was interrupted.
    pub(crate) complete: bool,
    /// StopPodSandbox was called.
    pub(crate) stopped: bool,
}

/// A container as huskd knows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ContainerFile {
    pub(crate) format: u32,
    pub(crate) id: ContainerId,
    pub(crate) config: Arc<ContainerConfig>,
    pub(crate) image_id: ImageId,
    pub(crate) image_ref: String,
    pub(crate) created_at: UnixNanos,
    pub(crate) log_path: String,
    pub(crate) resources: Resources,
    pub(crate) stop_signal: Signal,
    pub(crate) cgroup_path: String,
    pub(crate) complete: bool,
}

/// The directories.
#[derive(Debug)]
pub(crate) struct Store {
    state: PathBuf,
    root: PathBuf,
    boot_id: String,
    counter: AtomicU64,
}

impl Store {
    /// Makes the directories and notes the boot.
    pub(crate) fn open(root: &Path, state: &Path) -> Result<Self> {
        let path = "/proc/sys/kernel/random/boot_id";
        let boot_id = fs::read_to_string(path).map_err(PodsError::files("read", path))?.trim().to_owned();
        let store =
            Self { state: state.to_owned(), root: root.to_owned(), boot_id, counter: AtomicU64::new(0) };
        for dir in [store.pods(), store.state.join("trash"), store.layers(), store.root.join("trash")] {
            fs::create_dir_all(&dir).map_err(PodsError::files("create", &dir))?;
        }
        Ok(store)
    }

    pub(crate) fn boot_id(&self) -> &str {
        &self.boot_id
    }

    pub(crate) fn pods(&self) -> PathBuf {
        self.state.join("pods")
    }

    pub(crate) fn pod(&self, id: &PodSandboxId) -> PathBuf {
        self.pods().join(id.as_str())
    }

    pub(crate) fn container(&self, pod: &PodSandboxId, id: &ContainerId) -> PathBuf {
        self.pod(pod).join("containers").join(id.as_str())
    }

    pub(crate) fn netns(&self, id: &PodSandboxId) -> PathBuf {
        self.state.join("netns").join(id.as_str())
    }

    pub(crate) fn layers(&self) -> PathBuf {
        self.root.join("containers")
    }

    pub(crate) fn layer(&self, id: &ContainerId) -> PathBuf {
        self.layers().join(id.as_str())
    }

    /// A new pod file, not complete yet.
    pub(crate) fn new_pod(
        &self,
        id: &PodSandboxId,
        config: &Arc<PodConfig>,
        created_at: UnixNanos,
    ) -> PodFile {
        PodFile {
            format: FORMAT,
            boot_id: self.boot_id.clone(),
            id: id.clone(),
            config: Arc::clone(config),
            created_at,
            ips: Vec::new(),
            complete: false,
            stopped: false,
        }
    }

    pub(crate) fn format(&self) -> u32 {
        FORMAT
    }

    pub(crate) fn write_pod(&self, pod: &PodFile) -> Result<()> {
        write_whole(&self.pod(&pod.id).join("pod.json"), pod)
    }

    pub(crate) fn read_pod(&self, id: &PodSandboxId) -> Result<PodFile> {
        let pod: PodFile = read(&self.pod(id).join("pod.json"))?;
        check_format(pod.format, &self.pod(id))?;
        Ok(pod)
    }

    pub(crate) fn write_container(&self, pod: &PodSandboxId, container: &ContainerFile) -> Result<()> {
        write_whole(&self.container(pod, &container.id).join("container.json"), container)
    }

    pub(crate) fn read_container(&self, pod: &PodSandboxId, id: &ContainerId) -> Result<ContainerFile> {
        let container: ContainerFile = read(&self.container(pod, id).join("container.json"))?;
        check_format(container.format, &self.container(pod, id))?;
        Ok(container)
    }

    /// Moves a directory out of sight; [`Store::empty_trash`] deletes it. One that does not exist is fine.
    pub(crate) fn discard(&self, dir: &Path) -> Result<()> {
        let trash =
            if dir.starts_with(&self.state) { self.state.join("trash") } else { self.root.join("trash") };
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{number}", std::process::id());
        match fs::rename(dir, trash.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(PodsError::files("remove", dir)(error))
            }
            _ => Ok(()),
        }
    }

    /// Deletes what was discarded. Blocking: call it on a blocking thread.
    pub(crate) fn empty_trash(&self) {
        for trash in [self.state.join("trash"), self.root.join("trash")] {
            for entry in fs::read_dir(&trash).into_iter().flatten().flatten() {
                // Another thread may be at the same entry; what stays is met again by the next call.
                if let Err(error) = fs::remove_dir_all(entry.path())
                    && error.kind() != io::ErrorKind::NotFound
                {
                    warn!(path = %entry.path().display(), %error, "cannot delete discarded files; the next removal tries again");
                }
            }
        }
    }
}

fn check_format(format: u32, path: &Path) -> Result<()> {
    if format == FORMAT {
        return Ok(());
    }
    let error =
        io::Error::new(io::ErrorKind::InvalidData, format!("format {format}; this huskd reads {FORMAT}"));
    Err(PodsError::files("read", path)(error))
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = fs::read(path).map_err(PodsError::files("read", path))?;
    serde_json::from_slice(&bytes).map_err(|error| PodsError::files("parse", path)(error.into()))
}

fn write_whole<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let bytes = serde_json::to_vec(value).map_err(|error| PodsError::files("encode", path)(error.into()))?;
    write_file(path, &bytes)
}

/// Writes a file whole and renames it into place.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    fs::write(&new, bytes).map_err(PodsError::files("write", path))?;
    fs::rename(&new, path).map_err(PodsError::files("write", path))
}
