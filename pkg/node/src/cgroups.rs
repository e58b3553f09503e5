//! Where the node has its cgroup hierarchies mounted.
//!
//! Every distribution mounts them below `/sys/fs/cgroup`, each by the name of its controllers, so they are looked up there. The
//! mount table has them too, but on a busy node it has a line for each pod besides, and the kernel needs milliseconds to
//! write it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::fs::{FsWord, statfs};

/// Where every distribution mounts cgroups.
pub const CGROUP_ROOT: &str = "/sys/fs/cgroup";
/// `CGROUP_SUPER_MAGIC` of linux/magic.h.
const V1_MAGIC: FsWord = 0x0027_e0eb;
/// `CGROUP2_SUPER_MAGIC` of linux/magic.h.
const V2_MAGIC: FsWord = 0x6367_7270;
const MEMBERSHIPS: &str = "/proc/self/cgroup";
const MOUNT_TABLE: &str = "/proc/self/mountinfo";

/// One mounted cgroup filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupMount {
    /// Where it is mounted.
    pub point: PathBuf,
    /// What it is.
    pub kind: CgroupMountKind,
}

/// What a cgroup filesystem carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CgroupMountKind {
    /// A v1 hierarchy with these controllers, or the name of one without.
    V1 {
        /// As the kernel names them; from the mount table also its flags.
        controllers: Vec<String>,
        /// Of `name=`.
        name: Option<String>,
    },
    /// The v2 tree.
    V2,
}

/// The mounted hierarchies. Of several on one point only the one that is seen there.
///
/// # Errors
/// Those of reading `/proc/self/cgroup` and `/proc/self/mountinfo`, with the file's name.
pub fn cgroup_mounts() -> io::Result<Vec<CgroupMount>> {
    let root = Path::new(CGROUP_ROOT);
    if is(root, V2_MAGIC) {
        return Ok(vec![CgroupMount { point: root.to_owned(), kind: CgroupMountKind::V2 }]);
    }
    match by_name(root, &read(MEMBERSHIPS)?) {
        Some(mounts) => Ok(mounts),
        None => Ok(from_mount_table(&read(MOUNT_TABLE)?)),
    }
}

