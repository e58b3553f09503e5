//! Manifests, indexes and image configurations: Docker schema 2 and OCI, read as Go reads them (see `json`) and strictly
//! where it matters.
//!
//! A document that could be read as a manifest and as an index is refused (CVE-2021-41190): the two readings could show
//! different content to a scanner and to a node under one digest.

use std::collections::BTreeMap;

use husk_model::Digest;
use serde::Serialize;

use crate::{
    DiffId,
    json::{self, Anything, Decode, object},
    platform::Platform,
};

/// Largest manifest or index accepted, in bytes; distribution refuses to store more than 4 MiB.
pub(crate) const MANIFEST_MAX: u64 = 4 << 20;
/// Largest image configuration accepted, in bytes.
pub(crate) const CONFIG_MAX: u64 = 8 << 20;
/// Most layers of an image. Overlayfs stacks 500; Docker makes at most 127.
pub(crate) const LAYERS_MAX: usize = 400;
/// Most images of an index.
const INDEX_MAX: usize = 4096;

pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1+json";
const DOCKER_SCHEMA_1_SIGNED: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";
pub(crate) const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// What is made here.
pub(crate) const GZIP_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
pub(crate) const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// A reference to content, with what is claimed about it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<String>,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) urls: Vec<String>,
}

impl Descriptor {
    /// A layer that registries may not have: its publisher serves it from `urls` (Windows' base layers and the like).
    pub(crate) fn is_foreign(&self) -> bool {
        let media_type = self.media_type.as_deref().unwrap_or_default().to_ascii_lowercase();
        ["application/vnd.docker.image.rootfs.foreign.", "application/vnd.oci.image.layer.nondistributable."]
            .iter()
            .any(|prefix| media_type.starts_with(prefix))
    }
}

/// A descriptor as it stands in a document. What an index says of images for other nodes need not make sense here.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entry {
    pub(crate) media_type: String,
    pub(crate) digest: String,
    size: i64,
    pub(crate) platform: Option<Platform>,
    pub(crate) annotations: BTreeMap<String, String>,
    urls: Vec<String>,
}
object!(Entry {
    "mediaType" => media_type,
    "digest" => digest,
    "size" => size,
    "platform" => platform,
    "annotations" => annotations,
    "urls" => urls,
});
object!(Platform {
    "os" => os,
    "architecture" => architecture,
    "variant" => variant,
    "os.features" => os_features,
});

impl Entry {
    /// One that says where a document is and nothing else.
    pub(crate) fn of(digest: &Digest, media_type: String) -> Self {
        Self { digest: digest.to_string(), media_type, ..Self::default() }
    }

    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(String::as_str)
    }

    /// The entry as a descriptor that can be followed; the error says what it lacks.
    pub(crate) fn descriptor(&self) -> Result<Descriptor, String> {
        let digest = self.digest.parse().map_err(|_| match self.digest.as_str() {
            "" => "the digest is missing".to_owned(),
            digest => {
                let shown: String = digest.chars().take(150).collect();
                format!("digest {shown:?} is not sha256:<64 lower-case hex characters>")
            }
        })?;
        let size = u64::try_from(self.size).map_err(|_| format!("size {} is negative", self.size))?;
        let media_type = Some(self.media_type.clone()).filter(|media_type| !media_type.is_empty());
        Ok(Descriptor { media_type, digest, size, urls: self.urls.clone() })
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
    Index(Vec<Entry>),
}

#[derive(Default)]
struct Raw {
    media_type: String,
    artifact_type: String,
    config: Option<Entry>,
    layers: Option<Vec<Entry>>,
    manifests: Option<Vec<Entry>>,
    fs_layers: Option<Anything>,
}
object!(Raw {
    "mediaType" => media_type,
    "artifactType" => artifact_type,
    "config" => config,
    "layers" => layers,
    "manifests" => manifests,
    "fsLayers" => fs_layers,
});

/// What a media type says the document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Declared {
    Manifest,
    Index,
    Schema1,
    Other,
}

