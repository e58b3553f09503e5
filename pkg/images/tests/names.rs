//! Names of images as Docker's clients give and take them; holds; saved archives with several images.

mod common;

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
    sync::{Arc, Mutex},
};

use common::{Image, Tar, docker_archive, gzip, is_root, layer_dirs, store};
use husk_images::{ImageError, ImageStore, Loaded, SaveItem};
use husk_model::ImageId;

/// An image of its own content.
async fn image(store: &Arc<ImageStore>, root: &Path, content: &str, tags: &[&str]) -> ImageId {
    let layers = [Tar::new().file("file", 0o644, content.as_bytes()).bytes()];
    let archive = root.join("image.tar");
    fs::write(&archive, docker_archive(&Image::new(&layers, gzip), &layers, tags)).unwrap();
    store.import(&archive, |_| {}).await.unwrap()[0].id.clone()
}

#[tokio::test]
async fn the_last_name_of_an_image_takes_the_image_with_it_unless_it_is_to_stay() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let id = image(&store, root.path(), "a", &["app:1", "app:2", "other.example/app:1"]).await;
    let removed = store.untag("app:1", false).await.unwrap();
    assert_eq!(
        (removed.untagged.as_slice(), removed.deleted),
        (&["docker.io/library/app:1".to_owned()][..], false)
    );
    store.untag("docker.io/library/app:2", false).await.unwrap();
    assert_eq!(store.find(id.as_str()).unwrap().repo_tags, ["other.example/app:1"]);
    let kept = store.untag("other.example/app:1", true).await.unwrap();
    assert_eq!((kept.deleted, store.list().len()), (false, 1));
    store.tag(id.as_str(), "again:1").await.unwrap();
    let removed = store.untag("again:1", false).await.unwrap();
    assert_eq!((removed.id, removed.deleted, store.list().len()), (id.clone(), true, 0));
    let error = store.untag("again:1", false).await.unwrap_err();
    assert!(matches!(error, ImageError::NoImage { .. }), "{error}");
    // Names only: an id is none.
    image(&store, root.path(), "a", &["app:1"]).await;
    assert!(store.untag(id.digest().hex(), false).await.is_err());
    store.idle().await;
    assert_eq!(layer_dirs(root.path()), 1);
}

#[tokio::test]
async fn an_image_of_several_repositories_is_removed_by_force_alone() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let id = image(&store, root.path(), "a", &["app:1", "app:2", "other:1"]).await;
    let error = store.remove_image(&id, false).await.unwrap_err();
    assert!(matches!(&error, ImageError::Named { names, .. } if names.len() == 3), "{error}");
    store.untag("other:1", false).await.unwrap();
    let removed = store.remove_image(&id, false).await.unwrap();
    assert_eq!((removed.untagged.len(), store.list().len()), (2, 0));
    let id = image(&store, root.path(), "a", &["app:1", "other:1"]).await;
    assert!(store.remove_image(&id, true).await.unwrap().deleted);
    assert!(matches!(store.remove_image(&id, true).await, Err(ImageError::NoImage { .. })));
}

#[tokio::test]
async fn ids_are_found_by_their_beginning_when_no_name_is_meant_and_one_alone_begins_so() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let mut ids: Vec<String> = Vec::new();
    for number in 0..17 {
        let id = image(&store, root.path(), &number.to_string(), &[]).await;
        ids.push(id.digest().hex().to_owned());
    }
    // Seventeen ids, sixteen digits.
    let first = |id: &String| id[..1].to_owned();
    let shared =
        ids.iter().find(|id| ids.iter().filter(|other| first(other) == first(id)).count() > 1).unwrap();
    let error = store.find(&first(shared)).unwrap_err();
    assert!(matches!(error, ImageError::Ambiguous { .. }), "{error}");
    for id in &ids {
        for text in [id.clone(), format!("sha256:{id}"), id[..12].to_owned(), format!("sha256:{}", &id[..12])]
        {
            assert_eq!(store.find(&text).unwrap().id.digest().hex(), id, "{text}");
        }
    }
    for text in ["", "sha256:", &"0".repeat(65), &shared.to_ascii_uppercase(), "nothing"] {
        assert!(matches!(store.find(text), Err(ImageError::NoImage { .. })), "{text}");
    }
    let named = store.find(&ids[0]).unwrap().id.clone();
    store.tag(named.as_str(), &first(shared)).await.unwrap();
    assert_eq!(store.find(&first(shared)).unwrap().id, named, "a name comes before the beginning of an id");
}

