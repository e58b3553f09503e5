//! Where profiles come from: husk's default one and files on the node.

mod default;
mod json;

pub use default::runtime_default;
pub use json::parse;

use std::collections::BTreeSet;

use husk_node::KernelVersion;

use crate::Family;

/// What the conditional parts of a profile ask about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    family: Family,
    /// Upper case, without `CAP_`.
    capabilities: BTreeSet<String>,
    kernel: KernelVersion,
}

impl Context {
    /// For this machine and a process with these capabilities (its bounding set), with or without `CAP_`.
    pub fn new<S: AsRef<str>>(capabilities: impl IntoIterator<Item = S>) -> Self {
        Self::of(Family::NATIVE.unwrap_or(Family::X86), capabilities, &husk_node::kernel_release())
    }

    /// For another machine.
    pub fn of<S: AsRef<str>>(
        family: Family,
        capabilities: impl IntoIterator<Item = S>,
        release: &str,
    ) -> Self {
        let capabilities = capabilities.into_iter().map(|name| normalise(name.as_ref())).collect();
        Self { family, capabilities, kernel: KernelVersion::parse(release).unwrap_or_default() }
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
