//! Pulls from a registry on loopback.

mod common;

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{
    DOCKER_MANIFEST, Image, OCI_INDEX, Tar, goarch, gzip, is_root, layer_dirs, nothing_is_left,
    raw::{Raw, Step},
    registry::{Answer, Gate, Registry},
    sha256, store, store_with, zstd,
};
use husk_images::{Auth, ImageStore, ImagesConfig, LayerProgress, LayerState, PullProgress, PullRequest};
use husk_model::{Classify, Kind};
use serde_json::json;
use tokio::sync::mpsc::UnboundedReceiver;

/// How long something may take that takes no time on a quiet machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn layers() -> Vec<Vec<u8>> {
    vec![
        Tar::new().dir("bin/", 0o755).file("bin/sh", 0o755, &[1; 100_000]).bytes(),
        Tar::new().dir("etc/", 0o755).file("etc/passwd", 0o644, b"root:x:0:0").bytes(),
    ]
}

async fn last<T>(mut told: UnboundedReceiver<T>) -> Option<T> {
    let mut last = None;
    while let Some(next) = told.recv().await {
        last = Some(next);
    }
    last
}

fn request(reference: String) -> PullRequest {
    PullRequest { reference, auth: None, platform: None }
}

async fn kind_of(store: &Arc<ImageStore>, reference: String) -> (Kind, String) {
    let error = store.pull(request(reference)).await.expect_err("the pull fails");
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    eprintln!("{text}");
    (error.kind(), text)
}

#[tokio::test]
async fn plain_gzip_and_zstd_layers_become_the_same_image() {
    if !is_root() {
        return;
    }
    let registry = Registry::start().await;
    let layers = layers();
    for (name, image) in [
        ("plain", Image::new(&layers, <[u8]>::to_vec)),
        ("gzip", Image::new(&layers, gzip)),
        ("zstd", Image::new(&layers, zstd)),
    ] {
        registry.push(name, "1", &image);
        let root = tempfile::tempdir().unwrap();
        let store = store(root.path());
        let reference = format!("{}/{name}:1", registry.host());
        let id = store.pull(request(reference.clone())).await.unwrap();
        assert_eq!(id.to_string(), image.id());
        let found = store.resolve(&reference).unwrap();
        assert_eq!(found.repo_tags, std::slice::from_ref(&reference));
        assert_eq!(found.repo_digests, [format!("{}/{name}@{}", registry.host(), image.digest())]);
        let stack = store.rootfs(&id).unwrap();
        assert_eq!(fs::read(stack.base.join(&stack.lowers[1]).join("bin/sh")).unwrap(), [1; 100_000]);
        // What was pulled can be exported, and is the same afterwards.
        let tar = root.path().join("out.tar");
        store.export(&[reference], &tar, |_| {}).await.unwrap();
        let other = tempfile::tempdir().unwrap();
        assert_eq!(common::store(other.path()).import(&tar, |_| {}).await.unwrap()[0].id, id);
    }
}

