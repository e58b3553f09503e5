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
    /// Groups to add by name, looked up in the container's /etc/group. Digits are a gid all the same.
    pub supplemental_group_names: Vec<String>,
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

impl UserRequest {
    /// Who `user`, `user:group`, `:group` or numbers in their place mean (OCI image-spec, config.User). Digits are always a
    /// number: one that is no id is `None`, and never a name (CVE-2026-46680).
    pub fn parse(text: &str) -> Option<Self> {
        let (user, group) = text.split_once(':').unwrap_or((text, ""));
        let user = match (user, number(user)?) {
            ("", _) => UserSpec::Root,
            (_, Some(uid)) => UserSpec::Uid(uid),
            (name, None) => UserSpec::Name(name.to_owned()),
        };
        let group = match (group, number(group)?) {
            ("", _) => GroupSpec::OfUser,
            (_, Some(gid)) => GroupSpec::Gid(gid),
            (name, None) => GroupSpec::Name(name.to_owned()),
        };
        Some(Self { user, group, ..Self::default() })
    }
}

/// `None` for digits that are no id; `Some(None)` for what is no digits.
fn number(text: &str) -> Option<Option<u32>> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(None);
    }
    text.parse().ok().filter(|id| *id < u32::MAX).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_names_a_user_and_a_group_or_either() {
        let name = |name: &str| UserSpec::Name(name.to_owned());
        let cases = [
            ("", (UserSpec::Root, GroupSpec::OfUser)),
            ("web", (name("web"), GroupSpec::OfUser)),
            ("web:", (name("web"), GroupSpec::OfUser)),
            ("1000:1001", (UserSpec::Uid(1000), GroupSpec::Gid(1001))),
            ("web:staff", (name("web"), GroupSpec::Name("staff".to_owned()))),
            (":5", (UserSpec::Root, GroupSpec::Gid(5))),
        ];
        for (text, expected) in cases {
            let UserRequest { user, group, .. } = UserRequest::parse(text).unwrap();
            assert_eq!((user, group), expected, "{text:?}");
        }
    }

    #[test]
    fn digits_that_are_no_id_are_nobody_and_never_a_name() {
        for text in ["4294967295", "4294967296", "99999999999999999999", "0:4294967295"] {
            assert_eq!(UserRequest::parse(text), None, "{text}");
        }
    }
}
