//! Credentials of the node: whose they are, and who never gets them.

mod common;

use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use common::{
    Image, Tar, gzip, is_root,
    registry::{Answer, Registry, Seen},
    shown,
};
use husk_images::{Auth, ImageStore, ImagesConfig, PullRequest};
use husk_model::{Classify, Kind};
use serde_json::{Value, json};

fn image() -> Image {
    Image::new(&[Tar::new().file("hello", 0o644, b"hello").bytes()], gzip)
}

/// A registry that lets only `user` in, who has the password `p`.
async fn private(user: &str) -> Registry {
    let wanted = format!("Basic {}", STANDARD.encode(format!("{user}:p")));
    Registry::with(move |seen| {
        let known = seen.headers.get("authorization").is_some_and(|value| *value == *wanted);
        (!known).then(|| Answer {
            headers: vec![("www-authenticate", "Basic realm=x".into())],
            ..Answer::status(401)
        })
    })
    .await
}

/// Everything that was sent to `registry` to show who asks.
fn shown_to(registry: &Registry) -> Vec<String> {
    let authorization = |seen: &Seen| {
        Some(String::from_utf8_lossy(seen.headers.get("authorization")?.as_bytes()).into_owned())
    };
    let decoded = |text: String| match text.strip_prefix("Basic ") {
        Some(basic) => String::from_utf8(STANDARD.decode(basic).unwrap()).unwrap(),
        None => text,
    };
    let mut shown: Vec<_> = registry.seen().iter().filter_map(authorization).map(decoded).collect();
    shown.sort();
    shown.dedup();
    shown
}

fn entry(user: &str) -> Value {
    json!({ "auth": STANDARD.encode(format!("{user}:p")) })
}

fn open(root: &Path) -> Arc<ImageStore> {
    let config = ImagesConfig {
        registry_config_dir: root.join("certs.d"),
        pull_progress_timeout: Duration::from_secs(5),
        auth_file: Some(root.join("auth.json")),
        credential_helper_dir: Some(root.to_owned()),
        ..ImagesConfig::default()
    };
    ImageStore::open(root, config).unwrap()
}

fn write(path: &Path, file: &Value) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, file.to_string()).unwrap();
}

async fn pull(store: &Arc<ImageStore>, reference: String, auth: Option<Auth>) -> Result<(), (Kind, String)> {
    let pulled = store.pull(PullRequest { reference, auth, platform: None }).await;
    pulled.map(drop).map_err(|error| (error.kind(), shown(&error)))
}

#[tokio::test]
async fn the_most_specific_credentials_of_the_nodes_file_are_used_unless_the_pull_brings_some() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let registry = private("team").await;
    for name in ["team/app", "other"] {
        registry.push(name, "1", &image());
    }
    let host = registry.host();
    let auths = json!({ &host: entry("all"), format!("{host}/team"): entry("team"), "elsewhere.example": entry("other") });
    write(&root.path().join("auth.json"), &json!({ "auths": auths }));
    pull(&store, format!("{host}/team/app:1"), None).await.unwrap();
    let (kind, text) = pull(&store, format!("{host}/other:1"), None).await.unwrap_err();
    assert!(kind == Kind::Unauthenticated && text.contains("images.auth_file"), "{text}");
    let given = |user: &str, server: &str| {
        let (username, server_address) = (user.to_owned(), server.to_owned());
        Some(Auth { username, server_address, password: "p".into(), ..Auth::default() })
    };
    pull(&store, format!("{host}/other:1"), given("team", "")).await.unwrap();
    pull(&store, format!("{host}/team/app:1"), given("wrong", &host)).await.unwrap_err();
    // Those for another registry are none for this one.
    pull(&store, format!("{host}/team/app:1"), given("wrong", "elsewhere.example")).await.unwrap();
    pull(&store, format!("{host}/team/app:1"), Some(Auth::default())).await.unwrap();
    assert_eq!(shown_to(&registry), ["all:p", "team:p", "wrong:p"]);
}