#[tokio::test]
async fn an_index_leads_to_this_nodes_image_and_keeps_its_own_digest() {
    if !is_root() {
        return;
    }
    let registry = Registry::start().await;
    let mut image = Image::new(&layers(), gzip);
    // Docker's schema 2 in a Docker list, as `docker manifest create` makes them.
    image.media_type = DOCKER_MANIFEST;
    image.manifest = String::from_utf8(image.manifest)
        .unwrap()
        .replace(common::OCI_MANIFEST, DOCKER_MANIFEST)
        .into_bytes();
    registry.push("multi", "unused", &image);
    let entry = |digest: &str, os: &str, arch: &str| json!({ "mediaType": DOCKER_MANIFEST, "digest": digest, "size": 1, "platform": { "os": os, "architecture": arch } });
    let other = sha256(b"other");
    let index = json!({ "schemaVersion": 2, "manifests": [
        entry(&other, "linux", "mips"), entry(&other, "windows", goarch()), entry(&image.digest(), "linux", goarch()),
    ]})
    .to_string();
    let digest = sha256(index.as_bytes());
    for name in ["1", &digest] {
        registry.put(&format!("multi/manifests/{name}"), OCI_INDEX, index.as_bytes());
    }
    let foreign = json!({ "schemaVersion": 2, "manifests": [entry(&other, "linux", "mips")] }).to_string();
    registry.put("multi/manifests/foreign", OCI_INDEX, foreign.as_bytes());
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let name = format!("{}/multi", registry.host());
    let by_digest = format!("{name}@{digest}");
    let id = store.pull(request(by_digest.clone())).await.unwrap();
    let found = store.resolve(&by_digest).unwrap();
    assert!(found.repo_tags.is_empty());
    assert_eq!(found.repo_digests, std::slice::from_ref(&by_digest));
    assert_eq!(store.pull(request(format!("{name}:1"))).await.unwrap(), id);
    let found = store.resolve(&id.to_string()).unwrap();
    assert_eq!(
        (found.repo_tags.as_slice(), found.repo_digests.as_slice()),
        (&[format!("{name}:1")][..], &[by_digest][..])
    );
    let (kind, text) = kind_of(&store, format!("{name}:foreign")).await;
    assert_eq!(kind, Kind::NotFound);
    assert!(text.contains("linux/mips"), "{text}");
}

#[tokio::test]
async fn damaged_layers_are_refused_with_their_digest_and_leave_nothing() {
    if !is_root() {
        return;
    }
    let registry = Registry::start().await;
    let layers = layers();
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let good = Image::new(&layers, gzip);
    let blob = |image: &Image| -> String {
        image
            .blobs
            .keys()
            .find(|digest| image.blobs[*digest].len() < 5000 && **digest != image.id())
            .unwrap()
            .clone()
    };
    let altered = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut image = good.clone();
        let digest = blob(&image);
        change(image.blobs.get_mut(&digest).unwrap());
        image
    };
    let mut wrong_diff = Image::new(&layers, gzip);
    let swapped = Image::new(&[layers[1].clone(), layers[0].clone()], gzip);
    wrong_diff.manifest =
        String::from_utf8(good.manifest.clone()).unwrap().replace(&good.id(), &swapped.id()).into_bytes();
    wrong_diff.blobs.insert(swapped.id(), swapped.config.clone());
    let not_gzip = Image::new(&layers, |layer| [&[0x1f, 0x8b, 8, 0][..], layer].concat());
    let cut_gzip = Image::new(&layers, |layer| {
        let blob = gzip(layer);
        blob[..blob.len() / 2].to_vec()
    });
    for (name, image) in [
        ("truncated", altered(&|blob| blob.truncate(blob.len() / 2))),
        (
            "flipped",
            altered(&|blob| {
                let middle = blob.len() / 2;
                blob[middle] ^= 1;
            }),
        ),
        ("appended", altered(&|blob| blob.extend([0; 600]))),
        ("wrongdiff", wrong_diff),
        ("notgzip", not_gzip),
        ("cutgzip", cut_gzip),
    ] {
        registry.push(name, "1", &image);
        let (kind, text) = kind_of(&store, format!("{}/{name}:1", registry.host())).await;
        assert_eq!(kind, Kind::DataLoss, "{name}: {text}");
        assert!(text.contains("sha256:"), "{name}: {text}");
        nothing_is_left(&store, root.path(), name).await;
    }
    registry.push("good", "1", &good);
    store.pull(request(format!("{}/good:1", registry.host()))).await.unwrap();
}

