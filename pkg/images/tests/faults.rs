//! Registries that are out of order in every way: a pull fails in bounded time with a clear word, takes a bounded amount,
//! leaves nothing, and the next one succeeds as soon as the registry is well.

mod common;

use std::{
    fs,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use common::{
    Image, OCI_INDEX, OCI_MANIFEST, Tar, gzip, is_root, nothing_is_left,
    raw::{Asked, Raw, Step, answer, head},
    sha256,
};
use husk_images::{ImageStore, ImagesConfig, PullRequest};
use husk_model::{Classify, Kind};
use serde_json::{Value, json};

/// A transfer without progress for this long fails here.
const PROGRESS: Duration = Duration::from_millis(700);
/// Far more than any pull here takes: four attempts with their pauses, each with a stall.
const PATIENCE: Duration = Duration::from_secs(30);
/// More than any fault here may make huskd take from a registry: a manifest's limit and what sockets buffer, some times.
const TAKEN_MAX: u64 = 64 << 20;

fn store(root: &std::path::Path) -> Arc<ImageStore> {
    let config = ImagesConfig {
        registry_config_dir: root.join("certs.d"),
        registries: None,
        max_parallel_layers: 3,
        pull_progress_timeout: PROGRESS,
        ..ImagesConfig::default()
    };
    ImageStore::open(root, config).unwrap()
}

/// Two layers, one of which is long enough to be cut anywhere.
fn image() -> Image {
    let mut state = 1u32;
    let noise: Vec<u8> = (0..400_000)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as u8
        })
        .collect();
    Image::new(
        &[Tar::new().file("noise", 0o644, &noise).bytes(), Tar::new().file("x", 0o644, b"x").bytes()],
        gzip,
    )
}

/// The pull's result: its kind and whole text, or success.
async fn pull(store: &Arc<ImageStore>, host: &str) -> Result<(), (Kind, String)> {
    let request = PullRequest { reference: format!("{host}/r:1"), auth: None, platform: None };
    match tokio::time::timeout(PATIENCE, store.pull(request)).await.expect("the pull ends") {
        Ok(_) => Ok(()),
        Err(error) => {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            Err((error.kind(), text))
        }
    }
}

/// What a pull that fails says.
type Says = Option<(Kind, &'static [&'static str])>;

fn down(words: &'static [&'static str]) -> Says {
    Some((Kind::Unavailable, words))
}

fn bad(words: &'static [&'static str]) -> Says {
    Some((Kind::DataLoss, words))
}

fn wrong(words: &'static [&'static str]) -> Says {
    Some((Kind::FailedPrecondition, words))
}

type Script = Box<dyn Fn(&Asked, Vec<u8>) -> Option<Vec<Step>> + Send + Sync>;

/// A fault, and what the pull says: a kind and words, or nothing when it succeeds in spite of it.
struct Fault {
    name: &'static str,
    script: Script,
    says: Says,
}

fn on(
    part: &'static str,
    name: &'static str,
    says: Says,
    steps: impl Fn(&Asked, Vec<u8>) -> Vec<Step> + Send + Sync + 'static,
) -> Fault {
    let script = move |asked: &Asked, body: Vec<u8>| {
        // The long layer stands for all: configurations and the short one are well.
        let is_meant = asked.path.contains(part) && (part != "/blobs/" || body.len() > 100_000);
        is_meant.then(|| steps(asked, body))
    };
    Fault { name, script: Box::new(script), says }
}

fn chunked(media_type: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\nTransfer-Encoding: chunked\r\n\r\n")
        .into_bytes()
}

