//! Who a container runs as: a request resolved against the /etc/passwd and /etc/group of its own root filesystem.
//!
//! The files are an image's, so: their size and line length are bounded (a huge group file was CVE-2026-47262), a number
//! is always an id and one that does not fit is an error, never a name (CVE-2026-46680), and nothing is taken from them
//! that could break out of a line (CVE-2022-4318).

use husk_sys::root::Root;

use crate::{Failure, Step, failure::At};

/// Largest /etc/passwd or /etc/group that is read. 10 MiB is a hundred thousand entries.
const MAX_FILE: u64 = 10 << 20;
/// Longest line of them. Groups list their members, so this is generous.
const MAX_LINE: usize = 64 << 10;
/// Highest id, as in Kubernetes: ids are `int32` there.
const MAX_ID: u32 = i32::MAX as u32;
/// Most supplementary groups. The kernel's limit (NGROUPS_MAX) is 65536, more than a report can carry.
pub(crate) const MAX_GROUPS: usize = 8192;

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

/// Resolves a request in a root filesystem.
pub(crate) fn resolve(root: &Root, request: &UserRequest) -> Result<ResolvedUser, Failure> {
    let file = |path: &str| -> Result<Vec<u8>, Failure> {
        Ok(root.read(path, MAX_FILE).at(Step::ResolveUser, path)?.unwrap_or_default())
    };
    resolve_in(&file("/etc/passwd")?, &file("/etc/group")?, request)
}

pub(crate) fn resolve_in(
    passwd: &[u8],
    group: &[u8],
    request: &UserRequest,
) -> Result<ResolvedUser, Failure> {
    let wanted = match &request.user {
        UserName::Root => Wanted::Id(0),
        UserName::Id(id) => Wanted::Id(checked(*id)?),
        UserName::Name(name) => Wanted::parse(name)?,
    };
    let entry = find(passwd, "/etc/passwd", |fields| {
        let [name, _, uid, gid, _, home, ..] = fields else { return None };
        let (uid, gid) = (id_field(uid)?, id_field(gid)?);
        wanted.is(name, uid).then(|| (name.to_string(), uid, gid, home.to_string()))
    })?;
    let (uid, own_gid, name, home) = match (entry, &wanted) {
        (Some((name, uid, gid, home)), _) => (uid, gid, Some(name), home),
        (None, Wanted::Id(uid)) => (*uid, 0, None, String::new()),
        (None, Wanted::Name(name)) => {
            return Err(unable(format!("user {name:?}: no matching entry in the image's /etc/passwd")));
        }
    };
    let gid = match &request.group {
        GroupRequest::OfUser => own_gid,
        GroupRequest::Id(id) => checked(*id)?,
        GroupRequest::Name(name) => group_id(group, name)?,
    };
    let mut groups = vec![gid];
    for &id in &request.supplemental_groups {
        groups.push(checked(id)?);
    }
    if let (false, Some(name)) = (request.strict_groups, &name) {
        groups.extend(memberships(group, name)?);
    }
    groups.sort_unstable();
    groups.dedup();
    if groups.len() > MAX_GROUPS {
        return Err(unable(format!("user {uid}: more than {MAX_GROUPS} groups")));
    }
    let home = if home.is_empty() { "/".to_owned() } else { home };
    Ok(ResolvedUser { uid, gid, groups, home })
}

// === impl Wanted ===

enum Wanted<'request> {
    Id(u32),
    Name(&'request str),
}

impl<'request> Wanted<'request> {
    fn parse(text: &'request str) -> Result<Self, Failure> {
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        if text.is_empty() {
            return Ok(Self::Id(0));
        }
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(Self::Name(text));
        }
        text.parse().ok().filter(|&id| id <= MAX_ID).map(Self::Id).ok_or_else(|| out_of_range(text))
    }

    fn is(&self, name: &str, id: u32) -> bool {
        match self {
            Self::Id(wanted) => *wanted == id,
            Self::Name(wanted) => *wanted == name,
        }
    }
}

fn group_id(group: &[u8], name: &str) -> Result<u32, Failure> {
    let wanted = Wanted::parse(name)?;
    if let Wanted::Id(id) = wanted {
        return Ok(id);
    }
    find(group, "/etc/group", |fields| {
        let [name, _, gid, ..] = fields else { return None };
        let gid = id_field(gid)?;
        wanted.is(name, gid).then_some(gid)
    })?
    .ok_or_else(|| unable(format!("group {name:?}: no matching entry in the image's /etc/group")))
}

fn memberships(group: &[u8], user: &str) -> Result<Vec<u32>, Failure> {
    let mut found = Vec::new();
    find(group, "/etc/group", |fields| {
        if let [_, _, gid, members, ..] = fields
            && members.split(',').any(|member| member == user)
            && let Some(gid) = id_field(gid)
        {
            found.push(gid);
        }
        None::<()>
    })?;
    Ok(found)
}

