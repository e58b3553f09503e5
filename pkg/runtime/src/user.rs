//! Who a container runs as: a request resolved against the /etc/passwd and /etc/group of its own root filesystem.
//!
//! The files are an image's, so: their size is bounded (a huge group file was CVE-2026-47262), a number is always an id and
//! one that does not fit is an error, never a name (CVE-2026-46680), and a home directory is a value of the environment and
//! nothing else (CVE-2022-4318 was a line break in one). [`crate::accounts`] reads their lines.

use husk_model::{GroupSpec, GroupsPolicy, ResolvedUser, UserRequest, UserSpec};
use husk_sys::root::Root;

use crate::{
    Account, Failure, Identity, Step,
    accounts::{self, MAX_ID},
    failure::At,
};

/// Largest /etc/passwd or /etc/group that is read. 10 MiB is a hundred thousand entries.
const MAX_FILE: u64 = 10 << 20;
/// Longest path (PATH_MAX, with its NUL): a home directory of that length is none.
const MAX_PATH: usize = 4096;
/// Most supplementary groups. The kernel's limit (NGROUPS_MAX) is 65536, more than a report can carry.
pub(crate) const MAX_GROUPS: usize = 8192;

/// Resolves a request in a root filesystem. A file that the request does not need is not read, so it cannot be in the way.
pub(crate) fn resolve(root: &Root, request: &UserRequest) -> Result<Account, Failure> {
    let file = |path: &str| -> Result<Vec<u8>, Failure> {
        Ok(root.read(path, MAX_FILE).at(Step::ResolveUser, path)?.unwrap_or_default())
    };
    resolve_in(&file("/etc/passwd")?, || file("/etc/group"), request)
}

/// Who a process in `root` runs as.
pub(crate) fn identify(root: &Root, identity: &Identity) -> Result<Account, Failure> {
    match identity {
        Identity::Account(account) => Ok(account.clone()),
        Identity::Request(request) => resolve(root, request),
        Identity::Ids(user) => {
            let request = UserRequest { user: UserSpec::Uid(user.uid), ..UserRequest::default() };
            let home = resolve(root, &UserRequest { groups_policy: GroupsPolicy::Strict, ..request })?.home;
            Ok(Account { user: user.clone(), home })
        }
    }
}

pub(crate) fn resolve_in(
    passwd: &[u8],
    group: impl FnOnce() -> Result<Vec<u8>, Failure>,
    request: &UserRequest,
) -> Result<Account, Failure> {
    let wanted = match &request.user {
        UserSpec::Root => Wanted::Id(0),
        UserSpec::Uid(id) => Wanted::Id(checked(*id)?),
        UserSpec::Name(name) => Wanted::parse(name)?,
    };
    let entry = accounts::users(passwd).find(|user| wanted.is(user.name, user.uid));
    let (uid, own_gid) = match (&entry, &wanted) {
        (Some(user), _) => (user.uid, user.gid),
        (None, Wanted::Id(uid)) => (*uid, 0),
        (None, Wanted::Name(name)) => {
            return Err(unable(format!("user {name:?}: no matching entry in the image's /etc/passwd")));
        }
    };
    let member = entry.filter(|_| request.groups_policy == GroupsPolicy::Merge).map(|user| user.name);
    let names = &request.supplemental_group_names;
    let needs_group = member.is_some() || !names.is_empty() || matches!(request.group, GroupSpec::Name(_));
    let group = if needs_group { group()? } else { Vec::new() };
    let gid = match &request.group {
        GroupSpec::OfUser => own_gid,
        GroupSpec::Gid(id) => checked(*id)?,
        GroupSpec::Name(name) => group_id(&group, name)?,
    };
    let mut groups = vec![gid];
    for &id in &request.supplemental_groups {
        groups.push(checked(id)?);
    }
    for name in names {
        groups.push(group_id(&group, name)?);
    }
    if let Some(name) = member {
        groups.extend(accounts::groups(&group).filter(|group| group.has(name)).map(|group| group.gid));
    }
    groups.sort_unstable();
    groups.dedup();
    if groups.len() > MAX_GROUPS {
        return Err(unable(format!("user {uid}: more than {MAX_GROUPS} groups")));
    }
    let home = entry.map(|user| user.home).filter(|home| !home.is_empty() && home.len() < MAX_PATH);
    let home = home.filter(|home| !home.contains(&0)).unwrap_or(b"/").to_vec();
    Ok(Account { user: ResolvedUser { uid, gid, groups }, home })
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

    fn is(&self, name: &[u8], id: u32) -> bool {
        match self {
            Self::Id(wanted) => *wanted == id,
            Self::Name(wanted) => wanted.as_bytes() == name,
        }
    }
}

