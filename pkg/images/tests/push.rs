//! Pushes to registries that behave in all the ways there are.

mod common;

use std::{
    fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use common::{
    Image, OCI_MANIFEST, Tar, docker_archive, gzip, is_root,
    registry::{Answer, Registry},
    sha256, shown, store,
};
use husk_images::{Auth, ImageError, ImageStore, PullRequest, PushProgress, PushRequest, PushState, Pushed};
use husk_model::{Classify, Kind};
use hyper::Method;
use serde_json::Value;

fn layers() -> Vec<Vec<u8>> {
    let noise: Vec<u8> =
        (0..100_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    vec![
        Tar::new().dir("etc", 0o755).file("etc/passwd", 0o644, b"root").bytes(),
        Tar::new().file("noise", 0o644, &noise).bytes(),
    ]
}

/// Imports an image under `tags`.
async fn import(store: &Arc<ImageStore>, root: &Path, tags: &[&str]) -> Image {
    let layers = layers();
    let image = Image::new(&layers, gzip);
    let archive = root.join("image.tar");
    fs::write(&archive, docker_archive(&image, &layers, tags)).unwrap();
    store.import(&archive, |_| {}).await.unwrap();
    image
}

/// Pushes, and tells what was reported.
async fn push(store: &Arc<ImageStore>, reference: &str) -> (Result<Pushed, ImageError>, Vec<PushProgress>) {
    let told: Arc<Mutex<Vec<PushProgress>>> = Arc::default();
    let sink = Arc::clone(&told);
    let request = PushRequest { reference: reference.to_owned(), auth: None };
    let pushed = store.push_image(request, move |progress| sink.lock().unwrap().push(progress)).await;
    let told = told.lock().unwrap().clone();
    (pushed, told)
}

/// The last state that was told of each layer, in no certain order.
fn ends(told: &[PushProgress]) -> Vec<PushState> {
    let mut layers: Vec<_> = told.iter().map(|progress| progress.layer.clone()).collect();
    layers.sort();
    layers.dedup();
    layers
        .iter()
        .filter_map(|layer| told.iter().rev().find(|told| told.layer == *layer))
        .map(|told| told.state.clone())
        .collect()
}

/// The manifest that a registry has under a name.
fn manifest(registry: &Registry, path: &str) -> Value {
    serde_json::from_slice(&registry.get(path).unwrap().1).unwrap()
}

#[tokio::test]
async fn an_image_is_pushed_and_another_node_pulls_the_same() {
    if !is_root() {
        return;
    }
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let registry = Registry::start().await;
    let name = format!("{}/team/app:1", registry.host());
    let from = store(one.path());
    let image = import(&from, one.path(), &[&name]).await;
    let (pushed, told) = push(&from, &name).await;
    let pushed = pushed.unwrap();
    assert_eq!(ends(&told), [PushState::Pushed, PushState::Pushed]);
    let (media_type, bytes) = registry.get("team/app/manifests/1").unwrap();
    assert_eq!((sha256(&bytes), bytes.len() as u64), (pushed.digest.to_string(), pushed.size));
    assert_eq!(media_type, common::DOCKER_MANIFEST);
    let here = from.find(&name).unwrap();
    assert_eq!(here.repo_digests, [format!("{}/team/app@{}", registry.host(), pushed.digest)]);
    let to = store(two.path());
    let pulled = to.pull(PullRequest { reference: name.clone(), ..PullRequest::default() }).await.unwrap();
    assert_eq!(pulled.to_string(), image.id());
    // Again: everything is there, and nothing is sent.
    let before = registry.called(Method::PATCH).len();
    let (again, told) = push(&from, &name).await;
    assert_eq!(again.unwrap(), pushed);
    assert_eq!(
        (ends(&told), registry.called(Method::PATCH).len()),
        (vec![PushState::Exists, PushState::Exists], before)
    );
    assert!(told.iter().all(|progress| progress.state != PushState::Preparing), "nothing was made again");
    assert_eq!(fs::read_dir(one.path().join("images/spool")).unwrap().count(), 0);
}

#[tokio::test]
async fn layers_are_mounted_from_another_repository_and_the_manifest_stays_as_it_was_pulled() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::start().await;
    let image = Image::new(&layers(), common::zstd);
    registry.push("from/app", "1", &image);
    let store = store(root.path());
    let name = format!("{}/from/app:1", registry.host());
    store.pull(PullRequest { reference: name.clone(), ..PullRequest::default() }).await.unwrap();
    let copy = store.tag(&name, &format!("{}/to/app:2", registry.host())).await.unwrap();
    let (pushed, told) = push(&store, &copy).await;
    assert_eq!(pushed.unwrap().digest.to_string(), image.digest(), "byte for byte");
    assert_eq!(ends(&told), vec![PushState::Mounted("from/app".into()); 2]);
    assert_eq!(
        registry.get("to/app/manifests/2").unwrap(),
        (OCI_MANIFEST.to_owned(), image.manifest.clone())
    );
    // Only the configuration is sent.
    assert_eq!(registry.called(Method::PATCH).len(), 1);
    let details = store.details(&store.find(&copy).unwrap().id).await.unwrap();
    assert_eq!(details.manifest.unwrap().digest.to_string(), image.digest());
    // Another registry knows nothing of them.
    let other = Registry::start().await;
    let elsewhere = store.tag(&name, &format!("{}/app:3", other.host())).await.unwrap();
    let (pushed, told) = push(&store, &elsewhere).await;
    pushed.unwrap();
    assert_eq!(ends(&told), [PushState::Pushed, PushState::Pushed]);
    let manifest = manifest(&other, "app/manifests/3");
    assert_eq!(manifest["mediaType"], OCI_MANIFEST, "of the kind that it came as");
    assert!(manifest["layers"][0]["mediaType"].as_str().unwrap().ends_with("tar+gzip"));
    assert!(
        other.seen().iter().all(|seen| !seen.query.contains("mount=")),
        "blobs of one registry are no news of another"
    );
}

#[tokio::test]
async fn what_a_manifest_claims_of_a_layer_that_is_here_is_never_pushed() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::start().await;
    let store = store(root.path());
    let own = format!("{}/own/app:1", registry.host());
    import(&store, root.path(), &[&own]).await;
    // A stranger's image names the same layers, and blobs that are something else.
    let mut evil = Image::new(&layers(), gzip);
    let text = String::from_utf8(evil.manifest.clone()).unwrap();
    let mut document: Value = serde_json::from_str(&text).unwrap();
    let bad = gzip(&Tar::new().file("backdoor", 0o755, b"evil").bytes());
    for layer in document["layers"].as_array_mut().unwrap() {
        layer["digest"] = sha256(&bad).into();
        layer["size"] = bad.len().into();
    }
    evil.manifest = document.to_string().into_bytes();
    evil.blobs.insert(sha256(&bad), bad.clone());
    registry.push("evil/app", "1", &evil);
    let reference = format!("{}/evil/app:1", registry.host());
    store.pull(PullRequest { reference, ..PullRequest::default() }).await.unwrap();
    push(&store, &own).await.0.unwrap();
    let manifest = manifest(&registry, "own/app/manifests/1");
    for layer in manifest["layers"].as_array().unwrap() {
        assert_ne!(layer["digest"], sha256(&bad), "a stranger's bytes in one's own image");
    }
}

