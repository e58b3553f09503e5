//! From a reference to the one image that it means on this node: manifest, configuration, layers' diff ids.
//!
//! Of an index, the entries for this node's platform come first, the best one alone. Only when there is none are entries
//! tried that say no platform, in their order, and the configuration behind each tells whether it suits; containerd takes
//! just the first of them. Documents are bounded in number, so that indexes of indexes end.

use husk_model::{Classify, Digest, Kind};

use crate::{
    DiffId, ImageError, Result,
    manifest::{ConfigFile, Descriptor, Document, Entry, Manifest},
    platform::{self, Platform},
    registry::{Fetched, Session},
};

/// Manifests and indexes that are fetched for one image.
const DOCUMENTS_MAX: usize = 32;

/// What a reference turned out to be.
pub(crate) struct Resolved {
    /// Digest of the manifest or index that the reference names.
    pub(crate) top: Digest,
    /// Digest of the manifest.
    pub(crate) digest: Digest,
    pub(crate) manifest: Manifest,
    /// As it came.
    pub(crate) manifest_bytes: Vec<u8>,
    pub(crate) config: Vec<u8>,
    pub(crate) diff_ids: Vec<DiffId>,
}

/// A document that may hold the image.
enum Candidate {
    Fetched(Fetched),
    /// Still to be fetched; and whether its platform is yet unknown.
    Entry(Descriptor, bool),
}

