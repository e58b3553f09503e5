//! Signatures as cosign makes them, with keys of the test's own.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use serde_json::{Value, json};

use super::{OCI_CONFIG, OCI_MANIFEST, registry::Registry, sha256};

pub const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
pub const ANNOTATION: &str = "dev.cosignproject.cosign/signature";

/// A key pair on P-256, as `cosign generate-key-pair` makes it.
pub struct Signer(EcdsaKeyPair);

impl Signer {
    pub fn new() -> Self {
        let (algorithm, random) = (&ECDSA_P256_SHA256_ASN1_SIGNING, SystemRandom::new());
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Self(EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap())
    }

    /// The public key.
    pub fn pem(&self) -> String {
        let prefix = [
            0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
            0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
        ];
        let der = STANDARD.encode([&prefix, self.0.public_key().as_ref()].concat());
        format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n")
    }

    pub fn sign(&self, message: &[u8]) -> String {
        STANDARD.encode(self.0.sign(&SystemRandom::new(), message).unwrap())
    }

    /// A signature of `digest` under `name`.
    pub fn about(&self, digest: &str, name: &str) -> Signed {
        let payload = json!({
            "critical": {
                "identity": { "docker-reference": name },
                "image": { "docker-manifest-digest": digest },
                "type": "cosign container image signature",
            },
            "optional": null,
        })
        .to_string()
        .into_bytes();
        Signed { annotation: self.sign(&payload), payload }
    }
}

/// A layer of the manifest of signatures.
#[derive(Clone)]
pub struct Signed {
    pub payload: Vec<u8>,
    pub annotation: String,
}

impl Signed {
    pub fn layer(&self) -> Value {
        json!({
            "mediaType": SIMPLE_SIGNING, "digest": sha256(&self.payload), "size": self.payload.len(),
            "annotations": { ANNOTATION: self.annotation },
        })
    }
}

/// Puts `signatures` where cosign puts those of `digest`.
pub fn attach(registry: &Registry, repository: &str, digest: &str, signatures: &[Signed]) {
    for signed in signatures {
        let path = format!("{repository}/blobs/{}", sha256(&signed.payload));
        registry.put(&path, "application/octet-stream", &signed.payload);
    }
    attach_layers(registry, repository, digest, &signatures.iter().map(Signed::layer).collect::<Vec<_>>());
}

/// As [`attach`], with layers of any kind and without their blobs.
pub fn attach_layers(registry: &Registry, repository: &str, digest: &str, layers: &[Value]) {
    let manifest = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": { "mediaType": OCI_CONFIG, "digest": sha256(b"{}"), "size": 2 },
        "layers": layers,
    });
    let path = format!("{repository}/manifests/{}.sig", digest.replace(':', "-"));
    registry.put(&path, OCI_MANIFEST, manifest.to_string().as_bytes());
}