#[tokio::test]
async fn what_is_held_stays_over_restarts_until_the_last_holder_lets_go() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let first = store(root.path());
    let id = image(&first, root.path(), "a", &["app:1"]).await;
    first.hold(&id, "container-1").await.unwrap();
    first.hold(&id, "container-1").await.unwrap();
    first.hold(&id, "container-2").await.unwrap();
    // As the kubelet removes it.
    first.remove("app:1").await.unwrap();
    assert_eq!(first.list().len(), 0);
    first.idle().await;
    drop(first);
    let again = store(root.path());
    again.collect().await.unwrap();
    again.idle().await;
    let held = [(id.clone(), "container-1".to_owned()), (id.clone(), "container-2".to_owned())];
    assert_eq!(again.holders(), held);
    assert!(again.is_used(&id) && again.rootfs(&id).unwrap().lowers.len() == 1);
    again.release(&id, "container-1").await.unwrap();
    again.release(&id, "nobody").await.unwrap();
    again.idle().await;
    assert_eq!(layer_dirs(root.path()), 1);
    again.release(&id, "container-2").await.unwrap();
    again.idle().await;
    assert_eq!((layer_dirs(root.path()), again.holders().len()), (0, 0));
    again.release(&id, "container-2").await.unwrap();
    for holder in ["", &"x".repeat(300)] {
        assert!(matches!(again.hold(&id, holder).await, Err(ImageError::Holder { .. })));
    }
    assert!(matches!(again.hold(&id, "late").await, Err(ImageError::NoImage { .. })));
}

/// Keeps what is written.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn one_archive_has_several_images_under_the_names_that_were_asked_for() {
    if !is_root() {
        return;
    }
    let (root, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let from = store(root.path());
    let a = image(&from, root.path(), "a", &["app:1", "app:2", "r.example/app:3"]).await;
    let b = image(&from, root.path(), "b", &["b:1"]).await;
    let item = |image: &str, tags: Option<&[&str]>| SaveItem {
        image: image.to_owned(),
        tags: tags.map(|tags| tags.iter().map(|tag| (*tag).to_owned()).collect()),
    };
    let kept = Kept::default();
    let items = vec![
        item("app:1", Some(&["app:1"])),
        item(b.as_str(), Some(&[])),
        item("app:2", Some(&["r.example/app:3"])),
    ];
    from.save(items, kept.clone(), |_| {}).await.unwrap();
    let archive = kept.0.lock().unwrap().clone();
    let mut members = tar::Archive::new(&archive[..]);
    let manifest = members
        .entries()
        .unwrap()
        .map(Result::unwrap)
        .find(|entry| entry.path().unwrap() == Path::new("manifest.json"));
    let manifest = io::read_to_string(manifest.unwrap()).unwrap();
    assert!(manifest.contains(r#"["app:1","r.example/app:3"]"#), "as Docker spells them: {manifest}");
    let to = store(other.path());
    let loaded = to.load(io::Cursor::new(gzip(&archive)), |_| {}).await.unwrap();
    let tags = vec!["docker.io/library/app:1".to_owned(), "r.example/app:3".to_owned()];
    assert_eq!(loaded, [Loaded { id: a, tags }, Loaded { id: b, tags: Vec::new() }]);
    assert_eq!(fs::read_dir(other.path().join("images/spool")).unwrap().count(), 0);
    // Cut off, it is refused, and nothing more is there.
    let error = to.load(io::Cursor::new(archive[..archive.len() / 2].to_vec()), |_| {}).await.unwrap_err();
    assert!(matches!(error, ImageError::Archive { .. }), "{error}");
    assert_eq!(to.list().len(), 2);
    assert!(matches!(
        from.save(vec![item("nothing", None)], io::sink(), |_| {}).await,
        Err(ImageError::NoImage { .. })
    ));
    let error =
        from.save(vec![item("app:1", None)], File::open("/dev/null").unwrap(), |_| {}).await.unwrap_err();
    assert!(matches!(error, ImageError::ArchiveIo { .. }), "{error}");
}
