//! Which of an index's images suits this node: as containerd's platforms package normalises, matches and orders them.
//!
//! A node takes what it is first, then the older variants, then the 32-bit architecture that its processors run too. An
//! image for a newer level of amd64 (`amd64/v3`) is taken only when the index has none for the baseline: containerd never
//! takes one, so publishers put what must run everywhere into the baseline.

use std::{fmt, str::FromStr};

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
    /// What the operating system must have besides; no Linux node offers any.
    #[serde(rename = "os.features", default, skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
}

impl Platform {
    /// This node.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", Some(format!("v{}", amd64_level()))),
            "aarch64" => ("arm64", Some("v8".to_owned())),
            "arm" => ("arm", Some("v7".to_owned())),
            "x86" => ("386", None),
            "powerpc64" => ("ppc64le", None),
            "loongarch64" => ("loong64", None),
            other => (other, None),
        };
        Self::new("linux", architecture, variant.as_deref().unwrap_or_default())
    }

    fn new(os: &str, architecture: &str, variant: &str) -> Self {
        Self {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: (!variant.is_empty()).then(|| variant.to_owned()),
            os_features: Vec::new(),
        }
    }

    /// The same platform in the one spelling that is compared (containerd's `platforms.Normalize`).
    pub fn normalized(&self) -> Self {
        let os = match self.os.to_ascii_lowercase() {
            os if os.is_empty() => "linux".to_owned(),
            os if os == "macos" => "darwin".to_owned(),
            os => os,
        };
        let architecture = self.architecture.to_ascii_lowercase();
        let variant = self.variant.as_deref().unwrap_or_default().to_ascii_lowercase();
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("i386", _) => ("386", ""),
            ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
            ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant),
            ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
            ("aarch64" | "arm64", "9" | "9.0" | "v9.0") => ("arm64", "v9"),
            ("aarch64" | "arm64", variant) => ("arm64", variant),
            ("armhf", _) => ("arm", "v7"),
            ("armel", _) => ("arm", "v6"),
            ("arm", "" | "7") => ("arm", "v7"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "6") => ("arm", "v6"),
            ("arm", "8") => ("arm", "v8"),
            (architecture, variant) => (architecture, variant),
        };
        Self { os_features: self.os_features.clone(), ..Self::new(&os, architecture, variant) }
    }

    /// How well an image for `offered` runs here: `None` when it does not, else 0 for the best and more for others.
    pub fn rank(&self, offered: &Platform) -> Option<usize> {
        let offered = offered.normalized();
        self.preferences().iter().position(|taken| *taken == offered)
    }

    /// Whether an image for `offered` runs here.
    pub fn suits(&self, offered: &Platform) -> bool {
        self.rank(offered).is_some()
    }

    /// What runs here, best first, in normal form.
    fn preferences(&self) -> Vec<Self> {
        let node = self.normalized();
        let level = |variant: &str| variant.trim_start_matches('v').parse::<u32>().unwrap_or(0);
        let variant = node.variant.as_deref().unwrap_or_default();
        let of = |architecture: &str, variants: Vec<String>| -> Vec<Self> {
            variants.iter().map(|variant| Self::new(&node.os, architecture, variant).normalized()).collect()
        };
        match node.architecture.as_str() {
            "amd64" => {
                let newer = (2..=level(variant)).rev().map(|level| format!("v{level}"));
                let mut taken = of("amd64", std::iter::once(String::new()).chain(newer).collect());
                taken.extend(of("386", vec![String::new()]));
                taken
            }
            "arm64" => {
                let mut taken = of("arm64", arm64_variants(variant));
                taken.extend(of("arm", (5..=8).rev().map(|level| format!("v{level}")).collect()));
                taken
            }
            "arm" => of("arm", (5..=level(variant).max(5)).rev().map(|level| format!("v{level}")).collect()),
            _ => vec![node],
        }
    }
}

