//! The signature policy, against registries that serve signatures and those that cheat.

mod common;

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use common::{
    Image, OCI_INDEX, OCI_MANIFEST, Tar, goarch, gzip, is_root, layer_dirs,
    raw::{Raw, Step},
    registry::{Answer, Registry},
    sha256, shown,
    sign::{ANNOTATION, SIMPLE_SIGNING, Signed, Signer, attach, attach_layers},
};
use husk_images::{ImageStore, ImagesConfig, PullRequest};
use husk_model::{Classify, ImageId, Kind};
use serde_json::{Value, json};

struct Node {
    root: tempfile::TempDir,
    store: Arc<ImageStore>,
}

impl Node {
    /// A store under `policy`, in which `/key` is the path of `signer`'s key.
    fn new(signer: &Signer, policy: &Value) -> Self {
        let root = tempfile::tempdir().unwrap();
        let key = root.path().join("key.pub");
        fs::write(&key, signer.pem()).unwrap();
        let node = Self { store: open(root.path()), root };
        node.write(policy);
        node
    }

    fn write(&self, policy: &Value) {
        let key = self.root.path().join("key.pub").display().to_string();
        fs::write(self.root.path().join("policy.json"), policy.to_string().replace("/key", &key)).unwrap();
    }

    async fn pull(&self, reference: &str) -> Result<ImageId, (Kind, String)> {
        let request = PullRequest { reference: reference.to_owned(), auth: None, platform: None };
        let pulled = self.store.pull(request).await;
        pulled.map_err(|error| {
            assert_eq!(error.is_refusal(), shown(&error).contains("is refused by"), "{error}");
            (error.kind(), shown(&error))
        })
    }

    async fn is_refused(&self, reference: &str, words: &[&str]) {
        let (kind, text) = self.pull(reference).await.expect_err(reference);
        eprintln!("{text}");
        assert_eq!(kind, Kind::FailedPrecondition, "{text}");
        assert!(text.contains("is refused by"), "{text}");
        words.iter().for_each(|word| assert!(text.contains(word), "{word}: {text}"));
        assert_eq!((self.store.list().len(), layer_dirs(self.root.path())), (0, 0), "{text}");
    }
}

fn open(root: &Path) -> Arc<ImageStore> {
    let config = ImagesConfig {
        registry_config_dir: root.join("certs.d"),
        pull_progress_timeout: Duration::from_secs(5),
        signature_policy: Some(root.join("policy.json")),
        ..ImagesConfig::default()
    };
    ImageStore::open(root, config).unwrap()
}

fn image() -> Image {
    Image::new(&[Tar::new().file("hello", 0o644, b"hello").bytes()], gzip)
}

/// Everything has to be signed, in whatever name of the same repository.
fn signed() -> Value {
    json!({ "default": [{ "type": "sigstoreSigned", "keyPath": "/key",
                          "signedIdentity": { "type": "matchRepository" } }] })
}

#[tokio::test]
async fn a_signed_image_is_pulled_and_an_unsigned_one_is_not() {
    if !is_root() {
        return;
    }
    let (registry, signer, image) = (Registry::start().await, Signer::new(), image());
    registry.push("a", "1", &image);
    let node = Node::new(&signer, &signed());
    let name = format!("{}/a", registry.host());
    node.is_refused(
        &format!("{name}:1"),
        &["the default", "rule 1 (sigstoreSigned)", "has no signature", &image.digest()],
    )
    .await;
    assert_eq!(registry.count("/blobs/"), 1, "the configuration; no layer was fetched");
    attach(&registry, "a", &image.digest(), &[signer.about(&image.digest(), &name)]);
    let id = node.pull(&format!("{name}:1")).await.unwrap();
    assert_eq!(id.to_string(), image.id());
    node.pull(&format!("{name}@{}", image.digest())).await.unwrap();
    // What is here is checked again with a pull of it, under the policy and the signatures of that moment.
    registry.put(&format!("a/manifests/{}.sig", image.digest().replace(':', "-")), OCI_MANIFEST, b"{}");
    let (_, text) = node.pull(&format!("{name}:1")).await.unwrap_err();
    assert!(text.contains("has no signature"), "{text}");
    node.write(&json!({ "default": [{ "type": "insecureAcceptAnything" }] }));
    node.pull(&format!("{name}:1")).await.unwrap();
}

