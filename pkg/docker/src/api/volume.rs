//! Volumes.

use std::collections::BTreeMap;

use serde::Serialize;

use super::request;

request! {
    /// `POST /volumes/create`
    struct VolumeCreate {
        /// Empty for one that is made up.
        name: String = "Name",
        /// Only `local` is there; empty means it.
        driver: String = "Driver",
        /// `type`, `device` and `o`.
        driver_opts: BTreeMap<String, String> = "DriverOpts",
        /// Labels.
        labels: BTreeMap<String, String> = "Labels",
    }
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Volume {
    /// When it was made, RFC 3339.
    pub(crate) created_at: String,
    /// `local`
    pub(crate) driver: &'static str,
    /// Labels; null without any, as from dockerd.
    pub(crate) labels: Option<BTreeMap<String, String>>,
    /// Where its files are on the node.
    pub(crate) mountpoint: String,
    /// Name.
    pub(crate) name: String,
    /// As it was made; null without any.
    pub(crate) options: Option<BTreeMap<String, String>>,
    /// `local`
    pub(crate) scope: &'static str,
    /// Who uses it and what it takes; only in `/system/df`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) usage_data: Option<VolumeUsage>,
}

/// What a volume takes.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct VolumeUsage {
    /// Containers that have it.
    pub(crate) ref_count: i64,
    /// Bytes; -1 when not known.
    pub(crate) size: i64,
}

/// `GET /volumes`
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct VolumeList {
    /// The volumes.
    pub(crate) volumes: Vec<Volume>,
    /// What a list could not tell of.
    pub(crate) warnings: Vec<String>,
}

/// `POST /volumes/prune`
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct VolumesPruned {
    /// Names.
    pub(crate) volumes_deleted: Vec<String>,
    /// Bytes that were freed.
    pub(crate) space_reclaimed: u64,
}
