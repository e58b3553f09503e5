//! One pull against the rules of the policy.
//!
//! A signature is about a digest. It counts when that is the digest of the manifest that is pulled, or of the index through
//! which that was chosen: an index says its manifests by digest, so who signed it has signed them. Both digests were resolved
//! before, once, and everything that is fetched later is fetched by them: a tag that moves meanwhile changes nothing.

use std::{path::Path, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use husk_model::{Classify, Digest, Kind};

use super::{
    identity::Identity,
    key::PublicKey,
    payload::{Payload, shown},
    policy::{Policy, Requirement},
    refusal::Refusal,
};
use crate::{
    ImageError, Reference, Result,
    manifest::Entry,
    registry::{Attempts, RegistryError, Session},
};

/// The annotation of a layer of cosign's that has the signature of what is in the layer.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// The type of such a layer.
const MEDIA_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// Signatures of one digest that are looked at, from the newest on.
const SIGNATURES_MAX: usize = 64;
/// Longest payload, in bytes; cosign's have 250 and what its caller annotated.
const PAYLOAD_MAX: u64 = 64 << 10;
/// Longest signature, in base64: an RSA key of 8192 bits makes 1368.
const SIGNATURE_MAX: usize = 4 << 10;
/// Reasons that are told.
const REASONS_MAX: usize = 3;

/// A reference, and the policy that it is pulled under.
#[derive(Debug)]
pub(crate) struct Trust {
    policy: Policy,
    reference: Reference,
}

/// A signature as it came.
struct Candidate {
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl Trust {
    /// Reads the policy at `path` for a pull of `reference`.
    ///
    /// # Errors
    /// [`ImageError::Policy`], and [`ImageError::Refused`] for what no signature would help: nothing has to be asked then.
    pub(crate) fn of(path: &Path, reference: &Reference) -> Result<Self> {
        let trust = Self { policy: Policy::read(path)?, reference: reference.clone() };
        let ruling = trust.policy.ruling(reference);
        let rejecting = ruling.requirements.iter().position(|rule| matches!(rule, Requirement::Reject));
        if let Some(at) = rejecting {
            let reason = "images of this scope are refused; name another registry, or change the policy";
            return Err(trust.refused(at, reason.to_owned()));
        }
        drop(ruling);
        Ok(trust)
    }

    /// Looks for the signatures that the policy wants. `manifest` is that of the image, `top` what the reference named; they
    /// are the same without an index. To be called before anything of the image is used.
    ///
    /// # Errors
    /// [`ImageError::Refused`]; what kept the registry from telling its signatures, when there are not enough without.
    pub(crate) async fn admit(
        &self,
        session: &Session,
        top: &Digest,
        manifest: &Digest,
        time: Duration,
    ) -> Result<()> {
        let digests: &[&Digest] = if top == manifest { &[manifest] } else { &[manifest, top] };
        tokio::time::timeout(time, self.look(session, digests)).await.unwrap_or_else(|_| {
            let mut attempts = Attempts::default();
            attempts.add(self.reference.host(), RegistryError::Stalled(time));
            Err(ImageError::Fetch { object: format!("signatures of {}", self.reference), attempts })
        })
    }

    async fn look(&self, session: &Session, digests: &[&Digest]) -> Result<()> {
        let ruling = self.policy.ruling(&self.reference);
        let mut open: Vec<(usize, &Vec<PublicKey>, &Identity)> = Vec::new();
        for (at, rule) in ruling.requirements.iter().enumerate() {
            match rule {
                Requirement::SigstoreSigned { keys, identity } => open.push((at, keys, identity)),
                Requirement::Reject | Requirement::InsecureAcceptAnything => {}
            }
        }
        if open.is_empty() {
            return Ok(());
        }
        let (mut found, mut reasons, mut failed) = (0_usize, Vec::<String>::new(), None);
        let mut note = |reason: String| {
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
        };
        for about in digests {
            let entries = match session.signatures(about).await {
                Ok(entries) => entries,
                Err(error) => {
                    failed.get_or_insert(error);
                    continue;
                }
            };
            found += entries.len();
            // cosign puts a new signature behind the others.
            for entry in entries.iter().rev().take(SIGNATURES_MAX) {
                let candidate = match Candidate::fetch(session, entry).await {
                    Ok(candidate) => candidate,
                    Err(Unread::Signature(reason)) => {
                        note(reason);
                        continue;
                    }
                    Err(Unread::Registry(error)) => {
                        failed.get_or_insert(error);
                        continue;
                    }
                };
                open.retain(|(_, keys, identity)| {
                    candidate.check(keys, identity, &self.reference, digests).map_err(&mut note).is_err()
                });
                if open.is_empty() {
                    return Ok(());
                }
            }
        }
        match failed {
            Some(error) => Err(error),
            None => Err(self.refused(open[0].0, self.unmet(digests, found, &reasons))),
        }
    }

    /// What is wrong with the signatures, and what helps.
    fn unmet(&self, digests: &[&Digest], found: usize, reasons: &[String]) -> String {
        if reasons.is_empty() {
            let digests: Vec<_> = digests.iter().map(|digest| digest.as_str()).collect();
            return format!(
                "{} has no signature; sign it with a key of the policy (cosign sign --key), as a tag beside the image",
                digests.join(" or ")
            );
        }
        let which = match found {
            1 => "its signature does not count".to_owned(),
            found => format!("none of its {found} signatures counts"),
        };
        let told = &reasons[..reasons.len().min(REASONS_MAX)];
        let more = if reasons.len() > told.len() { "; and other reasons" } else { "" };
        format!("{which}: {}{more}", told.join("; "))
    }

    fn refused(&self, at: usize, reason: String) -> ImageError {
        let ruling = self.policy.ruling(&self.reference);
        let refusal = Refusal {
            policy: self.policy.path.clone(),
            kind: ruling.requirements.get(at).map_or("", Requirement::kind),
            scope: ruling.scope,
            rule: at + 1,
            reason,
        };
        ImageError::Refused { image: self.reference.to_string(), refusal: Box::new(refusal) }
    }
}

/// Why there is no candidate.
enum Unread {
    /// The signature itself cannot be one.
    Signature(String),
    /// The registry did not give it.
    Registry(ImageError),
}

impl Candidate {
    async fn fetch(session: &Session, entry: &Entry) -> Result<Self, Unread> {
        let unfit = |reason: &str| Unread::Signature(reason.to_owned());
        if entry.media_type != MEDIA_TYPE {
            return Err(Unread::Signature(format!(
                "one is a {:?}, which is not known",
                shown(&entry.media_type)
            )));
        }
        let signature =
            entry.annotation(SIGNATURE).ok_or_else(|| unfit("one has no signature annotation"))?;
        if signature.len() > SIGNATURE_MAX {
            return Err(unfit("one is too long"));
        }
        let signature = STANDARD.decode(signature).map_err(|_| unfit("one is not base64"))?;
        let descriptor = entry.descriptor().map_err(|reason| Unread::Signature(shown(&reason)))?;
        if descriptor.size > PAYLOAD_MAX {
            return Err(Unread::Signature(format!("the payload of one has more than {PAYLOAD_MAX} bytes")));
        }
        match session.payload(&descriptor).await {
            Ok(payload) => Ok(Self { payload, signature }),
            // Not there, or not what its digest says.
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::DataLoss) => {
                Err(unfit("the payload of one is not there or damaged"))
            }
            Err(error) => Err(Unread::Registry(error)),
        }
    }

    /// Whether it is by one of `keys`, about one of `digests`, and for a name that counts for `reference`. In this order:
    /// nothing is read that nobody known has signed.
    fn check(
        &self,
        keys: &[PublicKey],
        identity: &Identity,
        reference: &Reference,
        digests: &[&Digest],
    ) -> Result<(), String> {
        if !keys.iter().any(|key| key.verifies(&self.payload, &self.signature)) {
            return Err("one is by none of the rule's keys".to_owned());
        }
        let payload = Payload::read(&self.payload)?;
        if !digests.iter().any(|digest| digest.as_str() == payload.digest) {
            return Err(format!("one is about another image, {}", shown(&payload.digest)));
        }
        if !identity.accepts(reference, &payload.reference) {
            let signed = shown(&payload.reference);
            return Err(format!(
                "one is for the name {signed:?}, which does not count for {reference} (signedIdentity; cosign names the \
                 repository alone, which matchRepository takes)"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::key::tests::Signer, *};

    const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    fn payload(digest: &str, reference: &str) -> Vec<u8> {
        format!(
            r#"{{"critical":{{"identity":{{"docker-reference":{reference:?}}},"image":{{"docker-manifest-digest":{digest:?}}},"type":"cosign container image signature"}},"optional":null}}"#
        )
        .into_bytes()
    }

    #[test]
    fn a_signature_counts_for_its_key_its_image_and_its_name_alone() {
        let (signer, other) = (Signer::new(), Signer::new());
        let keys = [PublicKey::from_pem(signer.pem().as_bytes()).unwrap()];
        let digest: Digest = DIGEST.parse().unwrap();
        let check = |payload: Vec<u8>, signature: Vec<u8>, pulled: &str| {
            let candidate = Candidate { payload, signature };
            let reference = Reference::parse(pulled).unwrap();
            candidate.check(&keys, &Identity::MatchRepoDigestOrExact, &reference, &[&digest])
        };
        let good = payload(DIGEST, "q.io/a:1");
        assert_eq!(check(good.clone(), signer.sign(&good), "q.io/a:1"), Ok(()));
        let elsewhere = payload(&DIGEST.replace('a', "b"), "q.io/a:1");
        for (payload, signature, pulled, word) in [
            (&good, other.sign(&good), "q.io/a:1", "keys"),
            (&good, signer.sign(&elsewhere), "q.io/a:1", "keys"),
            (&good, Vec::new(), "q.io/a:1", "keys"),
            (&elsewhere, signer.sign(&elsewhere), "q.io/a:1", "another image"),
            (&good, signer.sign(&good), "q.io/a:2", "name"),
            (&good, signer.sign(&good), "q.io/b:1", "name"),
            (&b"garbage".to_vec(), signer.sign(b"garbage"), "q.io/a:1", "JSON"),
        ] {
            let error = check(payload.clone(), signature, pulled).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
