//! Public keys, and whether one of them made a signature.

use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519,
    RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
};
use rustls::pki_types::{SubjectPublicKeyInfoDer, pem::PemObject};
use spki::{ObjectIdentifier, SubjectPublicKeyInfoRef};

const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ED: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// Shortest RSAPublicKey (RFC 8017, A.1.1) with a modulus of 2048 bits: two integers in a sequence.
const RSA_MIN: usize = 266;

/// What a key verifies with: the algorithms that a signature by it may have.
type Algorithms = &'static [&'static dyn VerificationAlgorithm];

// Hashed with SHA-256, as all of containers' tools do; cosign hashes with P-384's own SHA-384.
static BY_P256: [&dyn VerificationAlgorithm; 1] = [&ECDSA_P256_SHA256_ASN1];
static BY_P384: [&dyn VerificationAlgorithm; 2] = [&ECDSA_P384_SHA256_ASN1, &ECDSA_P384_SHA384_ASN1];
static BY_RSA: [&dyn VerificationAlgorithm; 1] = [&RSA_PKCS1_2048_8192_SHA256];
static BY_ED: [&dyn VerificationAlgorithm; 1] = [&ED25519];

/// A key that images are signed with.
#[derive(Clone)]
pub(super) struct PublicKey {
    algorithms: Algorithms,
    bytes: Vec<u8>,
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PublicKey").finish_non_exhaustive()
    }
}

impl PublicKey {
    /// Reads the first `PUBLIC KEY` of a PEM text, as `cosign generate-key-pair` and `openssl pkey -pubout` write it.
    pub(super) fn from_pem(pem: &[u8]) -> Result<Self, String> {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem)
            .map_err(|_| "no PEM section PUBLIC KEY in it".to_owned())?;
        let info = SubjectPublicKeyInfoRef::try_from(der.as_ref())
            .map_err(|error| format!("the public key is damaged: {error}"))?;
        let bytes = info.subject_public_key.as_bytes().unwrap_or_default().to_vec();
        let curve = || info.algorithm.parameters_oid().ok();
        let (algorithms, fits): (Algorithms, bool) = match info.algorithm.oid {
            EC if curve() == Some(P256) => (&BY_P256, bytes.len() == 65 && bytes[0] == 4),
            EC if curve() == Some(P384) => (&BY_P384, bytes.len() == 97 && bytes[0] == 4),
            EC => return Err("the curve of the key is neither P-256 nor P-384".into()),
            RSA if bytes.len() < RSA_MIN => return Err("RSA keys have 2048 bits at least".into()),
            RSA => (&BY_RSA, true),
            ED => (&BY_ED, bytes.len() == 32),
            other => {
                return Err(format!("keys of the kind {other} are not known; take ECDSA, RSA or Ed25519"));
            }
        };
        if !fits {
            return Err("the public key is damaged: it has not the length of its kind".into());
        }
        Ok(Self { algorithms, bytes })
    }

    /// Whether this key made `signature` of `message`.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.algorithms.iter().any(|algorithm| {
            UnparsedPublicKey::new(*algorithm, &self.bytes).verify(message, signature).is_ok()
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use ring::{
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
    };

    use super::*;

    /// A key pair of a test.
    pub(in crate::trust) struct Signer(EcdsaKeyPair);

    impl Signer {
        pub(in crate::trust) fn new() -> Self {
            let (algorithm, random) = (&ECDSA_P256_SHA256_ASN1_SIGNING, SystemRandom::new());
            let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
            Self(EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap())
        }

        pub(in crate::trust) fn sign(&self, message: &[u8]) -> Vec<u8> {
            self.0.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
        }

        pub(in crate::trust) fn pem(&self) -> String {
            let prefix = [
                0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08,
                0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
            ];
            pem(&[&prefix, self.0.public_key().as_ref()].concat())
        }
    }

    fn pem(der: &[u8]) -> String {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der))
    }

    #[test]
    fn a_signature_is_of_its_key_and_of_its_message() {
        let (signer, other) = (Signer::new(), Signer::new());
        let key = PublicKey::from_pem(signer.pem().as_bytes()).unwrap();
        let signature = signer.sign(b"message");
        assert!(key.verifies(b"message", &signature));
        assert!(!key.verifies(b"messagf", &signature));
        assert!(!PublicKey::from_pem(other.pem().as_bytes()).unwrap().verifies(b"message", &signature));
        // Truncated, lengthened and damaged DER.
        for end in 0..signature.len() {
            assert!(!key.verifies(b"message", &signature[..end]), "{end}");
        }
        assert!(!key.verifies(b"message", &[signature.as_slice(), &[0]].concat()));
        for at in 0..signature.len() {
            let mut damaged = signature.clone();
            damaged[at] ^= 1;
            assert!(!key.verifies(b"message", &damaged), "{at}");
        }
    }

    #[test]
    fn keys_of_other_kinds_are_taken_or_named() {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let prefix = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        let text = pem(&[&prefix, pair.public_key().as_ref()].concat());
        let key = PublicKey::from_pem(text.as_bytes()).unwrap();
        assert!(
            key.verifies(b"x", pair.sign(b"x").as_ref()) && !key.verifies(b"y", pair.sign(b"x").as_ref())
        );
        for (text, word) in [
            ("", "PUBLIC KEY"),
            ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "PUBLIC KEY"),
            ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "damaged"),
            // Ed448.
            (
                &pem(&[
                    &[0x30, 0x43, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x71, 0x03, 0x3a, 0x00][..],
                    &[1; 57],
                ]
                .concat()),
                "1.3.101.113",
            ),
        ] {
            let error = PublicKey::from_pem(text.as_bytes()).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
