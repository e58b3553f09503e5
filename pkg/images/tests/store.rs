//! Removal, leases, and what a crash leaves.

mod common;

use std::{fs, path::Path, sync::Arc};

use common::{Image, Tar, docker_archive, gzip, is_root, layer_dirs, store};
use husk_images::{ImageError, ImageStore, ImagesConfig};
use husk_model::ImageId;

fn layer(name: &str) -> Vec<u8> {
    Tar::new().file(name, 0o644, name.as_bytes()).bytes()
}

async fn import(store: &Arc<ImageStore>, root: &Path, tag: &str, layers: &[Vec<u8>]) -> ImageId {
    let archive = root.join("import.tar");
    fs::write(&archive, docker_archive(&Image::new(layers, gzip), layers, &[tag])).unwrap();
    store.import(&archive, |_| {}).await.unwrap()[0].id.clone()
}

#[tokio::test]
async fn removal_takes_unshared_layers_and_all_names() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let one = import(&store, root.path(), "one:1", &[layer("base"), layer("a")]).await;
    let two = import(&store, root.path(), "two:1", &[layer("base"), layer("b")]).await;
    assert_eq!(layer_dirs(root.path()), 3, "the base is shared");
    let before = store.usage();
    store.remove("one:1").await.unwrap();
    assert!(store.resolve("one:1").is_none() && store.resolve(one.as_str()).is_none());
    store.idle().await;
    assert_eq!(layer_dirs(root.path()), 2);
    assert!(store.usage().used_bytes < before.used_bytes);
    store.remove(two.as_str()).await.unwrap();
    store.remove(two.as_str()).await.unwrap();
    store.remove(&"0".repeat(64)).await.unwrap();
    store.idle().await;
    assert_eq!((layer_dirs(root.path()), store.usage().used_bytes), (0, 0));
    for part in ["records", "aside"] {
        assert_eq!(fs::read_dir(root.path().join("images").join(part)).unwrap().count(), 0, "{part}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_removals_all_succeed_and_none_returns_early() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let id = import(&store, root.path(), "one:1", &[layer("a")]).await;
    let removals = (0..5).map(|_| {
        let (store, id) = (Arc::clone(&store), id.clone());
        tokio::spawn(async move {
            store.remove(id.as_str()).await.unwrap();
            assert!(store.resolve(id.as_str()).is_none());
        })
    });
    for removal in removals.collect::<Vec<_>>() {
        removal.await.unwrap();
    }
}

#[tokio::test]
async fn layers_of_a_removed_image_stay_until_its_last_lease_ends_even_across_a_restart() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let first = store(root.path());
    let id = import(&first, root.path(), "one:1", &[layer("a")]).await;
    let lease = first.acquire(&id).unwrap();
    first.remove("one:1").await.unwrap();
    assert!(first.list().is_empty());
    let stack = first.rootfs(&id).unwrap();
    assert!(stack.base.join(&stack.lowers[0]).join("a").exists());
    // The daemon goes down without a chance to drop its leases.
    std::mem::forget(lease);
    let second = reopen(root.path(), first);
    let lease = second.acquire(&id).unwrap();
    second.collect().await.unwrap();
    assert!(second.list().is_empty());
    assert_eq!(second.rootfs(&id).unwrap(), stack);
    drop(lease);
    second.idle().await;
    second.idle().await;
    assert_eq!(layer_dirs(root.path()), 0);
    assert!(matches!(second.acquire(&id), Err(ImageError::NoImage { .. })));
}

/// Opens the store as a new daemon would. The forgotten lease above keeps the old lock, so it works on a copy.
fn reopen(root: &Path, old: Arc<ImageStore>) -> Arc<ImageStore> {
    drop(old);
    fs::remove_file(root.join("images/lock")).unwrap();
    let database = root.join("images/meta.redb");
    let copy = root.join("copy");
    fs::copy(&database, &copy).unwrap();
    fs::rename(copy, database).unwrap();
    store(root)
}

