//! What registries are asked besides pulls and pushes: whether they know a user, what a reference means there, which tags there are, and
//! what they find for a word.

use crate::{
    Auth, ImageError, ImageStore, ManifestFacts, Platform, Reference, Result,
    manifest::{ConfigFile, Declared, Document, OCI_INDEX},
    registry::{Attempts, RegistryError, SearchResult, Session},
};

/// Tags told of a repository at most.
const TAGS_MAX: usize = 10_000;

/// What a reference means at its registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteImage {
    /// The manifest or index that it names.
    pub descriptor: ManifestFacts,
    /// What there is an image for.
    pub platforms: Vec<Platform>,
}

impl ImageStore {
    /// Whether the registry `host` lets in a user: `docker.io`, `registry.example:5000`, or the address of one with a scheme and a path, of
    /// which the host counts.
    ///
    /// # Errors
    /// [`ImageError::Fetch`]: Unauthenticated when it does not, else why it could not be asked. [`ImageError::Reference`] for what is no host.
    pub async fn check_auth(&self, host: &str, auth: Auth) -> Result<()> {
        let reference = of_host(host)?;
        // For whom else they are does not matter here.
        let auth = Auth { server_address: String::new(), ..auth };
        let session = Session::to_ask(reference.clone(), auth, self.registry_config(), &self.clients)?;
        let failed = |host: &str, error| failed(format!("login at {}", reference.host()), host, error);
        let endpoint = session.home().await.map_err(|(host, error)| failed(&host, error))?;
        session.ping(endpoint).await.map_err(|error| failed(endpoint.name(), error))
    }

    /// What `reference` means at its registry. Nothing is pulled.
    ///
    /// # Errors
    /// As [`Self::pull`].
    pub async fn inspect_remote(&self, reference: &str, auth: Option<Auth>) -> Result<RemoteImage> {
        let reference = Reference::parse(reference)?;
        let session =
            Session::new(reference, auth.unwrap_or_default(), self.registry_config(), &self.clients)?;
        let fetched = session.top_manifest().await?;
        let content =
            |reason| ImageError::Content { object: "manifest", digest: fetched.digest.clone(), reason };
        let document = Document::parse(&fetched.bytes, fetched.content_type.as_deref()).map_err(content)?;
        let (platforms, unnamed) = match &document {
            Document::Index(entries) => {
                let known = entries.iter().filter_map(|entry| entry.platform.clone());
                // Attestations, which go along with images, are for no platform.
                (known.filter(|platform| platform.os != "unknown").collect(), OCI_INDEX.to_owned())
            }
            Document::Manifest(manifest) => {
                let config = session.config(&manifest.config).await?;
                let file = ConfigFile::parse(&config.bytes).map_err(content)?;
                (file.platform().into_iter().collect(), Declared::media_type_of(&fetched.bytes))
            }
        };
        let media_type = fetched.content_type.clone().filter(|told| told.starts_with("application/vnd."));
        let descriptor = ManifestFacts {
            media_type: media_type.unwrap_or(unnamed),
            digest: fetched.digest.clone(),
            size: fetched.bytes.len() as u64,
        };
        Ok(RemoteImage { descriptor, platforms })
    }

    /// The tags of the repository of `reference` at its registry, at most 10,000, in the registry's order.
    ///
    /// # Errors
    /// [`ImageError::Fetch`], [`ImageError::Reference`].
    pub async fn remote_tags(&self, reference: &str, auth: Option<Auth>) -> Result<Vec<String>> {
        let reference = Reference::parse(reference)?;
        let object = format!("tags of {}", reference.name());
        let session =
            Session::new(reference, auth.unwrap_or_default(), self.registry_config(), &self.clients)?;
        let mut attempts = Attempts::default();
        for endpoint in session.endpoints.iter().filter(|endpoint| endpoint.may_resolve()) {
            match session.tags(endpoint, TAGS_MAX).await {
                Ok(tags) => return Ok(tags),
                Err(error) => attempts.add(endpoint.name(), error),
            }
        }
        Err(ImageError::Fetch { object, attempts })
    }

    /// Repositories that a registry finds for `term`, at most `most` and never more than 100: `busybox` at Docker Hub, `host/word` at another
    /// registry that can search (`/v1/search`).
    ///
    /// # Errors
    /// [`ImageError::Fetch`]: NotFound for a registry that cannot; [`ImageError::Reference`] for what is no host.
    pub async fn search(&self, term: &str, most: u32, auth: Option<Auth>) -> Result<Vec<SearchResult>> {
        let (host, word) = match term.split_once('/') {
            Some((host, word)) if host == "localhost" || host.contains(['.', ':']) => (host, word),
            _ => ("docker.io", term),
        };
        let reference = of_host(host)?;
        let auth = auth.unwrap_or_default();
        let session = Session::to_ask(reference, auth, self.registry_config(), &self.clients)?;
        let failed = |host: &str, error| failed(format!("search for {word:?}"), host, error);
        let endpoint = session.home().await.map_err(|(host, error)| failed(&host, error))?;
        session
            .search(endpoint, word, most.clamp(1, 100))
            .await
            .map_err(|error| failed(endpoint.name(), error))
    }
}

/// A reference at `host`, of which nothing but that is asked.
fn of_host(host: &str) -> Result<Reference> {
    let bare = host.split_once("://").map_or(host, |(_, rest)| rest);
    let bare = bare.split('/').next().unwrap_or_default();
    let is_none = bare.is_empty() || (bare != "localhost" && !bare.contains(['.', ':']));
    if is_none {
        let reference = host.chars().take(300).collect();
        return Err(ImageError::Reference { reference, reason: "it is no registry's host" });
    }
    Reference::parse(&format!("{bare}/any/image"))
}

fn failed(object: String, host: &str, error: RegistryError) -> ImageError {
    let mut attempts = Attempts::default();
    attempts.add(host, error);
    ImageError::Fetch { object, attempts }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_counts_of_an_address() {
        for (address, host) in [
            ("https://index.docker.io/v1/", "docker.io"),
            ("docker.io", "docker.io"),
            ("registry-1.docker.io", "docker.io"),
            ("http://127.0.0.1:5000", "127.0.0.1:5000"),
            ("localhost", "localhost"),
            ("quay.io/team", "quay.io"),
        ] {
            assert_eq!(of_host(address).unwrap().host(), host, "{address}");
        }
        for address in ["", "https://", "word", "a b.c", "../x"] {
            assert!(of_host(address).is_err(), "{address}");
        }
    }
}