impl Declared {
    fn of(media_type: &str) -> Self {
        match media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            DOCKER_INDEX | OCI_INDEX => Self::Index,
            DOCKER_MANIFEST | OCI_MANIFEST => Self::Manifest,
            DOCKER_SCHEMA_1 | DOCKER_SCHEMA_1_SIGNED => Self::Schema1,
            _ => Self::Other,
        }
    }

    /// What a manifest calls itself; that of OCI, where naming it is optional, if it does not.
    pub(crate) fn media_type_of(manifest: &[u8]) -> String {
        #[derive(Default)]
        struct Named {
            media_type: String,
        }
        object!(Named { "mediaType" => media_type });
        let Named { media_type } = json::read(manifest).unwrap_or_default();
        if media_type.is_empty() { OCI_MANIFEST.to_owned() } else { media_type }
    }
}

impl Document {
    /// Reads `bytes`; `content_type` is what the registry or the descriptor called them.
    pub(crate) fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<Self, String> {
        let raw: Raw = json::read(bytes).map_err(|error| match content_type {
            // The page of a portal or of a proxy, most often.
            Some(other) if Declared::of(other) == Declared::Other => {
                let shown: String = other.chars().take(100).collect();
                format!("not a manifest but {shown:?}: {error}")
            }
            _ => format!("not a manifest: {error}"),
        })?;
        let claims = [Some(raw.media_type.as_str()), content_type];
        let claims = || claims.into_iter().flatten();
        let is_schema_1 = claims().any(|claim| Declared::of(claim) == Declared::Schema1);
        if raw.fs_layers.is_some() || (is_schema_1 && raw.config.is_none()) {
            return Err(
                "Docker schema 1 is obsolete and not supported; push the image again with a current tool"
                    .into(),
            );
        }
        let document = match (raw.manifests, raw.config, raw.layers) {
            (Some(_), Some(_), _) | (Some(_), _, Some(_)) => {
                return Err(
                    "both a manifest and an index; such a document is refused (CVE-2021-41190)".into()
                );
            }
            (Some(manifests), None, None) => Self::Index(manifests),
            // An image without layers is one whose list is absent or null.
            (None, Some(config), layers) => {
                Self::Manifest(Manifest::check(&config, &layers.unwrap_or_default(), &raw.artifact_type)?)
            }
            _ => return Err("neither an image manifest (config and layers) nor an index (manifests)".into()),
        };
        let other = match document {
            Self::Index(_) => Declared::Manifest,
            Self::Manifest(_) => Declared::Index,
        };
        if let Some(claim) = claims().find(|claim| Declared::of(claim) == other) {
            return Err(format!("declared as {claim}, but its content is another kind (CVE-2021-41190)"));
        }
        match &document {
            Self::Index(manifests) if manifests.len() > INDEX_MAX => {
                Err(format!("{} entries; at most {INDEX_MAX} are read", manifests.len()))
            }
            _ => Ok(document),
        }
    }
}

impl Manifest {
    fn check(config: &Entry, layers: &[Entry], artifact_type: &str) -> Result<Self, String> {
        if layers.len() > LAYERS_MAX {
            return Err(format!("{} layers; at most {LAYERS_MAX} can be mounted", layers.len()));
        }
        if is_artifact(&config.media_type) {
            let kind = if artifact_type.is_empty() { &config.media_type } else { artifact_type };
            let shown: String = kind.chars().take(100).collect();
            return Err(format!("an OCI artifact ({shown}), which is no container image"));
        }
        let config = config.descriptor().map_err(|error| format!("config: {error}"))?;
        if config.size > CONFIG_MAX {
            return Err(format!("configuration of {} bytes; at most {CONFIG_MAX} are read", config.size));
        }
        let layer = |(at, entry): (usize, &Entry)| {
            let layer = entry.descriptor().map_err(|error| format!("layers: entry {at}: {error}"))?;
            let media_type = layer.media_type.as_deref().unwrap_or(OCI_LAYER);
            if media_type.contains("+encrypted") {
                return Err(format!("layer {} is encrypted, which is not supported", layer.digest));
            }
            if !is_layer(media_type) {
                let shown: String = media_type.chars().take(100).collect();
                return Err(format!("{shown} is not a layer of a container image"));
            }
            Ok(layer)
        };
        let layers = layers.iter().enumerate().map(layer).collect::<Result<_, _>>()?;
        Ok(Self { config, layers })
    }
}

