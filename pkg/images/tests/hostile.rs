//! Layers that attack the node, and odd ones that must work (peers' CVE classes: unpack outside the root, replaced
//! parents, hard links out, overlay attributes, PAX desynchronisation, bombs).

mod common;

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::Path,
};

use common::{Tar, assert_untouched, is_root, merged, nothing_is_left, outside, stack, store, unpack};

#[tokio::test]
async fn members_that_cannot_be_what_they_say_are_refused() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let out = outside(root.path());
    let target = out.to_str().unwrap();
    let up = "../".repeat(20);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        (
            "symlink loop",
            Tar::new().symlink("a", "b").symlink("b", "a").file("a/x", 0o644, b"x").bytes(),
            "too many symbolic links",
        ),
        ("hard link out", Tar::new().hardlink("h", &format!("{up}etc/passwd")).bytes(), "no layer has"),
        (
            "hard link through symlink",
            Tar::new().symlink("l", target).hardlink("h", "l/secret").bytes(),
            "no layer has",
        ),
        ("hard link to nothing", Tar::new().hardlink("h", "nothing").bytes(), "no layer has"),
        ("hard link to itself", Tar::new().file("h", 0o644, b"x").hardlink("h", "h").bytes(), "itself"),
        ("whiteout of dotdot", Tar::new().file("d/.wh...", 0o644, b"").bytes(), "whiteout"),
        ("whiteout of nothing", Tar::new().file(".wh.", 0o644, b"").bytes(), "whiteout"),
        (
            "file as directory",
            Tar::new().file("f", 0o644, b"").file("f/x", 0o644, b"x").bytes(),
            "used as a directory",
        ),
        ("root as file", Tar::new().file("./", 0o644, b"x").bytes(), "root"),
        ("NUL in a name", Tar::new().pax(&[("path", b"a\0b")]).file("x", 0o644, b"").bytes(), "NUL"),
        ("long name", Tar::new().pax(&[("path", &[b'n'; 300])]).file("x", 0o644, b"").bytes(), "255"),
        (
            "long path",
            Tar::new().pax(&[("path", "d/".repeat(3000).as_bytes())]).file("x", 0o644, b"").bytes(),
            "4096",
        ),
        (
            "uid beyond 32 bits",
            Tar::new().pax(&[("uid", b"4294967296")]).file("x", 0o644, b"").bytes(),
            "uid",
        ),
        (
            "size beyond the archive",
            Tar::new().pax(&[("size", b"9999")]).file("x", 0o644, b"abc").bytes(),
            "truncated",
        ),
        (
            "huge sparse file",
            Tar::new()
                .pax(&[
                    ("GNU.sparse.major", b"1"),
                    ("GNU.sparse.minor", b"0"),
                    ("GNU.sparse.realsize", b"9223372036854775807"),
                ])
                .file("x", 0o644, &[b"0\n".to_vec(), vec![0; 510]].concat())
                .bytes(),
            "a file of more than 16 TiB",
        ),
        ("truncated", Tar::new().file("x", 0o644, &[1; 5000]).bytes()[..2000].to_vec(), "truncated"),
        ("unknown type", Tar::new().link(tar::EntryType::new(b'Q'), "q", "x").bytes(), "unknown type"),
    ];
    for (name, layer, word) in cases {
        let error = unpack(&store, root.path(), layer).await.expect_err(name);
        eprintln!("{name}: {error}");
        assert!(error.contains(word) && error.contains("sha256:"), "{name}: {error}");
        nothing_is_left(&store, root.path(), name).await;
    }
    assert_untouched(&out, "all of them");
}

/// Headers that ask for more memory than one may (`tar/reader.rs`, `tar/pax.rs`, `tar/sparse.rs`).
#[tokio::test]
async fn headers_of_a_member_are_bounded() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let attributes: Vec<String> = (0..257).map(|at| format!("SCHILY.xattr.user.{at}")).collect();
    let attributes: Vec<(&str, &[u8])> = attributes.iter().map(|key| (key.as_str(), &b"v"[..])).collect();
    let mut many = Tar::new();
    for _ in 0..17 {
        many = many.pax(&[("comment", b"c")]);
    }
    let segments = (256 << 10) + 1;
    let mut map = format!("{segments}\n").into_bytes();
    for at in 0..segments {
        map.extend(format!("{at}\n0\n").into_bytes());
    }
    map.resize(map.len().next_multiple_of(512), 0);
    let sparse = Tar::new()
        .pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"1000000")])
        .file("sparse", 0o644, &map);
    for (name, layer, word) in [
        ("attributes", Tar::new().pax(&attributes).file("x", 0o644, b""), "extended attributes"),
        ("one header", Tar::new().pax(&[("comment", &vec![b'c'; 1 << 20])]).file("x", 0o644, b""), "1 MiB"),
        ("headers", many.file("x", 0o644, b""), "headers"),
        ("segments", sparse, "segments"),
    ] {
        let error = unpack(&store, root.path(), layer.bytes()).await.expect_err(name);
        assert!(error.contains(word), "{name}: {error}");
        nothing_is_left(&store, root.path(), name).await;
    }
}

