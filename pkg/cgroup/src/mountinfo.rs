//! The cgroup lines of `/proc/self/mountinfo` (proc(5)).

use std::path::PathBuf;

use crate::Controller;

/// One mounted cgroup filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CgroupMount {
    pub(crate) point: PathBuf,
    pub(crate) kind: MountKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MountKind {
    /// A v1 hierarchy with these controllers, or the name of a controller-less one.
    V1 {
        controllers: Vec<String>,
        name: Option<String>,
    },
    V2,
}

/// The cgroup mounts, in mount order. A later mount on the same point hides an earlier one, so the last one stays.
pub(crate) fn parse(mountinfo: &str) -> Vec<CgroupMount> {
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
        "cgroup2" => MountKind::V2,
        "cgroup" => v1_kind(after.nth(1)?),
        _ => return None,
    };
    let point = PathBuf::from(unescape(before.split(' ').nth(4)?));
    Some(CgroupMount { point, kind })
}

/// Super options: mount flags, controllers, `name=…`, `clone_children`, `xattr`, `release_agent=…`.
fn v1_kind(options: &str) -> MountKind {
    let name = options.split(',').find_map(|option| option.strip_prefix("name=")).map(str::to_owned);
    let controllers = options
        .split(',')
        .filter(|option| Controller::from_v1_name(option).is_some())
        .map(str::to_owned)
        .collect();
    MountKind::V1 { controllers, name }
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

    #[test]
    fn every_cgroup_mount_is_found_with_its_controllers() {
        let mounts = parse(HYBRID);
        assert_eq!(mounts.len(), 4);
        assert_eq!(
            mounts[0].kind,
            MountKind::V1 { controllers: vec!["cpu".into(), "cpuacct".into()], name: None }
        );
        assert_eq!(mounts[1].kind, MountKind::V1 { controllers: vec![], name: Some("systemd".into()) });
        assert_eq!(mounts[2].kind, MountKind::V2);
        assert_eq!(mounts[3].point, PathBuf::from("/mnt/a b"));
    }

    #[test]
    fn a_mount_hidden_by_a_later_one_is_dropped() {
        let twice = "\
31 23 0:28 / /sys/fs/cgroup rw - cgroup cgroup rw,memory
32 31 0:29 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw
";
        let mounts = parse(twice);
        assert_eq!(mounts.len(), 1);
        assert_eq!(mounts[0].kind, MountKind::V2);
    }
}