/// Layers of Docker and OCI in every compression; which one is read from the bytes themselves.
fn is_layer(media_type: &str) -> bool {
    let media_type = media_type.to_ascii_lowercase();
    ["application/vnd.docker.image.rootfs.", "application/vnd.oci.image.layer."]
        .iter()
        .any(|prefix| media_type.starts_with(prefix))
}

/// Whether a manifest with a configuration of this type carries something else than an image. Types that nobody knows pass:
/// what the configuration holds decides then.
fn is_artifact(config_type: &str) -> bool {
    let known = ["application/vnd.oci.image.config.", "application/vnd.docker.container.image."];
    let config_type = config_type.to_ascii_lowercase();
    config_type.starts_with("application/vnd.") && !known.iter().any(|prefix| config_type.starts_with(prefix))
}

/// An image configuration.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConfigFile {
    os: String,
    architecture: String,
    variant: String,
    pub(crate) created: Option<String>,
    pub(crate) config: Process,
    rootfs: RootFs,
    diff_ids: Vec<DiffId>,
}
object!(ConfigFile {
    "os" => os,
    "architecture" => architecture,
    "variant" => variant,
    "created" => created,
    "config" => config,
    "rootfs" => rootfs,
});

#[derive(Debug, Clone, Default)]
struct RootFs {
    diff_ids: Vec<String>,
}
object!(RootFs { "diff_ids" => diff_ids });

/// How to run the image.
#[derive(Debug, Clone, Default)]
pub(crate) struct Process {
    pub(crate) user: String,
    pub(crate) env: Vec<String>,
    pub(crate) entrypoint: Words,
    pub(crate) cmd: Words,
    pub(crate) working_dir: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) stop_signal: String,
    pub(crate) volumes: BTreeMap<String, Anything>,
    pub(crate) exposed_ports: BTreeMap<String, Anything>,
}
object!(Process {
    "User" => user,
    "Env" => env,
    "Entrypoint" => entrypoint,
    "Cmd" => cmd,
    "WorkingDir" => working_dir,
    "Labels" => labels,
    "StopSignal" => stop_signal,
    "Volumes" => volumes,
    "ExposedPorts" => exposed_ports,
});

/// A command: a list, or one string as very old builders wrote it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Words(pub(crate) Vec<String>);

impl Decode for Words {
    fn decode<'de, D: serde::Deserializer<'de>>(&mut self, from: D) -> Result<(), D::Error> {
        json::decode_words(&mut self.0, from)
    }
}

