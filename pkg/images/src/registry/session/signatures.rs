//! Where cosign puts signatures: a manifest under a tag that is made from the digest of what is signed, each of whose layers
//! is one.

use husk_model::{Classify, Digest, Kind};

use super::Session;
use crate::{
    ImageError, Result,
    json::{self, object},
    manifest::{Descriptor, Entry, MANIFEST_MAX},
};

#[derive(Default)]
struct Signatures {
    layers: Vec<Entry>,
}
object!(Signatures { "layers" => layers });

impl Session {
    /// The signatures about `digest`, the oldest first; none is none. They are strangers' words.
    pub(crate) async fn signatures(&self, digest: &Digest) -> Result<Vec<Entry>> {
        let path = format!("manifests/sha256-{}.sig", digest.hex());
        let object = format!("signatures of {digest} of {}", self.reference);
        let fetched = match self.document(&object, &path, None, MANIFEST_MAX).await {
            Err(error) if error.kind() == Kind::NotFound => return Ok(Vec::new()),
            fetched => fetched?,
        };
        let parsed = json::read::<Signatures>(&fetched.bytes);
        parsed.map(|signatures| signatures.layers).map_err(|reason| ImageError::Content {
            object: "manifest of signatures",
            digest: fetched.digest,
            reason,
        })
    }

    /// What a signature was made of.
    pub(crate) async fn payload(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let path = format!("blobs/{}", descriptor.digest);
        let object = format!("signature {} of {}", descriptor.digest, self.reference);
        Ok(self.document(&object, &path, Some(&descriptor.digest), descriptor.size).await?.bytes)
    }
}
