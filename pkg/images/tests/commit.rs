//! Images made of containers' changes and of plain archives; what such changes are; how an image came about.

mod common;

use std::{
    fs::{self, File},
    ops::ControlFlow,
    os::{
        fd::OwnedFd,
        unix::fs::{MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use common::{Image, Tar, gzip, is_root, layer_dirs, merged, nothing_is_left, shown, store};
use husk_images::{
    Author, Change, ChangeKind, CommitRequest, ImageError, ImageStore, ImportRequest, NewConfig,
};
use husk_model::ImageId;
use rustix::fs::{FileType, Mode, XattrFlags, makedev};
use serde_json::json;

/// An image with files to change.
async fn base(store: &Arc<ImageStore>, root: &Path) -> ImageId {
    let layers = vec![
        Tar::new()
            .dir("etc", 0o755)
            .file("etc/passwd", 0o644, b"root")
            .file("etc/gone", 0o644, b"gone")
            .dir("replaced", 0o755)
            .file("replaced/old", 0o644, b"old")
            .file("replaced/both", 0o644, b"old")
            .dir("var", 0o755)
            .dir("var/deep", 0o755)
            .file("var/deep/file", 0o644, b"x")
            .bytes(),
    ];
    let archive = root.join("base.tar");
    let image = Image::new(&layers, gzip);
    fs::write(&archive, common::docker_archive(&image, &layers, &["base:1"])).unwrap();
    store.import(&archive, |_| {}).await.unwrap()[0].id.clone()
}

fn opened(path: &Path) -> OwnedFd {
    File::open(path).unwrap().into()
}

fn whiteout(path: &Path) {
    rustix::fs::mknodat(
        rustix::fs::CWD,
        path,
        FileType::CharacterDevice,
        Mode::from_raw_mode(0),
        makedev(0, 0),
    )
    .unwrap();
}

fn opaque(path: &Path) {
    rustix::fs::setxattr(path, "trusted.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
}

/// What a container leaves in its upper directory.
fn upper(root: &Path) -> PathBuf {
    let upper = root.join("upper");
    for path in ["etc", "replaced", "var/deep", "dev/shm", "new/inner"] {
        fs::create_dir_all(upper.join(path)).unwrap();
    }
    fs::write(upper.join("etc/passwd"), "root and more").unwrap();
    whiteout(&upper.join("etc/gone"));
    opaque(&upper.join("replaced"));
    fs::write(upper.join("replaced/both"), "new").unwrap();
    fs::write(upper.join("etc/hosts"), "").unwrap();
    fs::write(upper.join("new/inner/one"), "linked").unwrap();
    fs::hard_link(upper.join("new/inner/one"), upper.join("new/two")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", upper.join("new/link")).unwrap();
    fs::write(upper.join("new/setuid"), "s").unwrap();
    std::os::unix::fs::chown(upper.join("new/setuid"), Some(1000), Some(3_000_000)).unwrap();
    fs::set_permissions(upper.join("new/setuid"), fs::Permissions::from_mode(0o4755)).unwrap();
    rustix::fs::setxattr(upper.join("new/setuid"), "user.note", b"kept", XattrFlags::empty()).unwrap();
    let kind = FileType::CharacterDevice;
    let null = upper.join("new/null");
    rustix::fs::mknodat(rustix::fs::CWD, &null, kind, Mode::from_raw_mode(0o666), makedev(1, 3)).unwrap();
    fs::set_permissions(&null, fs::Permissions::from_mode(0o666)).unwrap();
    fs::write(upper.join("new/.wh.sly"), "hides nothing").unwrap();
    let holes = File::create(upper.join("new/holes")).unwrap();
    holes.set_len(1 << 40).unwrap();
    std::os::unix::net::UnixListener::bind(upper.join("new/socket")).unwrap();
    upper
}

fn mounts() -> Vec<PathBuf> {
    ["/dev", "/proc", "/etc/hosts"].map(PathBuf::from).to_vec()
}

fn request(parent: Option<ImageId>, upper: &Path, name: &str) -> CommitRequest {
    let entry = Author {
        created: "2024-05-06T07:08:09Z".into(),
        created_by: "sh -c touch".into(),
        author: "somebody".into(),
        comment: "a comment".into(),
    };
    CommitRequest {
        parent,
        upper: opened(upper),
        mounts: mounts(),
        new: NewConfig { config: Some(json!({ "Cmd": ["new"], "Env": ["A=b"] })), entry, platform: None },
        note: Some(b"a note".to_vec()),
        name: Some(name.to_owned()),
    }
}

#[tokio::test]
async fn a_container_s_changes_become_a_layer_that_shows_what_the_container_saw() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let parent = base(&store, root.path()).await;
    let upper = upper(root.path());
    let id = store.commit(request(Some(parent.clone()), &upper, "child")).await.unwrap();
    assert_eq!(store.details(&id).await.unwrap().note.as_deref(), Some(&b"a note"[..]));
    let image = store.find("child:latest").unwrap();
    assert_eq!((&image.id, image.parent.as_ref(), image.layers.len()), (&id, Some(&parent), 2));
    assert_eq!(
        (image.config.cmd.as_slice(), image.config.created.as_str()),
        (&["new".to_owned()][..], "2024-05-06T07:08:09Z")
    );
    let stack = store.rootfs(&id).unwrap();
    let layers: Vec<PathBuf> = stack.lowers.iter().map(|name| stack.base.join(name)).collect();
    let layer = &layers[0];
    assert_eq!(fs::read(layer.join("etc/passwd")).unwrap(), b"root and more");
    let setuid = fs::metadata(layer.join("new/setuid")).unwrap();
    assert_eq!((setuid.mode() & 0o7777, setuid.uid(), setuid.gid()), (0o4755, 1000, 3_000_000));
    let mut value = [0; 8];
    assert_eq!(rustix::fs::getxattr(layer.join("new/setuid"), "user.note", &mut value), Ok(4));
    let linked =
        [layer.join("new/inner/one"), layer.join("new/two")].map(|path| fs::metadata(path).unwrap().ino());
    assert_eq!(linked[0], linked[1]);
    let null = fs::metadata(layer.join("new/null")).unwrap();
    assert_eq!((null.rdev(), null.mode() & 0o777), (makedev(1, 3), 0o666));
    let holes = fs::metadata(layer.join("new/holes")).unwrap();
    assert_eq!((holes.len(), holes.blocks() < 1000), (1 << 40, true), "a file of holes takes no disk");
    for absent in ["dev", "etc/hosts", "new/.wh.sly", "new/socket"] {
        assert!(fs::symlink_metadata(layer.join(absent)).is_err(), "{absent}");
    }
    let Some(seen) = merged(
        root.path(),
        &layers,
        "ls etc replaced; cat replaced/both; readlink new/link; test -e var/deep/file",
    ) else {
        return;
    };
    assert_eq!(seen, "etc:\npasswd\n\nreplaced:\nboth\nnew/etc/passwd\n");
}

#[tokio::test]
async fn a_committed_image_is_saved_loaded_and_kept_over_a_restart_like_any_other() {
    if !is_root() {
        return;
    }
    let (root, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = store(root.path());
    let parent = base(&first, root.path()).await;
    let id = first.commit(request(Some(parent.clone()), &upper(root.path()), "child:1")).await.unwrap();
    first.idle().await;
    drop(first);
    let again = store(root.path());
    assert_eq!(again.find("child:1").unwrap().parent, Some(parent.clone()));
    again.remove("base:1").await.unwrap();
    let archive = root.path().join("saved.tar");
    again.export(&["child:1".to_owned()], &archive, |_| {}).await.unwrap();
    let loaded = store(other.path()).load(File::open(&archive).unwrap(), |_| {}).await.unwrap();
    assert_eq!(
        (&loaded[0].id, loaded[0].tags.as_slice()),
        (&id, &["docker.io/library/child:1".to_owned()][..])
    );
}

#[tokio::test]
async fn a_container_that_changed_nothing_makes_an_image_without_a_layer_more() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let parent = base(&store, root.path()).await;
    let upper = root.path().join("empty");
    fs::create_dir_all(upper.join("proc")).unwrap();
    let id = store.commit(request(Some(parent.clone()), &upper, "same:1")).await.unwrap();
    let details = store.details(&id).await.unwrap();
    assert_eq!(details.image.layers.len(), 1);
    assert!(details.history.iter().any(|entry| entry.empty_layer && entry.comment == "a comment"));
    let scratch = store.commit(request(None, &upper, "scratch:1")).await.unwrap();
    assert_eq!(store.details(&scratch).await.unwrap().image.layers.len(), 0);
}

#[tokio::test]
async fn the_details_tell_configuration_history_and_sizes() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let parent = base(&store, root.path()).await;
    let id = store.commit(request(Some(parent), &upper(root.path()), "child:1")).await.unwrap();
    let details = store.details(&id).await.unwrap();
    assert_eq!(details.config, json!({ "Cmd": ["new"], "Env": ["A=b"] }));
    assert_eq!(details.author, "somebody");
    assert_eq!(common::sha256(&details.raw), id.to_string());
    assert!(details.manifest.is_none());
    let last = details.history.iter().find(|entry| entry.comment == "a comment").unwrap();
    assert_eq!((last.created_by.as_str(), last.author.as_str()), ("sh -c touch", "somebody"));
    let sizes: u64 = details.history.iter().map(|entry| entry.size).sum();
    assert_eq!(sizes, details.image.layer_sizes.iter().sum::<u64>());
    assert!(last.size > 0);
}

/// What is told of the changes, sorted, in the letters that `docker diff` has.
async fn changed(store: &ImageStore, image: &ImageId, upper: &Path) -> Vec<String> {
    let told: Arc<Mutex<Vec<Change>>> = Arc::default();
    let sink = Arc::clone(&told);
    let each = move |change| {
        sink.lock().unwrap().push(change);
        ControlFlow::Continue(())
    };
    store.changes(image, opened(upper), mounts(), each).await.unwrap();
    let letter = |kind| match kind {
        ChangeKind::Modified => 'C',
        ChangeKind::Added => 'A',
        ChangeKind::Deleted => 'D',
    };
    let mut lines: Vec<String> = told
        .lock()
        .unwrap()
        .iter()
        .map(|change| format!("{} {}", letter(change.kind), change.path.display()))
        .collect();
    lines.sort_by(|a, b| a[2..].cmp(&b[2..]));
    lines
}

#[tokio::test]
async fn changes_are_told_with_the_directories_that_they_are_in_and_without_what_the_runtime_left() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let image = base(&store, root.path()).await;
    let upper = upper(root.path());
    let told = changed(&store, &image, &upper).await;
    let expected = [
        "C /etc",
        "D /etc/gone",
        "C /etc/passwd",
        "A /new",
        "A /new/.wh.sly",
        "A /new/holes",
        "A /new/inner",
        "A /new/inner/one",
        "A /new/link",
        "A /new/null",
        "A /new/setuid",
        "A /new/socket",
        "A /new/two",
        "C /replaced",
        "C /replaced/both",
        "D /replaced/old",
        "C /var",
        "C /var/deep",
    ];
    assert_eq!(told, expected);
    // A directory that is only in the way of the runtime's mounts, and as it was, is no change.
    let stack = store.rootfs(&image).unwrap();
    let lower = stack.base.join(&stack.lowers[0]).join("etc");
    let quiet = root.path().join("quiet");
    fs::create_dir_all(quiet.join("etc")).unwrap();
    fs::write(quiet.join("etc/hosts"), "").unwrap();
    assert_eq!(fs::metadata(&lower).unwrap().mode(), fs::metadata(quiet.join("etc")).unwrap().mode());
    assert!(changed(&store, &image, &quiet).await.is_empty());
    fs::write(quiet.join("etc/hosts"), "written by the container").unwrap();
    assert_eq!(changed(&store, &image, &quiet).await, ["C /etc", "A /etc/hosts"]);
}

#[tokio::test]
async fn telling_changes_ends_when_nobody_wants_more() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let image = base(&store, root.path()).await;
    let count = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&count);
    let each = move |_| {
        *counted.lock().unwrap() += 1;
        if *counted.lock().unwrap() == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    store.changes(&image, opened(&upper(root.path())), mounts(), each).await.unwrap();
    assert_eq!(*count.lock().unwrap(), 3);
}

#[tokio::test]
async fn a_commit_that_fails_leaves_nothing() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let upper = root.path().join("upper");
    fs::create_dir_all(upper.join("moved")).unwrap();
    fs::write(upper.join("file"), "x").unwrap();
    rustix::fs::setxattr(upper.join("moved"), "trusted.overlay.redirect", b"/x", XattrFlags::empty())
        .unwrap();
    let error = store.commit(request(None, &upper, "x:1")).await.unwrap_err();
    assert!(shown(&error).contains("redirect"), "{}", shown(&error));
    nothing_is_left(&store, root.path(), "a directory that was moved in place").await;
    fs::remove_dir(upper.join("moved")).unwrap();
    rustix::fs::setxattr(upper.join("file"), "trusted.overlay.metacopy", b"", XattrFlags::empty()).unwrap();
    let error = store.commit(request(None, &upper, "x:1")).await.unwrap_err();
    assert!(shown(&error).contains("metacopy"), "{}", shown(&error));
    fs::remove_file(upper.join("file")).unwrap();
    let bad = NewConfig { config: Some(json!({ "Env": 1 })), ..NewConfig::default() };
    let error = store.commit(CommitRequest { new: bad, ..request(None, &upper, "x:1") }).await.unwrap_err();
    assert!(matches!(error, ImageError::NewImage { .. }), "{error}");
    let error =
        store.commit(request(None, &upper, &format!("x@sha256:{}", "a".repeat(64)))).await.unwrap_err();
    assert!(matches!(error, ImageError::Reference { .. }), "{error}");
    let absent: ImageId = ImageId::new(husk_model::Digest::from_sha256(&[7; 32]));
    let error = store.commit(request(Some(absent), &upper, "x:1")).await.unwrap_err();
    assert!(matches!(error, ImageError::NoImage { .. }), "{error}");
    nothing_is_left(&store, root.path(), "anything").await;
}

