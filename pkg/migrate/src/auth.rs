//! Credentials of registries: they become a file of husk's in Docker's format, `images.auth_file`.
//!
//! The kubelet reads one of that format too, `/var/lib/kubelet/config.json`, and sends with every pull what fits the image's
//! name (kubernetes.io, "Pull an Image from a Private Registry" and "Configuring nodes to authenticate to a private registry").

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use crate::plan::PlannedFile;

/// Where they are written.
pub(crate) const FILE: &str = "/etc/husk/auth.json";

/// The key of husk.toml that names it.
pub(crate) const KEY: &str = "images.auth_file";

/// The kubelet's own, which needs no translation.
pub(crate) const KUBELET_FILE: &str = "/var/lib/kubelet/config.json";

/// What is said of a credential that was taken.
pub(crate) const MEANS: &str = "for pulls that bring none; by the host that is asked (docs/registries.md)";

/// Credentials by registry, as Docker's files have them: base64 of `user:password`.
#[derive(Default)]
pub(crate) struct Credentials(BTreeMap<String, String>);

impl Credentials {
    pub(crate) fn add(&mut self, registry: &str, auth: String) {
        let registry = match host(registry) {
            // What Docker calls its hub, and the kubelet too (pkg/credentialprovider/keyring.go).
            "docker.io" | "index.docker.io" | "registry-1.docker.io" => "https://index.docker.io/v1/",
            _ => registry.trim_end_matches('/'),
        };
        self.0.insert(registry.to_owned(), auth);
    }

    /// The file, if there is anything in it.
    pub(crate) fn file(&self) -> Option<PlannedFile> {
        if self.0.is_empty() {
            return None;
        }
        let auths: serde_json::Map<_, _> =
            self.0.iter().map(|(host, auth)| (host.clone(), json!({ "auth": auth }))).collect();
        let text = format!("{:#}\n", json!({ "auths": auths }));
        Some(PlannedFile { path: FILE.into(), contents: text.into_bytes(), secret: true })
    }
}

/// The host of a registry's name, which may be a URL.
pub(crate) fn host(registry: &str) -> &str {
    let rest = registry.split_once("://").map_or(registry, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

/// `user:password` as one text.
pub(crate) fn encode(user: &str, password: &str) -> String {
    STANDARD.encode(format!("{user}:{password}"))
}
