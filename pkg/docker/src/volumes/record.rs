//! A volume, as it is on record.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use husk_model::UnixNanos;
use husk_node::file::{self, Outlives};
use serde::{Deserialize, Serialize};

use super::{
    name,
    options::{self, Source},
};

/// The record in a volume's directory.
pub(super) const RECORD: &str = "volume.json";
/// The files in a volume's directory.
pub(super) const DATA: &str = "_data";
/// Larger than any record of ours.
const MAX: u64 = 64 << 20;

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Volume {
    /// Unique.
    pub(crate) name: String,
    /// When it was made.
    pub(crate) created: UnixNanos,
    /// Labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// `type`, `device` and `o`.
    pub(crate) options: BTreeMap<String, String>,
    /// Whether its name was made up: it is pruned without being asked for, and goes with `docker rm -v`.
    pub(crate) anonymous: bool,
    /// Its directory, which holds the record too.
    #[serde(skip)]
    pub(super) dir: PathBuf,
}

impl Volume {
    /// Where its own files are on the node.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.join(DATA)
    }

    /// Where the files come from that a container sees.
    pub(crate) fn source(&self) -> Source {
        options::source(&self.options, self.data())
    }

    /// Whether its files are its own, so that it takes space and what an image has there can be copied into it.
    pub(crate) fn is_own(&self) -> bool {
        matches!(self.source(), Source::Own(_))
    }

    /// Writes the record, last of all that a volume is made of.
    pub(super) fn write(&self) -> io::Result<()> {
        let text = serde_json::to_vec(self).map_err(io::Error::other)?;
        file::replace(&self.dir.join(RECORD), &text, Outlives::PowerCut)
    }

    /// Reads the volume of a directory; `None` when there is no record.
    pub(super) fn read(dir: &Path) -> io::Result<Option<Self>> {
        let path = dir.join(RECORD);
        let length = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if length > MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut volume: Self = serde_json::from_slice(&fs::read(path)?).map_err(io::Error::other)?;
        let is_its = dir.file_name().is_some_and(|own| own == volume.name.as_str());
        if !is_its || name::check(&volume.name).is_err() {
            return Err(io::Error::other(format!("it is of a volume named {:?}", volume.name)));
        }
        volume.dir = dir.to_owned();
        Ok(Some(volume))
    }
}
