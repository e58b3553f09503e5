//! Contexts on nodes whose selinuxfs is a directory of the test.

use husk_model::{Classify, Kind};

use super::*;

const LXC: &str = "etc/selinux/targeted/contexts/lxc_contexts";

struct Node(tempfile::TempDir, SeLinux);

fn node(files: &[(&str, &str)]) -> Node {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
    }
    let selinux = SeLinux::below(dir.path());
    Node(dir, selinux)
}

/// A node with a policy; `more` files besides.
fn enforcing(more: &[(&str, &str)]) -> Node {
    let mut files = vec![(ENFORCE, "1"), (CHECK, ""), (CURRENT, "system_u:system_r:init_t:s0\0")];
    files.extend(more);
    node(&files)
}

fn wish(user: &str, role: &str, kind: &str, level: &str) -> Wish {
    Wish { user: user.into(), role: role.into(), kind: kind.into(), level: level.into() }
}

fn both(labels: Option<SeLinuxContexts>) -> (String, String) {
    labels.map(|labels| (labels.process, labels.mount)).unwrap()
}

#[test]
fn a_node_without_a_loaded_policy_has_no_labels_whatever_is_asked() {
    let bare: &[(&str, &str)] = &[];
    let unloaded = &[(ENFORCE, "0"), (CHECK, ""), (CURRENT, "kernel\0")];
    let no_context = &[(ENFORCE, "1"), (CURRENT, "system_u:system_r:init_t:s0\0")];
    for files in [bare, unloaded, no_context] {
        let Node(_dir, selinux) = node(files);
        assert_eq!(selinux.state(), State::Absent);
        let wish = wish("", "", "", "s0,c4,c5");
        assert!(selinux.pod_level(Some(&wish)).unwrap().is_none());
        assert_eq!(selinux.labels(None, Some(&wish), false).unwrap(), None);
    }
}

#[test]
fn a_policy_is_enforced_or_only_logged() {
    assert_eq!(enforcing(&[]).1.state(), State::Enforcing);
    assert_eq!(enforcing(&[(ENFORCE, "0")]).1.state(), State::Permissive);
}

#[test]
fn two_pods_get_different_levels_and_a_removed_one_gives_its_own_back() {
    let Node(_dir, selinux) = enforcing(&[]);
    let pods: Vec<_> = (0..200).map(|_| selinux.pod_level(None).unwrap().unwrap()).collect();
    let mut levels: Vec<_> = pods.iter().map(|pod| pod.level().to_owned()).collect();
    assert!(levels.iter().all(|level| level.starts_with("s0:c") && context::check_level(level).is_ok()));
    levels.sort();
    levels.dedup();
    assert_eq!(levels.len(), 200);
    let taken = selinux.recovered("s0:c1,c2");
    assert!(selinux.levels.choose("s0", || Some(1 | 2 << 16)).is_none(), "a recorded level is taken");
    drop(taken);
    assert!(selinux.levels.choose("s0", || Some(1 | 2 << 16)).is_some());
}

#[test]
fn a_container_has_its_pods_level_on_processes_and_files() {
    let Node(_dir, selinux) = enforcing(&[]);
    let labels = both(selinux.labels(Some("s0:c4,c5"), None, false).unwrap());
    assert_eq!(labels.0, "system_u:system_r:container_t:s0:c4,c5");
    assert_eq!(labels.1, "system_u:object_r:container_file_t:s0:c4,c5");
}

#[test]
fn a_privileged_container_is_not_confined_but_its_files_are_its_pods() {
    let Node(_dir, selinux) = enforcing(&[]);
    let labels = both(selinux.labels(Some("s0:c4,c5"), None, true).unwrap());
    assert_eq!(labels.0, "system_u:system_r:spc_t:s0");
    assert_eq!(labels.1, "system_u:object_r:container_file_t:s0:c4,c5");
}

#[test]
fn what_is_asked_for_replaces_its_part_only() {
    let Node(_dir, selinux) = enforcing(&[]);
    let of = |wish: &Wish| both(selinux.labels(Some("s0:c1,c2"), Some(wish), false).unwrap());
    let file = "system_u:object_r:container_file_t";
    let cases = [
        (wish("", "", "", ""), "system_u:system_r:container_t:s0:c1,c2", format!("{file}:s0:c1,c2")),
        (wish("", "", "", "s0"), "system_u:system_r:container_t:s0", format!("{file}:s0")),
        (wish("", "", "spc_t", ""), "system_u:system_r:spc_t:s0:c1,c2", format!("{file}:s0:c1,c2")),
        (wish("", "my_r", "", ""), "system_u:my_r:container_t:s0:c1,c2", format!("{file}:s0:c1,c2")),
        (
            wish("my_u", "system_r", "svirt_lxc_net_t", "s0:c4,c5"),
            "my_u:system_r:svirt_lxc_net_t:s0:c4,c5",
            "my_u:object_r:container_file_t:s0:c4,c5".to_owned(),
        ),
    ];
    for (wish, process, mount) in cases {
        assert_eq!(of(&wish), (process.to_owned(), mount), "{wish:?}");
    }
}

