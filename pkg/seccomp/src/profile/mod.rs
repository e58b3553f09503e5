//! Where profiles come from: husk's default one and files on the node.

mod default;
mod json;

pub use default::runtime_default;
pub use json::parse;

use std::collections::BTreeSet;

use crate::Family;

/// What the conditional parts of a profile ask about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    family: Family,
    /// Upper case, without `CAP_`.
    capabilities: BTreeSet<String>,
    kernel: (u32, u32),
}

impl Context {
    /// For this machine and a process with these capabilities (its bounding set), with or without `CAP_`.
    pub fn new<S: AsRef<str>>(capabilities: impl IntoIterator<Item = S>) -> Self {
        // A node without /proc runs no container; version 0 then only fails `minKernel`.
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self::of(Family::NATIVE.unwrap_or(Family::X86), capabilities, &release)
    }

    /// For another machine.
    pub fn of<S: AsRef<str>>(
        family: Family,
        capabilities: impl IntoIterator<Item = S>,
        release: &str,
    ) -> Self {
        let capabilities = capabilities.into_iter().map(|name| normalise(name.as_ref())).collect();
        Self { family, capabilities, kernel: version(release).unwrap_or_default() }
    }

    pub(crate) fn has(&self, capability: &str) -> bool {
        self.capabilities.contains(&normalise(capability))
    }

    /// What a result depends on besides the profile's text, for a cache.
    pub(crate) fn capabilities(&self) -> impl Iterator<Item = &str> {
        self.capabilities.iter().map(String::as_str)
    }
}

fn normalise(capability: &str) -> String {
    let upper = capability.to_ascii_uppercase();
    upper.strip_prefix("CAP_").map(str::to_owned).unwrap_or(upper)
}

/// Major and minor of `6.18.4-generic` or `4.8`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.trim().split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}