#[tokio::test]
async fn an_upload_goes_on_where_it_was_interrupted() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::start().await;
    let store = store(root.path());
    let name = format!("{}/app:1", registry.host());
    import(&store, root.path(), &[&name]).await;
    for bytes in [300_000, 200_000, 0] {
        registry.cut_upload(bytes);
    }
    push(&store, &name).await.0.unwrap();
    let resumed: Vec<_> = registry
        .called(Method::PATCH)
        .into_iter()
        .filter_map(|seen| Some(seen.headers.get("content-range")?.to_str().unwrap().to_owned()))
        .collect();
    let is_part = |range: &String| {
        let bounds: Vec<u64> = range.split('-').map(|bound| bound.parse().unwrap()).collect();
        bounds.len() == 2 && bounds[0] > 0 && bounds[0] <= bounds[1]
    };
    assert!(!resumed.is_empty() && resumed.iter().all(is_part), "{resumed:?}");
    assert!(registry.get("app/manifests/1").is_some());
}

#[tokio::test]
async fn a_registry_that_forgot_an_upload_gets_it_from_its_beginning() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let forgotten = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&forgotten);
    let registry = Registry::with(move |seen| {
        let asks = seen.method == Method::GET && seen.path.contains("/uploads/");
        (asks && count.fetch_add(1, Ordering::SeqCst) == 0).then(|| Answer::status(404))
    })
    .await;
    let store = store(root.path());
    let name = format!("{}/app:1", registry.host());
    import(&store, root.path(), &[&name]).await;
    registry.cut_upload(100);
    push(&store, &name).await.0.unwrap();
    assert_eq!(forgotten.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_busy_registry_is_asked_again_and_one_that_says_no_is_not() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let busy = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&busy);
    let registry = Registry::with(move |seen| {
        let is_begin = seen.method == Method::POST;
        (is_begin && count.fetch_add(1, Ordering::SeqCst) < 2)
            .then(|| Answer { headers: vec![("retry-after", "0".into())], ..Answer::status(503) })
    })
    .await;
    let store = store(root.path());
    let name = format!("{}/app:1", registry.host());
    import(&store, root.path(), &[&name]).await;
    push(&store, &name).await.0.unwrap();
    assert!(busy.load(Ordering::SeqCst) >= 3);
    let denying = Registry::with(|seen| {
        let body = br#"{"errors":[{"code":"DENIED","message":"not yours"}]}"#.to_vec();
        (seen.method == Method::POST).then(|| Answer { body, ..Answer::status(403) })
    })
    .await;
    let denied = store.tag(&name, &format!("{}/app:1", denying.host())).await.unwrap();
    let error = push(&store, &denied).await.0.unwrap_err();
    assert_eq!(error.kind(), Kind::PermissionDenied);
    assert!(
        shown(&error).contains("not yours") && shown(&error).contains("layer sha256:"),
        "{}",
        shown(&error)
    );
    assert!(denying.called(Method::POST).len() <= 2, "once a layer");
    assert!(store.find(&denied).unwrap().repo_digests.len() == 1, "of the first registry alone");
}

