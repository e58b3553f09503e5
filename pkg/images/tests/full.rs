//! Disks that are full to the last byte under the store: what is there stays and can go, and it all works again when there is room. On
//! a tmpfs in a mount namespace that nobody else sees.

mod common;

use std::{
    env, fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use common::{Image, Tar, gzip, is_root, layer_dirs, registry::Registry, shown, store};
use husk_images::{ImageStore, PullRequest};
use husk_model::{Classify, Kind};

const DRIVER: &str = "HUSK_FULL_DRIVER";

/// Whether this is the run in a namespace of its own; else makes that, with a small disk at `HUSK_FULL_DRIVER`.
fn on_a_small_disk(name: &str) -> bool {
    if env::var_os(DRIVER).is_some() {
        return true;
    }
    if !is_root() {
        return false;
    }
    let dir = tempfile::tempdir().unwrap();
    let mount = "mount -t tmpfs -o size=12m small \"$0\" && exec \"$@\"";
    let unshare = |args: &[&str]| {
        Command::new("unshare")
            .args(["-m", "sh", "-c", mount])
            .arg(dir.path())
            .args(args)
            .env(DRIVER, dir.path())
            .status()
    };
    if !unshare(&["true"]).is_ok_and(|status| status.success()) {
        husk_test_support::skip("unshare(1)");
        return false;
    }
    let test = env::current_exe().unwrap();
    assert!(unshare(&[test.to_str().unwrap(), "--exact", name, "--nocapture"]).unwrap().success());
    false
}

/// Writes a file until there is no room for a single byte more.
fn fill(place: &Path) {
    let mut ballast = fs::File::options().append(true).create(true).open(place.join("ballast")).unwrap();
    for size in [65_536, 4096, 1] {
        while ballast.write_all(&vec![b'x'; size]).is_ok() {}
    }
}

fn pull(registry: &Registry, name: &str) -> PullRequest {
    PullRequest { reference: format!("{}/{name}:1", registry.host()), auth: None, platform: None }
}

async fn registry() -> Registry {
    let registry = Registry::with(|_| None).await;
    for name in ["a", "b"] {
        let layer = Tar::new().file(name, 0o644, name.repeat(50_000).as_bytes()).bytes();
        registry.push(name, "1", &Image::new(&[layer], gzip));
    }
    registry
}

/// Gives an image names until one cannot be recorded any more.
async fn commit_until_it_fails(store: &Arc<ImageStore>, id: &str) {
    for at in 0..100_000 {
        if let Err(error) = store.tag(id, &format!("{}:{at}", "n".repeat(200))).await {
            assert_eq!(error.kind(), Kind::ResourceExhausted, "{}", shown(&error));
            return;
        }
    }
    panic!("the disk has room for every name");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failed_commit_images_go_on_the_full_disk_and_come_when_there_is_room() {
    if !on_a_small_disk("after_a_failed_commit_images_go_on_the_full_disk_and_come_when_there_is_room") {
        return;
    }
    let place = Path::new(&env::var_os(DRIVER).unwrap()).to_owned();
    let registry = registry().await;
    let store = store(&place);
    let [a, b] =
        [store.pull(pull(&registry, "a")).await.unwrap(), store.pull(pull(&registry, "b")).await.unwrap()];
    store.idle().await;
    for round in 0..2 {
        fill(&place);
        commit_until_it_fails(&store, a.as_str()).await;
        assert_eq!(store.list().len(), 2, "{round}");
        // What it was closed for is forgotten: it is read, and nothing but the disk is in the way.
        let error = store.tag(b.as_str(), "x:1").await.map(drop).err();
        assert!(error.as_ref().is_none_or(|error| error.kind() == Kind::ResourceExhausted), "{error:?}");
        fill(&place);
        store.remove(b.as_str()).await.unwrap_or_else(|error| panic!("{round}: {}", shown(&error)));
        store.idle().await;
        assert_eq!((store.list().len(), layer_dirs(&place)), (1, 1), "{round}");
        fs::remove_file(place.join("ballast")).unwrap();
        store.pull(pull(&registry, "b")).await.unwrap();
        store.tag(b.as_str(), "x:1").await.unwrap();
        store.idle().await;
    }
    // A removal that leaves the room for the next.
    fill(&place);
    for id in [&a, &b] {
        commit_until_it_fails(&store, id.as_str()).await;
        store.remove(id.as_str()).await.unwrap_or_else(|error| panic!("{}", shown(&error)));
        store.idle().await;
        fill(&place);
    }
    assert_eq!((store.list().len(), layer_dirs(&place)), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_opens_on_a_full_disk_as_it_was_ended_and_as_a_kill_left_it() {
    if !on_a_small_disk("a_store_opens_on_a_full_disk_as_it_was_ended_and_as_a_kill_left_it") {
        return;
    }
    let place = Path::new(&env::var_os(DRIVER).unwrap()).to_owned();
    let (ended, killed) = (place.join("ended"), place.join("killed"));
    fs::create_dir(&killed).unwrap();
    let registry = registry().await;
    let first = store(&ended);
    let id = first.pull(pull(&registry, "a")).await.unwrap();
    first.idle().await;
    // As a kill leaves it: open, and whole in the page cache.
    let mut copy = Command::new("cp");
    copy.args(["-a", "--sparse=never"]).arg(ended.join("images")).arg(&killed);
    assert!(copy.stderr(Stdio::inherit()).status().unwrap().success());
    drop(first);
    for place_of in [&ended, &killed] {
        for round in 0..2 {
            fill(&place);
            let store = store(place_of);
            assert_eq!(store.list().len(), 1, "{}: {round}", place_of.display());
            commit_until_it_fails(&store, id.as_str()).await;
            store.idle().await;
        }
        let store = store(place_of);
        fill(&place);
        store.remove(id.as_str()).await.unwrap_or_else(|error| panic!("{}", shown(&error)));
        store.idle().await;
        assert_eq!(layer_dirs(place_of), 0);
    }
}
