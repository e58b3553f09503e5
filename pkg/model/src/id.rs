//! Typed identifiers. Ids of different objects never compare equal because they never compare.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// Length of a sandbox or container id: 32 random bytes in lower-case hex, the form every CRI client expects.
const ID_LEN: usize = 64;

/// A string that is not an id of the expected form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not {expected}")]
pub struct InvalidId {
    /// The refused string, cut to a length that can be shown.
    pub value: String,
    /// What a valid one looks like.
    pub expected: &'static str,
}

fn invalid(value: &str, expected: &'static str) -> InvalidId {
    InvalidId { value: value.chars().take(80).collect(), expected }
}

fn is_lower_hex(s: &str) -> bool {
    s.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn random_hex() -> Arc<str> {
    let mut bytes = [0u8; ID_LEN / 2];
    // The kernel's generator cannot fail once seeded (getrandom(2)); a node where it is missing cannot run pods.
    if let Err(error) = getrandom::fill(&mut bytes) {
        panic!("getrandom: {error}");
    }
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(ID_LEN);
    for byte in bytes {
        text.push(char::from(HEX[usize::from(byte >> 4)]));
        text.push(char::from(HEX[usize::from(byte & 15)]));
    }
    text.into()
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// A new random id.
            pub fn generate() -> Self {
                Self(random_hex())
            }

            /// The 64 hex characters.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(s: &str) -> Result<Self, InvalidId> {
                if s.len() == ID_LEN && is_lower_hex(s) {
                    Ok(Self(s.into()))
                } else {
                    Err(invalid(s, "an id of 64 lower-case hex characters"))
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(s: String) -> Result<Self, InvalidId> {
                s.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().to_owned()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0[..12])
            }
        }
    };
}

hex_id! {
    /// Names one incarnation of a pod sandbox.
    PodSandboxId
}

hex_id! {
    /// Names one container; a restart by the kubelet makes a new one.
    ContainerId
}

hex_id! {
    /// Names one user network.
    NetworkId
}

/// A content digest, `sha256:<64 hex>` (OCI image-spec, "Digests"). Other algorithms are refused: no registry in use
/// serves them, and every further algorithm is one more way to alias content.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(Arc<str>);

impl Digest {
    /// Builds a digest from the 32 bytes of a SHA-256 sum.
    pub fn from_sha256(sum: &[u8; 32]) -> Self {
        let mut text = String::with_capacity(7 + 64);
        text.push_str("sha256:");
        for byte in sum {
            text.push_str(&format!("{byte:02x}"));
        }
        Self(text.into())
    }

    /// The whole text, algorithm included.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 64 hex characters after `sha256:`.
    pub fn hex(&self) -> &str {
        &self.0[7..]
    }
}

impl FromStr for Digest {
    type Err = InvalidId;
    fn from_str(s: &str) -> Result<Self, InvalidId> {
        match s.strip_prefix("sha256:") {
            Some(hex) if hex.len() == 64 && is_lower_hex(hex) => Ok(Self(s.into())),
            _ => Err(invalid(s, "a digest of the form sha256:<64 lower-case hex characters>")),
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidId;
    fn try_from(s: String) -> Result<Self, InvalidId> {
        s.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.0.as_ref().to_owned()
    }
}

impl AsRef<str> for Digest {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0[..19])
    }
}

/// The id of an image: the digest of its configuration, so the same content pulled from two registries has one id.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImageId(Digest);

impl ImageId {
    /// The image whose configuration has this digest.
    pub fn new(config: Digest) -> Self {
        Self(config)
    }

    /// The digest of the image's configuration.
    pub fn digest(&self) -> &Digest {
        &self.0
    }

    /// `sha256:<hex>`.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_ids_are_valid_and_differ() {
        let (a, b) = (ContainerId::generate(), ContainerId::generate());
        assert_ne!(a, b);
        assert_eq!(a.as_str().parse::<ContainerId>().unwrap(), a);
    }

    #[test]
    fn ids_that_could_be_paths_are_refused() {
        for bad in ["", "..", "a/b", &"g".repeat(64), &"A".repeat(64), &"a".repeat(63)] {
            assert!(bad.parse::<PodSandboxId>().is_err(), "{bad:?}");
            assert!(format!("sha256:{bad}").parse::<Digest>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_deserialized_id_is_checked() {
        assert!(serde_json::from_str::<PodSandboxId>("\"../../etc\"").is_err());
    }
}