/// A header that says 0 after an extended one that says more: who believes the header finds a member in the content.
#[tokio::test]
async fn cve_2025_62518_a_member_cannot_be_smuggled_in_the_content_of_another() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let smuggled = Tar::new().file("smuggled", 0o644, b"x").bytes();
    let size = smuggled.len().to_string();
    let mut layer = Tar::new().pax(&[("size", size.as_bytes())]).file("carrier", 0o644, b"").bytes();
    layer.truncate(layer.len() - 1024);
    layer.extend(&smuggled);
    layer.extend([0; 1024]);
    let path = unpack(&store, root.path(), layer).await.unwrap();
    assert!(!path.join("smuggled").exists());
    assert_eq!(fs::read(path.join("carrier")).unwrap(), smuggled);
}

#[tokio::test]
async fn absolute_names_and_links_inside_stay_inside() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let layer = Tar::new()
        .file("/etc//./passwd", 0o644, b"inside")
        .dir("usr/lib", 0o755)
        .symlink("lib", "usr/lib")
        .file("lib/so", 0o644, b"so")
        .symlink("evil", "/etc/shadow")
        .file("evil", 0o644, b"replaced, not followed")
        .bytes();
    let path = unpack(&store, root.path(), layer).await.unwrap();
    assert_eq!(fs::read(path.join("etc/passwd")).unwrap(), b"inside");
    assert_eq!(fs::read(path.join("usr/lib/so")).unwrap(), b"so");
    assert_eq!(fs::read(path.join("evil")).unwrap(), b"replaced, not followed");
}

#[tokio::test]
async fn attributes_survive() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    // Revision 2 of a file capability: cap_net_raw, effective.
    let capability: &[u8] = &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(120));
    let layer = Tar::new()
        .owned_dir("./", 0o711, 5, 6)
        .owned("su", 0o4755, 7, 8, b"x")
        .pax(&[
            ("SCHILY.xattr.security.capability", capability),
            ("SCHILY.xattr.user.note", b"hi"),
            ("mtime", b"1700000000.25"),
        ])
        .file("ping", 0o755, b"x")
        .hardlink("ping2", "ping")
        .symlink("link", "/anywhere/at/all")
        .node(tar::EntryType::Char, "null", 1, 3)
        .node(tar::EntryType::Fifo, "pipe", 0, 0)
        .file(&long, 0o600, b"long")
        .owned_dir("sticky", 0o1777, 0, 0)
        .file("sticky/inner", 0o644, b"")
        .bytes();
    let path = unpack(&store, root.path(), layer).await.unwrap();
    let meta = |name: &str| fs::symlink_metadata(path.join(name)).unwrap();
    assert_eq!((meta("").mode() & 0o7777, meta("").uid(), meta("").gid()), (0o711, 5, 6));
    assert_eq!((meta("su").mode() & 0o7777, meta("su").uid(), meta("su").gid()), (0o4755, 7, 8));
    assert_eq!((meta("ping").mtime(), meta("ping").mtime_nsec()), (1_700_000_000, 250_000_000));
    assert_eq!(meta("ping").ino(), meta("ping2").ino());
    assert_eq!(fs::read_link(path.join("link")).unwrap(), Path::new("/anywhere/at/all"));
    assert!(meta("null").file_type().is_char_device() && meta("null").rdev() == rustix::fs::makedev(1, 3));
    assert_eq!(meta("null").permissions().mode() & 0o777, 0o640);
    assert!(meta("pipe").file_type().is_fifo());
    assert_eq!(fs::read(path.join(&long)).unwrap(), b"long");
    assert_eq!((meta("sticky").mode() & 0o7777, meta("sticky").mtime()), (0o1777, 1_700_000_000));
    let mut value = [0; 64];
    let length = rustix::fs::getxattr(path.join("ping"), "security.capability", &mut value).unwrap();
    assert_eq!(&value[..length], capability);
    let length = rustix::fs::getxattr(path.join("ping"), "user.note", &mut value).unwrap();
    assert_eq!(&value[..length], b"hi");
}

