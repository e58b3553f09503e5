//! What is kept of a container, so that any later process finds it.
//!
//! ```text
//! <root>/<id>/            0711, made by create, which has the name from then on
//!   state.json            the record; written whole, first without an init
//!   exec.fifo             what a created container waits at; gone when it was started
//! ```
//!
//! Whoever changes the record holds the directory's lock (flock(2)) meanwhile and starts from what is written there; who only reads
//! needs none, since it is written whole. Nobody runs a hook with the lock held.
//!
//! The record is there before the cgroup is made and before a process is cloned, so that whatever a killed creator leaves is found
//! by it. Whether the container runs is never written down: the kernel says it.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    io::{self, ErrorKind},
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use husk_cgroup::Cgroup;
use husk_model::{IdMaps, Process};
use husk_node::{
    file::{self, Outlives},
    process,
};
use oci_spec::runtime::{LinuxResources, Spec};
use rustix::{
    fs::{CWD, FileType, FlockOperation, Mode, OFlags, flock},
    io::{Errno, retry_on_intr},
};
use serde::{Deserialize, Serialize};

use crate::{Error, Result, example::OCI_VERSION, group};

const RECORD: &str = "state.json";
const FIFO: &str = "exec.fifo";
/// Longest name of a container; NAME_MAX is 255.
const MAX_ID: usize = 250;

/// Where a command keeps its containers (`--root`).
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// One container, by its directory.
#[derive(Debug)]
pub struct Container {
    dir: PathBuf,
    /// What is known of it.
    pub record: Record,
}

/// What is kept of a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// Its name.
    pub id: String,
    /// The bundle's directory.
    pub bundle: PathBuf,
    /// The root's directory.
    pub rootfs: PathBuf,
    /// When it was created: RFC 3339, UTC.
    pub created: String,
    /// Who creates it, while there is no init.
    pub creator: Process,
    /// Its init, from when that is set up.
    pub init: Option<Process>,
    /// Its cgroup's path in every hierarchy.
    pub cgroup: Option<String>,
    /// Of its user namespace.
    pub user: Option<IdMaps>,
    /// As in its bundle when it was created.
    pub config: Spec,
    /// Those in force: of the bundle, and what updates made of them.
    pub resources: LinuxResources,
}

/// What a container is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It is being created.
    Creating,
    /// Its init waits for the start.
    Created,
    /// Its program runs.
    Running,
    /// All of it is stopped for a while.
    Paused,
    /// Its init has ended, or whoever created it did before there was one.
    Stopped,
}

impl Status {
    /// As the OCI and runc call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// What `state` and `list` print (OCI runtime-spec, runtime: State), with the fields that runc adds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shown {
    oci_version: &'static str,
    /// Its name.
    pub id: String,
    /// Of its init; 0 when there is none any more.
    pub pid: u32,
    /// [`Status::as_str`].
    pub status: &'static str,
    /// The bundle's directory.
    pub bundle: PathBuf,
    rootfs: PathBuf,
    /// RFC 3339, UTC.
    pub created: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
    /// Who created it.
    pub owner: String,
}

// === impl Store ===

impl Store {
    /// That in this directory, which is made when it is needed.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The container of this name.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::InvalidId`] for what no container is called; a record that cannot be read.
    pub fn open(&self, id: &str) -> Result<Container> {
        let dir = self.dir(id)?;
        let record = read(&dir, id)?;
        Ok(Container { dir, record })
    }

    /// The names of all that have a directory, in order.
    ///
    /// # Errors
    /// The directory cannot be read; `NotFound` when there is none.
    pub fn ids(&self) -> Result<Vec<String>> {
        let listed = fs::read_dir(&self.root).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let entries = listed.map_err(Error::io("open", &self.root))?;
        let names = entries.into_iter().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let mut ids: Vec<String> = names.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// Says early that a name is taken: [`Self::claim`] is what decides.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::InvalidId`].
    pub(crate) fn check_free(&self, id: &str) -> Result<()> {
        match self.dir(id)?.exists() {
            true => Err(Error::Exists(id.to_owned())),
            false => Ok(()),
        }
    }

    /// Takes the name.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::InvalidId`]; the directory cannot be made.
    pub(crate) fn claim(&self, record: Record) -> Result<Container> {
        let dir = self.dir(&record.id)?;
        let builder = |mode| {
            let mut builder = fs::DirBuilder::new();
            builder.mode(mode);
            builder
        };
        builder(0o700).recursive(true).create(&self.root).map_err(Error::io("mkdir", &self.root))?;
        match builder(0o711).create(&dir) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(Error::Exists(record.id)),
            made => made.map_err(Error::io("mkdir", &dir))?,
        }
        let container = Container { dir, record };
        container.save().inspect_err(|_| container.forget())?;
        Ok(container)
    }

