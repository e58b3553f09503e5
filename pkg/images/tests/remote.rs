//! What registries are asked besides pulls and pushes.

mod common;

use common::{
    Image, OCI_INDEX, OCI_MANIFEST, Tar, goarch, gzip, is_root,
    registry::{Answer, Registry},
    shown, store,
};
use husk_images::{Platform, PullRequest, SearchResult};
use husk_model::{Classify, Kind};
use serde_json::json;

fn of(architecture: &str) -> Platform {
    Platform { os: "linux".into(), architecture: architecture.into(), ..Platform::default() }
}

#[tokio::test]
async fn a_reference_is_looked_at_without_a_pull() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::start().await;
    let image = Image::new(&[Tar::new().file("f", 0o644, b"x").bytes()], gzip);
    registry.push("app", "1", &image);
    let store = store(root.path());
    let name = format!("{}/app:1", registry.host());
    let found = store.inspect_remote(&name, None).await.unwrap();
    assert_eq!(
        (found.descriptor.digest.to_string(), found.descriptor.media_type.as_str()),
        (image.digest(), OCI_MANIFEST)
    );
    assert_eq!(found.platforms[0].architecture, goarch());
    let entry = |architecture: &str, digest: &str| json!({ "mediaType": OCI_MANIFEST, "digest": digest, "size": 1, "platform": of(architecture) });
    let other = format!("sha256:{}", "b".repeat(64));
    let mut attestation = entry("unknown", &other);
    attestation["platform"]["os"] = "unknown".into();
    let index = json!({ "schemaVersion": 2, "manifests": [entry("s390x", &other), entry("arm64", &image.digest()), attestation] });
    registry.put("app/manifests/many", OCI_INDEX, index.to_string().as_bytes());
    let found = store.inspect_remote(&format!("{}/app:many", registry.host()), None).await.unwrap();
    assert_eq!(found.platforms, [of("s390x"), of("arm64")]);
    assert_eq!(found.descriptor.media_type, OCI_INDEX);
    assert!(store.list().is_empty() && registry.count("/blobs/") == 1, "the configuration alone");
    let error = store.inspect_remote(&format!("{}/app:none", registry.host()), None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound, "{}", shown(&error));
}

#[tokio::test]
async fn an_image_for_another_platform_is_pulled_when_it_is_asked_for() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::start().await;
    let mut image = Image::new(&[Tar::new().file("f", 0o644, b"x").bytes()], gzip);
    let own = common::sha256(&image.config);
    let config = String::from_utf8(image.config.clone()).unwrap().replace(goarch(), "s390x").into_bytes();
    image.manifest = String::from_utf8(image.manifest)
        .unwrap()
        .replace(&own, &common::sha256(&config))
        .replace(&format!("\"size\":{}", image.config.len()), &format!("\"size\":{}", config.len()))
        .into_bytes();
    image.blobs.insert(common::sha256(&config), config);
    registry.push("app", "1", &image);
    let store = store(root.path());
    let request =
        |platform| PullRequest { reference: format!("{}/app:1", registry.host()), auth: None, platform };
    let error = store.pull(request(None)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound, "{}", shown(&error));
    let id = store.pull(request(Some(of("s390x")))).await.unwrap();
    assert_eq!(store.find(id.as_str()).unwrap().config.platform.architecture, "s390x");
}

#[tokio::test]
async fn tags_are_listed_over_pages_and_a_page_leads_nowhere_else() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::with(|seen| {
        if seen.path != "/v2/app/tags/list" {
            return None;
        }
        let (tags, link) = match seen.query.as_str() {
            "" => (json!(["a", "b"]), Some("</v2/app/tags/list?last=b&n=2>; rel=\"next\"")),
            "last=b&n=2" => (json!(["c"]), Some("<http://169.254.169.254/x?last=c>; rel=\"next\"")),
            _ => (json!(null), None),
        };
        let headers = link.map(|link| ("link", link.to_owned())).into_iter().collect();
        let body = json!({ "name": "app", "tags": tags }).to_string().into_bytes();
        Some(Answer { headers, body, ..Answer::status(200) })
    })
    .await;
    let store = store(root.path());
    let tags = store.remote_tags(&format!("{}/app", registry.host()), None).await.unwrap();
    assert_eq!(tags, ["a", "b", "c"]);
    assert_eq!(registry.count("/tags/list"), 3);
    let error = store.remote_tags(&format!("{}/none", registry.host()), None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
}

#[tokio::test]
async fn a_search_asks_the_registry_that_the_word_names() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::with(|seen| {
        let body = json!({ "num_results": 2, "results": [
            { "name": "library/app", "description": "An app", "star_count": 7, "is_official": true, "is_automated": false },
            { "name": "other/app", "description": null, "star_count": 0 },
        ]});
        (seen.path == "/v1/search").then(|| Answer { body: body.to_string().into_bytes(), ..Answer::status(200) })
    })
    .await;
    let store = store(root.path());
    let found = store.search(&format!("{}/app word", registry.host()), 25, None).await.unwrap();
    let first = SearchResult {
        name: "library/app".into(),
        description: "An app".into(),
        stars: 7,
        is_official: true,
        is_automated: false,
    };
    assert_eq!((found.len(), &found[0], found[1].name.as_str()), (2, &first, "other/app"));
    let asked = registry.seen().into_iter().find(|seen| seen.path == "/v1/search").unwrap();
    assert_eq!(asked.query, "q=app+word&n=25");
    assert_eq!(store.search(&format!("{}/app", registry.host()), 1, None).await.unwrap().len(), 1);
    let silent = Registry::start().await;
    let error = store.search(&format!("{}/app", silent.host()), 25, None).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound, "{}", shown(&error));
}
