//! What the runtime left in a writable layer so that it could mount there.

use std::{collections::BTreeSet, os::unix::ffi::OsStrExt, path::Path};

use rustix::fs::{FileType, Stat};

use crate::unpack::tree::clean;

/// Paths where something is mounted while the container runs: what is below them in the layer, and an empty file there, nobody
/// has put into the container.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mounts(BTreeSet<Vec<u8>>);

impl Mounts {
    /// Of paths as the container sees them. What cannot be one is left out.
    pub(crate) fn of<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Self {
        let paths = paths.into_iter().filter_map(|path| clean(path.as_ref().as_os_str().as_bytes()).ok());
        Self(paths.filter(|path| !path.is_empty()).collect())
    }

    /// Whether what is at `path` is a trace of the mount there.
    pub(crate) fn left(&self, path: &[u8], stat: &Stat) -> bool {
        let is_trace = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => true,
            FileType::RegularFile => stat.st_size == 0,
            _ => false,
        };
        is_trace && self.0.contains(path)
    }
}
