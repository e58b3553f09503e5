//! What is taken out of roots of containers and put into them, with containers that try to lead it elsewhere.

mod common;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    os::{
        fd::OwnedFd,
        unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use common::{Tar, assert_untouched, gzip, is_root, outside, shown};
use husk_images::{
    ImageError, Owners, PutRequest, TreeArchive, archive_path, flatten, put_archive, stat_path,
};
use husk_model::{Classify, Kind};

fn opened(path: &Path) -> OwnedFd {
    File::open(path).unwrap().into()
}

/// A root with a little of everything.
fn root(dir: &Path) -> PathBuf {
    let root = dir.join("root");
    fs::create_dir_all(root.join("etc")).unwrap();
    fs::create_dir_all(root.join("usr/bin")).unwrap();
    fs::write(root.join("etc/passwd"), "passwd of the container").unwrap();
    fs::write(root.join("usr/bin/tool"), vec![7; 100_000]).unwrap();
    fs::set_permissions(root.join("usr/bin/tool"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::hard_link(root.join("usr/bin/tool"), root.join("usr/bin/same")).unwrap();
    symlink("usr/bin", root.join("bin")).unwrap();
    symlink("/etc/passwd", root.join("absolute")).unwrap();
    symlink("../../../../../../../../etc/passwd", root.join("up")).unwrap();
    symlink("/nowhere/at/all", root.join("dangling")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    root
}

/// Members by path: type, and content or target.
fn members(archive: TreeArchive) -> BTreeMap<String, (tar::EntryType, String)> {
    let mut archive = tar::Archive::new(archive);
    let mut members = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().display().to_string();
        let kind = entry.header().entry_type();
        let mut text = String::new();
        match entry.link_name().unwrap() {
            Some(link) => text = link.display().to_string(),
            None => {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).unwrap();
                text.push_str(&String::from_utf8_lossy(&bytes[..bytes.len().min(30)]));
            }
        }
        assert!(members.insert(path.clone(), (kind, text)).is_none(), "{path} comes twice");
    }
    members
}

#[test]
fn a_whole_root_is_archived_as_it_is_and_unpacks_to_the_same() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = root(dir.path());
    let found = members(flatten(&opened(&root)).unwrap());
    assert_eq!(found["etc/passwd"].1, "passwd of the container");
    assert_eq!(found["bin"], (tar::EntryType::Symlink, "usr/bin".to_owned()));
    let links = ["usr/bin/tool", "usr/bin/same"].map(|name| found[name].0);
    assert!(links.contains(&tar::EntryType::Link) && links.contains(&tar::EntryType::Regular), "{links:?}");
    let copy = dir.path().join("copy");
    fs::create_dir(&copy).unwrap();
    put_archive(&opened(&copy), Path::new("/"), flatten(&opened(&root)).unwrap(), PutRequest::default())
        .unwrap();
    assert_eq!(members(flatten(&opened(&copy)).unwrap()).len(), found.len());
    let tool = fs::metadata(copy.join("usr/bin/tool")).unwrap();
    assert_eq!((tool.mode() & 0o7777, tool.len(), tool.nlink()), (0o4755, 100_000, 2));
    assert_eq!(tool.mtime(), fs::metadata(root.join("usr/bin/tool")).unwrap().mtime());
    assert_eq!(
        fs::metadata(copy.join("usr")).unwrap().mtime(),
        fs::metadata(root.join("usr")).unwrap().mtime()
    );
}

#[test]
fn a_path_is_looked_up_inside_the_root_whatever_its_links_say() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = opened(&root(dir.path()));
    for (path, name, target) in [
        ("/etc/passwd", "passwd", None),
        ("etc/passwd", "passwd", None),
        ("/etc/../etc/passwd", "passwd", None),
        ("/../../../etc/passwd", "passwd", None),
        ("/bin", "bin", Some("/usr/bin")),
        ("/absolute", "absolute", Some("/etc/passwd")),
        ("/up", "up", Some("/etc/passwd")),
        ("/dangling", "dangling", Some("/nowhere/at/all")),
        ("/", ".", None),
        ("/usr/bin/.", ".", None),
        ("/bin/", "bin", None),
    ] {
        let stat = stat_path(&root, Path::new(path)).unwrap();
        assert_eq!(stat.name.to_str(), Some(name), "{path}");
        assert_eq!(stat.link_target.as_deref(), target.map(Path::new), "{path}");
    }
    for (path, kind) in [
        ("/nothing", Kind::NotFound),
        ("/dangling/", Kind::NotFound),
        ("/etc/passwd/", Kind::InvalidArgument),
        ("/etc/passwd/x", Kind::InvalidArgument),
        ("/loop/x", Kind::InvalidArgument),
        ("/loop", Kind::InvalidArgument),
    ] {
        let error = stat_path(&root, Path::new(path)).unwrap_err();
        assert_eq!(error.kind(), kind, "{path}: {}", shown(&error));
    }
}