fn manifest_faults() -> Vec<Fault> {
    let on = |name, says: Says, steps: fn(&Asked, Vec<u8>) -> Vec<Step>| on("/manifests/", name, says, steps);
    const KEPT: &str = "Content-Type: application/vnd.oci.image.manifest.v1+json\r\n";
    vec![
        on("a head that never comes", down(&["manifest of", "r:1: ", "no progress"]), |_, _| {
            vec![Step::Silence]
        }),
        on("a body that trickles", down(&["no progress"]), |_, body| {
            let drop = Step::Endless(b" ".to_vec(), Duration::from_millis(50));
            vec![Step::Send(head("200 OK", OCI_MANIFEST, body.len() + 1_000_000)), drop]
        }),
        on("endless headers", down(&["127.0.0.1"]), |_, _| {
            vec![
                Step::Send(b"HTTP/1.1 200 OK\r\n".to_vec()),
                Step::Endless(b"X-A: b\r\n".repeat(512), Duration::ZERO),
            ]
        }),
        on("one endless header", down(&["127.0.0.1"]), |_, _| {
            vec![
                Step::Send(b"HTTP/1.1 200 OK\r\nX-A: ".to_vec()),
                Step::Endless(b"b".repeat(4096), Duration::ZERO),
            ]
        }),
        on("an endless body", bad(&["more than 4194304 bytes"]), |_, _| {
            vec![
                Step::Send(chunked(OCI_MANIFEST)),
                Step::Endless(
                    b"1000\r\n".iter().copied().chain([b' '; 4096]).chain(*b"\r\n").collect(),
                    Duration::ZERO,
                ),
            ]
        }),
        on("chunks that are garbage", down(&["127.0.0.1"]), |_, _| {
            vec![Step::Send(chunked(OCI_MANIFEST)), Step::Send(b"zzz\r\n{}\r\n".to_vec()), Step::Reset]
        }),
        on("no HTTP at all", down(&["127.0.0.1"]), |_, _| {
            vec![Step::Send(b"SSH-2.0-OpenSSH_9.9\r\n\r\n".to_vec()), Step::Reset]
        }),
        on("a reset before the answer", down(&["127.0.0.1"]), |_, _| vec![Step::Reset]),
        on("a cut document", down(&["127.0.0.1"]), |_, body| {
            vec![Step::Send(head("200 OK", OCI_MANIFEST, body.len() + 9)), Step::Send(body), Step::Reset]
        }),
        on("JSON that is none", bad(&["not a manifest", "sha256:"]), |_, _| {
            answer("200 OK", KEPT, b"{\"schemaVersion\":2")
        }),
        on("the page of a portal", bad(&["text/html"]), |_, _| {
            answer("200 OK", "Content-Type: text/html\r\n", b"<html>log in</html>")
        }),
        on("an empty answer", bad(&["empty"]), |_, _| answer("200 OK", KEPT, b"")),
        on("no content", bad(&["empty"]), |_, _| {
            vec![Step::Send(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec())]
        }),
        on("a wrong media type", bad(&["CVE-2021-41190"]), |_, body| {
            answer("200 OK", "Content-Type: application/vnd.oci.image.index.v1+json\r\n", &body)
        }),
        on("a compressed document", bad(&["gzip", "not asked for"]), |_, body| {
            answer("200 OK", "Content-Encoding: gzip\r\n", &gzip(&body))
        }),
        on("a digest header that lies", bad(&["digest", "instead of"]), |_, body| {
            answer("200 OK", &format!("Docker-Content-Digest: {}\r\n", sha256(b"other")), &body)
        }),
        on("Docker schema 1", bad(&["schema 1"]), |_, _| {
            answer(
                "200 OK",
                "Content-Type: application/vnd.docker.distribution.manifest.v1+prettyjws\r\n",
                br#"{"schemaVersion":1,"fsLayers":[{"blobSum":"sha256:"}]}"#,
            )
        }),
        on("redirects in a circle", wrong(&["redirect refused", "more than 8"]), |asked, _| {
            answer("307 Temporary Redirect", &format!("Location: {}\r\n", asked.path), b"")
        }),
        on("a redirect to a file", wrong(&["redirect refused", "file"]), |_, _| {
            answer("302 Found", "Location: file:///etc/shadow\r\n", b"")
        }),
        on("a redirect to nowhere", wrong(&["redirect refused", "location"]), |_, _| {
            answer("302 Found", "", b"")
        }),
        on("a redirect to the metadata service", wrong(&["address refused", "link-local"]), |_, _| {
            answer("302 Found", "Location: http://169.254.169.254/latest/\r\n", b"")
        }),
        on("a redirect to it in disguise", wrong(&["address refused"]), |_, _| {
            answer("302 Found", "Location: //[::ffff:a9fe:a9fe]/latest/\r\n", b"")
        }),
        on("a challenge without end", Some((Kind::Unauthenticated, &["unauthorized"])), |_, _| {
            answer("401 Unauthorized", "WWW-Authenticate: Bearer realm=\"/token\"\r\n", b"")
        }),
        on("a challenge of no known kind", Some((Kind::Unauthenticated, &["log in"])), |_, _| {
            answer("401 Unauthorized", "WWW-Authenticate: Negotiate\r\n", b"")
        }),
        on("a realm at the metadata service", wrong(&["address refused"]), |_, _| {
            answer(
                "401 Unauthorized",
                "WWW-Authenticate: Bearer realm=\"https://169.254.169.254/token\"\r\n",
                b"",
            )
        }),
        on("a realm that is a file", wrong(&["file"]), |_, _| {
            answer("401 Unauthorized", "WWW-Authenticate: Bearer realm=\"file:///token\"\r\n", b"")
        }),
        on("denied", Some((Kind::PermissionDenied, &["denied: no", "credentials"])), |_, _| {
            answer("403 Forbidden", "", br#"{"errors":[{"code":"DENIED","message":"no"}]}"#)
        }),
        on("too many requests for ever", down(&["too many requests", "rate"]), |_, _| {
            answer("429 Too Many Requests", "Retry-After: 0\r\n", b"")
        }),
        on("failures for ever", down(&["HTTP status 503: busy"]), |_, _| {
            answer("503 Service Unavailable", "Retry-After: 0\r\n", br#"{"errors":[{"message":"busy"}]}"#)
        }),
        on("a document that is cut once", None, |asked, body| match asked.before {
            0 => vec![
                Step::Send(head("200 OK", OCI_MANIFEST, body.len())),
                Step::Send(body[..20].to_vec()),
                Step::Reset,
            ],
            _ => answer("200 OK", "", &body),
        }),
        on("failures that end", None, |asked, body| match asked.before {
            0 => answer("500 Internal Server Error", "", b""),
            1 => answer("429 Too Many Requests", "Retry-After: 0\r\n", b""),
            2 => vec![Step::Reset],
            _ => answer(
                "200 OK",
                "Content-Type: APPLICATION/vnd.oci.image.manifest.v1+json; charset=utf-8\r\n",
                &body,
            ),
        }),
    ]
}

fn token_faults() -> Vec<Fault> {
    type Token = fn(&Asked) -> Vec<Step>;
    let on = |name, says: Says, token: Token| {
        let script = move |asked: &Asked, _: Vec<u8>| {
            if asked.path == "/token" {
                return Some(token(asked));
            }
            let challenge = "WWW-Authenticate: BEARER Realm=\"/token\" , service=\"a,b\"\r\n";
            (!asked.authorized).then(|| answer("401 Unauthorized", challenge, b""))
        };
        Fault { name, script: Box::new(script), says }
    };
    vec![
        on("an access token beside an empty token", None, |_| {
            answer("200 OK", "", br#"{"token":"","Access_Token":"t","expires_in":1e999,"issued_at":null}"#)
        }),
        on("a token beside a null", None, |_| answer("200 OK", "", br#"{"access_token":null,"TOKEN":"t"}"#)),
        on("a token service that recovers", None, |asked| match asked.before {
            0 => answer("429 Too Many Requests", "Retry-After: 0\r\n", b""),
            1 => answer("503 Service Unavailable", "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n", b""),
            2 => answer("500 Internal Server Error", "", b""),
            _ => answer("200 OK", "", br#"{"token":"t"}"#),
        }),
        on("a token behind a redirect", None, |asked| match asked.before {
            0 => answer("307 Temporary Redirect", "Location: /token?again\r\n", b""),
            _ => answer("200 OK", "", br#"{"token":"t"} and more"#),
        }),
        on("a token service that is busy for ever", down(&["token service", "too many requests"]), |_| {
            answer("429 Too Many Requests", "Retry-After: 0\r\n", b"")
        }),
        on("a token service that is silent", down(&["token service", "no progress"]), |_| {
            vec![Step::Silence]
        }),
        on("an endless token", Some((Kind::DataLoss, &["token service", "1048576"])), |_| {
            vec![Step::Send(head("200 OK", "a/b", 1 << 40)), Step::Endless(vec![b' '; 4096], Duration::ZERO)]
        }),
        on("no token", wrong(&["token service", "no token"]), |_| answer("200 OK", "", b"{}")),
        on("a token that is no JSON", wrong(&["token service"]), |_| answer("200 OK", "", b"<html>")),
        on(
            "a refused token",
            Some((Kind::Unauthenticated, &["by its token service: who", "pull secret"])),
            |_| answer("401 Unauthorized", "", br#"{"errors":[{"message":"who"}]}"#),
        ),
        on("a token service's redirects to the metadata service", wrong(&["address refused"]), |_| {
            answer("302 Found", "Location: http://169.254.169.254/\r\n", b"")
        }),
    ]
}

fn layer_faults() -> Vec<Fault> {
    let on = |name, says: Says, steps: fn(&Asked, Vec<u8>) -> Vec<Step>| on("/blobs/", name, says, steps);
    fn half(asked: &Asked, body: &[u8]) -> Option<Vec<Step>> {
        asked.from.is_none().then(|| {
            vec![
                Step::Send(head("200 OK", "a/b", body.len())),
                Step::Send(body[..body.len() / 2].to_vec()),
                Step::Reset,
            ]
        })
    }
    vec![
        on("a layer that stalls", down(&["layer sha256:", "no progress"]), |_, body| {
            vec![
                Step::Send(head("200 OK", "a/b", body.len())),
                Step::Send(body[..50_000].to_vec()),
                Step::Silence,
            ]
        }),
        on("a layer that breaks at once, always", down(&["layer sha256:"]), |_, body| {
            vec![Step::Send(head("200 OK", "a/b", body.len())), Step::Reset]
        }),
        on("a layer that is longer", bad(&["bytes where"]), |_, body| {
            answer("200 OK", "", &[body, vec![0; 100]].concat())
        }),
        on("a layer that is shorter", bad(&["bytes where"]), |_, body| {
            answer("200 OK", "", &body[..body.len() - 1])
        }),
        on("a layer without a length that is longer", bad(&["bytes where"]), |_, body| {
            vec![
                Step::Send(b"HTTP/1.0 200 OK\r\n\r\n".to_vec()),
                Step::Send(body),
                Step::Endless(vec![0; 4096], Duration::ZERO),
            ]
        }),
        on("an empty layer", bad(&["bytes where"]), |_, _| answer("200 OK", "", b"")),
        on("a changed byte", bad(&["has digest", "altered"]), |_, mut body| {
            let middle = body.len() / 2;
            body[middle] ^= 1;
            answer("200 OK", "", &body)
        }),
        on("another part than asked for", bad(&["asked for bytes from", "broken"]), |asked, body| {
            half(asked, &body).unwrap_or_else(|| {
                let range = format!("Content-Range: bytes 0-{}/{}\r\n", body.len() - 1, body.len());
                answer("206 Partial Content", &range, &body)
            })
        }),
        on("a part that nobody asked for", bad(&["asked for bytes from 0"]), |_, body| {
            answer("206 Partial Content", "Content-Range: bytes 5-9/10\r\n", &body[5..])
        }),
        on("a range that is ignored", None, |asked, body| {
            half(asked, &body).unwrap_or_else(|| answer("200 OK", "", &body))
        }),
        on("a range that cannot be", Some((Kind::FailedPrecondition, &["416"])), |asked, body| {
            half(asked, &body).unwrap_or_else(|| answer("416 Range Not Satisfiable", "", b""))
        }),
        on("a layer that breaks now and then", None, |asked, body| {
            let from = asked.from.unwrap_or(0);
            let to = (from + body.len() / 5 + 1).min(body.len());
            let status = if asked.from.is_some() { "206 Partial Content" } else { "200 OK" };
            vec![
                Step::Send(head(status, "a/b", body.len() - from)),
                Step::Send(body[from..to].to_vec()),
                Step::Reset,
            ]
        }),
        on("a layer under a wrong encoding", None, |_, body| {
            answer("200 OK", "Content-Encoding: gzip\r\n", &body)
        }),
        on("a layer that is gone", Some((Kind::NotFound, &["layer sha256:", "not found"])), |_, _| {
            answer("404 Not Found", "", b"")
        }),
        on("a layer that needs another login", Some((Kind::Unauthenticated, &["unauthorized"])), |_, _| {
            answer("401 Unauthorized", "", b"")
        }),
    ]
}

async fn check(faults: Vec<Fault>) {
    if !is_root() {
        return;
    }
    let registry = Raw::start();
    registry.push("r", &image());
    registry.put("/token", "application/json", br#"{"token":"t"}"#);
    let host = registry.address.to_string();
    for Fault { name, script, says } in faults {
        let root = tempfile::tempdir().unwrap();
        let store = store(root.path());
        let before = registry.counted.bytes.load(Ordering::SeqCst);
        let requests = registry.counted.requests.load(Ordering::SeqCst);
        let began = Instant::now();
        registry.script(script);
        let result = pull(&store, &host).await;
        let taken = registry.counted.bytes.load(Ordering::SeqCst) - before;
        let requests = registry.counted.requests.load(Ordering::SeqCst) - requests;
        eprintln!("{name}: {requests} requests, {taken} bytes, {:?}: {result:?}", began.elapsed());
        assert!(taken < TAKEN_MAX, "{name}: {taken} bytes were taken");
        assert!(requests < 40, "{name}: {requests} requests");
        match (says, result) {
            (None, Ok(())) => continue,
            (Some((kind, words)), Err((found, text))) => {
                assert_eq!(found, kind, "{name}: {text}");
                assert!(words.iter().all(|word| text.contains(word)), "{name}: {text}");
                assert!(text.contains(&host), "{name}: the host is not named: {text}");
            }
            (says, result) => panic!("{name}: {result:?} instead of {says:?}"),
        }
        nothing_is_left(&store, root.path(), name).await;
        registry.mend();
        assert_eq!(pull(&store, &host).await, Ok(()), "{name}: the registry is well again");
    }
}

#[tokio::test]
async fn faults_of_manifests_are_told_and_leave_nothing() {
    check(manifest_faults()).await;
}

#[tokio::test]
async fn faults_of_token_services_are_told_and_leave_nothing() {
    check(token_faults()).await;
}

#[tokio::test]
async fn faults_of_layers_are_told_and_leave_nothing() {
    check(layer_faults()).await;
}

#[tokio::test]
async fn a_connection_that_ends_within_tls_is_told() {
    if !is_root() {
        return;
    }
    let registry = Raw::start();
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join(format!("certs.d/{}", registry.address));
    fs::create_dir_all(&directory).unwrap();
    let text = format!("server = \"https://{}\"\nskip_verify = true\n", registry.address);
    fs::write(directory.join("hosts.toml"), text).unwrap();
    // The greeting is no request of HTTP, which ends the connection or waits for more of it.
    let (kind, text) = pull(&store(root.path()), &registry.address.to_string()).await.unwrap_err();
    assert_eq!(kind, Kind::Unavailable, "{text}");
}

#[tokio::test]
async fn images_without_end_are_bounded() {
    if !is_root() {
        return;
    }
    let registry = Raw::start();
    let host = registry.address.to_string();
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let image = image();
    let manifest: Value = serde_json::from_slice(&image.manifest).unwrap();
    let mut many = manifest.clone();
    many["layers"] = Value::Array(vec![manifest["layers"][0].clone(); 500]);
    registry.put("/v2/r/manifests/1", OCI_MANIFEST, many.to_string().as_bytes());
    let (kind, text) = pull(&store, &host).await.unwrap_err();
    assert!(kind == Kind::DataLoss && text.contains("500 layers; at most 400"), "{text}");

    let entries = json!({ "manifests": vec![json!({}); 100_000] }).to_string();
    registry.put("/v2/r/manifests/1", OCI_INDEX, entries.as_bytes());
    let (kind, text) = pull(&store, &host).await.unwrap_err();
    assert!(kind == Kind::DataLoss && text.contains("manifests: "), "{text}");

    // A layer that is wrong from its first byte on, and goes on for a tebibyte.
    let mut long = manifest.clone();
    long["layers"][0]["size"] = (1u64 << 40).into();
    registry.push("r", &image);
    registry.put("/v2/r/manifests/1", OCI_MANIFEST, long.to_string().as_bytes());
    let path = format!("/v2/r/blobs/{}", manifest["layers"][0]["digest"].as_str().unwrap());
    registry.script(move |asked, _| {
        let endless = Step::Endless(vec![1; 64 << 10], Duration::ZERO);
        (asked.path == path).then(|| vec![Step::Send(head("200 OK", "a/b", 1 << 40)), endless])
    });
    let before = registry.counted.bytes.load(Ordering::SeqCst);
    let (kind, text) = pull(&store, &host).await.unwrap_err();
    assert!(kind == Kind::DataLoss && text.contains("layer sha256:"), "{text}");
    assert!(registry.counted.bytes.load(Ordering::SeqCst) - before < TAKEN_MAX);
    registry.mend();

    // Indexes of indexes.
    let mut digest = image.digest();
    registry.push("r", &image);
    for _ in 0..60 {
        let index = json!({ "manifests": [{ "digest": digest, "size": 1 }] }).to_string();
        digest = sha256(index.as_bytes());
        for name in [digest.as_str(), "1"] {
            registry.put(&format!("/v2/r/manifests/{name}"), OCI_INDEX, index.as_bytes());
        }
    }
    let before = registry.counted.requests.load(Ordering::SeqCst);
    let (kind, text) = pull(&store, &host).await.unwrap_err();
    assert!(kind == Kind::DataLoss && text.contains("more than 32"), "{text}");
    assert!(registry.counted.requests.load(Ordering::SeqCst) - before <= 32);

    // Other images than this node's, each of which must be looked into.
    let others: Vec<_> = (0..1000)
        .map(|number| {
            let index = json!({ "manifests": [], "number": number }).to_string();
            registry.put(
                &format!("/v2/r/manifests/{}", sha256(index.as_bytes())),
                OCI_INDEX,
                index.as_bytes(),
            );
            json!({ "digest": sha256(index.as_bytes()), "size": 1 })
        })
        .collect();
    registry.put("/v2/r/manifests/1", OCI_INDEX, json!({ "manifests": others }).to_string().as_bytes());
    let before = registry.counted.requests.load(Ordering::SeqCst);
    let (_, text) = pull(&store, &host).await.unwrap_err();
    assert!(text.contains("more than 32"), "{text}");
    assert!(registry.counted.requests.load(Ordering::SeqCst) - before <= 32);
}
