//! Files and answers of the node: users of an image, CNI, the kernel, husk's own configuration.

use std::fs;

use husk_model::{GroupSpec, GroupsPolicy, UserRequest, UserSpec};
use husk_runtime::Account;

/// The name that is asked for, /etc/passwd and /etc/group, each ended by a NUL.
pub(super) fn user_files() -> Vec<Vec<u8>> {
    let passwd = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n# c\nshort\nbroken:x:-1:y::/:\n";
    let group = "root:x:0:\nwheel:x:10:root,user\nuser:x:1000:\n";
    ["user", "1000", "root:wheel", "4294967296", ""]
        .map(|name| format!("{name}\0{passwd}\0{group}").into_bytes())
        .into()
}

/// A number is an id and never a name; groups are in order; a stranger's line changes nothing.
pub(super) fn users(bytes: &[u8]) {
    let mut parts = bytes.splitn(3, |byte| *byte == 0);
    let mut part = || parts.next().unwrap_or_default();
    let (name, passwd, group) = (String::from_utf8_lossy(part()), part(), part());
    let (user, primary) = name.split_once(':').map_or((&*name, None), |(user, group)| (user, Some(group)));
    let request = UserRequest {
        user: UserSpec::Name(user.to_owned()),
        group: primary.map_or(GroupSpec::OfUser, |name| GroupSpec::Name(name.to_owned())),
        supplemental_groups: vec![7],
        supplemental_group_names: vec![],
        groups_policy: GroupsPolicy::Merge,
    };
    let resolved = husk_runtime::fuzzing::users(passwd, group, &request).ok();
    if let Some(Account { user: resolved, .. }) = &resolved {
        assert!(resolved.groups.is_sorted_by(|a, b| a < b) && resolved.groups.contains(&resolved.gid));
        assert!(i32::try_from(resolved.uid).is_ok() && i32::try_from(resolved.gid).is_ok());
        if let Ok(id) = user.parse::<u32>() {
            assert_eq!(resolved.uid, id, "a name lends its id to a number");
        }
    }
    let strange =
        |file: &[u8]| [b"\xff\xfe:x\nshort\n:::\n\tx:y\n:x:5:5::/:\n+\n", file, b"\nlast\xff:x:0"].concat();
    let again = husk_runtime::fuzzing::users(&strange(passwd), &strange(group), &request).ok();
    // A last line without its end is another one now, so only files that end in a newline are compared.
    if [passwd, group].iter().all(|file| file.last() == Some(&b'\n')) {
        assert_eq!(again, resolved, "somebody else's line decides");
    }
}

/// Answers of plugins and configurations.
pub(super) fn cni_files() -> Vec<Vec<u8>> {
    vec![
        br#"{"cniVersion":"1.0.0","interfaces":[{"name":"cni0"},{"name":"eth0","sandbox":"/run/netns/x"}],"ips":[{"address":"10.0.0.7/24","interface":1},{"address":"fd00::7/64"}],"dns":{}}"#.to_vec(),
        br#"{"cniVersion":"0.4.0","cniVersions":["1.0.0","1.1.0"],"name":"n","disableGC":"true","plugins":[{"type":"bridge","ipam":{}},{"type":"portmap"}]}"#.to_vec(),
        br#"{"cniVersion":"0.4.0","name":"solo","type":"ptp"}"#.to_vec(),
    ]
}

/// A result has an address or is refused; nothing is run that is not a plain file name.
pub(super) fn cni(bytes: &[u8]) {
    if let Ok(addresses) = husk_network::fuzzing::cni_result(bytes) {
        assert!(!addresses.is_empty());
    }
    for name in husk_network::fuzzing::cni_config(bytes).unwrap_or_default() {
        assert!(!name.is_empty() && !name.contains(['/', '\0']) && name != "..", "{name:?} would be run");
    }
}

/// Mount tables, statistics, interfaces, limits.
pub(super) fn kernel_files() -> Vec<Vec<u8>> {
    [
        "36 35 0:1 / /mnt\\040x rw,noatime master:1 - ext3 /dev/root rw\n40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd,cpu\n41 31 0:38 / /u rw - cgroup2 c rw\n",
        "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5\n8:0 Read 4096\nTotal 7\nnr_periods 5\n",
        "some avg10=1.50 avg60=0.00 avg300=0.25 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=3\n",
        "Inter-| Receive\n face |bytes\n  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n lo: 1 2\n",
        "Max open files            1024                 524288               files\n9223372036854771712",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

/// Whatever the kernel writes is read or passed over.
pub(super) fn kernel(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    husk_cgroup::fuzzing::kernel_files(&text);
    for name in husk_stats::fuzzing::kernel_files(&text) {
        assert!(text.contains(&name));
    }
    if let Ok(path) = text.parse::<husk_cgroup::CgroupPath>() {
        assert!(
            path.as_str().split('/').all(|part| part != ".." && part != "."),
            "{path} leaves the hierarchy"
        );
        assert_eq!(path.as_str().parse::<husk_cgroup::CgroupPath>().ok().as_ref(), Some(&path));
    }
}

/// The default configuration, and small ones.
pub(super) fn configs() -> Vec<Vec<u8>> {
    vec![
        husk_config::DEFAULT_TOML.as_bytes().to_vec(),
        b"[network]\nsubnet = \"10.9.0.0/16\"\n[streaming]\naddress = \"0.0.0.0\"\n".to_vec(),
    ]
}

/// Whatever an administrator wrote is a configuration or a list of mistakes.
pub(super) fn config(bytes: &[u8]) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("husk.toml");
    fs::write(&path, bytes).expect("a temporary file");
    if let Err(error) = husk_config::load(Some(&path), husk_config::Raw::default()) {
        assert!(!error.to_string().is_empty());
    }
}