/// The names of others' mounts and groups may be any bytes.
fn read(path: &str) -> io::Result<String> {
    let text = fs::read(path).map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The hierarchies of `/proc/self/cgroup` (cgroups(7): `id:controllers:path`), each at its usual place; `None` when one is
/// somewhere else, or nowhere.
fn by_name(root: &Path, memberships: &str) -> Option<Vec<CgroupMount>> {
    let mount = |line: &str| {
        let controllers = line.split(':').nth(1)?;
        let (directory, magic, kind) = match controllers.strip_prefix("name=") {
            _ if controllers.is_empty() => ("unified", V2_MAGIC, CgroupMountKind::V2),
            Some(name) => {
                let kind = CgroupMountKind::V1 { controllers: Vec::new(), name: Some(name.to_owned()) };
                (name, V1_MAGIC, kind)
            }
            None => {
                let names = controllers.split(',').map(str::to_owned).collect();
                (controllers, V1_MAGIC, CgroupMountKind::V1 { controllers: names, name: None })
            }
        };
        let point = root.join(directory);
        (!directory.contains('/') && is(&point, magic)).then_some(CgroupMount { point, kind })
    };
    let mounts: Vec<_> = memberships.lines().map(mount).collect::<Option<_>>()?;
    (!mounts.is_empty()).then_some(mounts)
}

fn is(point: &Path, magic: FsWord) -> bool {
    statfs(point).is_ok_and(|stat| stat.f_type == magic)
}

/// The cgroup lines of a mount table (proc_pid_mountinfo(5)), in mount order. A later mount on the same point hides an earlier one, so
/// the last one stays.
pub fn from_mount_table(mountinfo: &str) -> Vec<CgroupMount> {
    let mut mounts: Vec<CgroupMount> = Vec::new();
    for mount in mountinfo.lines().filter_map(parse_line) {
        mounts.retain(|other| other.point != mount.point);
        mounts.push(mount);
    }
    mounts
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn parse_line(line: &str) -> Option<CgroupMount> {
    let (before, after) = line.split_once(" - ")?;
    let mut after = after.split(' ');
    let kind = match after.next()? {
        "cgroup2" => CgroupMountKind::V2,
        "cgroup" => v1_kind(after.nth(1)?),
        _ => return None,
    };
    let point = PathBuf::from(unescape(before.split(' ').nth(4)?));
    Some(CgroupMount { point, kind })
}

/// Super options: flags, controllers, `name=…`, `release_agent=…`.
fn v1_kind(options: &str) -> CgroupMountKind {
    let name = options.split(',').find_map(|option| option.strip_prefix("name=")).map(str::to_owned);
    let controllers = options.split(',').filter(|option| !option.contains('=')).map(str::to_owned).collect();
    CgroupMountKind::V1 { controllers, name }
}

/// The kernel writes space, tab, newline and backslash as `\ooo`.
fn unescape(field: &str) -> String {
    let mut out = String::with_capacity(field.len());
    let mut rest = field;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let octal = rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        let Some(byte) = octal else {
            out.push('\\');
            rest = &rest[at + 1..];
            continue;
        };
        out.push(char::from(byte));
        rest = &rest[at + 4..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,release_agent=/lib/systemd,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
50 31 0:40 /docker/1 /mnt/a\\040b rw - cgroup cgroup rw,memory
";

    fn v1(controllers: &[&str], name: Option<&str>) -> CgroupMountKind {
        let controllers = controllers.iter().map(|&name| name.to_owned()).collect();
        CgroupMountKind::V1 { controllers, name: name.map(str::to_owned) }
    }

    #[test]
    fn every_cgroup_mount_is_found_with_its_controllers() {
        let mounts = from_mount_table(HYBRID);
        assert_eq!(mounts.len(), 4);
        assert_eq!(mounts[0].kind, v1(&["rw", "cpu", "cpuacct"], None));
        assert_eq!(mounts[1].kind, v1(&["rw", "xattr"], Some("systemd")));
        assert_eq!(mounts[2].kind, CgroupMountKind::V2);
        assert_eq!(mounts[3].point, PathBuf::from("/mnt/a b"));
    }

    #[test]
    fn a_mount_hidden_by_a_later_one_is_dropped() {
        let twice = "\
31 23 0:28 / /sys/fs/cgroup rw - cgroup cgroup rw,memory
32 31 0:29 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw
";
        let mounts = from_mount_table(twice);
        assert_eq!(mounts.len(), 1);
        assert_eq!(mounts[0].kind, CgroupMountKind::V2);
    }

    #[test]
    fn the_places_have_what_the_mount_table_has_there() {
        let table = from_mount_table(&read(MOUNT_TABLE).unwrap());
        let Some(mounts) = by_name(Path::new(CGROUP_ROOT), &read(MEMBERSHIPS).unwrap()) else {
            // A v2 node, or one that mounts them in its own way.
            return;
        };
        for mount in mounts {
            let listed = table.iter().find(|listed| listed.point == mount.point).unwrap();
            match (&listed.kind, &mount.kind) {
                (CgroupMountKind::V2, CgroupMountKind::V2) => {}
                (
                    CgroupMountKind::V1 { controllers: listed, name: listed_name },
                    CgroupMountKind::V1 { controllers, name },
                ) => {
                    assert!(controllers.iter().all(|name| listed.contains(name)), "{mount:?}");
                    assert_eq!(listed_name, name);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_hierarchy_that_is_not_at_its_place_is_not_guessed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("memory")).unwrap();
        // A directory of that name is no hierarchy.
        assert_eq!(by_name(dir.path(), "4:memory:/\n"), None);
        assert_eq!(by_name(dir.path(), "0::/\n"), None);
        assert_eq!(by_name(dir.path(), "1:name=../../sys/fs/cgroup/memory:/\n"), None);
        assert_eq!(by_name(dir.path(), ""), None);
    }
}
