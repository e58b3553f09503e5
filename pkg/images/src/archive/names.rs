//! What an archive calls its images.

use std::collections::HashMap;

use serde::Deserialize;

use super::members::Members;
use crate::{
    ImageError, Reference, Result,
    manifest::{Descriptor, MANIFEST_MAX},
};

/// An entry of `manifest.json` of `docker save`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DockerEntry {
    pub(super) config: String,
    #[serde(default)]
    pub(super) repo_tags: Option<Vec<String>>,
    #[serde(default)]
    pub(super) layers: Option<Vec<String>>,
}

/// Reads `manifest.json`, if it is there.
pub(super) fn docker_entries(members: &Members) -> Result<Option<Vec<DockerEntry>>> {
    let Some(bytes) = members.small("manifest.json", MANIFEST_MAX)? else { return Ok(None) };
    let entries = serde_json::from_slice(&bytes)
        .map_err(|error| ImageError::Archive { reason: format!("manifest.json: {error}") })?;
    Ok(Some(entries))
}

/// Tags that `manifest.json` gives, by the name of the configuration's file.
pub(super) fn docker_tags(entries: &[DockerEntry]) -> HashMap<&str, &[String]> {
    entries
        .iter()
        .filter_map(|entry| {
            let name = entry.config.rsplit('/').next()?.trim_end_matches(".json");
            Some((name, entry.repo_tags.as_deref()?))
        })
        .collect()
}

/// Brings tags into their full form.
pub(super) fn full_tags(tags: &[String]) -> Result<Vec<String>> {
    tags.iter().map(|tag| Ok(Reference::parse(tag)?.to_string())).collect()
}

/// The name that an entry of an OCI index carries. Its own annotation may be a mere tag, which names nothing here.
pub(super) fn of_descriptor(descriptor: &Descriptor) -> Option<Reference> {
    if let Some(name) = descriptor.annotation("io.containerd.image.name") {
        return Reference::parse(name).ok();
    }
    let name = descriptor.annotation("org.opencontainers.image.ref.name")?;
    name.contains(['/', ':']).then(|| Reference::parse(name).ok())?
}
