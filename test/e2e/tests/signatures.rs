//! The signature policy and pinned images, through the CRI. Keys and signatures are openssl's.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
};

use husk_e2e::{Daemon, FakeRegistry, Layer, Odd, Options, run, v1};
use serde_json::json;
use tonic::Code;

/// A key pair of openssl's, in a directory that goes with it.
struct Signer(tempfile::TempDir);

impl Signer {
    fn new() -> Self {
        let signer = Self(tempfile::tempdir().unwrap());
        let (key, public) = (signer.path("key.pem"), signer.path("key.pub"));
        openssl(&[
            "genpkey",
            "-algorithm",
            "EC",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-out",
            &shown(&key),
        ]);
        openssl(&["pkey", "-in", &shown(&key), "-pubout", "-out", &shown(&public)]);
        signer
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The signature of `payload`, in base64.
    fn sign(&self, payload: &[u8]) -> String {
        let (message, signature) = (self.path("message"), self.path("signature"));
        fs::write(&message, payload).unwrap();
        let key = shown(&self.path("key.pem"));
        openssl(&["dgst", "-sha256", "-sign", &key, "-out", &shown(&signature), &shown(&message)]);
        openssl(&["base64", "-A", "-in", &shown(&signature)]).trim().to_owned()
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn openssl(arguments: &[&str]) -> String {
    run(Command::new("openssl").args(arguments)).success()
}

fn ok(media_type: &str, body: &[u8]) -> Odd {
    let head =
        format!("HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n\r\n", body.len());
    Odd::Raw([head.as_bytes(), body].concat())
}

#[test]
fn an_image_is_pulled_as_soon_as_it_is_signed_and_the_kubelet_is_told_why_it_is_not() {
    let signer = Signer::new();
    let policy = signer.path("policy.json");
    let signed = json!({ "type": "sigstoreSigned", "keyPath": shown(&signer.path("key.pub")),
                         "signedIdentity": { "type": "matchRepository" } });
    let rules =
        json!({ "default": [{ "type": "reject" }], "transports": { "docker": { "127.0.0.1": [signed] } } });
    // The scope is the host with its port, which is known only below.
    fs::write(&policy, rules.to_string()).unwrap();
    let config =
        format!("[images]\nsignature_policy = {:?}\npinned_images = [\"*some/image*\"]\n", shown(&policy));
    let mut husk = Daemon::with(Options { without_image: true, config, ..Options::default() });
    let attached = Arc::new(Mutex::new(HashMap::<String, Odd>::new()));
    let files = Arc::clone(&attached);
    let layer = Layer::new(&["d"], &[("d/file", 0o644, &[7; 1000])], &[]);
    let configuration = json!({ "architecture": "amd64", "os": "linux", "config": {}, "rootfs": { "type": "layers", "diff_ids": [layer.diff_id()] } });
    let registry = FakeRegistry::serve_blobs(
        "some/image",
        "1",
        configuration.to_string().as_bytes(),
        vec![layer.0],
        |_| {},
        move |path| files.lock().unwrap().get(path).cloned(),
    );
    let name = format!("{}/some/image", registry.host());
    let image = Some(v1::ImageSpec { image: format!("{name}:1"), ..Default::default() });
    let pull = |husk: &Daemon| {
        husk.cri().pull_image(v1::PullImageRequest { image: image.clone(), ..Default::default() })
    };
    // No scope fits: by the default.
    let refused = pull(&husk).unwrap_err();
    let text = refused.message();
    assert!(
        refused.code() == Code::Unknown && text.starts_with("SignatureValidationFailed: image "),
        "{refused:?}"
    );
    assert!(text.contains(&shown(&policy)) && text.contains("the default, rule 1 (reject)"), "{text}");
    // Its scope wants a signature, and there is none. What crictl shows is what the kubelet sees.
    fs::write(&policy, rules.to_string().replace("127.0.0.1", &registry.host())).unwrap();
    let shown_by_crictl = husk.crictl(&["pull", &format!("{name}:1")]).failure();
    assert!(shown_by_crictl.contains("SignatureValidationFailed: image "), "{shown_by_crictl}");
    let refused = pull(&husk).unwrap_err();
    let (_, digest) = refused.message().split_once("sha256:").expect("the digest that is to be signed");
    let digest = &digest[..64];
    assert!(refused.message().contains("has no signature"), "{refused:?}");
    assert_eq!(fs::read_dir(husk.path("root/images/layers")).unwrap().count(), 0);
    // It is signed.
    let payload = json!({
        "critical": { "identity": { "docker-reference": name }, "image": { "docker-manifest-digest": format!("sha256:{digest}") },
                      "type": "cosign container image signature" },
        "optional": null,
    })
    .to_string();
    fs::write(signer.path("payload"), &payload).unwrap();
    let sum = openssl(&["dgst", "-sha256", "-r", &shown(&signer.path("payload"))]);
    let blob = format!("sha256:{}", &sum[..64]);
    let manifest = json!({ "schemaVersion": 2, "layers": [{
        "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json", "digest": blob, "size": payload.len(),
        "annotations": { "dev.cosignproject.cosign/signature": signer.sign(payload.as_bytes()) },
    }]});
    let kind = "application/vnd.oci.image.manifest.v1+json";
    for (path, odd) in [
        (format!("/v2/some/image/manifests/sha256-{digest}.sig"), ok(kind, manifest.to_string().as_bytes())),
        (format!("/v2/some/image/blobs/{blob}"), ok("application/octet-stream", payload.as_bytes())),
    ] {
        attached.lock().unwrap().insert(path, odd);
    }
    pull(&husk).unwrap();
    let request = v1::ImageStatusRequest { image: image.clone(), ..Default::default() };
    assert!(husk.cri().image_status(request).unwrap().image.unwrap().pinned);
    let listed = husk.cri().list_images(v1::ListImagesRequest::default()).unwrap().images;
    assert!(listed.len() == 1 && listed[0].pinned, "{listed:?}");
    // With another key in place of the signer's, what is here is refused again.
    let other = Signer::new();
    fs::copy(other.path("key.pub"), signer.path("key.pub")).unwrap();
    let refused = pull(&husk).unwrap_err();
    assert!(refused.message().contains("by none of the rule's keys"), "{refused:?}");
    // A policy that is not understood lets nothing in, and nothing start.
    fs::write(&policy, r#"{"default":[{"type":"insecureAcceptAnything","really":true}]}"#).unwrap();
    let refused = pull(&husk).unwrap_err();
    assert!(refused.code() == Code::FailedPrecondition, "{refused:?}");
    assert!(refused.message().contains("default[0].really: is not known"), "{refused:?}");
    husk.stop();
    let said = husk.refused_start();
    assert!(said.contains("policy.json") && said.contains("default[0].really"), "{said}");
    fs::write(&policy, r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).unwrap();
    husk.spawn();
    pull(&husk).unwrap();
}