#[tokio::test]
async fn a_registry_that_refuses_the_manifest_is_told_with_its_words() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::with(|seen| {
        let body = br#"{"errors":[{"code":"TAG_INVALID","message":"tags are immutable"}]}"#.to_vec();
        let is_manifest = seen.method == Method::PUT && seen.path.contains("/manifests/");
        is_manifest.then(|| Answer { body, ..Answer::status(409) })
    })
    .await;
    let store = store(root.path());
    let name = format!("{}/app:1", registry.host());
    import(&store, root.path(), &[&name]).await;
    let error = push(&store, &name).await.0.unwrap_err();
    assert!(shown(&error).contains("tags are immutable"), "{}", shown(&error));
    assert!(store.find(&name).unwrap().repo_digests.is_empty());
}

/// A registry that wants a token for writing.
async fn with_tokens() -> (Registry, Arc<Mutex<Vec<String>>>) {
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen_by = Arc::clone(&asked);
    let registry = Registry::with(move |seen| {
        let header = |name: &str| {
            seen.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        let host = header("host");
        if seen.path == "/token" {
            seen_by.lock().unwrap().push(format!("{} {}", header("authorization"), seen.query));
            let good = header("authorization") == "Basic dXNlcjpzZWNyZXQ=";
            let body = br#"{"token":"t0ken"}"#.to_vec();
            return Some(if good { Answer { body, ..Answer::status(200) } } else { Answer::status(401) });
        }
        let challenge =
            format!(r#"Bearer realm="http://{host}/token",service="s",scope="repository:app:pull""#);
        let challenge = if seen.path == "/v2/" {
            challenge.replace(r#",scope="repository:app:pull""#, "")
        } else {
            challenge
        };
        let is_in = header("authorization") == "Bearer t0ken";
        if seen.path == "/v2/" && is_in {
            return Some(Answer::status(200));
        }
        (!is_in).then(|| Answer { headers: vec![("www-authenticate", challenge)], ..Answer::status(401) })
    })
    .await;
    (registry, asked)
}

fn user(password: &str) -> Auth {
    Auth { username: "user".into(), password: password.into(), ..Auth::default() }
}

#[tokio::test]
async fn a_push_asks_for_a_token_that_may_write_and_a_login_for_one_that_may_nothing() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let (registry, asked) = with_tokens().await;
    let store = store(root.path());
    let name = format!("{}/app:1", registry.host());
    import(&store, root.path(), &[&name]).await;
    let error = push(&store, &name).await.0.unwrap_err();
    assert_eq!(error.kind(), Kind::Unauthenticated, "{}", shown(&error));
    asked.lock().unwrap().clear();
    let request = PushRequest { reference: name.clone(), auth: Some(user("secret")) };
    store.push_image(request, |_| {}).await.unwrap();
    let scopes = asked.lock().unwrap().clone();
    assert!(scopes.iter().all(|asked| asked.contains("scope=repository%3Aapp%3Apull%2Cpush")), "{scopes:?}");
    asked.lock().unwrap().clear();
    store.check_auth(&format!("http://{}/v1/", registry.host()), user("secret")).await.unwrap();
    assert!(asked.lock().unwrap().iter().all(|asked| !asked.contains("scope=repository")), "{asked:?}");
    let error = store.check_auth(&registry.host(), user("wrong")).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unauthenticated, "{}", shown(&error));
    assert!(!shown(&error).contains("wrong"), "no secret is told");
    let error = store.check_auth("no host", user("secret")).await.unwrap_err();
    assert!(matches!(error, ImageError::Reference { .. }), "{error}");
}

#[tokio::test]
async fn an_upload_that_leads_to_the_node_itself_or_out_of_encryption_is_not_followed() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    for location in ["http://169.254.169.254/latest/meta-data", "ftp://x/y"] {
        let registry = Registry::with(move |seen| {
            let headers = vec![("location", location.to_owned())];
            (seen.method == Method::POST).then(|| Answer { headers, ..Answer::status(202) })
        })
        .await;
        let name = format!("{}/app:1", registry.host());
        import(&store, root.path(), &[&name]).await;
        let error = push(&store, &name).await.0.unwrap_err();
        assert_eq!(error.kind(), Kind::FailedPrecondition, "{}", shown(&error));
        assert!(registry.called(Method::PATCH).is_empty());
    }
}

