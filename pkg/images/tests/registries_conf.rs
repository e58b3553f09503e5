//! registries.conf in the way of a pull: real registries on loopback stand for mirrors, blocked and searched ones.

mod common;

use std::{fs, path::Path, sync::Arc, time::Duration};

use common::{
    Image, Tar, gzip, is_root,
    registry::{Answer, Registry},
    shown,
};
use husk_images::{Auth, ImageStore, ImagesConfig, PullRequest, RegistriesConf};
use husk_model::{Classify, Kind};

fn store(root: &Path, conf: &str) -> Arc<ImageStore> {
    let path = root.join("registries.conf");
    fs::write(&path, conf).unwrap();
    let config = ImagesConfig {
        registry_config_dir: root.join("certs.d"),
        registries: Some(Arc::new(RegistriesConf::load(&path).unwrap())),
        max_parallel_layers: 3,
        pull_progress_timeout: Duration::from_secs(5),
        ..ImagesConfig::default()
    };
    ImageStore::open(root, config).unwrap()
}

fn request(reference: &str) -> PullRequest {
    PullRequest { reference: reference.to_owned(), auth: None, platform: None }
}

fn image(content: &str) -> Image {
    Image::new(&[Tar::new().file("file", 0o644, content.as_bytes()).bytes()], gzip)
}

#[tokio::test]
async fn a_namespace_comes_from_its_mirror_and_keeps_its_name() {
    if !is_root() {
        return;
    }
    let (mirror, own) = (Registry::start().await, image("mirrored"));
    mirror.push("deep/hub/team/app", "1", &own);
    let root = tempfile::tempdir().unwrap();
    let store = store(
        root.path(),
        &format!(
            "[[registry]]\nlocation = \"a.example/team\"\n[[registry.mirror]]\nlocation = \"{}/deep/hub/team\"\n",
            mirror.host()
        ),
    );
    let id = store.pull(request("a.example/team/app:1")).await.unwrap();
    let found = store.resolve("a.example/team/app:1").unwrap();
    assert_eq!(
        (found.id.clone(), found.repo_tags.as_slice()),
        (id, ["a.example/team/app:1".to_owned()].as_slice())
    );
    assert_eq!(found.repo_digests, [format!("a.example/team/app@{}", own.digest())]);
    assert!(
        mirror.count("/v2/deep/hub/team/app/manifests/1") > 0
            && mirror.seen().iter().all(|seen| seen.query.is_empty()),
        "{:?}",
        mirror.seen()
    );
}

#[tokio::test]
async fn insecure_takes_plain_http_where_https_does_not_answer() {
    if !is_root() {
        return;
    }
    let (mirror, own) = (Registry::start().await, image("plain"));
    mirror.push("app", "1", &own);
    let root = tempfile::tempdir().unwrap();
    let store = store(
        root.path(),
        &format!(
            "[[registry]]\nprefix = \"*.a.example\"\nlocation = \"{}\"\ninsecure = true\n",
            mirror.host()
        ),
    );
    store.pull(request("x.a.example/app:1")).await.unwrap();
}

#[tokio::test]
async fn a_blocked_registry_is_refused_before_anybody_is_asked() {
    if !is_root() {
        return;
    }
    let registry = Registry::start().await;
    registry.push("app", "1", &image("x"));
    let root = tempfile::tempdir().unwrap();
    let store =
        store(root.path(), &format!("[[registry]]\nlocation = \"{}\"\nblocked = true\n", registry.host()));
    let error = store.pull(request(&format!("{}/app:1", registry.host()))).await.unwrap_err();
    let text = shown(&error);
    assert!(text.contains("is blocked by") && text.contains("registries.conf:1"), "{text}");
    assert_eq!((error.kind(), registry.seen().len()), (Kind::FailedPrecondition, 0));
}