#[test]
fn the_archive_of_a_path_begins_with_its_own_name() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = opened(&root(dir.path()));
    let names = |path: &str| -> Vec<String> {
        members(archive_path(&root, Path::new(path)).unwrap().1).into_keys().collect()
    };
    assert_eq!(names("/etc/passwd"), ["passwd"]);
    assert_eq!(names("/etc"), ["etc/", "etc/passwd"]);
    assert_eq!(names("/etc/."), ["./", "./passwd"]);
    assert_eq!(names("/bin"), ["bin"], "the link itself");
    assert_eq!(names("/bin/"), ["bin/", "bin/same", "bin/tool"]);
    let (stat, archive) = archive_path(&root, Path::new("/etc/passwd")).unwrap();
    assert_eq!((stat.size, &members(archive)["passwd"].1[..]), (23, "passwd of the container"));
}

/// Unpacks `archive` into `path` of the root at `root`.
fn put(root: &Path, path: &str, archive: &[u8], request: PutRequest) -> Result<(), ImageError> {
    put_archive(&opened(root), Path::new(path), archive, request)
}

#[test]
fn what_is_there_is_replaced_and_directories_are_merged_unless_kinds_are_to_stay() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = root(dir.path());
    let archive = Tar::new()
        .dir("./", 0o700)
        .dir("bin", 0o755)
        .owned("passwd", 0o640, 7, 8, b"new")
        .dir("new", 0o711)
        .file("new/file", 0o600, b"f")
        .hardlink("new/linked", "passwd")
        .symlink("new/link", "/etc/passwd")
        .node(tar::EntryType::Char, "new/null", 1, 3)
        .node(tar::EntryType::Fifo, "new/fifo", 0, 0)
        .bytes();
    let before = fs::metadata(root.join("etc")).unwrap().mode();
    for archive in [archive.clone(), gzip(&archive), common::zstd(&archive)] {
        put(&root, "/etc", &archive, PutRequest::default()).unwrap();
    }
    let meta = |path: &str| fs::symlink_metadata(root.join(path)).unwrap();
    assert_eq!(fs::metadata(root.join("etc")).unwrap().mode(), before, "the directory itself stays as it is");
    assert_eq!(
        (meta("etc/passwd").uid(), meta("etc/passwd").gid(), meta("etc/passwd").mode() & 0o777),
        (7, 8, 0o640)
    );
    assert_eq!(meta("etc/new/linked").ino(), meta("etc/passwd").ino());
    assert_eq!(meta("etc/new").mtime(), 1_700_000_000);
    assert_eq!(
        (meta("etc/new").mode() & 0o777, meta("etc/new/null").rdev()),
        (0o711, rustix::fs::makedev(1, 3))
    );
    assert!(meta("etc/new/fifo").file_type().is_fifo() && meta("etc/new/link").is_symlink());
    // Links on the way are the container's.
    put(&root, "/bin", &Tar::new().file("more", 0o755, b"m").bytes(), PutRequest::default()).unwrap();
    assert!(root.join("usr/bin/more").exists());
    put(&root, "/", &Tar::new().file("bin/again", 0o755, b"m").bytes(), PutRequest::default()).unwrap();
    assert!(root.join("usr/bin/again").exists() && meta("bin").is_symlink());
    let all = PutRequest { owners: Owners::All(1000, 1001), keep_kinds: true };
    put(&root, "/etc", &Tar::new().owned("mine", 0o644, 1, 2, b"").bytes(), all).unwrap();
    assert_eq!((meta("etc/mine").uid(), meta("etc/mine").gid()), (1000, 1001));
    for (archive, word) in [
        (Tar::new().file("new", 0o644, b"").bytes(), "directory with a non-directory"),
        (Tar::new().dir("passwd", 0o755).bytes(), "non-directory with a directory"),
    ] {
        let error = put(&root, "/etc", &archive, all).unwrap_err();
        assert!(shown(&error).contains(word), "{}", shown(&error));
        assert_eq!(error.kind(), Kind::InvalidArgument);
        put(&root, "/etc", &archive, PutRequest::default()).unwrap();
    }
    assert!(meta("etc/new").is_file() && meta("etc/passwd").is_dir());
}

