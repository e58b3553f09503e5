//! What the rest of husk sees of an image.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use husk_model::{ImageId, UnixNanos};

use crate::{DiffId, manifest::ConfigFile, platform::Platform};

/// A stored image. A value never changes; the store replaces it.
#[derive(Debug, Clone)]
pub struct Image {
    /// Digest of the image configuration.
    pub id: ImageId,
    /// `host/repository:tag`, sorted.
    pub repo_tags: Vec<String>,
    /// `host/repository@digest`, sorted. The digest is the one asked for, or that of the top-level manifest or index.
    pub repo_digests: Vec<String>,
    /// Bytes that the unpacked layers and the configuration take.
    pub size: u64,
    /// When it was pulled or imported.
    pub stored_at: UnixNanos,
    /// How to run it.
    pub config: Arc<ImageConfig>,
    /// Diff ids of the layers, lowest first.
    pub layers: Arc<[DiffId]>,
    /// Bytes that each of them takes, in the same order. A layer that images share counts in each.
    pub layer_sizes: Arc<[u64]>,
    /// The image that it was made from on this node.
    pub parent: Option<ImageId>,
}

/// What an image says about running it (OCI image-spec, config).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// `user`, `uid`, `user:group`…; empty means root.
    pub user: String,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// ENTRYPOINT.
    pub entrypoint: Vec<String>,
    /// CMD.
    pub cmd: Vec<String>,
    /// WORKDIR; may be empty.
    pub working_dir: String,
    /// Labels. They inform and never control.
    pub labels: BTreeMap<String, String>,
    /// As the image writes it: `SIGTERM`, `15`.
    pub stop_signal: Option<String>,
    /// Paths declared as volumes.
    pub volumes: Vec<String>,
    /// `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// What it was built for.
    pub platform: Platform,
    /// RFC 3339, as the image says; may be empty.
    pub created: String,
}

/// The layers of an image as overlayfs wants them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerStack {
    /// Directory that the names are relative to.
    pub base: PathBuf,
    /// Short directory names, topmost layer first.
    pub lowers: Vec<String>,
}

/// What the image store occupies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FsUsage {
    /// The store's directory.
    pub path: PathBuf,
    /// Bytes of unpacked layers.
    pub used_bytes: u64,
    /// Files, directories and links of unpacked layers.
    pub inodes_used: u64,
}

impl ImageConfig {
    pub(crate) fn from_file(file: &ConfigFile) -> Self {
        let platform = file.platform().unwrap_or_default();
        let created = file.created.clone().unwrap_or_default();
        let process = file.config.clone();
        Self {
            user: process.user,
            // What a null left is no variable.
            env: process.env.into_iter().filter(|variable| !variable.is_empty()).collect(),
            entrypoint: process.entrypoint.0,
            cmd: process.cmd.0,
            working_dir: process.working_dir,
            labels: process.labels,
            stop_signal: Some(process.stop_signal).filter(|signal| !signal.is_empty()),
            volumes: process.volumes.into_keys().collect(),
            exposed_ports: process.exposed_ports.into_keys().collect(),
            platform,
            created,
        }
    }
}