/// The first line for which `pick` gives something. Lines that are no text, are comments or have too few fields are
/// passed over, as getpwnam(3) does.
fn find<T>(
    content: &[u8],
    path: &str,
    mut pick: impl FnMut(&[&str]) -> Option<T>,
) -> Result<Option<T>, Failure> {
    for line in content.split(|&byte| byte == b'\n') {
        if line.len() > MAX_LINE {
            return Err(Failure::because(
                Step::ResolveUser,
                path,
                format!("a line of {} bytes, more than {MAX_LINE}", line.len()),
            ));
        }
        let Ok(line) = std::str::from_utf8(line) else { continue };
        let line = line.trim_end_matches('\r');
        if line.starts_with('#') || line.chars().any(char::is_control) {
            continue;
        }
        let fields: Vec<&str> = line.split(':').collect();
        if let Some(found) = pick(&fields) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn id_field(text: &str) -> Option<u32> {
    text.parse().ok().filter(|&id| id <= MAX_ID)
}

fn checked(id: u32) -> Result<u32, Failure> {
    if id > MAX_ID { Err(out_of_range(&id.to_string())) } else { Ok(id) }
}

fn out_of_range(id: &str) -> Failure {
    unable(format!("id {id}: ids are 0 to {MAX_ID}"))
}

fn unable(what: String) -> Failure {
    Failure::because(Step::ResolveUser, "", format!("unable to find {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"# comment\nroot:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n\
        4242:x:0:0:digits:/:/bin/sh\nbroken:x:99999999999:0::/:\nshort:x\n";
    const GROUP: &[u8] =
        b"root:x:0:\nwheel:x:10:root,user\ngroup-defined-in-image:x:50000:user\nhuge:x:4294967297:user\n";

    fn of(user: UserName) -> UserRequest {
        UserRequest { user, ..UserRequest::default() }
    }

    fn named(name: &str) -> UserRequest {
        of(UserName::Name(name.into()))
    }

    fn groups(request: &UserRequest) -> Vec<u32> {
        resolve_in(PASSWD, GROUP, request).unwrap().groups
    }

    #[test]
    fn merge_adds_the_memberships_of_the_image_and_strict_does_not() {
        let mut request = UserRequest { supplemental_groups: vec![1234], ..of(UserName::Id(1000)) };
        assert_eq!(groups(&request), [10, 1000, 1234, 50000]);
        request.strict_groups = true;
        assert_eq!(groups(&request), [1000, 1234]);
    }

    #[test]
    fn an_id_without_entry_has_group_0_and_home_slash() {
        let user = resolve_in(PASSWD, GROUP, &of(UserName::Id(1001))).unwrap();
        assert_eq!((user.uid, user.gid, user.groups, user.home.as_str()), (1001, 0, vec![0], "/"));
    }

    #[test]
    fn a_name_gives_uid_gid_and_home() {
        let user = resolve_in(PASSWD, GROUP, &named("user")).unwrap();
        assert_eq!((user.uid, user.gid, user.home.as_str()), (1000, 1000, "/home/user"));
    }

    #[test]
    fn a_number_that_does_not_fit_is_an_error_and_never_a_name() {
        for name in ["4294967296", "2147483648", "-1", "99999999999999999999999", "+4294967296"] {
            let failure = resolve_in(PASSWD, GROUP, &named(name)).unwrap_err();
            assert!(failure.detail.contains("ids are 0 to"), "{name}: {failure}");
        }
        assert!(resolve_in(PASSWD, GROUP, &of(UserName::Id(u32::MAX))).is_err());
    }

    #[test]
    fn a_user_called_like_a_number_does_not_lend_its_id() {
        let user = resolve_in(PASSWD, GROUP, &named("4242")).unwrap();
        assert_eq!((user.uid, user.gid), (4242, 0));
    }

    #[test]
    fn an_unknown_name_is_an_error_and_not_root() {
        assert!(resolve_in(PASSWD, GROUP, &named("nosuch")).unwrap_err().detail.contains("nosuch"));
        assert!(resolve_in(PASSWD, GROUP, &named("broken")).is_err());
        let group = UserRequest { group: GroupRequest::Name("nosuch".into()), ..of(UserName::Root) };
        assert!(resolve_in(PASSWD, GROUP, &group).is_err());
    }

    #[test]
    fn the_requested_group_wins() {
        let mut request = UserRequest { group: GroupRequest::Name("wheel".into()), ..named("user") };
        assert_eq!(resolve_in(PASSWD, GROUP, &request).unwrap().gid, 10);
        request.group = GroupRequest::Id(7);
        assert_eq!(groups(&request), [7, 10, 50000]);
    }

    #[test]
    fn a_line_without_end_is_an_error() {
        let mut passwd = b"root:x:0:0:root:/root:/bin/sh\nuser:".to_vec();
        passwd.extend(vec![b'x'; MAX_LINE + 1]);
        assert!(resolve_in(&passwd, GROUP, &named("later")).unwrap_err().detail.contains("a line of"));
    }

    #[test]
    fn control_characters_disqualify_an_entry() {
        let passwd = b"evil:x:5:5::/home\x1b[0m/x:/bin/sh\n";
        assert!(resolve_in(passwd, GROUP, &named("evil")).is_err());
    }
}