#[test]
fn a_malformed_part_is_refused_by_its_name() {
    let Node(_dir, selinux) = enforcing(&[]);
    for (part, wish) in [
        ("level", wish("", "", "", "s0,c4,c5")),
        ("user", wish("a:b", "", "", "")),
        ("role", wish("", "a b", "", "")),
        ("type", wish("", "", "x\0", "")),
    ] {
        let error = selinux.labels(Some("s0:c1,c2"), Some(&wish), false).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument);
        assert!(error.to_string().starts_with(part), "{error}");
    }
    assert!(selinux.pod_level(Some(&wish("", "", "", "s0,c4,c5"))).is_err());
}

#[test]
fn a_pods_own_level_is_kept_from_others() {
    let Node(_dir, selinux) = enforcing(&[]);
    let own = wish("", "", "", "s0:c1,c2");
    let first = selinux.pod_level(Some(&own)).unwrap().unwrap();
    let second = selinux.pod_level(Some(&own)).unwrap().unwrap();
    assert_eq!((first.level(), second.level()), ("s0:c1,c2", "s0:c1,c2"), "pods may ask for the same");
    assert!(selinux.levels.choose("s0", || Some(1 | 2 << 16)).is_none());
}

#[test]
fn the_policys_own_contexts_for_containers_are_used() {
    let contexts = "# comment\nprocess = \"a_u:a_r:a_t:s0\"\nfile = \"a_u:object_r:b_t:s0\"\n\n";
    let Node(_dir, selinux) = enforcing(&[(LXC, contexts)]);
    let labels = both(selinux.labels(Some("s0:c1,c2"), None, false).unwrap());
    assert_eq!(labels, ("a_u:a_r:a_t:s0:c1,c2".to_owned(), "a_u:object_r:b_t:s0:c1,c2".to_owned()));
    let other = "etc/selinux/mls/contexts/lxc_contexts";
    let config = (CONFIG, "# SELINUXTYPE=targeted\nSELINUX=enforcing\nSELINUXTYPE=mls\n");
    let Node(_dir, selinux) = enforcing(&[config, (other, "process = \"x_u:x_r:x_t:s3\"\n")]);
    let hold = selinux.pod_level(None).unwrap().unwrap();
    assert!(hold.level().starts_with("s3:c"), "{}", hold.level());
    let labels = both(selinux.labels(Some(hold.level()), None, false).unwrap());
    assert!(labels.0.starts_with("x_u:x_r:x_t:s3:c"), "{}", labels.0);
}

#[test]
fn a_policy_without_levels_gives_contexts_without_them() {
    let contexts = "process = \"a_u:a_r:a_t\"\nfile = \"a_u:object_r:b_t\"\n";
    let Node(_dir, selinux) = enforcing(&[(LXC, contexts)]);
    assert!(selinux.pod_level(None).unwrap().is_none());
    let labels = both(selinux.labels(None, None, false).unwrap());
    assert_eq!(labels, ("a_u:a_r:a_t".to_owned(), "a_u:object_r:b_t".to_owned()));
}

#[test]
fn the_kernel_is_asked_and_its_refusal_is_told() {
    let Node(dir, selinux) = enforcing(&[]);
    selinux.labels(Some("s0:c1,c2"), None, false).unwrap();
    let asked = fs::read_to_string(dir.path().join(CHECK)).unwrap();
    assert!(asked.contains("container_file_t:s0:c1,c2"), "{asked}");
    // A file that refuses what is written to it, though not as the kernel does for an unknown context.
    fs::remove_file(dir.path().join(CHECK)).unwrap();
    std::os::unix::fs::symlink("/dev/full", dir.path().join(CHECK)).unwrap();
    let error = selinux.labels(None, Some(&wish("", "", "no_t", "")), false).unwrap_err();
    assert!(error.to_string().contains("no_t"), "{error}");
}
