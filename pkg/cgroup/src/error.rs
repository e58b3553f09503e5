//! The errors of this crate, one variant per failed step.

use std::{io, path::PathBuf, time::Duration};

use husk_model::{Classify, Kind};
use rustix::io::Errno;

use crate::{Controller, InvalidPath};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation on a cgroup failed. `Display` tells the step and the object; the kernel's reason is the source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The path of the request is not acceptable.
    #[error("cgroup path")]
    Path(#[from] InvalidPath),
    /// `/proc/self/mountinfo` or another file of the discovery can't be read.
    #[error("read {path}")]
    Discover {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// No cgroup filesystem is mounted.
    #[error("no cgroup filesystem is mounted on this node")]
    NoHierarchy,
    /// The group exists in none of the hierarchies.
    #[error("cgroup {path} does not exist")]
    NotFound {
        /// The group.
        path: String,
    },
    /// A directory of the group can't be made.
    #[error("mkdir {path}")]
    CreateDir {
        /// The directory.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// A directory of the group can't be opened.
    #[error("open {path}")]
    OpenDir {
        /// The directory.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// A directory of the group can't be removed.
    #[error("rmdir {path}")]
    RemoveDir {
        /// The directory.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// A file of the group can't be read.
    #[error("read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// A file of the group can't be written.
    #[error("write {value:?} to {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What was written.
        value: String,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// A file of the kernel does not have the form its documentation gives.
    #[error("unexpected content of {path}: {content:?}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What it holds (cut).
        content: String,
    },
    /// A limit that protects the node or another workload can't be enforced here.
    #[error("{setting} can't be enforced: this node has no {controller} controller")]
    NoController {
        /// The missing controller.
        controller: Controller,
        /// What was asked for.
        setting: &'static str,
    },
    /// A value of the request is out of its domain.
    #[error("{setting}: {reason}")]
    InvalidValue {
        /// What was asked for.
        setting: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The new memory limit is below what the group uses now.
    #[error("memory limit {limit} is below the current usage {usage}")]
    MemoryBelowUsage {
        /// Bytes asked for.
        limit: i64,
        /// Bytes in use.
        usage: u64,
    },
    /// The device program can't be loaded or attached.
    #[error("device program of {path}")]
    DeviceProgram {
        /// The group.
        path: PathBuf,
        /// The step and its reason.
        #[source]
        source: husk_sys::bpf::Error,
    },
    /// A process of the group can't be signalled.
    #[error("kill process {pid}")]
    Signal {
        /// The process.
        pid: u32,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The group did not become empty in time.
    #[error("cgroup {path} did not become empty within {after:?}")]
    Timeout {
        /// The group.
        path: String,
        /// How long it was waited for.
        after: Duration,
    },
}

impl Classify for Error {
    fn kind(&self) -> Kind {
        match self {
            Error::Path(_) | Error::InvalidValue { .. } => Kind::InvalidArgument,
            Error::NotFound { .. } => Kind::NotFound,
            Error::NoController { .. } => Kind::Unimplemented,
            Error::MemoryBelowUsage { .. } => Kind::FailedPrecondition,
            Error::Timeout { .. } => Kind::DeadlineExceeded,
            // What the kernel says of a value: EINVAL and ERANGE of its form, EACCES of a cpuset outside its parent's,
            // EBUSY and ENOSPC of one that the processes in the group do not allow.
            Error::Write { source, .. } => match Errno::from_io_error(source) {
                Some(Errno::INVAL | Errno::RANGE | Errno::ACCESS) => Kind::InvalidArgument,
                Some(Errno::BUSY | Errno::NOSPC) => Kind::FailedPrecondition,
                _ => Kind::Internal,
            },
            Error::Discover { .. }
            | Error::NoHierarchy
            | Error::CreateDir { .. }
            | Error::OpenDir { .. }
            | Error::RemoveDir { .. }
            | Error::Read { .. }
            | Error::Content { .. }
            | Error::DeviceProgram { .. }
            | Error::Signal { .. } => Kind::Internal,
        }
    }
}
