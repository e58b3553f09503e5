//! Trees as an attacker makes them. A thread with a small stack walks them, and few descriptors are there.

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt, path::Path};

use rustix::{
    fs::{CWD, IFlags, Mode, OFlags, ioctl_getflags, ioctl_setflags, mkdirat, openat},
    process::{Resource, Rlimit, getrlimit, setrlimit},
};

use super::*;

/// Deeper than any path can name, and than any recursion can go.
const DEEP: usize = 20_000;

fn open(path: &Path) -> OwnedFd {
    openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

/// Makes `levels` directories within each other, a file and a sibling now and then.
fn nest(top: &Path, levels: usize) {
    let mut at = open(top);
    for level in 0..levels {
        mkdirat(&at, "d", Mode::RWXU).unwrap();
        if level % 1000 == 999 {
            mkdirat(&at, "sibling", Mode::RWXU).unwrap();
            drop(openat(&at, "file", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap());
        }
        at = open_directory(&at, c"d").unwrap();
    }
}

/// Runs with a stack of 128 KiB.
fn on_a_small_stack(work: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(128 << 10).spawn(work).unwrap().join().unwrap();
}

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn a_tree_deeper_than_any_path_is_walked_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path().join("top");
    fs::create_dir(&top).unwrap();
    nest(&top, DEEP);
    let parent = open(dir.path());
    on_a_small_stack(move || {
        let (mut seen, mut deepest, mut most) = (0, 0, 0);
        let mut walk = Walk::new(open(&top)).unwrap();
        walk.all(|entry| {
            seen += 1;
            deepest = deepest.max(entry.depth);
            if seen % 5000 == 0 {
                most = most.max(open_descriptors());
            }
            entry.enter()
        })
        .unwrap();
        assert!(!walk.is_torn());
        assert_eq!((seen, deepest), (DEEP + 2 * (DEEP / 1000), DEEP - 1));
        // Other tests of this process have their own.
        assert!(most < 400, "{most} descriptors");
        remove(&parent, c"top").unwrap();
        assert!(!top.exists());
        remove(&parent, c"top").unwrap();
    });
}

#[test]
fn a_wide_directory_and_names_of_any_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path().join("top");
    fs::create_dir(&top).unwrap();
    for number in 0..5000u32 {
        fs::write(top.join(format!("f{number}")), "").unwrap();
    }
    for name in [&b"\xff\xfe"[..], b"\n", b" ", b"...", &[b'n'; 255]] {
        fs::create_dir(top.join(OsStr::from_bytes(name))).unwrap();
        fs::write(top.join(OsStr::from_bytes(name)).join("x"), "").unwrap();
    }
    let mut seen = 0;
    let mut count = |entry: &Entry<'_>| {
        seen += 1;
        entry.enter()
    };
    Walk::new(open(&top)).unwrap().all(&mut count).unwrap();
    assert_eq!(seen, 5010);
    empty(open(&top)).unwrap();
    assert_eq!(fs::read_dir(&top).unwrap().count(), 0);
}

#[test]
fn links_are_removed_and_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let (top, precious) = (dir.path().join("top"), dir.path().join("precious"));
    fs::create_dir_all(top.join("one")).unwrap();
    fs::create_dir(&precious).unwrap();
    fs::write(precious.join("file"), "kept").unwrap();
    std::os::unix::fs::symlink(&precious, top.join("one/link")).unwrap();
    std::os::unix::fs::symlink(&precious, dir.path().join("link")).unwrap();
    let mut names = Vec::new();
    let mut walk = Walk::new(open(&top)).unwrap();
    walk.all(|entry| {
        names.push(entry.name.clone());
        entry.enter()
    })
    .unwrap();
    assert_eq!(names, [c"one".to_owned(), c"link".to_owned()]);
    remove(open(dir.path()), c"top").unwrap();
    remove(open(dir.path()), c"link").unwrap();
    assert_eq!(fs::read_to_string(precious.join("file")).unwrap(), "kept");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn immutable_files_and_directories_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let locked = dir.path().join("top/locked");
    fs::create_dir_all(locked.join("inner")).unwrap();
    fs::write(locked.join("file"), "x").unwrap();
    for path in [locked.join("file"), locked.join("inner"), locked.clone()] {
        let file = openat(CWD, &path, OFlags::RDONLY, Mode::empty()).unwrap();
        let set = ioctl_getflags(&file).and_then(|flags| ioctl_setflags(&file, flags | IFlags::IMMUTABLE));
        if let Err(errno) = set {
            println!("{errno}");
            return husk_test_support::skip("immutable files");
        }
    }
    assert!(fs::remove_file(locked.join("file")).is_err());
    remove(open(dir.path()), c"top").unwrap();
    assert!(!dir.path().join("top").exists());
}

#[test]
fn a_walk_goes_on_where_it_can_when_the_tree_is_moved_under_it() {
    let dir = tempfile::tempdir().unwrap();
    let (top, aside) = (dir.path().join("top"), dir.path().join("aside"));
    fs::create_dir_all(top.join("z")).unwrap();
    fs::create_dir(&aside).unwrap();
    nest(&top, HELD * 3);
    let mut walk = Walk::new(open(&top)).unwrap();
    let (mut moved, mut seen) = (false, Vec::new());
    walk.all(|entry| {
        // At the bottom, what the walk came through goes somewhere else.
        if entry.depth == HELD * 2 && !moved {
            moved = true;
            let deep: std::path::PathBuf = std::iter::repeat_n("d", HELD + 10).collect();
            fs::rename(top.join(deep), aside.join("d")).unwrap();
        }
        seen.push(entry.name.clone());
        entry.enter()
    })
    .unwrap();
    assert!(moved && walk.is_torn());
    assert!(seen.contains(&c"z".to_owned()));
}

#[test]
fn the_limit_of_descriptors_does_not_limit_the_depth() {
    let limit = getrlimit(Resource::Nofile);
    assert!(limit.current.is_none_or(|current| current >= 256), "{limit:?}");
    // Lowering it for the process would disturb its other tests, so this is a process of its own.
    if std::env::var_os("HUSK_TREE_CHILD").is_none() {
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tree::tests::the_limit_of_descriptors_does_not_limit_the_depth"])
            .env("HUSK_TREE_CHILD", "1")
            .status()
            .unwrap();
        return assert!(status.success());
    }
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("top")).unwrap();
    nest(&dir.path().join("top"), 3000);
    setrlimit(Resource::Nofile, Rlimit { current: Some(128), maximum: limit.maximum }).unwrap();
    let mut seen = 0;
    let mut count = |entry: &Entry<'_>| {
        seen += 1;
        entry.enter()
    };
    Walk::new(open(dir.path())).unwrap().all(&mut count).unwrap();
    assert_eq!(seen, 3007);
    remove(open(dir.path()), c"top").unwrap();
}