#[tokio::test]
async fn an_upload_at_another_origin_gets_no_credentials() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let storage = Registry::with(|seen| (seen.method == Method::PATCH).then(|| Answer::status(500))).await;
    let elsewhere = format!("http://{}/steal", storage.host());
    let registry = Registry::with(move |seen| {
        let is_in = seen.headers.contains_key("authorization");
        let headers = vec![("www-authenticate", "Basic realm=\"x\"".to_owned())];
        if !is_in {
            return Some(Answer { headers, ..Answer::status(401) });
        }
        let headers = vec![("location", elsewhere.clone())];
        (seen.method == Method::POST).then(|| Answer { headers, ..Answer::status(202) })
    })
    .await;
    let store = store(root.path());
    let name = format!("{}/app:1", registry.host());
    import(&store, root.path(), &[&name]).await;
    let request = PushRequest { reference: name, auth: Some(user("secret")) };
    store.push_image(request, |_| {}).await.unwrap_err();
    let sent = storage.called(Method::PATCH);
    assert!(!sent.is_empty() && sent.iter().all(|seen| !seen.headers.contains_key("authorization")));
}

#[tokio::test]
async fn names_that_cannot_be_pushed_are_told_before_anybody_is_asked() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::start().await;
    let store = store(root.path());
    let host = registry.host();
    let error = push(&store, &format!("{host}/app@sha256:{}", "a".repeat(64))).await.0.unwrap_err();
    assert!(matches!(error, ImageError::Reference { .. }), "{error}");
    let error = push(&store, &format!("{host}/app:1")).await.0.unwrap_err();
    assert!(matches!(error, ImageError::NoImage { .. }), "{error}");
    assert!(registry.seen().is_empty());
}

#[tokio::test]
async fn a_layer_that_was_changed_on_disk_is_not_pushed() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::start().await;
    let store = store(root.path());
    let name = format!("{}/app:1", registry.host());
    import(&store, root.path(), &[&name]).await;
    let stack = store.rootfs(&store.find(&name).unwrap().id).unwrap();
    fs::write(stack.base.join(&stack.lowers[1]).join("etc/passwd"), b"evil").unwrap();
    let error = push(&store, &name).await.0.unwrap_err();
    assert!(matches!(error, ImageError::Export { .. }), "{error}");
    assert!(registry.get("app/manifests/1").is_none());
}

#[tokio::test]
async fn a_push_that_nobody_waits_for_leaves_nothing_in_the_spool() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let gate = common::registry::Gate::default();
    let held = gate.clone();
    let registry = Registry::with(move |seen| {
        if seen.method == Method::POST {
            held.wait();
        }
        None
    })
    .await;
    let store = store(root.path());
    let name = format!("{}/app:1", registry.host());
    import(&store, root.path(), &[&name]).await;
    let pushing = {
        let (store, name) = (Arc::clone(&store), name.clone());
        tokio::spawn(async move { push(&store, &name).await.0 })
    };
    let asked = || (registry.called(Method::POST).is_empty()).then_some(()).map_or(Some(()), |()| None);
    husk_test_support::eventually_with(tokio::time::sleep, "an upload is asked for", common::PATIENCE, asked)
        .await;
    pushing.abort();
    assert!(pushing.await.unwrap_err().is_cancelled());
    gate.open();
    assert_eq!(fs::read_dir(root.path().join("images/spool")).unwrap().count(), 0);
    push(&store, &name).await.0.unwrap();
}