#[test]
fn only_a_directory_can_be_unpacked_into_and_only_an_archive() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = root(dir.path());
    let archive = Tar::new().file("x", 0o644, b"x").bytes();
    for (path, kind) in
        [("/nothing", Kind::NotFound), ("/etc/passwd", Kind::InvalidArgument), ("/dangling", Kind::NotFound)]
    {
        let error = put(&root, path, &archive, PutRequest::default()).unwrap_err();
        assert_eq!(error.kind(), kind, "{path}: {}", shown(&error));
    }
    let cut = Tar::new().file("cut", 0o644, &[1; 5000]).bytes()[..3000].to_vec();
    for archive in [b"no archive".repeat(100), cut] {
        let error = put(&root, "/etc", &archive, PutRequest::default()).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidArgument, "{}", shown(&error));
    }
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the client went away"))
        }
    }
    let error = put_archive(&opened(&root), Path::new("/etc"), Broken, PutRequest::default()).unwrap_err();
    assert!(shown(&error).contains("the client went away"), "{}", shown(&error));
}

#[test]
fn no_archive_leads_out_of_the_root() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (root, outside) = (root(dir.path()), outside(dir.path()));
    let out = outside.display().to_string();
    let up = format!("../../../../../../../../..{out}");
    for (name, archive) in [
        ("up", Tar::new().file("../../outside/evil", 0o644, b"e").bytes()),
        ("absolute", Tar::new().file(&format!("{out}/evil"), 0o644, b"e").bytes()),
        ("link then file", Tar::new().symlink("l", &out).file("l/evil", 0o644, b"e").bytes()),
        ("relative link then file", Tar::new().symlink("l", &up).file("l/evil", 0o644, b"e").bytes()),
        ("hard link", Tar::new().hardlink("h", &format!("{out}/secret")).bytes()),
        ("hard link through a link", Tar::new().symlink("l", &up).hardlink("h", "l/secret").bytes()),
        (
            "replaced directory",
            Tar::new().dir("d", 0o755).symlink("d", &out).file("d/evil", 0o644, b"e").bytes(),
        ),
        (
            "directory over link",
            Tar::new().symlink("d", &out).dir("d", 0o777).file("d/evil", 0o644, b"").bytes(),
        ),
        ("file over link", Tar::new().symlink("f", &format!("{out}/secret")).file("f", 0o777, b"e").bytes()),
        (
            "fifo over link",
            Tar::new().symlink("p", &format!("{out}/secret")).node(tar::EntryType::Fifo, "p", 0, 0).bytes(),
        ),
    ] {
        let _may_be_refused = put(&root, "/etc", &archive, PutRequest::default());
        assert_untouched(&outside, name);
    }
}

