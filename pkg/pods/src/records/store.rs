//! What huskd writes down about pods and containers, beside the monitor's records.
//!
//! ```text
//! <state>/pods/<id>/pod.json                      PodFile         before anything is built, and when it is ready
//! <state>/pods/<id>/containers/<id>/container.json ContainerFile  likewise
//! <state>/pods/<id>/containers/<id>/spec.json      OCI spec       with NRI: what plugins are told of the container
//! <state>/pods/<id>/{hostname,hosts,resolv.conf}  bound into the containers
//! <state>/trash/<name>                            directories on their way out
//! <root>/containers/<id>/{upper,work}             writable layers
//! <root>/trash/<name>                             writable layers on their way out
//! ```
//!
//! A record says of its object that it is being made until it works; start-up undoes what it finds half made. Files are written
//! whole and renamed, without a sync: they die with the boot that they describe. Directories leave by one rename into
//! the trash (`trash`).

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    str::FromStr,
    sync::atomic::{AtomicU64, Ordering},
};

use husk_model::{ContainerConfig, ContainerId, KeptLayer, PodSandboxId};
use husk_node::file::{self, Outlives};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    files::{ContainerFile, FORMAT, PodFile},
    trash::Trash,
};
use crate::error::{PodsError, Result};

const PODS: &str = "pods";
const LAYERS: &str = "containers";
const TRASH: &str = "trash";

/// The directories, and the records in them.
#[derive(Debug)]
pub(crate) struct Records {
    state: PathBuf,
    root: PathBuf,
    boot_id: String,
    counter: AtomicU64,
    trash: Trash,
}

impl Records {
    /// Makes the directories and notes the boot.
    pub(crate) fn open(root: &Path, state: &Path) -> Result<Self> {
        let boot_id = husk_node::boot_id().map_err(PodsError::files("read", husk_node::BOOT_ID))?;
        let trashes = [state.join(TRASH), root.join(TRASH)];
        for dir in [state.join(PODS), root.join(LAYERS)].iter().chain(&trashes) {
            private_dir(dir)?;
        }
        Ok(Self {
            state: state.to_owned(),
            root: root.to_owned(),
            boot_id,
            counter: AtomicU64::new(0),
            trash: Trash::start(trashes),
        })
    }

    pub(crate) fn boot_id(&self) -> &str {
        &self.boot_id
    }

    /// Directory of what outlives the boot.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Directory of what dies with the boot.
    pub(crate) fn state(&self) -> &Path {
        &self.state
    }

    pub(crate) fn pods(&self) -> PathBuf {
        self.state.join(PODS)
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
        self.root.join(LAYERS)
    }

    pub(crate) fn layer(&self, id: &ContainerId) -> PathBuf {
        self.layers().join(id.as_str())
    }

    pub(crate) fn write_pod(&self, pod: &PodFile) -> Result<()> {
        write_whole(&self.pod(&pod.id).join("pod.json"), pod)
    }

    pub(crate) fn read_pod(&self, id: &PodSandboxId) -> Result<PodFile> {
        read_record(self.pod(id).join("pod.json"))
    }

    /// Reads all that is on record of a pod, each file once. What cannot be read is an error in its place.
    ///
    /// # Errors
    /// One of the records is a newer huskd's, which is refused by its name: what this one does not understand it would lose or
    /// undo. A record that is damaged is no newer one.
    pub(crate) fn load(&self, id: PodSandboxId) -> Result<OnRecord> {
        let pod = known(self.read_pod(&id))?;
        let containers = ids_in::<ContainerId>(&self.pod(&id).join("containers")).unwrap_or_default();
        let read = |container: ContainerId| {
            let file = known(self.read_container(&id, &container))?;
            Ok((container, file))
        };
        let containers = containers.into_iter().map(read).collect::<Result<_>>()?;
        Ok(OnRecord { id, pod, containers })
    }

    pub(crate) fn write_container(&self, pod: &PodSandboxId, container: &ContainerFile) -> Result<()> {
        write_whole(&self.container(pod, &container.id).join("container.json"), container)
    }

    pub(crate) fn read_container(&self, pod: &PodSandboxId, id: &ContainerId) -> Result<ContainerFile> {
        read_record(self.container(pod, id).join("container.json"))
    }

    /// Keeps the spec of a container.
    pub(crate) fn write_spec(&self, pod: &PodSandboxId, id: &ContainerId, spec: &[u8]) -> Result<()> {
        write_file(&self.container(pod, id).join("spec.json"), spec)
    }

    pub(crate) fn read_spec(&self, pod: &PodSandboxId, id: &ContainerId) -> Result<oci_spec::runtime::Spec> {
        let path = self.container(pod, id).join("spec.json");
        parse(&fs::read(&path).map_err(PodsError::files("read", &path))?, &path)
    }