fn group_id(group: &[u8], name: &str) -> Result<u32, Failure> {
    let wanted = Wanted::parse(name)?;
    if let Wanted::Id(id) = wanted {
        return Ok(id);
    }
    accounts::groups(group)
        .find(|group| wanted.is(group.name, group.gid))
        .map(|group| group.gid)
        .ok_or_else(|| unable(format!("group {name:?}: no matching entry in the image's /etc/group")))
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

    fn resolve(passwd: &[u8], group: &[u8], request: &UserRequest) -> Result<Account, Failure> {
        resolve_in(passwd, || Ok(group.to_vec()), request)
    }

    fn of(user: UserSpec) -> UserRequest {
        UserRequest { user, ..UserRequest::default() }
    }

    fn named(name: &str) -> UserRequest {
        of(UserSpec::Name(name.into()))
    }

    fn groups(request: &UserRequest) -> Vec<u32> {
        resolve(PASSWD, GROUP, request).unwrap().user.groups
    }

    #[test]
    fn merge_adds_the_memberships_of_the_image_and_strict_does_not() {
        let mut request = UserRequest { supplemental_groups: vec![1234], ..of(UserSpec::Uid(1000)) };
        assert_eq!(groups(&request), [10, 1000, 1234, 50000]);
        request.groups_policy = GroupsPolicy::Strict;
        assert_eq!(groups(&request), [1000, 1234]);
    }

    #[test]
    fn an_id_without_entry_has_group_0_and_home_slash() {
        let Account { user, home } = resolve(PASSWD, GROUP, &of(UserSpec::Uid(1001))).unwrap();
        assert_eq!((user.uid, user.gid, user.groups, home), (1001, 0, vec![0], b"/".to_vec()));
    }

    #[test]
    fn a_name_gives_uid_gid_and_home() {
        let Account { user, home } = resolve(PASSWD, GROUP, &named("user")).unwrap();
        assert_eq!((user.uid, user.gid, home), (1000, 1000, b"/home/user".to_vec()));
    }

    #[test]
    fn a_number_that_does_not_fit_is_an_error_and_never_a_name() {
        for name in ["4294967296", "2147483648", "-1", "99999999999999999999999", "+4294967296"] {
            let failure = resolve(PASSWD, GROUP, &named(name)).unwrap_err();
            assert!(failure.detail.contains("ids are 0 to"), "{name}: {failure}");
        }
        assert!(resolve(PASSWD, GROUP, &of(UserSpec::Uid(u32::MAX))).is_err());
    }

    #[test]
    fn a_user_called_like_a_number_does_not_lend_its_id() {
        let Account { user, .. } = resolve(PASSWD, GROUP, &named("4242")).unwrap();
        assert_eq!((user.uid, user.gid), (4242, 0));
    }

    #[test]
    fn an_unknown_name_is_an_error_and_not_root() {
        assert!(resolve(PASSWD, GROUP, &named("nosuch")).unwrap_err().detail.contains("nosuch"));
        assert!(resolve(PASSWD, GROUP, &named("broken")).is_err());
        let group = UserRequest { group: GroupSpec::Name("nosuch".into()), ..of(UserSpec::Root) };
        assert!(resolve(PASSWD, GROUP, &group).is_err());
    }

    #[test]
    fn the_requested_group_wins() {
        let mut request = UserRequest { group: GroupSpec::Name("wheel".into()), ..named("user") };
        assert_eq!(resolve(PASSWD, GROUP, &request).unwrap().user.gid, 10);
        request.group = GroupSpec::Gid(7);
        assert_eq!(groups(&request), [7, 10, 50000]);
    }

    #[test]
    fn groups_are_added_by_the_names_of_the_image_and_by_number() {
        let names = |names: &[&str]| UserRequest {
            supplemental_group_names: names.iter().map(|name| (*name).to_owned()).collect(),
            ..of(UserSpec::Root)
        };
        assert_eq!(groups(&names(&["wheel", "4242"])), [0, 10, 4242]);
        let failure = resolve(PASSWD, GROUP, &names(&["nosuch"])).unwrap_err();
        assert!(failure.detail.contains("nosuch"), "{failure}");
        assert!(resolve(PASSWD, GROUP, &names(&["4294967295"])).is_err(), "an id that is none");
    }

    #[test]
    fn somebody_elses_line_is_never_a_failure() {
        let mut passwd = b"\xff\xfe\n\x00\n".to_vec();
        passwd.extend(vec![b'x'; 100 << 10]);
        passwd.extend(b"\nlong:");
        passwd.extend(vec![b'x'; 100 << 10]);
        passwd.extend(b":1:1\nuser:x:1000:1000:a\tb:/home/\xfc");
        let group = [&b"many:x:10:"[..], &b"someone,".repeat(20_000), b"user\n\xff:x:11:user"].concat();
        let Account { user, home } = resolve_in(&passwd, || Ok(group), &named("user")).unwrap();
        assert_eq!((user.uid, user.groups, home), (1000, vec![10, 11, 1000], b"/home/\xfc".to_vec()));
    }

    #[test]
    fn what_is_not_asked_for_is_not_read() {
        let broken = || Err(unable("it is too large".to_owned()));
        let strict = UserRequest { groups_policy: GroupsPolicy::Strict, ..of(UserSpec::Uid(1000)) };
        assert_eq!(resolve_in(PASSWD, broken, &strict).unwrap().user.groups, [1000]);
        assert_eq!(resolve_in(PASSWD, broken, &of(UserSpec::Uid(7))).unwrap().user.groups, [0]);
        assert!(resolve_in(PASSWD, broken, &named("user")).is_err());
    }

    #[test]
    fn a_home_that_cannot_be_a_path_is_none() {
        let long = [b"user:x:1:1::/", "x".repeat(MAX_PATH).as_bytes(), b":"].concat();
        assert_eq!(resolve(&long, GROUP, &named("user")).unwrap().home, b"/");
        assert_eq!(resolve(b"user:x:1:1::/a\0b:", GROUP, &named("user")).unwrap().home, b"/");
    }
}