#[tokio::test]
async fn a_mirror_gets_its_own_credentials_and_nobody_elses() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let (mirror, registry) = (private("mirror").await, private("secret").await);
    // The mirror lacks a part of what is pulled, so both are asked.
    let mut part = image();
    part.blobs.retain(|digest, _| *digest == image().id());
    mirror.push("hub/app", "1", &part);
    registry.push("app", "1", &image());
    let certs = root.path().join("certs.d/registry.example");
    write(
        &certs.join("auth.json"),
        &json!({ "auths": { format!("{}/hub", mirror.host()): entry("mirror") } }),
    );
    let hosts = format!("server = \"http://{}\"\n[host.\"http://{}/hub\"]\n", registry.host(), mirror.host());
    fs::write(certs.join("hosts.toml"), hosts).unwrap();
    write(&root.path().join("auth.json"), &json!({ "auths": {} }));
    let secret = Auth { username: "secret".into(), password: "p".into(), ..Auth::default() };
    pull(&store, "registry.example/app:1".into(), Some(secret)).await.unwrap();
    assert_eq!((shown_to(&mirror), shown_to(&registry)), (vec!["mirror:p".into()], vec!["secret:p".into()]));
    // What is for the registry's name is not for its mirror either, and the mirror's is not for the registry.
    let (other, origin) = (private("x").await, private("y").await);
    fs::remove_file(certs.join("auth.json")).unwrap();
    let hosts = format!("server = \"http://{}\"\n[host.\"http://{}\"]\n", origin.host(), other.host());
    fs::write(certs.join("hosts.toml"), hosts).unwrap();
    let auths = json!({ "registry.example": entry("named"), other.host(): entry("theirs") });
    write(&root.path().join("auth.json"), &json!({ "auths": auths }));
    let (kind, text) = pull(&store, "registry.example/app:1".into(), None).await.unwrap_err();
    assert_eq!(kind, Kind::Unauthenticated, "{text}");
    assert_eq!((shown_to(&other), shown_to(&origin)), (vec!["theirs:p".into()], vec![]));
}

#[tokio::test]
async fn helpers_and_tokens_of_the_file_are_used() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let helped = private("helped").await;
    helped.push("a", "1", &image());
    let helper = root.path().join("docker-credential-vault");
    let script = "#!/bin/sh\nread -r server\necho \"$server\" >> \"${0%/*}/asked\"\necho '{\"Username\":\"helped\",\"Secret\":\"p\"}'\n";
    fs::write(&helper, script).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    write(&root.path().join("auth.json"), &json!({ "credHelpers": { helped.host(): "vault" } }));
    pull(&store, format!("{}/a:1", helped.host()), None).await.unwrap();
    assert_eq!(
        fs::read_to_string(root.path().join("asked")).unwrap(),
        format!("{}\n", helped.host()),
        "once a pull"
    );
    // A token that is sent as it is.
    let bearer = Registry::with(|seen| {
        let known = seen.headers.get("authorization").is_some_and(|value| value == "Bearer tok");
        (!known).then(|| Answer {
            headers: vec![("www-authenticate", "Bearer realm=\"/token\"".into())],
            ..Answer::status(401)
        })
    })
    .await;
    bearer.push("a", "1", &image());
    write(&root.path().join("auth.json"), &json!({ "auths": { bearer.host(): { "registrytoken": "tok" } } }));
    pull(&store, format!("{}/a:1", bearer.host()), None).await.unwrap();
    assert_eq!(bearer.count("/token"), 0);
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_named_without_its_secrets_where_credentials_are_wanted() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path());
    let (registry, open) = (private("u").await, Registry::start().await);
    for registry in [&registry, &open] {
        registry.push("a", "1", &image());
    }
    let host = registry.host();
    for (text, word) in [
        (format!(r#"{{"auths":{{"{host}":{{"auth":"hidden"}}}}}}"#), "auths["),
        (format!(r#"{{"auths":{{"{host}":{{"auth":"hidden}}"#), "at line 1"),
        (format!(r#"{{"auths":{{"{host}":"hidden"}}}}"#), "at line 1"),
        (r#"{"credsStore":"../../bin/sh"}"#.to_owned(), "its name"),
        (r#"{"credsStore":"absent"}"#.to_owned(), "docker-credential-absent is not in"),
    ] {
        fs::write(root.path().join("auth.json"), text).unwrap();
        let (kind, text) = pull(&store, format!("{host}/a:1"), None).await.unwrap_err();
        assert!(
            kind == Kind::FailedPrecondition && text.contains(word) && text.contains("auth.json"),
            "{text}"
        );
        assert!(!text.contains("hidden"), "{text}");
        pull(&store, format!("{}/a:1", open.host()), None).await.unwrap();
    }
    fs::remove_file(root.path().join("auth.json")).unwrap();
    let (kind, text) = pull(&store, format!("{host}/a:1"), None).await.unwrap_err();
    assert!(kind == Kind::Unauthenticated && text.contains("images.auth_file"), "{text}");
    assert_eq!(shown_to(&registry), Vec::<String>::new());
}
