//! Manifests, indexes and image configurations: Docker schema 2 and OCI, read strictly where it matters.
//!
//! A document that could be read as a manifest and as an index is refused (CVE-2021-41190): the two readings could show
//! different content to a scanner and to a node under one digest.

use std::collections::BTreeMap;

use husk_model::Digest;
use serde::{Deserialize, Serialize, de::IgnoredAny};

use crate::platform::Platform;

/// Largest manifest or index accepted, in bytes; distribution refuses to store more than 4 MiB.
pub(crate) const MANIFEST_MAX: u64 = 4 << 20;
/// Largest image configuration accepted, in bytes.
pub(crate) const CONFIG_MAX: u64 = 8 << 20;
/// Most layers of an image. Overlayfs stacks 500; Docker makes at most 127.
pub(crate) const LAYERS_MAX: usize = 400;
/// Most images of an index.
const INDEX_MAX: usize = 4096;

pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A reference to content, with what is claimed about it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<String>,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) annotations: Option<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) urls: Option<Vec<String>>,
}

impl Descriptor {
    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }
}

/// A manifest of one image.
#[derive(Debug, Clone)]
pub(crate) struct Manifest {
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// What a tag or digest led to.
#[derive(Debug, Clone)]
pub(crate) enum Document {
    Manifest(Manifest),
    Index(Vec<Descriptor>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: Option<u64>,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    fs_layers: Option<IgnoredAny>,
}

impl Document {
    /// Reads `bytes`; `content_type` is what the registry or the descriptor called them.
    pub(crate) fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<Self, String> {
        let raw: Raw = serde_json::from_slice(bytes).map_err(|error| format!("not a manifest: {error}"))?;
        if raw.fs_layers.is_some() || raw.schema_version == Some(1) {
            return Err(
                "Docker schema 1 is obsolete and not supported; push the image again with a current tool"
                    .into(),
            );
        }
        if raw.schema_version != Some(2) {
            return Err(format!("schemaVersion {:?} is not 2", raw.schema_version));
        }
        let known = |media_type: &str| match media_type.split(';').next().unwrap_or_default().trim() {
            DOCKER_INDEX | OCI_INDEX => Some(true),
            DOCKER_MANIFEST | OCI_MANIFEST => Some(false),
            _ => None,
        };
        let document = match (raw.manifests, raw.config, raw.layers) {
            (Some(_), Some(_), _) | (Some(_), _, Some(_)) => {
                return Err(
                    "both a manifest and an index; such a document is refused (CVE-2021-41190)".into()
                );
            }
            (Some(manifests), None, None) => Self::Index(manifests),
            (None, Some(config), Some(layers)) => Self::Manifest(Manifest { config, layers }),
            _ => return Err("neither an image manifest (config and layers) nor an index (manifests)".into()),
        };
        let is_index = matches!(document, Self::Index(_));
        for claim in [raw.media_type.as_deref(), content_type].into_iter().flatten() {
            if known(claim).is_some_and(|claims_index| claims_index != is_index) {
                return Err(format!("declared as {claim}, but its content is another kind (CVE-2021-41190)"));
            }
        }
        document.check()?;
        Ok(document)
    }

