//! Images.

use std::collections::BTreeMap;

use serde::Serialize;

/// An image in a list.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ImageSummary {
    /// Containers made from it; -1 when they were not counted.
    pub(crate) containers: i64,
    /// When it was built, in seconds; 0 when it does not say.
    pub(crate) created: i64,
    /// `sha256:…`
    pub(crate) id: String,
    /// Labels of its configuration.
    pub(crate) labels: Option<BTreeMap<String, String>>,
    /// The image that it was made from on this node, or empty.
    pub(crate) parent_id: String,
    /// `name@sha256:…`
    pub(crate) repo_digests: Vec<String>,
    /// `name:tag`
    pub(crate) repo_tags: Vec<String>,
    /// Bytes of its layers that others have too; -1 when they were not counted.
    pub(crate) shared_size: i64,
    /// Bytes of its layers.
    pub(crate) size: i64,
}

/// One thing that went with an image; either or.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) enum ImageDeleted {
    /// A name.
    Untagged(String),
    /// An image or a layer.
    Deleted(String),
}

/// `POST /images/prune`
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ImagesPruned {
    /// What went.
    pub(crate) images_deleted: Option<Vec<ImageDeleted>>,
    /// Bytes that were freed.
    pub(crate) space_reclaimed: u64,
}