/// The variants of arm64 that a node of `variant` runs: v9.x is v8.(x+5) and more.
fn arm64_variants(variant: &str) -> Vec<String> {
    let (major, minor) =
        variant.trim_start_matches('v').split_once('.').unwrap_or((variant.trim_start_matches('v'), "0"));
    let minor: u32 = minor.parse().unwrap_or(0);
    let named = |major: u32, minor: u32| match minor {
        0 => format!("v{major}"),
        _ => format!("v{major}.{minor}"),
    };
    let below = |major: u32, minor: u32| (0..=minor.min(9)).rev().map(move |minor| named(major, minor));
    match major {
        "9" => below(9, minor).chain(below(8, minor.saturating_add(5))).collect(),
        _ => below(8, minor).collect(),
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

impl FromStr for Platform {
    type Err = &'static str;

    /// `linux/arm64`, `linux/arm/v7`, or an architecture of Linux alone, in normal form.
    fn from_str(text: &str) -> Result<Self, &'static str> {
        let is_word = |word: &str| {
            !word.is_empty()
                && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if text.len() > 100 || !parts.iter().all(|part| is_word(part)) {
            return Err("a platform is os/architecture or os/architecture/variant");
        }
        match parts.as_slice() {
            [architecture] => Ok(Self::new("linux", architecture, "").normalized()),
            [os, architecture] => Ok(Self::new(os, architecture, "").normalized()),
            [os, architecture, variant] => Ok(Self::new(os, architecture, variant).normalized()),
            _ => Err("a platform is os/architecture or os/architecture/variant"),
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
    let ranked = offers.filter_map(|(platform, item)| Some((node.rank(platform)?, item)));
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, item)| item)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        let mut parts = text.split('/');
        let mut next = || parts.next().unwrap_or_default();
        Platform::new(next(), next(), next())
    }

    #[test]
    fn platforms_are_read_as_clients_write_them() {
        for (text, shown) in [
            ("linux/arm64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm/v7", "linux/arm/v7"),
            ("aarch64", "linux/arm64"),
            ("Linux/X86_64", "linux/amd64"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), shown, "{text}");
        }
        for text in ["", "/", "linux/", "a/b/c/d", "linux/arm 64", &"a".repeat(200)] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_variant_that_containerd_takes_is_taken() {
        for (node, offers, expected) in [
            ("linux/amd64/v3", vec!["linux/arm64", "linux/amd64"], Some(1)),
            ("linux/amd64/v3", vec!["linux/amd64/v3", "linux/amd64", "linux/amd64/v4"], Some(1)),
            ("linux/amd64/v3", vec!["linux/amd64/v2", "linux/amd64/v3", "linux/amd64/v4"], Some(1)),
            ("linux/amd64/v3", vec!["linux/386", "linux/amd64/v1"], Some(1)),
            ("linux/amd64/v3", vec!["linux/386"], Some(0)),
            ("linux/amd64/v1", vec!["linux/amd64/v2"], None),
            ("linux/amd64/v2", vec!["linux/x86_64"], Some(0)),
            ("linux/amd64/v2", vec!["linux/arm64", "Linux/X86-64", "linux/amd64"], Some(1)),
            ("linux/amd64/v2", vec!["/amd64"], Some(0)),
            ("linux/amd64/v2", vec!["linux/i386"], Some(0)),
            ("linux/arm64/v8", vec!["linux/arm/v7", "linux/arm64"], Some(1)),
            ("linux/arm64/v8", vec!["linux/arm/v6", "linux/arm/v7"], Some(1)),
            ("linux/arm64/v8", vec!["linux/aarch64/v8.0"], Some(0)),
            ("linux/arm64/v9", vec!["linux/arm64/v8", "linux/arm64/9"], Some(1)),
            ("linux/arm64/v9", vec!["linux/arm64/v8.6", "linux/arm64/v8.5"], Some(1)),
            ("linux/arm/v7", vec!["linux/arm/v5", "linux/armhf", "linux/arm/v6"], Some(1)),
            ("linux/arm/v6", vec!["linux/arm", "linux/armel"], Some(1)),
            ("linux/arm64/v8", vec!["linux/arm64/v9"], None),
            ("linux/amd64/v2", vec!["windows/amd64", "unknown/unknown", "linux/"], None),
            ("linux/riscv64", vec!["linux/riscv64"], Some(0)),
        ] {
            let node = platform(node);
            let offers: Vec<_> = offers.into_iter().map(platform).collect();
            assert_eq!(best(&node, offers.iter().zip(0..)), expected, "{node:?} {offers:?}");
        }
        let special = Platform { os_features: vec!["x".into()], ..platform("linux/amd64") };
        assert!(!platform("linux/amd64").suits(&special));
    }
}