#[tokio::test]
async fn an_archive_of_files_becomes_an_image_of_one_layer() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let files = Tar::new().file("bin/tool", 0o755, b"tool").symlink("sh", "bin/tool").bytes();
    let entry = Author { comment: "Imported from -".into(), ..Author::default() };
    let request = ImportRequest {
        new: NewConfig { config: Some(json!({ "Cmd": ["/bin/tool"] })), entry, platform: None },
        name: Some("rootfs:1".into()),
    };
    let plain =
        store.import_root(std::io::Cursor::new(files.clone()), request.clone(), |_| {}).await.unwrap();
    for compressed in [gzip(&files), common::zstd(&files)] {
        let id = store.import_root(std::io::Cursor::new(compressed), request.clone(), |_| {}).await.unwrap();
        assert_eq!(id, plain, "the same files are the same image");
    }
    store.idle().await;
    assert_eq!(layer_dirs(root.path()), 1);
    let image = store.find("rootfs:1").unwrap();
    assert_eq!(image.config.cmd, ["/bin/tool"]);
    let stack = store.rootfs(&image.id).unwrap();
    assert_eq!(fs::read(stack.base.join(&stack.lowers[0]).join("bin/tool")).unwrap(), b"tool");
    assert_eq!(store.details(&plain).await.unwrap().history[0].comment, "Imported from -");
    let mut cut = files;
    cut.truncate(1300);
    let error = store.import_root(std::io::Cursor::new(cut), request, |_| {}).await.unwrap_err();
    assert!(matches!(error, ImageError::NewLayer { .. }), "{error}");
    store.idle().await;
    assert_eq!(layer_dirs(root.path()), 1);
}