impl Session {
    /// Finds the image for `node`.
    pub(crate) async fn resolve(&self, node: &Platform) -> Result<Resolved> {
        let image = self.reference.to_string();
        let fetched = self.top_manifest().await?;
        let top = fetched.digest.clone();
        let mut candidates = vec![Candidate::Fetched(fetched)];
        // Why the first entry without a platform was not it.
        let mut refused = None;
        for _ in 0..DOCUMENTS_MAX {
            let Some(candidate) = candidates.pop() else { break };
            let (found, untold) = match candidate {
                Candidate::Fetched(fetched) => (self.look_into(fetched, node, &image).await, false),
                Candidate::Entry(descriptor, untold) => {
                    (self.follow_entry(&descriptor, node, &image).await, untold)
                }
            };
            match found {
                Ok(Found::Image(image)) => return Ok(Resolved { top, ..*image }),
                Ok(Found::Entries(entries, without_platform)) => {
                    let more = entries.into_iter().rev();
                    candidates.extend(more.map(|entry| Candidate::Entry(entry, untold || without_platform)));
                }
                Err(error) if untold && is_about_the_entry(&error) => {
                    refused.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(refused.filter(|_| candidates.is_empty()).unwrap_or_else(|| ImageError::Content {
            object: "index",
            digest: top,
            reason: format!(
                "more than {DOCUMENTS_MAX} manifests and indexes below it were read and none is for {node}"
            ),
        }))
    }

    async fn follow_entry(&self, entry: &Descriptor, node: &Platform, image: &str) -> Result<Found> {
        let fetched = self.manifest(entry).await?;
        self.look_into(fetched, node, image).await
    }

    async fn look_into(&self, fetched: Fetched, node: &Platform, image: &str) -> Result<Found> {
        let content =
            |reason| ImageError::Content { object: "manifest", digest: fetched.digest.clone(), reason };
        match Document::parse(&fetched.bytes, fetched.content_type.as_deref()).map_err(content)? {
            Document::Manifest(manifest) => {
                let Fetched { bytes: config, .. } = self.config(&manifest.config).await?;
                let diff_ids = check_config(&manifest, &config, node, image)?;
                let Fetched { digest, bytes: manifest_bytes, .. } = fetched;
                Ok(Found::Image(Box::new(Resolved {
                    top: digest.clone(),
                    digest,
                    manifest,
                    manifest_bytes,
                    config,
                    diff_ids,
                })))
            }
            Document::Index(entries) => {
                let (picked, without_platform) = pick(&entries, node, image)?;
                let descriptors = picked.into_iter().map(|entry| entry.descriptor().map_err(content));
                Ok(Found::Entries(descriptors.collect::<Result<_>>()?, without_platform))
            }
        }
    }
}

enum Found {
    Image(Box<Resolved>),
    Entries(Vec<Descriptor>, bool),
}

/// Whether an entry is not the image that is looked for, rather than the registry out of order.
fn is_about_the_entry(error: &ImageError) -> bool {
    matches!(error.kind(), Kind::NotFound | Kind::DataLoss)
}

/// The entries of an index that may be for `node`, in the order in which to try them, and whether it is their own content
/// that has to tell.
pub(crate) fn pick<'a>(entries: &'a [Entry], node: &Platform, image: &str) -> Result<(Vec<&'a Entry>, bool)> {
    let offers = || entries.iter().filter_map(|entry| Some((entry.platform.as_ref()?, entry)));
    if let Some(entry) = platform::best(node, offers()) {
        return Ok((vec![entry], false));
    }
    let untold: Vec<_> = entries.iter().filter(|entry| entry.platform.is_none()).collect();
    if !untold.is_empty() {
        return Ok((untold, true));
    }
    let mut offered: Vec<_> = offers().map(|(platform, _)| platform.to_string()).collect();
    // Attestations, which go along with images, are for no platform.
    offered.retain(|name| name != "unknown/unknown");
    offered.truncate(16);
    let offered = if offered.is_empty() { "none".to_owned() } else { offered.join(", ") };
    Err(ImageError::Platform { image: image.to_owned(), wanted: node.to_string(), offered })
}

/// Checks a configuration against its manifest and this node; returns the diff ids.
pub(crate) fn check_config(
    manifest: &Manifest,
    config: &[u8],
    node: &Platform,
    image: &str,
) -> Result<Vec<DiffId>> {
    let digest = &manifest.config.digest;
    let content = |reason: String| ImageError::Content {
        object: "image configuration",
        digest: digest.clone(),
        reason,
    };
    let file = ConfigFile::parse(config).map_err(content)?;
    if let Some(built_for) = file.platform().filter(|built_for| !node.suits(built_for)) {
        return Err(ImageError::Platform {
            image: image.to_owned(),
            wanted: node.to_string(),
            offered: built_for.to_string(),
        });
    }
    let (layers, diff_ids) = (manifest.layers.len(), file.diff_ids().len());
    if layers != diff_ids {
        return Err(content(format!(
            "rootfs.diff_ids names {diff_ids} layers and the manifest {layers}; the image was assembled wrongly, push it again"
        )));
    }
    Ok(file.diff_ids().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(list: &str) -> Vec<Entry> {
        match Document::parse(format!(r#"{{"manifests":[{list}]}}"#).as_bytes(), None).unwrap() {
            Document::Index(entries) => entries,
            Document::Manifest(_) => panic!("an index"),
        }
    }

    #[test]
    fn an_entry_for_the_node_is_taken_before_those_that_say_no_platform() {
        let node = Platform { os: "linux".into(), architecture: "amd64".into(), ..Platform::default() };
        let plain = r#"{"digest":"1"},{"digest":"2","platform":null}"#;
        let ours = r#"{"digest":"3","platform":{"architecture":"X86_64"}}"#;
        let attestation = r#"{"digest":"4","platform":{"os":"unknown","architecture":"unknown"}}"#;
        for (list, digests) in [
            (format!("{plain},{attestation},{ours}"), vec!["3"]),
            (format!("{attestation},{plain}"), vec!["1", "2"]),
        ] {
            let entries = entries(&list);
            let (picked, untold) = pick(&entries, &node, "x").unwrap();
            let found: Vec<_> = picked.iter().map(|entry| entry.digest.as_str()).collect();
            assert_eq!((found.as_slice(), untold), (digests.as_slice(), digests.len() > 1), "{list}");
        }
        let error = pick(&entries(attestation), &node, "x").unwrap_err().to_string();
        assert!(error.contains("it offers none"), "{error}");
    }
}