#[tokio::test]
async fn wrong_manifests_and_absent_images_are_told_apart() {
    if !is_root() {
        return;
    }
    let registry = Registry::start().await;
    let image = Image::new(&layers(), gzip);
    registry.push("a", "1", &image);
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let host = registry.host();
    let (kind, text) = kind_of(&store, format!("{host}/b:1")).await;
    assert_eq!(kind, Kind::NotFound);
    assert!(text.contains(&format!("{host}/b:1")) && text.contains("not found"), "{text}");
    registry.put(&format!("a/manifests/{}", image.digest()), common::OCI_MANIFEST, b"{}");
    assert_eq!(kind_of(&store, format!("{host}/a@{}", image.digest())).await.0, Kind::DataLoss);
    registry.put("a/manifests/big", common::OCI_MANIFEST, &vec![b' '; 5 << 20]);
    assert_eq!(kind_of(&store, format!("{host}/a:big")).await.0, Kind::DataLoss);
    let mut both: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap();
    both["manifests"] = json!([]);
    registry.put("a/manifests/both", common::OCI_MANIFEST, both.to_string().as_bytes());
    let (kind, text) = kind_of(&store, format!("{host}/a:both")).await;
    assert!(kind == Kind::DataLoss && text.contains("CVE-2021-41190"), "{text}");
    assert_eq!(kind_of(&store, "127.0.0.1:1/a:1".into()).await.0, Kind::Unavailable);
    assert_eq!(kind_of(&store, "UPPER/a".into()).await.0, Kind::InvalidArgument);
}

