//! What is to be written.

use std::path::PathBuf;

use husk_config::DEFAULT_PATH;
use serde::Serialize;

use crate::finding::Finding;

/// A file that goes with husk.toml.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedFile {
    /// Where the node is to have it.
    pub path: PathBuf,
    /// All of it.
    pub contents: Vec<u8>,
    /// Mode 0600, and its contents are not shown.
    pub secret: bool,
}

/// What husk makes of a peer's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The text of `/etc/husk/husk.toml`, which `husk_config` has accepted.
    pub config: String,
    /// Files beside it.
    #[serde(skip)]
    pub files: Vec<PlannedFile>,
    /// What became of every key, by file and key.
    pub findings: Vec<Finding>,
    /// What no key says and somebody has to know.
    pub notes: Vec<String>,
}

impl Plan {
    /// husk.toml and the files beside it.
    pub fn all_files(&self) -> Vec<PlannedFile> {
        let (path, contents) = (PathBuf::from(DEFAULT_PATH), self.config.clone().into_bytes());
        let mut files = vec![PlannedFile { path, contents, secret: false }];
        files.extend(self.files.iter().cloned());
        files
    }
}
