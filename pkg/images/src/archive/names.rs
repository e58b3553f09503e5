//! What an archive calls its images.

use std::collections::HashMap;

use super::members::Members;
use crate::{
    ImageError, Reference, Result,
    json::{self, object},
    manifest::{Entry, MANIFEST_MAX},
};

/// What an image without a name has as its tag in old archives.
const NAMELESS: &str = "<none>:<none>";

/// An entry of `manifest.json` of `docker save`.
#[derive(Debug, Default)]
pub(super) struct DockerEntry {
    pub(super) config: String,
    pub(super) repo_tags: Vec<String>,
    pub(super) layers: Vec<String>,
}
object!(DockerEntry { "Config" => config, "RepoTags" => repo_tags, "Layers" => layers });

/// Reads `manifest.json`, if it is there.
pub(super) fn docker_entries(members: &Members) -> Result<Option<Vec<DockerEntry>>> {
    let Some(bytes) = members.small("manifest.json", MANIFEST_MAX)? else { return Ok(None) };
    let entries = json::read(&bytes)
        .map_err(|error| ImageError::Archive { reason: format!("manifest.json: {error}") })?;
    Ok(Some(entries))
}

/// Tags that `manifest.json` gives, by the name of the configuration's file.
pub(super) fn docker_tags(entries: &[DockerEntry]) -> HashMap<&str, &[String]> {
    entries
        .iter()
        .filter_map(|entry| {
            let name = entry.config.rsplit('/').next()?.trim_end_matches(".json");
            Some((name, entry.repo_tags.as_slice()))
        })
        .collect()
}

/// Brings tags into their full form.
pub(super) fn full_tags(tags: &[String]) -> Result<Vec<String>> {
    tags.iter()
        .filter(|tag| !tag.is_empty() && *tag != NAMELESS)
        .map(|tag| Ok(Reference::parse(tag)?.to_string()))
        .collect()
}

/// The name that an entry of an OCI index carries. Its own annotation may be a mere tag, which names nothing here.
pub(super) fn of_descriptor(descriptor: &Entry) -> Option<Reference> {
    if let Some(name) = descriptor.annotation("io.containerd.image.name") {
        return Reference::parse(name).ok();
    }
    let name = descriptor.annotation("org.opencontainers.image.ref.name")?;
    name.contains(['/', ':']).then(|| Reference::parse(name).ok())?
}