#[tokio::test]
async fn tokens_are_fetched_with_the_credentials_and_used_again() {
    if !is_root() {
        return;
    }
    let token_server = Registry::with(|seen| {
        assert!(
            seen.query.contains("scope=repository%3Aprivate%3Apull") && seen.query.contains("service=reg"),
            "{}",
            seen.query
        );
        let known = seen.headers.get("authorization").is_some_and(|value| value == "Basic dXNlcjpwYXNz");
        Some(if known {
            Answer { status: 200, body: br#"{"token":"good"}"#.to_vec(), ..Answer::default() }
        } else {
            Answer::status(401)
        })
    })
    .await;
    let realm = format!("http://{}/token", token_server.host());
    let registry = Registry::with(move |seen| {
        let known = seen.headers.get("authorization").is_some_and(|value| value == "Bearer good");
        let challenge = format!(r#"Bearer realm="{realm}",service="reg",scope="repository:private:pull""#);
        (!known).then(|| Answer {
            status: 401,
            headers: vec![("www-authenticate", challenge)],
            ..Answer::default()
        })
    })
    .await;
    registry.push("private", "1", &Image::new(&layers(), gzip));
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let reference = format!("{}/private:1", registry.host());
    let (kind, text) = kind_of(&store, reference.clone()).await;
    assert!(kind == Kind::Unauthenticated && text.contains("pull secret"), "{text}");
    let auth = Auth { username: "user".into(), password: "pass".into(), ..Auth::default() };
    store.pull(PullRequest { reference: reference.clone(), auth: Some(auth), platform: None }).await.unwrap();
    assert_eq!(token_server.count("token"), 2, "one for each pull");
    let given = Auth { registry_token: "good".into(), ..Auth::default() };
    store
        .pull(PullRequest { reference: reference.clone(), auth: Some(given), platform: None })
        .await
        .unwrap();
    assert_eq!(token_server.count("token"), 2, "a registry token needs no token service");
    let elsewhere = Auth {
        username: "user".into(),
        password: "pass".into(),
        server_address: "other.example".into(),
        ..Auth::default()
    };
    let error =
        store.pull(PullRequest { reference, auth: Some(elsewhere), platform: None }).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unauthenticated);
}

#[tokio::test]
async fn basic_credentials_and_configured_headers_stay_with_their_host() {
    if !is_root() {
        return;
    }
    let image = Image::new(&layers(), gzip);
    let storage = Registry::start().await;
    storage.push("r", "1", &image);
    let target = storage.host();
    let registry = Registry::with(move |seen| {
        if seen.headers.get("authorization").is_none_or(|value| value != "Basic dXNlcjpwYXNz") {
            return Some(Answer {
                status: 401,
                headers: vec![("www-authenticate", "Basic realm=x".into())],
                ..Answer::default()
            });
        }
        assert_eq!(seen.headers.get("x-team").unwrap(), "infra");
        seen.path.contains("/blobs/").then(|| Answer {
            status: 307,
            headers: vec![("location", format!("http://{target}{}", seen.path))],
            ..Answer::default()
        })
    })
    .await;
    registry.push("r", "1", &image);
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join(format!("certs.d/{}", registry.host()));
    fs::create_dir_all(&directory).unwrap();
    fs::write(
        directory.join("hosts.toml"),
        format!("server = \"http://{}\"\n[header]\nx-team = \"infra\"\n", registry.host()),
    )
    .unwrap();
    let store = store(root.path());
    let auth = Auth { auth: "dXNlcjpwYXNz".into(), ..Auth::default() };
    store
        .pull(PullRequest { reference: format!("{}/r:1", registry.host()), auth: Some(auth), platform: None })
        .await
        .unwrap();
    let seen = storage.seen();
    assert_eq!(seen.len(), 3, "configuration and two layers came from the storage");
    for request in seen {
        assert!(request.headers.get("authorization").is_none() && request.headers.get("x-team").is_none());
    }
}

#[tokio::test]
async fn mirrors_serve_what_they_have_and_stay_invisible() {
    if !is_root() {
        return;
    }
    let image = Image::new(&layers(), gzip);
    let (empty, full) = (Registry::start().await, Registry::start().await);
    full.push("pause", "3.9", &image);
    let damaged = Registry::start().await;
    let mut broken = image.clone();
    broken.blobs.values_mut().filter(|blob| blob.starts_with(&[0x1f, 0x8b])).for_each(|blob| {
        let middle = blob.len() / 2;
        blob[middle] ^= 1;
    });
    damaged.push("pause", "3.9", &broken);
    let root = tempfile::tempdir().unwrap();
    let certs = root.path().join("certs.d");
    for (host, text) in [
        (
            "registry.example",
            format!(
                "server = \"http://127.0.0.1:1\"\n[host.\"http://{}\"]\n[host.\"http://{}\"]\n[host.\"http://{}\"]\ncapabilities=[\"pull\",\"resolve\"]\n",
                empty.host(),
                damaged.host(),
                full.host()
            ),
        ),
        ("_default", format!("server = \"http://{}\"\n", full.host())),
    ] {
        fs::create_dir_all(certs.join(host)).unwrap();
        fs::write(certs.join(host).join("hosts.toml"), text).unwrap();
    }
    let store = store_with(root.path(), root.path());
    let id = store.pull(request("registry.example/pause:3.9".into())).await.unwrap();
    assert!(empty.seen().iter().all(|seen| seen.query == "ns=registry.example"));
    assert_eq!(store.pull(request("k8s.example/pause:3.9".into())).await.unwrap(), id);
    let found = store.resolve(&id.to_string()).unwrap();
    assert_eq!(found.repo_tags, ["k8s.example/pause:3.9", "registry.example/pause:3.9"]);
    assert_eq!(store.list().len(), 1);
    store.remove(id.as_str()).await.unwrap();
    assert!(store.resolve("k8s.example/pause:3.9").is_none() && store.list().is_empty());
}

#[tokio::test]
async fn busy_and_interrupted_registries_are_asked_again_where_they_stopped() {
    if !is_root() {
        return;
    }
    // Does not compress, so that the layer is long enough to be cut.
    let noise: Vec<u8> = (0u32..3_000_000).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let image = Image::new(&[Tar::new().file("noise", 0o644, &noise).bytes()], <[u8]>::to_vec);
    let layer = image.blobs.values().max_by_key(|blob| blob.len()).unwrap().clone();
    let calls = Arc::new(AtomicUsize::new(0));
    let (blob, counted) = (sha256(&layer), Arc::clone(&calls));
    let registry = Registry::with(move |seen| {
        if seen.path.ends_with("manifests/1") && counted.fetch_add(1, Ordering::SeqCst) == 0 {
            return Some(Answer {
                status: 429,
                headers: vec![("retry-after", "0".into())],
                ..Answer::default()
            });
        }
        let first = seen.path.ends_with(&blob) && seen.headers.get("range").is_none();
        first.then(|| Answer { status: 200, body: layer.clone(), cut: Some(1_500_000), ..Answer::default() })
    })
    .await;
    registry.push("r", "1", &image);
    let root = tempfile::tempdir().unwrap();
    let last = std::sync::Mutex::default();
    let report = |at| *last.lock().unwrap() = at;
    let store = store(root.path());
    store.pull_reporting(request(format!("{}/r:1", registry.host())), report).await.unwrap();
    let PullProgress { bytes, bytes_done, .. } = *last.lock().unwrap();
    assert_eq!(bytes, bytes_done, "what came before the interruption counts once");
    let ranges: Vec<_> =
        registry.seen().iter().filter_map(|seen| seen.headers.get("range").cloned()).collect();
    assert_eq!(ranges.len(), 1);
    assert!(ranges[0].to_str().unwrap() != "bytes=0-");
    assert_eq!(registry.count("manifests/1"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn concurrent_pulls_share_the_work_and_a_caller_may_leave() {
    if !is_root() {
        return;
    }
    let gate = Gate::default();
    let registry = Registry::with({
        let gate = gate.clone();
        move |seen| {
            if seen.path.contains("/blobs/") {
                gate.wait();
            }
            None
        }
    })
    .await;
    let shared = layers();
    let one = Image::new(&shared, gzip);
    let two = Image::new(&[shared.clone(), vec![Tar::new().file("x", 0o644, b"x").bytes()]].concat(), gzip);
    registry.push("one", "1", &one);
    registry.push("two", "1", &two);
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let mut pulls = Vec::new();
    for name in ["one", "one", "one", "two", "two"] {
        let (store, reference) = (Arc::clone(&store), format!("{}/{name}:1", registry.host()));
        pulls.push(tokio::spawn(async move { store.pull(request(reference)).await }));
    }
    while registry.count("/manifests/1") < 2 {
        tokio::task::yield_now().await;
    }
    pulls.remove(0).abort();
    gate.open();
    for pull in pulls {
        pull.await.unwrap().unwrap();
    }
    assert_eq!(registry.count("/manifests/1"), 2, "one pull for each image");
    for digest in one.blobs.keys().filter(|digest| **digest != one.id()) {
        assert_eq!(registry.count(digest), 1, "{digest} is fetched once for both");
    }
    assert_eq!(layer_dirs(root.path()), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn whoever_watches_a_pull_sees_how_far_it_is_also_one_that_joins_it() {
    if !is_root() {
        return;
    }
    let image = Image::new(&layers(), gzip);
    let (id, gate) = (image.id(), Gate::default());
    let registry = Registry::with({
        let (id, gate) = (id.clone(), gate.clone());
        move |seen| {
            // The configuration comes; the layers wait.
            if seen.path.contains("/blobs/") && !seen.path.ends_with(&id) {
                gate.wait();
            }
            None
        }
    })
    .await;
    registry.push("watched", "1", &image);
    let sizes = image.blobs.iter().filter(|(digest, _)| **digest != id).map(|(_, blob)| blob.len() as u64);
    let all = PullProgress { layers: 2, layers_done: 2, bytes: sizes.clone().sum(), bytes_done: sizes.sum() };
    let begun = PullProgress { layers_done: 0, bytes_done: 0, ..all };
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let watch = || {
        let (store, reference) = (Arc::clone(&store), format!("{}/watched:1", registry.host()));
        let (tell, told) = tokio::sync::mpsc::unbounded_channel();
        let report = move |at| {
            let _ = tell.send(at);
        };
        (tokio::spawn(async move { store.pull_reporting(request(reference), report).await }), told)
    };
    let mut watchers = [watch(), watch()];
    // Each look comes a moment after the one before; the pull has not gone on meanwhile.
    for (_, told) in &mut watchers {
        let begins = async { while told.recv().await.expect("the pull waits") != begun {} };
        tokio::time::timeout(PATIENCE, begins).await.expect("what there is to do is told");
    }
    gate.open();
    for (pull, told) in watchers.into_iter().chain(std::iter::once_with(watch)) {
        pull.await.unwrap().unwrap();
        assert_eq!(last(told).await, Some(all), "also of what is here already");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn whoever_watches_the_layers_of_a_pull_sees_each_come_and_end() {
    if !is_root() {
        return;
    }
    let image = Image::new(&layers(), gzip);
    let registry = Registry::start().await;
    registry.push("watched", "1", &image);
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let told = std::sync::Mutex::new(Vec::new());
    let ends = async |state| {
        told.lock().unwrap().clear();
        let report = |layers: Vec<LayerProgress>| told.lock().unwrap().push(layers);
        store.pull_reporting_layers(request(format!("{}/watched:1", registry.host())), report).await.unwrap();
        let told = told.lock().unwrap();
        let last = told.last().unwrap();
        assert_eq!(last.len(), 2);
        for layer in last {
            let blob = &image.blobs[&layer.digest.to_string()];
            let size = blob.len() as u64;
            assert_eq!((layer.bytes, layer.bytes_done, layer.state), (size, size, state));
        }
    };
    ends(LayerState::Done).await;
    ends(LayerState::Exists).await;
}

#[tokio::test]
async fn a_pull_nobody_waits_for_ends_and_leaves_nothing() {
    if !is_root() {
        return;
    }
    let registry = Registry::start().await;
    registry.push("r", "1", &Image::new(&layers(), gzip));
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let pull = store.pull(request(format!("{}/r:1", registry.host())));
    tokio::time::timeout(std::time::Duration::from_micros(1), pull).await.unwrap_err();
    nothing_is_left(&store, root.path(), "cancelled").await;
}

#[tokio::test]
async fn a_moved_tag_leaves_its_old_image() {
    if !is_root() {
        return;
    }
    let registry = Registry::start().await;
    let (old, new) = (Image::new(&layers(), gzip), Image::new(&layers()[..1], gzip));
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let reference = format!("{}/r:1", registry.host());
    registry.push("r", "1", &old);
    store.pull(request(reference.clone())).await.unwrap();
    registry.push("r", "1", &new);
    store.pull(request(reference.clone())).await.unwrap();
    assert_eq!(store.resolve(&reference).unwrap().id.to_string(), new.id());
    assert!(store.resolve(&old.id()).unwrap().repo_tags.is_empty());
    assert_eq!(store.list().len(), 2);
}

#[tokio::test]
async fn slow_registries_hold_up_their_own_pulls_only() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let config = ImagesConfig {
        registry_config_dir: root.path().join("certs.d"),
        registries: None,
        max_parallel_layers: 3,
        pull_progress_timeout: Duration::from_secs(600),
        ..ImagesConfig::default()
    };
    let store = ImageStore::open(root.path(), config).unwrap();
    let layer = |number: u8| Tar::new().file(&format!("file{number}"), 0o644, &[number; 1000]).bytes();
    let popular: Vec<_> = (0..6).map(layer).collect();
    let (popular, other) = (Image::new(&popular, gzip), Image::new(&[layer(7), layer(8)], gzip));
    let mut slow = Vec::new();
    for _ in 0..3 {
        // Serves everything but the layers of the image, for which it lets its clients wait.
        let (registry, asked) = (Raw::start(), Arc::new(AtomicUsize::new(0)));
        registry.push("r", &popular);
        let (counter, configuration) = (Arc::clone(&asked), popular.id());
        registry.script(move |asked, _| {
            let stalls = asked.path.contains("/blobs/") && !asked.path.contains(&configuration);
            stalls.then(|| {
                counter.fetch_add(1, Ordering::SeqCst);
                vec![Step::Silence]
            })
        });
        let reference = format!("{}/r@{}", registry.address, popular.digest());
        let pull = tokio::spawn({
            let store = Arc::clone(&store);
            async move { store.pull(request(reference)).await }
        });
        while asked.load(Ordering::SeqCst) == 0 {
            assert!(!pull.is_finished(), "{:?}", pull.await);
            tokio::task::yield_now().await;
        }
        slow.push((registry, pull));
    }
    let registry = Registry::start().await;
    registry.push("other", "1", &other);
    registry.push("popular", "1", &popular);
    // The layers that the slow ones are at are not waited for either.
    for (name, image) in [("other", &other), ("popular", &popular)] {
        let pull = store.pull(request(format!("{}/{name}:1", registry.host())));
        let id = tokio::time::timeout(PATIENCE, pull).await.expect("it is not held up").unwrap();
        assert_eq!(id.to_string(), image.id());
    }
    for (_, pull) in slow {
        assert!(!pull.is_finished());
        pull.abort();
    }
}