#[tokio::test]
async fn a_removed_image_that_is_imported_again_shows_again() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let layers = [layer("a")];
    let id = import(&store, root.path(), "one:1", &layers).await;
    let lease = store.acquire(&id).unwrap();
    store.remove("one:1").await.unwrap();
    import(&store, root.path(), "two:1", &layers).await;
    assert_eq!(store.resolve("two:1").unwrap().repo_tags, ["docker.io/library/two:1"]);
    drop(lease);
    store.idle().await;
    store.idle().await;
    assert_eq!((store.list().len(), layer_dirs(root.path())), (1, 1));
}

#[tokio::test]
async fn a_start_keeps_what_was_recorded_and_deletes_what_was_not() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let first = store(root.path());
    let id = import(&first, root.path(), "one:1", &[layer("a")]).await;
    first.idle().await;
    drop(first);
    // What a killed pull leaves: a directory, a record, replaced files, a spooled archive.
    let images = root.path().join("images");
    fs::create_dir_all(images.join("layers/zz/half/done")).unwrap();
    fs::write(images.join("records/zz"), b"half").unwrap();
    fs::create_dir(images.join("aside/zz")).unwrap();
    fs::write(images.join("spool/1"), b"half").unwrap();
    let second = store(root.path());
    assert_eq!(second.resolve("one:1").unwrap().id, id);
    second.idle().await;
    assert_eq!(layer_dirs(root.path()), 1);
    assert!(
        !images.join("records/zz").exists()
            && !images.join("aside/zz").exists()
            && !images.join("spool/1").exists()
    );
    // A number that was in use is not used again.
    import(&second, root.path(), "two:1", &[layer("b")]).await;
    assert!(fs::read_dir(images.join("layers")).unwrap().all(|entry| entry.unwrap().file_name() != "zz"));
    second.idle().await;
    drop(second);
    // A layer that someone deleted takes its image with it.
    let third = store(root.path());
    let stack = third.rootfs(&id).unwrap();
    drop(third);
    fs::remove_dir_all(stack.base.join(&stack.lowers[0])).unwrap();
    let fourth = store(root.path());
    assert!(fourth.resolve("one:1").is_none() && fourth.resolve("two:1").is_some());
}

#[tokio::test]
async fn a_second_process_and_a_damaged_database_are_reported() {
    let root = tempfile::tempdir().unwrap();
    let first = store(root.path());
    let error = ImageStore::open(root.path(), ImagesConfig::default()).unwrap_err();
    assert!(matches!(error, ImageError::Locked { .. }), "{error}");
    drop(first);
    fs::write(root.path().join("images/meta.redb"), vec![7; 100_000]).unwrap();
    let error = ImageStore::open(root.path(), ImagesConfig::default()).unwrap_err();
    assert!(matches!(error, ImageError::Database { .. }), "{error}");
    assert!(
        error.to_string().contains("meta.redb") && error.to_string().contains("delete the images directory")
    );
}

#[tokio::test]
async fn a_name_is_given_to_an_image_taken_from_another_and_there_after_a_restart() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let first = store(root.path());
    let one = import(&first, root.path(), "one:1", &[layer("a")]).await;
    let two = import(&first, root.path(), "two:1", &[layer("b")]).await;
    assert_eq!(first.tag(&one.digest().hex()[..12], "app").await.unwrap(), "docker.io/library/app:latest");
    assert_eq!(
        first.tag("two:1", "docker.io/library/app:latest").await.unwrap(),
        "docker.io/library/app:latest"
    );
    // A name that it has already is no mistake.
    first.tag("two:1", "two:1").await.unwrap();
    let check = |store: &ImageStore| {
        assert_eq!(store.resolve("app").unwrap().id, two);
        let tags = |id: &ImageId| store.resolve(id.as_str()).unwrap().repo_tags.clone();
        assert_eq!(tags(&one), ["docker.io/library/one:1"]);
        assert_eq!(tags(&two), ["docker.io/library/app:latest", "docker.io/library/two:1"]);
    };
    check(&first);
    for name in ["No Image", "", &format!("app@sha256:{}", "0".repeat(64))] {
        let refused = first.tag("one:1", name).await.unwrap_err();
        assert!(matches!(refused, ImageError::Reference { .. }), "{name:?}: {refused}");
    }
    let absent = first.tag("three:1", "app").await.unwrap_err();
    assert!(matches!(absent, ImageError::NoImage { .. }), "{absent}");
    check(&first);
    first.idle().await;
    drop(first);
    check(&store(root.path()));
}