    /// Removes what a creator left that was killed before it had written a record. Whether there was something.
    ///
    /// # Errors
    /// [`Error::InvalidId`]; the directory cannot be removed.
    pub fn sweep(&self, id: &str) -> Result<bool> {
        let dir = self.dir(id)?;
        match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            removed => removed.map(|()| true).map_err(Error::io("remove", dir)),
        }
    }

    /// No name leads out of the root.
    fn dir(&self, id: &str) -> Result<PathBuf> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-' | '.');
        if id.is_empty() {
            return Err(Error::Invalid("container id cannot be empty".into()));
        }
        if id == "." || id == ".." || id.len() > MAX_ID || !id.chars().all(plain) {
            return Err(Error::InvalidId(id.to_owned()));
        }
        Ok(self.root.join(id))
    }
}

// === impl Container ===

impl Container {
    /// What it is doing.
    ///
    /// # Errors
    /// Its cgroup cannot be read.
    pub fn status(&self) -> Result<Status> {
        let Some(init) = self.record.init else {
            return Ok(match process::is_alive(self.record.creator) {
                true => Status::Creating,
                false => Status::Stopped,
            });
        };
        if !process::is_alive(init) {
            return Ok(Status::Stopped);
        }
        if self.group()?.map(|group| group.is_paused()).transpose()?.unwrap_or(false) {
            return Ok(Status::Paused);
        }
        Ok(if self.waits() { Status::Created } else { Status::Running })
    }

    /// Its cgroup; `None` when it is gone.
    pub(crate) fn group(&self) -> Result<Option<Cgroup>> {
        group::at(self.record.cgroup.as_deref())
    }

    /// A descriptor of its init.
    ///
    /// # Errors
    /// [`Error::NotRunning`].
    pub fn init(&self) -> Result<OwnedFd> {
        let init = self.record.init.ok_or(Error::NotRunning)?;
        process::open(init).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Error::NotRunning,
            _ => Error::io("pidfd_open", init.pid.to_string())(error),
        })
    }

    /// What is told of it.
    ///
    /// # Errors
    /// As [`Self::status`].
    pub fn shown(&self) -> Result<Shown> {
        let (status, record) = (self.status()?, &self.record);
        let pid = record.init.filter(|_| status != Status::Stopped).map_or(0, |init| init.pid);
        let uid = fs::metadata(&self.dir).map_or(0, |meta| meta.uid());
        Ok(Shown {
            oci_version: OCI_VERSION,
            id: record.id.clone(),
            pid,
            status: status.as_str(),
            bundle: record.bundle.clone(),
            rootfs: record.rootfs.clone(),
            created: record.created.clone(),
            annotations: annotations(&record.config),
            owner: if uid == 0 { "root".to_owned() } else { format!("#{uid}") },
        })
    }

    /// Changes the record, from what it is by now: others may have changed it since it was read. They wait meanwhile. When `change`
    /// fails, nothing is written.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the container was deleted meanwhile; those of `change`, and of writing.
    pub(crate) fn amend<T>(&mut self, change: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let _lock = self.lock()?;
        self.record = read(&self.dir, &self.record.id)?;
        let changed = change(self)?;
        self.save()?;
        Ok(changed)
    }

    /// The lock of this container's directory, not of one that has its name by now.
    fn lock(&self) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let locked = || -> rustix::io::Result<Option<OwnedFd>> {
            let dir = rustix::fs::open(&self.dir, flags, Mode::empty())?;
            retry_on_intr(|| flock(&dir, FlockOperation::LockExclusive))?;
            let (held, named) = (rustix::fs::fstat(&dir)?, rustix::fs::stat(&self.dir)?);
            Ok(((held.st_dev, held.st_ino) == (named.st_dev, named.st_ino)).then_some(dir))
        };
        match locked() {
            Ok(Some(lock)) => Ok(lock),
            Ok(None) | Err(Errno::NOENT | Errno::NOTDIR) => Err(Error::NotFound(self.record.id.clone())),
            Err(errno) => Err(Error::io("lock", &self.dir)(errno.into())),
        }
    }

    /// Writes the record, while nobody else does.
    fn save(&self) -> Result<()> {
        let path = self.dir.join(RECORD);
        let json = |source| Error::Json { path: path.clone(), source };
        let text = serde_json::to_vec(&self.record).map_err(json)?;
        file::replace(&path, &text, Outlives::Process).map_err(Error::io("write", &path))
    }

    /// Gives the name free.
    pub(crate) fn forget(&self) {
        // Whoever changes the record is waited for: it would be written into a directory that is half gone.
        let _lock = self.lock();
        // A directory that stays keeps its name taken, and the next delete says why.
        let _ = fs::remove_dir_all(&self.dir);
    }

    /// Makes what its init will wait at, and opens the init's end. It is open for writing as well: an init that nobody waits for
    /// any more waits on.
    ///
    /// # Errors
    /// Those of mknodat(2) and open(2).
    pub(crate) fn make_fifo(&self) -> Result<OwnedFd> {
        let path = self.dir.join(FIFO);
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, mode, 0)
            .and_then(|()| rustix::fs::open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()))
            .map_err(|errno| Error::io("make", &path)(errno.into()))
    }

    /// Lets its init go on.
    ///
    /// # Errors
    /// [`Error::NotRunning`] when nobody waits; those of open(2) and write(2).
    pub(crate) fn open_fifo(&self) -> Result<()> {
        let path = self.dir.join(FIFO);
        let fifo = match self.started_end() {
            Ok(fifo) => fifo,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound) => return Err(Error::NotRunning),
            // ENXIO: nobody has the other end.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) => {
                return Err(Error::NotRunning);
            }
            Err(error) => return Err(Error::io("open", path)(error)),
        };
        rustix::io::write(&fifo, &[0]).map_err(|errno| Error::io("write", &path)(errno.into()))?;
        fs::remove_file(&path).map_err(Error::io("remove", path))
    }

    /// Whether its init waits for the start: one that has executed its program has let go of its end, whatever the file says that
    /// a killed starter left.
    fn waits(&self) -> bool {
        self.started_end().is_ok()
    }

    fn started_end(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(rustix::fs::open(self.dir.join(FIFO), flags, Mode::empty())?)
    }
}