/// Calls a function when it goes, also by a panic.
struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn a_container_that_swaps_directories_for_links_gains_nothing() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (root, outside) = (root(dir.path()), outside(dir.path()));
    let over = AtomicBool::new(false);
    let out = outside.display().to_string();
    // Before the thread is: the archive makes this directory, too.
    let (place, kept) = (root.join("race"), root.join("kept"));
    fs::create_dir(&place).unwrap();
    std::thread::scope(|scope| {
        // A failed assertion must end the thread, or the scope waits for it for ever.
        let _over = OnDrop(|| over.store(true, Ordering::Relaxed));
        scope.spawn(|| {
            // The container: a directory, a link out, and back.
            while !over.load(Ordering::Relaxed) {
                if fs::rename(&place, &kept).is_ok() {
                    symlink(&out, &place).ok();
                    fs::remove_file(&place).or_else(|_| fs::remove_dir_all(&place)).ok();
                    fs::rename(&kept, &place).ok();
                }
                for name in ["fifo", "evil"] {
                    fs::remove_file(place.join(name)).ok();
                    symlink(format!("{out}/secret"), place.join(name)).ok();
                }
            }
        });
        let archive = Tar::new()
            .dir("race", 0o777)
            .file("race/evil", 0o777, b"e")
            .node(tar::EntryType::Fifo, "race/fifo", 0, 0)
            .bytes();
        for _ in 0..200 {
            let _may_be_refused = put(&root, "/", &archive, PutRequest::default());
            let Ok((_, archive)) = archive_path(&opened(&root), Path::new("/race")) else { continue };
            for entry in tar::Archive::new(archive).entries().unwrap() {
                // Directories that are moved meanwhile end the archive.
                let Ok(mut entry) = entry else { break };
                let mut content = Vec::new();
                entry.read_to_end(&mut content).ok();
                assert_ne!(content, b"secret", "a file of the node in an archive of the container");
            }
        }
    });
    assert_untouched(&outside, "race");
    assert_eq!(fs::metadata(outside.join("secret")).unwrap().mode() & 0o777, 0o644);
}

#[test]
fn a_file_that_shrinks_while_it_is_archived_keeps_its_length_and_the_archive_its_form() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("log"), vec![b'x'; 1 << 20]).unwrap();
    let mut archive = flatten(&opened(&root)).unwrap();
    let mut bytes = vec![0; 4096];
    archive.read_exact(&mut bytes).unwrap();
    fs::write(root.join("log"), "").unwrap();
    archive.read_to_end(&mut bytes).unwrap();
    let mut read = tar::Archive::new(&bytes[..]);
    let sizes: Vec<u64> = read.entries().unwrap().map(|entry| entry.unwrap().size()).collect();
    assert_eq!((sizes.as_slice(), bytes.len()), (&[1 << 20][..], 512 + (1 << 20) + 1024));
}

#[test]
fn devices_and_fifos_are_archived_without_being_opened() {
    if !is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    let archive = Tar::new()
        .node(tar::EntryType::Fifo, "fifo", 0, 0)
        .node(tar::EntryType::Char, "tty", 5, 0)
        .node(tar::EntryType::Block, "disk", 8, 17)
        .bytes();
    put(&root, "/", &archive, PutRequest::default()).unwrap();
    // A FIFO that nobody writes to would hold up whoever opens it.
    let found = members(flatten(&opened(&root)).unwrap());
    let kinds: Vec<tar::EntryType> = found.values().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [tar::EntryType::Block, tar::EntryType::Fifo, tar::EntryType::Char]);
    let (_, archive) = archive_path(&opened(&root), Path::new("/fifo")).unwrap();
    assert_eq!(members(archive)["fifo"].0, tar::EntryType::Fifo);
}
