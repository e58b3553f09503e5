//! What publishers and registries really bring: odd, and an image all the same.

mod common;

use std::sync::Arc;

use common::{
    Image, OCI_INDEX, OCI_MANIFEST, PATIENCE, Tar, goarch, gzip, is_root,
    registry::{Answer, Registry},
    sha256, store,
};
use husk_images::{Auth, ImageStore, ImagesConfig, PullRequest};
use husk_model::{Classify, Kind};
use husk_test_support::eventually_with;
use serde_json::{Value, json};

fn layers() -> Vec<Vec<u8>> {
    vec![Tar::new().file("a", 0o644, b"a").bytes(), Tar::new().file("b", 0o644, b"b").bytes()]
}

/// An image whose configuration and manifest were rewritten as text.
fn rewritten(config: impl Fn(Value) -> String, manifest: impl Fn(Value) -> String) -> Image {
    let mut image = Image::new(&layers(), gzip);
    image.blobs.remove(&image.id());
    let old = image.id();
    image.config = config(serde_json::from_slice(&image.config).unwrap()).into_bytes();
    image.blobs.insert(image.id(), image.config.clone());
    let text = String::from_utf8(image.manifest.clone()).unwrap().replace(&old, &image.id());
    let mut value: Value = serde_json::from_str(&text).unwrap();
    value["config"]["size"] = image.config.len().into();
    image.manifest = manifest(value).into_bytes();
    image
}

fn same(value: Value) -> String {
    value.to_string()
}

/// The document with a further member first.
fn with(value: &Value, member: &str) -> String {
    format!("{{{member},{}", &value.to_string()[1..])
}

async fn pull(store: &Arc<ImageStore>, reference: String) -> Result<String, (Kind, String)> {
    let pulled = store.pull(PullRequest { reference, auth: None, platform: None }).await;
    pulled.map(|id| id.to_string()).map_err(|error| {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        (error.kind(), text)
    })
}