    fn check(&self) -> Result<(), String> {
        match self {
            Self::Index(manifests) if manifests.len() > INDEX_MAX => {
                Err(format!("{} entries; at most {INDEX_MAX} are read", manifests.len()))
            }
            Self::Index(_) => Ok(()),
            Self::Manifest(manifest) => manifest.check(),
        }
    }
}

impl Manifest {
    fn check(&self) -> Result<(), String> {
        if self.layers.len() > LAYERS_MAX {
            return Err(format!("{} layers; at most {LAYERS_MAX} can be mounted", self.layers.len()));
        }
        if self.config.size > CONFIG_MAX {
            return Err(format!(
                "configuration of {} bytes; at most {CONFIG_MAX} are read",
                self.config.size
            ));
        }
        for layer in &self.layers {
            let media_type = layer.media_type.as_deref().unwrap_or(OCI_LAYER);
            if media_type.contains("+encrypted") {
                return Err(format!("layer {} is encrypted, which is not supported", layer.digest));
            }
            if !is_layer(media_type) {
                return Err(format!("{media_type} is not a layer of a container image"));
            }
        }
        Ok(())
    }
}

/// Layers of Docker and OCI in every compression; which one is read from the bytes themselves.
fn is_layer(media_type: &str) -> bool {
    ["application/vnd.docker.image.rootfs.", "application/vnd.oci.image.layer."]
        .iter()
        .any(|prefix| media_type.starts_with(prefix))
}

/// An image configuration, tolerant of the nulls that builders write.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct ConfigFile {
    #[serde(default)]
    pub(crate) os: Option<String>,
    #[serde(default)]
    pub(crate) architecture: Option<String>,
    #[serde(default)]
    pub(crate) variant: Option<String>,
    #[serde(default)]
    pub(crate) created: Option<String>,
    #[serde(default)]
    pub(crate) config: Option<Process>,
    #[serde(default)]
    pub(crate) rootfs: Option<RootFs>,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct RootFs {
    #[serde(default)]
    pub(crate) diff_ids: Option<Vec<Digest>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Process {
    #[serde(default)]
    pub(crate) user: Option<String>,
    #[serde(default)]
    pub(crate) env: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) entrypoint: Option<Words>,
    #[serde(default)]
    pub(crate) cmd: Option<Words>,
    #[serde(default)]
    pub(crate) working_dir: Option<String>,
    #[serde(default)]
    pub(crate) labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    pub(crate) stop_signal: Option<String>,
    #[serde(default)]
    pub(crate) volumes: Option<BTreeMap<String, IgnoredAny>>,
    #[serde(default)]
    pub(crate) exposed_ports: Option<BTreeMap<String, IgnoredAny>>,
}

/// A command: a list, or one string as very old builders wrote it.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum Words {
    List(Vec<String>),
    One(String),
}

impl From<Words> for Vec<String> {
    fn from(words: Words) -> Self {
        match words {
            Words::List(list) => list,
            Words::One(word) => vec![word],
        }
    }
}

impl ConfigFile {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|error| format!("not an image configuration: {error}"))
    }

    pub(crate) fn diff_ids(&self) -> &[Digest] {
        self.rootfs.as_ref().and_then(|rootfs| rootfs.diff_ids.as_deref()).unwrap_or_default()
    }

    /// The platform the image was built for, when it says so.
    pub(crate) fn platform(&self) -> Option<Platform> {
        let text = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
        Some(Platform {
            os: text(&self.os)?,
            architecture: text(&self.architecture)?,
            variant: text(&self.variant),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor() -> String {
        format!(r#"{{"mediaType":"{OCI_LAYER}+gzip","digest":"sha256:{}","size":1}}"#, "a".repeat(64))
    }

    #[test]
    fn a_document_that_is_both_manifest_and_index_is_refused() {
        let d = descriptor();
        let both = format!(r#"{{"schemaVersion":2,"config":{d},"layers":[{d}],"manifests":[]}}"#);
        assert!(Document::parse(both.as_bytes(), None).unwrap_err().contains("CVE-2021-41190"));
        let manifest = format!(r#"{{"schemaVersion":2,"config":{d},"layers":[{d}]}}"#);
        assert!(Document::parse(manifest.as_bytes(), None).is_ok());
        assert!(
            Document::parse(manifest.as_bytes(), Some(OCI_INDEX)).unwrap_err().contains("CVE-2021-41190")
        );
        let index =
            r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","manifests":[]}"#;
        assert!(Document::parse(index.as_bytes(), None).is_err());
        let twice = format!(r#"{{"schemaVersion":2,"config":{d},"config":{d},"layers":[]}}"#);
        assert!(Document::parse(twice.as_bytes(), None).is_err(), "duplicate keys");
    }

    #[test]
    fn what_is_not_a_container_image_is_refused_with_its_kind() {
        let d = descriptor();
        for (layer, word) in [
            (d.replace("tar+gzip", "tar+gzip+encrypted"), "encrypted"),
            (
                d.replace("application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.cncf.helm.chart"),
                "helm",
            ),
        ] {
            let text = format!(r#"{{"schemaVersion":2,"config":{d},"layers":[{layer}]}}"#);
            assert!(Document::parse(text.as_bytes(), None).unwrap_err().contains(word));
        }
        assert!(
            Document::parse(br#"{"schemaVersion":1,"fsLayers":[]}"#, None).unwrap_err().contains("schema 1")
        );
        let negative = descriptor().replace("\"size\":1", "\"size\":-1");
        assert!(
            Document::parse(
                format!(r#"{{"schemaVersion":2,"config":{negative},"layers":[]}}"#).as_bytes(),
                None
            )
            .is_err()
        );
    }

    #[test]
    fn nulls_in_a_configuration_mean_absent() {
        let text = br#"{"os":"linux","architecture":"amd64","config":{"Env":null,"Cmd":"sh","Entrypoint":null,"Labels":null,
            "Volumes":{"/data":{}}},"rootfs":{"type":"layers","diff_ids":null}}"#;
        let config = ConfigFile::parse(text).unwrap();
        assert!(config.diff_ids().is_empty());
        let process = config.config.unwrap();
        assert_eq!(Vec::from(process.cmd.unwrap()), ["sh"]);
        assert!(process.env.is_none());
    }
}