#[tokio::test]
async fn a_signature_that_is_not_of_this_image_by_this_key_for_this_name_does_not_count() {
    if !is_root() {
        return;
    }
    let (registry, signer, other, image) = (Registry::start().await, Signer::new(), Signer::new(), image());
    registry.push("a", "1", &image);
    let exact = json!({ "default": [{ "type": "sigstoreSigned", "keyPath": "/key" }] });
    let node = Node::new(&signer, &exact);
    let (digest, tagged) = (image.digest(), format!("{}/a:1", registry.host()));
    let good = signer.about(&digest, &tagged);
    let with = |annotation: String| Signed { annotation, ..good.clone() };
    let longest = signer.about(&digest, &format!("{}{tagged}", " ".repeat(65 << 10)));
    for (signature, word) in [
        (signer.about(&sha256(b"other"), &tagged), "another image"),
        (other.about(&digest, &tagged), "none of the rule's keys"),
        (signer.about(&digest, &format!("{}/b:1", registry.host())), "/b:1"),
        (signer.about(&digest, &format!("{}/a:2", registry.host())), "/a:2"),
        (signer.about(&digest, &format!("{}/a", registry.host())), "matchRepository"),
        (with(good.annotation[..good.annotation.len() - 8].to_owned()), "none of the rule's keys"),
        (with(String::new()), "none of the rule's keys"),
        (with("%".into()), "base64"),
        (with("A".repeat(5 << 10)), "too long"),
        (Signed { annotation: signer.sign(b"[]"), payload: b"[]".to_vec() }, "no object"),
        (longest, "more than 65536 bytes"),
    ] {
        attach(&registry, "a", &digest, &[signature]);
        node.is_refused(&tagged, &["its signature does not count", word]).await;
    }
    // Layers that are no signatures, without their blobs, or with others.
    let layer = |digest: &str| json!({ "mediaType": SIMPLE_SIGNING, "digest": digest, "size": good.payload.len(), "annotations": { ANNOTATION: good.annotation } });
    registry.put(&format!("a/blobs/{}", sha256(b"x")), "application/octet-stream", &good.payload);
    for (layers, word) in [
        (vec![layer(&sha256(b"x"))], "not there or damaged"),
        (vec![layer(&sha256(b"y"))], "not there or damaged"),
        (vec![layer("sha512:1")], "sha512:1"),
        (vec![json!({ "mediaType": SIMPLE_SIGNING })], "no signature annotation"),
        (vec![json!({ "mediaType": "text/plain" })], "text/plain"),
        (vec![json!(null), json!({})], "none of its 2 signatures counts"),
    ] {
        attach_layers(&registry, "a", &digest, &layers);
        node.is_refused(&tagged, &[word]).await;
    }
    // Among all of these, the right one counts.
    attach(&registry, "a", &digest, &[other.about(&digest, &tagged), good.clone(), with(String::new())]);
    node.pull(&tagged).await.unwrap();
}

#[tokio::test]
async fn rules_add_up_and_the_most_specific_scope_counts() {
    if !is_root() {
        return;
    }
    let (registry, signer, second, image) = (Registry::start().await, Signer::new(), Signer::new(), image());
    for name in ["a", "b", "team/c", "team/d"] {
        registry.push(name, "1", &image);
    }
    let host = registry.host();
    let rule = |key: &str| json!({ "type": "sigstoreSigned", "keyData": key, "signedIdentity": { "type": "matchRepository" } });
    let key = |signer: &Signer| {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        STANDARD.encode(signer.pem())
    };
    let both = [rule(&key(&signer)), rule(&key(&second))];
    let policy = json!({ "default": [{ "type": "insecureAcceptAnything" }], "transports": { "docker": {
        "": [{ "type": "reject" }],
        format!("{host}/a"): both,
        format!("{host}/team"): [{ "type": "insecureAcceptAnything" }, { "type": "reject" }],
        format!("{host}/team/d:1"): [{ "type": "insecureAcceptAnything" }],
    }}});
    let node = Node::new(&signer, &policy);
    let digest = image.digest();
    node.is_refused(&format!("{host}/b:1"), &["the default of docker, rule 1 (reject)"]).await;
    node.is_refused(&format!("{host}/team/c:1"), &["/team\" of docker, rule 2 (reject)"]).await;
    assert_eq!(registry.seen().len(), 0, "nothing was asked of what is refused anyway");
    attach(&registry, "a", &digest, &[signer.about(&digest, &format!("{host}/a"))]);
    node.is_refused(&format!("{host}/a:1"), &["rule 2 (sigstoreSigned)", "none of the rule's keys"]).await;
    let signatures = [&signer, &second].map(|signer| signer.about(&digest, &format!("{host}/a")));
    attach(&registry, "a", &digest, &signatures);
    node.pull(&format!("{host}/a:1")).await.unwrap();
    node.pull(&format!("{host}/team/d:1")).await.unwrap();
}

#[tokio::test]
async fn a_signature_of_the_index_counts_for_its_images_and_one_of_the_image_too() {
    if !is_root() {
        return;
    }
    let (registry, signer, image) = (Registry::start().await, Signer::new(), image());
    registry.push("a", "unused", &image);
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [
        { "mediaType": OCI_MANIFEST, "digest": image.digest(), "size": image.manifest.len(),
          "platform": { "os": "linux", "architecture": goarch() } },
    ]})
    .to_string();
    let top = sha256(index.as_bytes());
    registry.put("a/manifests/1", OCI_INDEX, index.as_bytes());
    let name = format!("{}/a", registry.host());
    for about in [&top, &image.digest()] {
        let node = Node::new(&signer, &signed());
        attach(&registry, "a", about, &[]);
        node.is_refused(&format!("{name}:1"), &["has no signature", &top, &image.digest()]).await;
        attach(&registry, "a", about, &[signer.about(about, &name)]);
        node.pull(&format!("{name}:1")).await.unwrap();
        attach(&registry, "a", about, &[]);
    }
}