#[tokio::test]
async fn a_short_name_is_searched_and_found_again_under_it() {
    if !is_root() {
        return;
    }
    let (first, second) = (Registry::start().await, Registry::start().await);
    second.push("app", "1", &image("second"));
    let root = tempfile::tempdir().unwrap();
    let conf = format!(
        "unqualified-search-registries = [\"{}\", \"{}\"]\n[aliases]\ntool = \"{}/tools/tool\"\n",
        first.host(),
        second.host(),
        first.host()
    );
    let store = store(root.path(), &conf);
    assert!(store.resolve("app:1").is_none());
    let id = store.pull(request("app:1")).await.unwrap();
    assert!(first.count("/v2/app/manifests/1") > 0, "the first of the list is asked first");
    let found = store.resolve("app:1").expect("the name that the client gave");
    assert_eq!((found.id.clone(), found.repo_tags.clone()), (id, vec![format!("{}/app:1", second.host())]));
    assert!(store.resolve("docker.io/library/app:1").is_none());
    let error = store.pull(request("nowhere:1")).await.unwrap_err();
    let text = shown(&error);
    assert!(text.contains(&first.host()) && text.contains(&second.host()), "{text}");
    assert_eq!(error.kind(), Kind::NotFound);
    first.push("tools/tool", "2", &image("tool"));
    store.pull(request("tool:2")).await.unwrap();
    assert_eq!(store.resolve("tool:2").unwrap().repo_tags, [format!("{}/tools/tool:2", first.host())]);
    store.remove("app:1").await.unwrap();
    assert!(store.resolve("app:1").is_none() && store.list().len() == 1);
    // A node that reads no such file has Docker's names.
    store.reconfigure(ImagesConfig::default());
    assert!(store.resolve("tool:2").is_none());
}

#[tokio::test]
async fn credentials_that_name_no_registry_do_not_go_to_mirrors() {
    if !is_root() {
        return;
    }
    let mirror = Registry::with(|seen| {
        let mut answer = Answer::status(401);
        answer.headers.push(("www-authenticate", "Basic realm=\"x\"".into()));
        (!seen.headers.contains_key("authorization")).then_some(answer)
    })
    .await;
    mirror.push("app", "1", &image("x"));
    let root = tempfile::tempdir().unwrap();
    let conf = format!("[[registry]]\nprefix = \"a.example\"\nlocation = \"{}\"\n", mirror.host());
    let store = store(root.path(), &conf);
    let auth = |server: &str| {
        let (username, password) = ("u".to_owned(), "p".to_owned());
        Some(Auth { username, password, server_address: server.to_owned(), ..Auth::default() })
    };
    let pull = |auth| store.pull(PullRequest { reference: "a.example/app:1".into(), auth, platform: None });
    for server in ["", "a.example"] {
        assert_eq!(pull(auth(server)).await.unwrap_err().kind(), Kind::Unauthenticated, "{server}");
    }
    pull(auth(&mirror.host())).await.unwrap();
}

#[tokio::test]
async fn credentials_for_what_a_short_name_means_to_its_client_do_not_go_to_searched_registries_and_aliases()
{
    if !is_root() {
        return;
    }
    let searched = Registry::with(|seen| {
        let mut answer = Answer::status(401);
        answer.headers.push(("www-authenticate", "Basic realm=\"x\"".into()));
        (!seen.headers.contains_key("authorization")).then_some(answer)
    })
    .await;
    let host = searched.host();
    for name in ["app", "tools/tool"] {
        searched.push(name, "1", &image("x"));
    }
    let root = tempfile::tempdir().unwrap();
    let conf =
        format!("unqualified-search-registries = [\"{host}\"]\n[aliases]\ntool = \"{host}/tools/tool\"\n");
    let store = store(root.path(), &conf);
    let pull = |name: &str, server: &str, token: bool| {
        let mut auth = Auth { server_address: server.to_owned(), ..Auth::default() };
        if token {
            auth.registry_token = "t".to_owned();
        } else {
            (auth.username, auth.password) = ("u".to_owned(), "p".to_owned());
        }
        store.pull(PullRequest { reference: name.to_owned(), auth: Some(auth), platform: None })
    };
    // The kubelet names no registry and looks credentials up for docker.io/library/app.
    for (server, token) in
        [("", false), ("", true), ("docker.io", false), ("https://index.docker.io/v1/", true)]
    {
        for name in ["app:1", "tool:1"] {
            let error = pull(name, server, token).await.unwrap_err();
            assert_eq!(error.kind(), Kind::Unauthenticated, "{name} {server}");
        }
    }
    assert!(searched.seen().iter().all(|seen| !seen.headers.contains_key("authorization")));
    pull("app:1", &host, false).await.unwrap();
    pull("tool:1", &host, false).await.unwrap();
    // Whoever names the registry in the image means it.
    pull(&format!("{host}/app:1"), "", true).await.unwrap();
}