impl ConfigFile {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut file: Self =
            json::read(bytes).map_err(|error| format!("not an image configuration: {error}"))?;
        for (at, text) in std::mem::take(&mut file.rootfs.diff_ids).into_iter().enumerate() {
            let shown: String = text.chars().take(150).collect();
            file.diff_ids.push(text.parse().map(DiffId::new).map_err(|_| {
                format!("rootfs.diff_ids: entry {at}: {shown:?} is not sha256:<64 lower-case hex characters>")
            })?);
        }
        Ok(file)
    }

    /// Digests of the unpacked layers, lowest first.
    pub(crate) fn diff_ids(&self) -> &[DiffId] {
        &self.diff_ids
    }

    /// The platform the image was built for, when it says so.
    pub(crate) fn platform(&self) -> Option<Platform> {
        let built_for = Platform {
            os: self.os.clone(),
            architecture: self.architecture.clone(),
            variant: Some(self.variant.clone()).filter(|variant| !variant.is_empty()),
            os_features: Vec::new(),
        };
        (!built_for.architecture.is_empty()).then(|| built_for.normalized())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest() -> String {
        format!("sha256:{}", "a".repeat(64))
    }

    fn descriptor() -> String {
        format!(r#"{{"mediaType":"{OCI_LAYER}+gzip","digest":"{}","size":1}}"#, digest())
    }

    fn config() -> String {
        descriptor().replace(&format!("{OCI_LAYER}+gzip"), OCI_CONFIG)
    }

    fn parse(text: &str) -> Result<Document, String> {
        Document::parse(text.as_bytes(), None)
    }

    #[test]
    fn a_document_that_is_both_manifest_and_index_is_refused() {
        let (c, d) = (config(), descriptor());
        let both = format!(r#"{{"schemaVersion":2,"config":{c},"layers":[{d}],"manifests":[]}}"#);
        for both in
            [both.clone(), both.replace("manifests", "MANIFESTS"), both.replace("\"config\"", "\"Config\"")]
        {
            assert!(parse(&both).unwrap_err().contains("CVE-2021-41190"), "{both}");
        }
        let manifest = format!(r#"{{"schemaVersion":2,"config":{c},"layers":[{d}]}}"#);
        assert!(parse(&manifest).is_ok());
        let declared = |content_type: &str| Document::parse(manifest.as_bytes(), Some(content_type));
        assert!(declared(OCI_INDEX).unwrap_err().contains("CVE-2021-41190"));
        assert!(declared(&format!("{OCI_MANIFEST}; charset=utf-8")).is_ok());
        assert!(declared(&OCI_MANIFEST.to_ascii_uppercase()).is_ok());
        assert!(declared("text/plain").is_ok(), "file servers do not know manifests");
        let index =
            r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","manifests":[]}"#;
        assert!(parse(index).is_err());
    }

    #[test]
    fn nulls_letter_case_and_what_nobody_knows_are_read_as_go_does() {
        let (c, d) = (config(), descriptor());
        for text in [
            format!(r#"{{"config":{c},"layers":[{d}],"manifests":null,"fsLayers":null,"annotations":null}}"#),
            format!(r#"{{"SchemaVersion":2,"Config":{c},"LAYERS":[{d}],"subject":null,"x":1e999}}"#),
            format!(r#"{{"schemaVersion":2,"config":{{}},"config":{c},"layers":null,"layers":[{d}]}}"#),
            format!(
                r#"{{"mediaType":null,"config":{c},"layers":[{}]}}"#,
                d.replace(
                    "\"size\"",
                    "\"urls\":null,\"platform\":null,\"annotations\":{\"a\":null},\"Size\""
                )
            ),
        ] {
            match parse(&text) {
                Ok(Document::Manifest(manifest)) => assert_eq!(manifest.layers.len(), 1, "{text}"),
                other => panic!("{text}: {other:?}"),
            }
        }
        for layers in ["", ",\"layers\":null", ",\"layers\":[]"] {
            let text = format!(r#"{{"schemaVersion":2,"config":{c}{layers}}}"#);
            assert!(matches!(parse(&text), Ok(Document::Manifest(manifest)) if manifest.layers.is_empty()));
        }
        let index = format!(
            r#"{{"manifests":[{{"digest":"sha512:{}","platform":{{"architecture":"s390x"}}}},{{}},null,{d}],"config":null,"layers":null}}"#,
            "b".repeat(128)
        );
        let Ok(Document::Index(entries)) = parse(&index) else { panic!("an index") };
        assert_eq!(entries.len(), 4);
        assert!(entries[3].descriptor().is_ok());
        assert!(entries[0].descriptor().unwrap_err().contains("sha512"));
        assert!(entries[2].descriptor().unwrap_err().contains("missing"));
    }

    #[test]
    fn what_is_not_a_container_image_is_refused_with_its_kind() {
        let (c, d) = (config(), descriptor());
        let manifest = |config: &str, layer: &str| {
            format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layer}]}}"#)
        };
        let helm = "application/vnd.cncf.helm.config.v1+json";
        for (text, word) in [
            (manifest(&c, &d.replace("tar+gzip", "tar+gzip+encrypted")), "encrypted"),
            (
                manifest(&c, &d.replace(&format!("{OCI_LAYER}+gzip"), "application/vnd.cncf.helm.chart")),
                "helm",
            ),
            (manifest(&c.replace(OCI_CONFIG, helm), &d), "an OCI artifact (application/vnd.cncf.helm"),
            (
                manifest(&c.replace(OCI_CONFIG, "application/vnd.oci.empty.v1+json"), &d)
                    .replace("\"config\"", "\"artifactType\":\"a/b\",\"config\""),
                "artifact (a/b)",
            ),
            (r#"{"schemaVersion":1,"fsLayers":[]}"#.into(), "schema 1"),
            (format!(r#"{{"schemaVersion":1,"mediaType":"{DOCKER_SCHEMA_1_SIGNED}"}}"#), "schema 1"),
            (manifest(&c, &d.replace("\"size\":1", "\"size\":-1")), "layers: entry 0: size -1 is negative"),
            (manifest(&c, &d.replace("\"size\":1", "\"size\":1e400")), "size"),
            (manifest(&c, &d.replace(&digest(), &digest().to_ascii_uppercase())), "lower-case"),
            (manifest("null", &d), "neither an image manifest"),
            (manifest("{}", &d), "config: the digest is missing"),
            (r#"{"errors":[]}"#.into(), "neither an image manifest"),
            ("[]".into(), "not a manifest"),
            ("".into(), "empty"),
            ("<html>".into(), "not a manifest"),
        ] {
            let error = parse(&text).expect_err(&text);
            assert!(error.contains(word), "{text}: {error}");
        }
        let page = Document::parse(b"<html>", Some("text/html")).unwrap_err();
        assert!(page.contains("text/html"), "{page}");
    }

    #[test]
    fn configurations_are_read_as_go_does() {
        let text = br#"{"OS":"linux","architecture":"x86_64","variant":null,"created":null,"author":null,"history":null,
            "config":{"Env":[null,"A=b"],"Cmd":"sh","Entrypoint":null,"Labels":{"a":null},"User":null,"OnBuild":null,
            "Volumes":{"/data":{},"/b":null},"exposedports":null,"Healthcheck":{"Interval":1e400},"ArgsEscaped":true},
            "rootfs":{"type":"layers","diff_ids":null},"os.features":[]}"#;
        let file = ConfigFile::parse(text).unwrap();
        assert!(file.diff_ids().is_empty());
        assert_eq!(file.platform().unwrap().to_string(), "linux/amd64");
        let process = &file.config;
        assert_eq!((process.cmd.0.as_slice(), process.entrypoint.0.len()), (&["sh".to_owned()][..], 0));
        assert_eq!(process.env, ["", "A=b"]);
        assert_eq!(process.volumes.len(), 2);
        assert_eq!(process.labels["a"], "");
        for (text, word) in [
            ("", "empty"),
            (r#"{"config":{"User":1000}}"#, "config: User: invalid type: integer `1000`, expected a string"),
            (r#"{"config":{"Env":{"A":"b"}}}"#, "config: Env: "),
            (r#"{"rootfs":{"diff_ids":["sha256:X"]}}"#, "rootfs.diff_ids: entry 0"),
        ] {
            let error = ConfigFile::parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
        assert_eq!(ConfigFile::parse(br#"{"config":null,"rootfs":null}"#).unwrap().platform(), None);
    }

    #[test]
    fn foreign_layers_are_known_by_their_type() {
        let of = |media_type: &str| Descriptor {
            media_type: Some(media_type.into()),
            digest: digest().parse().unwrap(),
            size: 1,
            urls: Vec::new(),
        };
        assert!(of("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip").is_foreign());
        assert!(of("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd").is_foreign());
        assert!(!of("application/vnd.oci.image.layer.v1.tar+gzip").is_foreign());
    }
}
