//! User namespaces: which ids of the node a pod's ids are.

use serde::{Deserialize, Serialize};

/// One range of a user namespace mapping: a line of `uid_map` or `gid_map` (user_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMapping {
    /// First id on the node.
    pub host_id: u32,
    /// First id in the namespace.
    pub container_id: u32,
    /// Number of ids.
    pub length: u32,
}

/// The mappings of a user namespace: exactly one range of users and one of groups (CRI, `UserNamespace`). On disk a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(IdMapping, IdMapping)", into = "(IdMapping, IdMapping)")]
pub struct IdMappings {
    /// Of users.
    pub uids: IdMapping,
    /// Of groups.
    pub gids: IdMapping,
}

impl From<(IdMapping, IdMapping)> for IdMappings {
    fn from((uids, gids): (IdMapping, IdMapping)) -> Self {
        Self { uids, gids }
    }
}

impl From<IdMappings> for (IdMapping, IdMapping) {
    fn from(mappings: IdMappings) -> Self {
        (mappings.uids, mappings.gids)
    }
}