#[tokio::test]
async fn odd_documents_are_images_where_go_reads_them_as_images() {
    if !is_root() {
        return;
    }
    let x86 = |name: &'static str| {
        move |mut value: Value| {
            value["architecture"] = name.into();
            value.to_string()
        }
    };
    let odd_config = |mut value: Value| {
        value["config"] = json!({ "Env": null, "Labels": { "a": null }, "Volumes": null, "ExposedPorts": null, "User": null,
            "Entrypoint": "/bin/sh", "WorkingDir": null, "StopSignal": null, "OnBuild": null });
        value["history"] = json!([{ "created_by": null, "empty_layer": true }, null]);
        with(&value, r#""Created":null,"x":1e999,"deep":[[[{"Y":-99999999999999999999999999}]]]"#)
    };
    let arch = if goarch() == "amd64" { "X86_64" } else { "AARCH64" };
    let images = [
        (
            "nulls",
            rewritten(odd_config, |value| {
                with(&value, r#""annotations":null,"subject":null,"manifests":null"#)
            }),
        ),
        (
            "case",
            rewritten(
                |value| value.to_string().replace("\"rootfs\"", "\"RootFS\"").replace("\"os\"", "\"OS\""),
                |value| {
                    value
                        .to_string()
                        .replace("\"layers\"", "\"Layers\"")
                        .replace("\"digest\"", "\"Digest\"")
                        .replace("\"config\"", "\"CONFIG\"")
                },
            ),
        ),
        (
            "twice",
            rewritten(
                |value| with(&value, r#""rootfs":{"diff_ids":["nonsense"]},"architecture":"none""#),
                |value| with(&value, r#""layers":[],"schemaVersion":1e5"#),
            ),
        ),
        (
            "untyped",
            rewritten(same, |mut value| {
                for layer in value["layers"].as_array_mut().unwrap() {
                    layer["mediaType"] = Value::Null;
                }
                value["config"]["mediaType"] = Value::Null;
                value["mediaType"] = "".into();
                value.as_object_mut().unwrap().remove("schemaVersion");
                value.to_string()
            }),
        ),
        (
            "mislabelled",
            rewritten(same, |mut value| {
                value["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.v1.tar+zstd".into();
                value["layers"][1]["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar".into();
                value.to_string()
            }),
        ),
        ("otherarch", rewritten(x86(arch), same)),
        (
            "noplatform",
            rewritten(
                |mut value| {
                    value.as_object_mut().unwrap().remove("os");
                    value["architecture"] = Value::Null;
                    value.to_string()
                },
                same,
            ),
        ),
    ];
    let registry = Registry::start().await;
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    for (name, image) in &images {
        registry.push(name, "1", image);
        assert_eq!(pull(&store, format!("{}/{name}:1", registry.host())).await, Ok(image.id()), "{name}");
    }
    let found = store.resolve(&images[0].1.id()).unwrap();
    assert_eq!(found.config.entrypoint, ["/bin/sh"]);
    assert_eq!((found.config.env.len(), found.config.labels["a"].as_str()), (0, ""));
    // None of it keeps the store from opening again.
    store.idle().await;
    drop(store);
    // Its last work in the background holds the store a moment longer.
    let reopened = eventually_with(tokio::time::sleep, "the store opens again", PATIENCE, || {
        ImageStore::open(root.path(), ImagesConfig::default()).ok()
    })
    .await;
    // Two of them have one configuration and are one image.
    let ids: std::collections::BTreeSet<_> = images.iter().map(|(_, image)| image.id()).collect();
    assert_eq!(reopened.list().len(), ids.len());
}

#[tokio::test]
async fn what_is_no_image_for_this_node_is_refused_with_its_reason() {
    if !is_root() {
        return;
    }
    let diff_id = |mut value: Value| {
        value["rootfs"]["diff_ids"].as_array_mut().unwrap().pop();
        value.to_string()
    };
    let config_type = |name: &'static str| {
        move |mut value: Value| {
            value["config"]["mediaType"] = name.into();
            value.to_string()
        }
    };
    let layer = |key: &'static str, with: Value| {
        move |mut value: Value| {
            value["layers"][0][key] = with.clone();
            value.to_string()
        }
    };
    let upper = format!("sha256:{}", "A".repeat(64));
    let cases = [
        ("count", rewritten(diff_id, same), "rootfs.diff_ids names 1 layers and the manifest 2"),
        ("norootfs", rewritten(|_| "{}".into(), same), "rootfs.diff_ids names 0 layers"),
        ("emptyconfig", rewritten(|_| String::new(), same), "it is empty"),
        (
            "user",
            rewritten(
                |mut value| {
                    value["config"]["User"] = 5.into();
                    value.to_string()
                },
                same,
            ),
            "config: User",
        ),
        ("helm", rewritten(same, config_type("application/vnd.cncf.helm.config.v1+json")), "OCI artifact"),
        (
            "noconfig",
            rewritten(same, |mut value| {
                value["config"] = Value::Null;
                value.to_string()
            }),
            "neither an image manifest",
        ),
        ("upper", rewritten(same, layer("digest", upper.into())), "lower-case"),
        ("negative", rewritten(same, layer("size", (-1).into())), "layers: entry 0: size -1"),
        ("nosize", rewritten(same, layer("size", Value::Null)), "bytes where 0 were declared"),
        (
            "big",
            rewritten(same, |value| value.to_string().replacen("\"size\":", "\"size\":9e99,\"size\":", 1)),
            "size",
        ),
        ("bom", rewritten(same, |value| format!("\u{feff}{value}")), "byte order mark"),
    ];
    let registry = Registry::start().await;
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    for (name, image, words) in &cases {
        registry.push(name, "1", image);
        let (kind, text) = pull(&store, format!("{}/{name}:1", registry.host())).await.expect_err(name);
        assert!(text.contains(words) && text.contains(&registry.host()), "{name}: {text}");
        assert_eq!(kind, Kind::DataLoss, "{name}: {text}");
    }
}

#[tokio::test]
async fn entries_without_a_platform_are_tried_until_one_suits() {
    if !is_root() {
        return;
    }
    let registry = Registry::start().await;
    let image = Image::new(&layers(), gzip);
    let other = rewritten(
        |mut value| {
            value["architecture"] = "s390x".into();
            value.to_string()
        },
        same,
    );
    let artifact = rewritten(same, |mut value| {
        value["config"]["mediaType"] = "application/vnd.oci.empty.v1+json".into();
        value.to_string()
    });
    for image in [&image, &other, &artifact] {
        registry.push("r", "unused", image);
    }
    let entry = |digest: &str, platform: Value| json!({ "digest": digest, "size": 1, "mediaType": OCI_MANIFEST, "platform": platform });
    let absent = entry(&sha256(b"absent"), Value::Null);
    let attestation = entry(&artifact.digest(), json!({ "os": "unknown", "architecture": "unknown" }));
    let put = |name: &str, entries: Vec<Value>| {
        let index = json!({ "schemaVersion": 2, "manifests": entries }).to_string();
        registry.put(&format!("r/manifests/{name}"), OCI_INDEX, index.as_bytes());
        registry.put(&format!("r/manifests/{}", sha256(index.as_bytes())), OCI_INDEX, index.as_bytes());
        sha256(index.as_bytes())
    };
    let plain = |image: &Image| entry(&image.digest(), Value::Null);
    let nested = put("nested", vec![attestation.clone(), plain(&other), plain(&image)]);
    put("first", vec![plain(&artifact), absent.clone(), plain(&other), plain(&image)]);
    put("deep", vec![entry(&nested, Value::Null)]);
    put(
        "named",
        vec![
            absent,
            json!({ "digest": "sha512:x", "platform": { "architecture": "mips" } }),
            entry(&image.digest(), json!({ "architecture": goarch() })),
        ],
    );
    put("none", vec![plain(&other), attestation]);
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    for tag in ["nested", "first", "deep", "named"] {
        assert_eq!(pull(&store, format!("{}/r:{tag}", registry.host())).await, Ok(image.id()), "{tag}");
    }
    let (kind, text) = pull(&store, format!("{}/r:none", registry.host())).await.unwrap_err();
    assert!(kind == Kind::NotFound && text.contains("linux/s390x"), "{text}");
}

/// An image whose layers are foreign, at `urls`, and not in the registry.
fn foreign(media_type: &str, urls: &[String]) -> (Image, Vec<Vec<u8>>) {
    let mut image = rewritten(same, |mut value| {
        for layer in value["layers"].as_array_mut().unwrap() {
            layer["mediaType"] = media_type.into();
            layer["urls"] = urls.into();
        }
        value.to_string()
    });
    let config = image.id();
    let blobs =
        image.blobs.iter().filter(|(digest, _)| **digest != config).map(|(_, blob)| blob.clone()).collect();
    image.blobs.retain(|digest, _| *digest == config);
    (image, blobs)
}

const FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";

#[tokio::test]
async fn foreign_layers_come_from_their_urls_without_credentials_and_not_from_this_node() {
    if !is_root() {
        return;
    }
    let (_, blobs) = foreign(FOREIGN, &[]);
    let layer = move |asked: &str| blobs.iter().find(|blob| asked.ends_with(&sha256(blob)[7..])).cloned();
    let (_, all) = foreign(FOREIGN, &[]);
    let serve = move |seen: &common::registry::Seen| {
        let body = layer(&seen.path).filter(|_| seen.path.starts_with("/elsewhere/"))?;
        Some(Answer { status: 200, body, ..Answer::default() })
    };
    let stranger = Registry::with(serve.clone()).await;
    let registry = Registry::with(move |seen| {
        let known = seen.headers.get("authorization").is_some_and(|value| value == "Basic dXNlcjpwYXNz");
        let open = seen.path.starts_with("/elsewhere/");
        assert!(!(open && known), "credentials were sent to where an image says");
        let challenge = || vec![("www-authenticate", "Basic realm=x".to_owned())];
        if known || open {
            serve(seen)
        } else {
            Some(Answer { status: 401, headers: challenge(), ..Answer::default() })
        }
    })
    .await;
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let auth = Auth { auth: "dXNlcjpwYXNz".into(), ..Auth::default() };
    let pull = async |name: &str, media_type: &str, host: &str| {
        // Each layer is at the address that ends with its digest.
        let (mut image, _) = foreign(media_type, &[]);
        let mut manifest: Value = serde_json::from_slice(&image.manifest).unwrap();
        for layer in manifest["layers"].as_array_mut().unwrap() {
            let hex = layer["digest"].as_str().unwrap()[7..].to_owned();
            layer["urls"] =
                json!(["ftp://a.example/x", "nonsense", format!("http://{host}/elsewhere/{hex}")]);
        }
        image.manifest = manifest.to_string().into_bytes();
        registry.push(name, "1", &image);
        let reference = format!("{}/{name}:1", registry.host());
        store.pull(PullRequest { reference, auth: Some(auth.clone()), platform: None }).await
    };
    // A stranger on this node is not asked, by whatever name; one with the class of other layers neither.
    let port = stranger.address.port();
    for host in [
        stranger.host(),
        format!("localhost:{port}"),
        format!("[::ffff:127.0.0.1]:{port}"),
        format!("0.0.0.0:{port}"),
    ] {
        let error = pull("own", FOREIGN, &host).await.unwrap_err();
        assert!(error.to_string().contains("address refused"), "{host}: {error}");
    }
    let error = pull("domestic", "application/vnd.docker.image.rootfs.diff.tar.gzip", &registry.host())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound, "{error}");
    assert_eq!(stranger.seen().len(), 0, "nothing on this node was asked");
    assert_eq!(registry.count("/elsewhere/"), 0);
    // The registry itself may be one of the addresses.
    pull("registry", FOREIGN, &registry.host()).await.unwrap();
    assert_eq!(registry.count("/elsewhere/"), all.len());
}

#[tokio::test]
async fn a_redirect_target_does_not_get_credentials_by_asking() {
    if !is_root() {
        return;
    }
    let greedy = Registry::with(|_| {
        let challenge = vec![("www-authenticate", "Basic realm=x".to_owned())];
        Some(Answer { status: 401, headers: challenge, ..Answer::default() })
    })
    .await;
    let target = format!("http://{}/take", greedy.host());
    let registry = Registry::with(move |_| {
        Some(Answer { status: 307, headers: vec![("location", target.clone())], ..Answer::default() })
    })
    .await;
    let root = tempfile::tempdir().unwrap();
    let auth = Auth { username: "user".into(), password: "secret".into(), ..Auth::default() };
    let reference = format!("{}/r:1", registry.host());
    let error = store(root.path())
        .pull(PullRequest { reference, auth: Some(auth), platform: None })
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Unauthenticated, "{error}");
    assert_eq!(greedy.seen().len(), 1);
    assert!(greedy.seen()[0].headers.get("authorization").is_none());
    assert!(registry.seen().iter().all(|seen| seen.headers.get("authorization").is_none()));
}