// === impl Record ===

impl Record {
    /// The state that hooks read (OCI runtime-spec, runtime: State). Without `pid` it has none, for hooks that the container's own
    /// processes run.
    pub(crate) fn hook_state(&self, status: Status, pid: Option<u32>) -> Vec<u8> {
        let mut state = serde_json::json!({
            "ociVersion": OCI_VERSION,
            "id": self.id,
            "status": status.as_str(),
            "bundle": self.bundle,
            "annotations": annotations(&self.config),
        });
        if let Some(pid) = pid {
            state["pid"] = pid.into();
        }
        state.to_string().into_bytes()
    }

    /// Whether its init has a PID namespace that ends with it.
    pub(crate) fn has_own_pids(&self) -> bool {
        use oci_spec::runtime::LinuxNamespaceType as Kind;
        let linux = self.config.linux().as_ref();
        let all = linux.and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
        all.iter().any(|namespace| namespace.typ() == Kind::Pid && crate::check::path(namespace).is_none())
    }
}

/// The record in a container's directory.
fn read(dir: &Path, id: &str) -> Result<Record> {
    let path = dir.join(RECORD);
    let text = match fs::read(&path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Err(Error::NotFound(id.to_owned()));
        }
        text => text.map_err(Error::io("read", &path))?,
    };
    serde_json::from_slice(&text).map_err(|source| Error::Json { path, source })
}

fn annotations(config: &Spec) -> BTreeMap<String, String> {
    let all: Option<&HashMap<String, String>> = config.annotations().as_ref();
    all.into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The path of the record in a container's directory, for tests.
#[cfg(test)]
pub(crate) fn record_in(dir: &std::path::Path) -> PathBuf {
    dir.join(RECORD)
}

/// A record of a container that is being made, for tests.
#[cfg(test)]
pub(crate) fn example(id: &str) -> Record {
    Record {
        id: id.to_owned(),
        bundle: "/bundle".into(),
        rootfs: "/bundle/rootfs".into(),
        created: String::new(),
        creator: process::identify(std::process::id()).unwrap(),
        init: None,
        cgroup: None,
        user: None,
        config: crate::example(false),
        resources: LinuxResources::default(),
    }
}

#[cfg(test)]
mod tests;