#[tokio::test]
async fn a_tag_that_moves_after_the_check_changes_nothing() {
    if !is_root() {
        return;
    }
    let (signer, good) = (Signer::new(), image());
    let evil = Image::new(&[Tar::new().file("evil", 0o644, b"evil").bytes()], gzip);
    // Once the signatures are asked for, the tag means the other image.
    let asked = Arc::new(AtomicUsize::new(0));
    let (seen_sig, moved) = (Arc::clone(&asked), evil.clone());
    let registry = Registry::with(move |seen| {
        if seen.path.ends_with(".sig") {
            seen_sig.fetch_add(1, Ordering::SeqCst);
        }
        let is_moved = seen.path.ends_with("/manifests/1") && seen_sig.load(Ordering::SeqCst) > 0;
        is_moved.then(|| Answer {
            status: 200,
            headers: vec![("content-type", OCI_MANIFEST.into())],
            body: moved.manifest.clone(),
            cut: None,
        })
    })
    .await;
    registry.push("a", "1", &good);
    registry.push("a", "2", &evil);
    let name = format!("{}/a", registry.host());
    attach(&registry, "a", &good.digest(), &[signer.about(&good.digest(), &name)]);
    let node = Node::new(&signer, &signed());
    assert_eq!(node.pull(&format!("{name}:1")).await.unwrap().to_string(), good.id());
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    // From now on the tag means an image that nobody signed.
    let (_, text) = node.pull(&format!("{name}:1")).await.unwrap_err();
    assert!(text.contains("has no signature") && text.contains(&evil.digest()), "{text}");
}

#[tokio::test]
async fn signatures_without_number_or_end_cost_little() {
    if !is_root() {
        return;
    }
    let (registry, signer, other, image) = (Registry::start().await, Signer::new(), Signer::new(), image());
    registry.push("a", "1", &image);
    let (digest, name) = (image.digest(), format!("{}/a", registry.host()));
    let wrong: Vec<_> = (0..3000).map(|at| other.about(&digest, &format!("{name}:{at}"))).collect();
    let mut all = vec![signer.about(&digest, &name)];
    all.extend(wrong);
    attach(&registry, "a", &digest, &all);
    let node = Node::new(&signer, &signed());
    node.is_refused(&format!("{name}:1"), &["none of its 3001 signatures counts"]).await;
    assert_eq!(registry.count("/blobs/"), 1 + 64, "the configuration and the newest signatures");
    // The newest is looked at first.
    all.push(signer.about(&digest, &name));
    attach(&registry, "a", &digest, &all);
    node.pull(&format!("{name}:1")).await.unwrap();
}

#[tokio::test]
async fn a_registry_that_does_not_tell_its_signatures_is_not_one_without_any() {
    if !is_root() {
        return;
    }
    let (signer, image) = (Signer::new(), image());
    for status in [500, 429, 401, 403] {
        let registry = Registry::with(move |seen| {
            seen.path
                .ends_with(".sig")
                .then(|| Answer { headers: vec![("retry-after", "0".into())], ..Answer::status(status) })
        })
        .await;
        registry.push("a", "1", &image);
        let node = Node::new(&signer, &signed());
        let (kind, text) = node.pull(&format!("{}/a:1", registry.host())).await.unwrap_err();
        let wanted = match status {
            401 => Kind::Unauthenticated,
            403 => Kind::PermissionDenied,
            _ => Kind::Unavailable,
        };
        assert!(kind == wanted && text.contains("signatures of sha256:"), "{status}: {kind:?} {text}");
        assert!(node.store.list().is_empty());
    }
    // One that says nothing at all is given up.
    let raw = Raw::start();
    raw.push("a", &image);
    raw.script(|asked, _| asked.path.ends_with(".sig").then(|| vec![Step::Silence]));
    let node = Node::new(&signer, &signed());
    let started = Instant::now();
    let (kind, text) = node.pull(&format!("{}/a:1", raw.address)).await.unwrap_err();
    assert!(kind == Kind::Unavailable && text.contains("no progress within 5s"), "{kind:?} {text}");
    assert!(started.elapsed() < common::PATIENCE);
}

#[tokio::test]
async fn a_policy_that_cannot_be_read_lets_nothing_in() {
    if !is_root() {
        return;
    }
    let (registry, signer) = (Registry::start().await, Signer::new());
    registry.push("a", "1", &image());
    let node = Node::new(&signer, &json!({ "default": [{ "type": "acceptAll" }] }));
    for (policy, word) in [
        (Some(r#"{"default":[{"type":"acceptAll"}]}"#), "default[0].type: \"acceptAll\""),
        (Some("{"), "EOF"),
        (None, "No such file"),
    ] {
        let path = node.root.path().join("policy.json");
        match policy {
            Some(text) => fs::write(&path, text).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let (kind, text) = node.pull(&format!("{}/a:1", registry.host())).await.unwrap_err();
        assert!(kind == Kind::FailedPrecondition && text.contains(word), "{text}");
        assert!(text.contains("policy.json") && !text.contains("is refused by"), "{text}");
    }
    assert_eq!(registry.seen().len(), 0);
}
