//! The two identities of a layer. The digest of a layer's blob, which names the bytes as a registry sends them, is a plain
//! [`Digest`]; the three never meet in a comparison.

use std::fmt;

use husk_model::Digest;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// What a layer contains: the digest of its unpacked archive (OCI image-spec, "Layer DiffID").
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DiffId(Digest);

/// What a layer is above all those below it (OCI image-spec, "Layer ChainID").
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChainId(Digest);

// === impl DiffId ===

impl DiffId {
    /// The layer whose unpacked archive has this digest.
    pub fn new(archive: Digest) -> Self {
        Self(archive)
    }

    /// The digest of the unpacked archive.
    pub fn digest(&self) -> &Digest {
        &self.0
    }

    /// `sha256:<hex>`.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for DiffId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl ChainId ===

impl ChainId {
    /// Of a layer above `below`; the lowest one has none there.
    pub(crate) fn above(below: Option<&ChainId>, layer: &DiffId) -> Self {
        match below {
            None => Self(layer.0.clone()),
            Some(below) => Self(Digest::from_sha256(&Sha256::digest(format!("{below} {layer}")).into())),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_begins_with_the_lowest_layer_and_depends_on_the_order() {
        let layer = |number| DiffId::new(Digest::from_sha256(&[number; 32]));
        let chain = |layers: &[DiffId]| {
            layers.iter().fold(None, |below, layer| Some(ChainId::above(below.as_ref(), layer)))
        };
        assert_eq!(chain(&[layer(1)]).unwrap().as_str(), layer(1).as_str());
        assert_ne!(chain(&[layer(1), layer(2)]), chain(&[layer(2), layer(1)]));
        let text = format!("{} {}", layer(1), layer(2));
        let expected = Digest::from_sha256(&Sha256::digest(text).into());
        assert_eq!(chain(&[layer(1), layer(2)]).unwrap().as_str(), expected.as_str());
    }
}
