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

/// As [`IdMappings`], of any number of ranges, in the order in which they were given: what the OCI's `uidMappings` and
/// `gidMappings` can say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMaps {
    /// Of users.
    pub uids: Vec<IdMapping>,
    /// Of groups.
    pub gids: Vec<IdMapping>,
}

/// What a request says of a user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserNamespace {
    /// Nothing: a pod has the node's, a container its pod's.
    Unsaid,
    /// The node's.
    Node,
    /// One of the pod's own.
    Mapped(IdMappings),
}

// === impl IdMapping ===

impl IdMapping {
    /// Whether the namespace knows this id.
    pub fn maps(&self, id: u32) -> bool {
        id >= self.container_id && id - self.container_id < self.length
    }

    /// Which id of the node this one is.
    pub fn on_node(&self, id: u32) -> Option<u32> {
        self.maps(id).then(|| self.host_id.saturating_add(id - self.container_id))
    }

    /// The highest id that the namespace knows.
    pub fn last(&self) -> u32 {
        self.container_id.saturating_add(self.length.saturating_sub(1))
    }
}

// === impl IdMappings ===

impl IdMappings {
    /// Who on the node is root inside: uid and gid. The mappings begin with id 0.
    pub fn root(&self) -> (u32, u32) {
        (self.uids.host_id, self.gids.host_id)
    }

    /// The highest id below or at `wanted` that is mapped as uid and gid.
    pub fn at_most(&self, wanted: u32) -> u32 {
        wanted.min(self.uids.last()).min(self.gids.last())
    }
}

// === impl IdMaps ===

impl IdMaps {
    /// Who on the node is root inside: uid and gid; `None` when id 0 is not mapped.
    pub fn root(&self) -> Option<(u32, u32)> {
        let of = |ranges: &[IdMapping]| ranges.iter().find_map(|range| range.on_node(0));
        Some((of(&self.uids)?, of(&self.gids)?))
    }

    /// Whether the namespace knows this user.
    pub fn maps_user(&self, uid: u32) -> bool {
        self.uids.iter().any(|range| range.maps(uid))
    }

    /// Whether the namespace knows this group.
    pub fn maps_group(&self, gid: u32) -> bool {
        self.gids.iter().any(|range| range.maps(gid))
    }
}

impl From<IdMappings> for IdMaps {
    fn from(IdMappings { uids, gids }: IdMappings) -> Self {
        Self { uids: vec![uids], gids: vec![gids] }
    }
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

// === impl UserNamespace ===

impl UserNamespace {
    /// The mappings, if there are any.
    pub fn mappings(self) -> Option<IdMappings> {
        match self {
            UserNamespace::Unsaid | UserNamespace::Node => None,
            UserNamespace::Mapped(mappings) => Some(mappings),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Namespaces;

    fn map(host_id: u32, length: u32) -> IdMapping {
        IdMapping { host_id, container_id: 0, length }
    }

    #[test]
    fn a_record_of_an_older_release_is_read_and_written_as_it_was() {
        let old = r#"{"network":"Pod","pid":"Container","ipc":"Pod","target_id":"","user":[{"host_id":65536,"container_id":0,"length":1000},{"host_id":131072,"container_id":0,"length":1000}]}"#;
        let read: Namespaces = serde_json::from_str(old).unwrap();
        assert_eq!(read.user, Some(IdMappings { uids: map(65_536, 1000), gids: map(131_072, 1000) }));
        assert_eq!(serde_json::to_string(&read).unwrap(), old);
        let old = r#"{"network":"Pod","pid":"Container","ipc":"Pod","target_id":"","user":null}"#;
        let read: Namespaces = serde_json::from_str(old).unwrap();
        assert_eq!(read.user, None);
        assert_eq!(serde_json::to_string(&read).unwrap(), old);
    }

    #[test]
    fn an_id_is_mapped_within_the_range_and_not_beyond() {
        let map = IdMapping { host_id: 100_000, container_id: 5, length: 10 };
        for (id, mapped) in [(4, false), (5, true), (14, true), (15, false)] {
            assert_eq!(map.maps(id), mapped, "{id}");
        }
        assert_eq!(map.last(), 14);
    }

    #[test]
    fn root_of_several_ranges_is_found_wherever_it_is() {
        let (high, low) = (IdMapping { host_id: 9, container_id: 5, length: 10 }, map(100, 5));
        let maps = IdMaps { uids: vec![high, low], gids: vec![low] };
        assert_eq!(maps.root(), Some((100, 100)));
        assert!(maps.maps_user(14) && !maps.maps_user(15) && maps.maps_group(4) && !maps.maps_group(5));
        assert_eq!(IdMaps { uids: vec![high], gids: vec![low] }.root(), None);
    }

    #[test]
    fn pause_runs_as_somebody_who_is_mapped() {
        let mappings = |length| IdMappings { uids: map(100_000, length), gids: map(100_000, 65_536) };
        assert_eq!(mappings(65_536).at_most(65_535), 65_535);
        assert_eq!(mappings(1000).at_most(65_535), 999);
    }
}
