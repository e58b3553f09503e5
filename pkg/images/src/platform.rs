//! Which of an index's images suits this node.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Operating system, architecture and variant, in Go's words as OCI prescribes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
pub struct Platform {
    /// `linux`.
    #[serde(default)]
    pub os: String,
    /// `amd64`, `arm64`…
    #[serde(default)]
    pub architecture: String,
    /// `v8`, `v3`; empty when the architecture needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// This node.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", Some(format!("v{}", amd64_level()))),
            "aarch64" => ("arm64", Some("v8".to_owned())),
            "arm" => ("arm", Some("v7".to_owned())),
            "powerpc64" => ("ppc64le", None),
            other => (other, None),
        };
        Self { os: "linux".to_owned(), architecture: architecture.to_owned(), variant }
    }

    /// How well an image for `offered` runs here: `None` when it does not, else the greater the better.
    pub fn suits(&self, offered: &Platform) -> Option<u32> {
        if offered.os != self.os || offered.architecture != self.architecture {
            return None;
        }
        let level = |variant: &Option<String>| -> Option<u32> {
            match variant.as_deref() {
                None | Some("") => Some(match self.architecture.as_str() {
                    "arm64" => 8,
                    "arm" => 7,
                    _ => 1,
                }),
                Some(text) => text.strip_prefix('v')?.split('.').next()?.parse().ok(),
            }
        };
        let (ours, theirs) = (level(&self.variant)?, level(&offered.variant)?);
        (theirs <= ours).then_some(theirs)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match self.variant.as_deref() {
            // The level of an amd64 node is a fact about its CPU, not a name that users know.
            Some(variant) if self.architecture != "amd64" && !variant.is_empty() => write!(f, "/{variant}"),
            _ => Ok(()),
        }
    }
}

/// The x86-64 psABI level of this CPU.
#[cfg(target_arch = "x86_64")]
fn amd64_level() -> u32 {
    use std::arch::is_x86_feature_detected as has;
    let v2 = has!("sse4.2") && has!("ssse3") && has!("popcnt") && has!("cmpxchg16b");
    let v3 = v2
        && has!("avx2")
        && has!("bmi1")
        && has!("bmi2")
        && has!("fma")
        && has!("f16c")
        && has!("lzcnt")
        && has!("movbe");
    let v4 =
        v3 && has!("avx512f") && has!("avx512bw") && has!("avx512cd") && has!("avx512dq") && has!("avx512vl");
    match (v2, v3, v4) {
        (_, _, true) => 4,
        (_, true, _) => 3,
        (true, _, _) => 2,
        _ => 1,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn amd64_level() -> u32 {
    1
}

/// The best of `offers` for `node`; the first of equals, as registries list their preference first.
pub(crate) fn best<'a, T>(node: &Platform, offers: impl Iterator<Item = (&'a Platform, T)>) -> Option<T> {
    let mut chosen: Option<(u32, T)> = None;
    for (platform, item) in offers {
        let Some(score) = node.suits(platform) else { continue };
        if chosen.as_ref().is_none_or(|(best, _)| score > *best) {
            chosen = Some((score, item));
        }
    }
    chosen.map(|(_, item)| item)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        let mut parts = text.split('/').map(str::to_owned);
        Platform { os: parts.next().unwrap(), architecture: parts.next().unwrap(), variant: parts.next() }
    }

    #[test]
    fn the_best_variant_that_still_runs_is_taken() {
        for (node, offers, expected) in [
            ("linux/amd64/v3", vec!["linux/arm64", "linux/amd64"], Some(1)),
            ("linux/amd64/v3", vec!["linux/amd64", "linux/amd64/v3", "linux/amd64/v4"], Some(1)),
            ("linux/amd64/v1", vec!["linux/amd64/v2"], None),
            ("linux/arm64/v8", vec!["linux/arm/v7", "linux/arm64"], Some(1)),
            ("linux/arm/v7", vec!["linux/arm/v5", "linux/arm/v7", "linux/arm/v6"], Some(1)),
            ("linux/arm64/v8", vec!["linux/arm64/v9"], None),
            ("linux/amd64/v2", vec!["windows/amd64", "unknown/unknown"], None),
        ] {
            let node = platform(node);
            let offers: Vec<_> = offers.into_iter().map(platform).collect();
            assert_eq!(best(&node, offers.iter().zip(0..)), expected, "{node:?} {offers:?}");
        }
    }
}