#[tokio::test]
async fn attributes_of_overlayfs_are_dropped_and_the_image_is_taken() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let bottom = Tar::new().dir("d", 0o755).file("d/below", 0o644, b"x").bytes();
    let names = [
        "trusted.overlay.opaque",
        "trusted.overlay.redirect",
        "user.overlay.opaque",
        "user.overlay.metacopy",
    ];
    let keys: Vec<String> = names.iter().map(|name| format!("SCHILY.xattr.{name}")).collect();
    let mut records: Vec<(&str, &[u8])> = keys.iter().map(|key| (key.as_str(), &b"y"[..])).collect();
    records.push(("SCHILY.xattr.user.kept", b"yes"));
    let top = Tar::new().pax(&records).dir("d", 0o755).bytes();
    let layers = stack(&store, root.path(), vec![bottom, top]).await.unwrap();
    let mut value = [0; 8];
    for name in names {
        assert!(rustix::fs::getxattr(layers[0].join("d"), name, &mut value).is_err(), "{name}");
    }
    assert_eq!(rustix::fs::getxattr(layers[0].join("d"), "user.kept", &mut value), Ok(3));
    let Some(shown) = merged(root.path(), &layers, "find . | sort") else { return };
    assert_eq!(shown, ".\n./d\n./d/below\n");
    // The archive can be given back with them.
    store.export(&["x:1".to_owned()], &root.path().join("out.tar"), |_| {}).await.unwrap();
}

#[tokio::test]
async fn sparse_files_are_read_in_both_of_gnus_forms() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let map = [b"1\n1048576\n3\n".to_vec(), vec![0; 500]].concat();
    let pax = Tar::new()
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"sparse"),
            ("GNU.sparse.realsize", b"2097152"),
        ])
        .file("GNUSparseFile.0/sparse", 0o644, &[map, b"abc".to_vec()].concat())
        .bytes();
    let path = unpack(&store, root.path(), pax).await.unwrap();
    let content = fs::read(path.join("sparse")).unwrap();
    assert_eq!((content.len(), &content[1_048_576..1_048_579]), (2_097_152, &b"abc"[..]));
    assert!(content[..1_048_576].iter().all(|byte| *byte == 0));
    // The image can still be given back as it came.
    store.export(&["x:1".to_owned()], &root.path().join("out.tar"), |_| {}).await.unwrap();
}

#[tokio::test]
async fn whiteouts_become_what_overlayfs_reads() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let layer = Tar::new()
        .file("gone/.wh.file", 0o644, b"")
        .file("emptied/.wh..wh..opq", 0o644, b"")
        .file("emptied/new", 0o644, b"new")
        .file(".wh.again", 0o644, b"")
        .dir("again", 0o755)
        .file("again/x", 0o644, b"x")
        .file(".wh.kept", 0o644, b"")
        .file("kept", 0o644, b"kept")
        .dir("first", 0o755)
        .file(".wh.first", 0o644, b"")
        .file(".wh.implicit", 0o644, b"")
        .file("implicit/x", 0o644, b"x")
        .file(".wh..wh.plnk/1.2", 0o644, b"")
        .bytes();
    let path = unpack(&store, root.path(), layer).await.unwrap();
    let meta = fs::symlink_metadata(path.join("gone/file")).unwrap();
    assert!(meta.file_type().is_char_device() && meta.rdev() == 0);
    let opaque = |name: &str| {
        let mut value = [0; 4];
        matches!(rustix::fs::getxattr(path.join(name), "trusted.overlay.opaque", &mut value), Ok(1))
    };
    for (name, expected) in
        [("emptied", true), ("again", true), ("first", true), ("implicit", true), ("gone", false)]
    {
        assert_eq!(opaque(name), expected, "{name}");
    }
    assert_eq!(fs::read(path.join("kept")).unwrap(), b"kept");
}

