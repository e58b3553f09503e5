//! Who a container runs as.

/// The requested user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum UserName {
    /// uid 0.
    #[default]
    Root,
    /// A numeric id; need not be in the image's passwd.
    Id(u32),
    /// A name of the image's /etc/passwd, or digits, which are an id.
    Name(String),
}

/// The requested primary group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum GroupRequest {
    /// The user's in passwd, else 0.
    #[default]
    OfUser,
    /// A numeric id.
    Id(u32),
    /// A name of the image's /etc/group, or digits, which are an id.
    Name(String),
}

/// A request to resolve in the container's root filesystem.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserRequest {
    /// User.
    pub user: UserName,
    /// Primary group.
    pub group: GroupRequest,
    /// Groups to add.
    pub supplemental_groups: Vec<u32>,
    /// Do not add the user's memberships in /etc/group (CRI `SupplementalGroupsPolicy.Strict`; false is `Merge`).
    pub strict_groups: bool,
}

/// What a [`UserRequest`] came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvedUser {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups, the primary one included, ascending, each once.
    pub groups: Vec<u32>,
    /// Home directory by passwd; `/` without an entry.
    pub home: String,
}