    /// Makes the directory of a new pod.
    pub(crate) fn create_pod(&self, id: &PodSandboxId) -> Result<()> {
        private_dir(&self.pod(id).join("containers"))
    }

    /// Makes the directory of a new container.
    pub(crate) fn create_container(&self, pod: &PodSandboxId, id: &ContainerId) -> Result<()> {
        private_dir(&self.container(pod, id))
    }

    /// Where the writable layer of a container is.
    pub(crate) fn layer_of(&self, id: &ContainerId, config: &ContainerConfig) -> PathBuf {
        config.kept_layer.as_ref().map_or_else(|| self.layer(id), |kept| kept.dir.clone())
    }

    /// Makes a kept layer fit to be mounted: what overlayfs left beside it of its last mount may refuse the next.
    pub(crate) fn prepare_kept_layer(&self, layer: &KeptLayer) -> Result<()> {
        let work = layer.dir.join("work");
        match fs::remove_dir_all(&work) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(PodsError::files("empty", work)(error))
            }
            _ => private_dir(&work),
        }
    }

    /// Makes an empty writable layer. The upper directory becomes the container's `/`, so everybody may enter it.
    pub(crate) fn create_layer(&self, id: &ContainerId) -> Result<()> {
        let (upper, work) = (self.layer(id).join("upper"), self.layer(id).join("work"));
        private_dir(&upper)?;
        private_dir(&work)?;
        fs::set_permissions(&upper, Permissions::from_mode(0o755))
            .map_err(PodsError::files("set the mode of", upper))
    }

    /// Takes a directory out of sight; it is deleted in the background. One that does not exist is fine.
    pub(crate) fn discard(&self, dir: &Path) -> Result<()> {
        self.rename_away(dir)?;
        self.trash.take_out();
        Ok(())
    }

    /// Tries again to delete what could not be deleted before.
    pub(crate) fn take_out_trash(&self) {
        self.trash.take_out();
    }

    /// Takes away the files of a container. Its record goes last: by it start-up completes a removal that was interrupted.
    pub(crate) fn discard_container(&self, pod: &PodSandboxId, id: &ContainerId) -> Result<()> {
        self.discard(&self.layer(id))?;
        self.discard(&self.container(pod, id))
    }

    fn rename_away(&self, dir: &Path) -> Result<()> {
        let trash = if dir.starts_with(self.pods()) { &self.state } else { &self.root }.join(TRASH);
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        // The time keeps it apart from what an earlier daemon with our pid left.
        let name = format!("{}-{number}-{}", std::process::id(), husk_node::now());
        match fs::rename(dir, trash.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(PodsError::files("remove", dir)(error))
            }
            _ => Ok(()),
        }
    }
}

/// Names below `dir` that are ids. Whatever else lies there is not ours to touch.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn ids_in<Id: FromStr>(dir: &Path) -> Result<Vec<Id>> {
    let entries = fs::read_dir(dir).map_err(PodsError::files("read", dir))?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// Makes a directory and those above it; what is new is nobody else's business.
fn private_dir(dir: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(PodsError::files("create", dir))
}

/// What is on record of a pod.
#[derive(Debug)]
pub(crate) struct OnRecord {
    pub(crate) id: PodSandboxId,
    pub(crate) pod: Result<PodFile>,
    /// Of each directory of a container.
    pub(crate) containers: Vec<(ContainerId, Result<ContainerFile>)>,
}

/// Takes a record of a newer huskd out of what is only a record that cannot be read.
fn known<T>(read: Result<T>) -> Result<Result<T>> {
    match read {
        Err(error @ PodsError::NewerRecord { .. }) => Err(error),
        read => Ok(read),
    }
}

/// The format of a record, which is its first field whatever the rest has become; `None` for what is no record.
fn format_of(record: &[u8]) -> Option<u32> {
    let rest = record.strip_prefix(b"{\"format\":")?;
    let digits = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
    std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
}

fn read_record<T: DeserializeOwned>(path: PathBuf) -> Result<T> {
    let bytes = fs::read(&path).map_err(PodsError::files("read", &path))?;
    match format_of(&bytes) {
        Some(format) if format > FORMAT => Err(PodsError::NewerRecord { path, format, known: FORMAT }),
        Some(format) if format < FORMAT => {
            let reason = format!("format {format}; this huskd reads {FORMAT}");
            Err(PodsError::files("read", path)(io::Error::new(io::ErrorKind::InvalidData, reason)))
        }
        _ => parse(&bytes, &path),
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8], path: &Path) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| PodsError::files("parse", path)(error.into()))
}

fn write_whole<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let bytes = serde_json::to_vec(value).map_err(|error| PodsError::files("encode", path)(error.into()))?;
    write_file(path, &bytes)
}

/// Writes a file whole and renames it into place.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    file::replace(path, bytes, Outlives::Process).map_err(PodsError::files("write", path))
}