#[tokio::test]
async fn directories_without_a_description_take_that_of_the_layers_below() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let bottom = Tar::new()
        .owned_dir("tmp", 0o1777, 3, 4)
        .owned_dir("tmp/deep", 0o700, 5, 6)
        .file("lib.so", 0o755, b"library")
        .dir("masked", 0o700)
        .bytes();
    let middle = Tar::new().file(".wh.masked", 0o644, b"").bytes();
    let top = Tar::new()
        .file("tmp/deep/x", 0o644, b"x")
        .file("fresh/x", 0o644, b"x")
        .file("masked/x", 0o644, b"x")
        .hardlink("copy.so", "lib.so")
        .bytes();
    let paths = stack(&store, root.path(), vec![bottom, middle, top.clone()]).await.unwrap();
    let meta = |name: &str| fs::symlink_metadata(paths[0].join(name)).unwrap();
    assert_eq!((meta("tmp").mode() & 0o7777, meta("tmp").uid(), meta("tmp").gid()), (0o1777, 3, 4));
    assert_eq!((meta("tmp/deep").mode() & 0o7777, meta("tmp/deep").uid()), (0o700, 5));
    assert_eq!(meta("fresh").mode() & 0o7777, 0o755);
    assert_eq!(meta("masked").mode() & 0o7777, 0o755, "a hidden directory tells nothing");
    assert_eq!(fs::read(paths[0].join("copy.so")).unwrap(), b"library");
    assert_eq!(meta("copy.so").mode() & 0o7777, 0o755);
    // Above other layers it is another layer.
    let other = Tar::new().owned_dir("tmp", 0o750, 9, 9).file("lib.so", 0o600, b"other").bytes();
    let paths = stack(&store, root.path(), vec![other, top]).await.unwrap();
    assert_eq!(fs::symlink_metadata(paths[0].join("tmp")).unwrap().uid(), 9);
    assert_eq!(fs::read(paths[0].join("copy.so")).unwrap(), b"other");
}

#[tokio::test]
async fn files_in_a_directory_that_is_a_link_below_go_where_it_points() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let bottom = Tar::new()
        .owned_dir("usr/lib", 0o750, 1, 2)
        .owned_dir("usr/lib/arch", 0o700, 3, 4)
        .symlink("lib", "usr/lib")
        .symlink("var/run", "/../run")
        .dir("run", 0o711)
        .bytes();
    let top = Tar::new()
        .file("lib/arch/so", 0o644, b"so")
        .file("usr/lib/arch/other", 0o644, b"other")
        .file("var/run/pid", 0o644, b"1")
        .bytes();
    let paths = stack(&store, root.path(), vec![bottom.clone(), top]).await.unwrap();
    assert!(fs::symlink_metadata(paths[0].join("lib")).is_err(), "the link below shows");
    assert_eq!(fs::read(paths[0].join("usr/lib/arch/so")).unwrap(), b"so");
    assert_eq!(fs::read(paths[0].join("usr/lib/arch/other")).unwrap(), b"other");
    assert_eq!(fs::read(paths[0].join("run/pid")).unwrap(), b"1");
    let meta = |name: &str| fs::symlink_metadata(paths[0].join(name)).unwrap();
    assert_eq!(
        (meta("usr/lib").uid(), meta("usr/lib/arch").uid(), meta("run").mode() & 0o777),
        (1, 3, 0o711)
    );
    store.export(&["x:1".to_owned()], &root.path().join("out.tar"), |_| {}).await.unwrap();
    let looped = Tar::new().symlink("l", "m").symlink("m", "l").bytes();
    let error = stack(&store, root.path(), vec![looped, Tar::new().file("l/x", 0o644, b"x").bytes()])
        .await
        .unwrap_err();
    assert!(error.contains("too many symbolic links"), "{error}");
}

#[tokio::test]
async fn overlayfs_shows_the_stack_as_the_archives_mean_it() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let bottom = Tar::new()
        .dir("d", 0o755)
        .file("d/hidden", 0o644, b"bottom")
        .file("d/stays", 0o644, b"bottom")
        .dir("o", 0o755)
        .file("o/old", 0o644, b"bottom")
        .dir("r", 0o755)
        .file("r/old", 0o644, b"bottom")
        .owned_dir("tmp", 0o1777, 0, 0)
        .bytes();
    let top = Tar::new()
        .file("d/.wh.hidden", 0o644, b"")
        .file("o/.wh..wh..opq", 0o644, b"")
        .file("o/new", 0o644, b"top")
        .file(".wh.r", 0o644, b"")
        .dir("r", 0o755)
        .file("r/new", 0o644, b"top")
        .file("tmp/x", 0o644, b"x")
        .bytes();
    let layers = stack(&store, root.path(), vec![bottom, top]).await.unwrap();
    let Some(shown) = merged(root.path(), &layers, "find . | sort && stat -c %a tmp") else { return };
    assert_eq!(shown, ".\n./d\n./d/stays\n./o\n./o/new\n./r\n./r/new\n./tmp\n./tmp/x\n1777\n");
}
