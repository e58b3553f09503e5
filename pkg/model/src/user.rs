//! Users: as they are named, and as they were found in a container's own files.

use serde::{Deserialize, Serialize};

/// A user as the request or the image names it, before the container's passwd file was read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum UserSpec {
    /// Nothing said: root.
    #[default]
    Root,
    /// Numeric uid.
    Uid(u32),
    /// Name to look up in the container's /etc/passwd. Digits are a uid all the same.
    Name(String),
}

/// A primary group as the request or the image names it, before the container's group file was read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupSpec {
    /// Nothing said: that of the user's passwd entry, else 0.
    #[default]
    OfUser,
    /// Numeric gid.
    Gid(u32),
    /// Name to look up in the container's /etc/group. Digits are a gid all the same.
    Name(String),
}

/// How supplemental groups are formed (KEP-3619).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupsPolicy {
    /// Those of the request plus the user's memberships in the image's /etc/group.
    #[default]
    Merge,
    /// Those of the request only.
    Strict,
}

/// Who a container is to run as, to be looked up in its own root filesystem.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserRequest {
    /// User.
    pub user: UserSpec,
    /// Primary group.
    pub group: GroupSpec,
    /// Groups to add.
    pub supplemental_groups: Vec<u32>,
    /// Whether the user's memberships are added too.
    pub groups_policy: GroupsPolicy,
}

/// The user a container runs as, after its passwd and group files were read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResolvedUser {
    /// uid
    pub uid: u32,
    /// primary gid
    pub gid: u32,
    /// All groups, the primary one included, ascending, each once.
    pub groups: Vec<u32>,
}
