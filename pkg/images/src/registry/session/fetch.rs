//! Documents (manifests, configurations) as a whole; layers as a stream that survives a broken connection.

use std::sync::Arc;

use bytes::Bytes;
use husk_model::Digest;
use reqwest::{
    Response, Url,
    header::{CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, HeaderName},
};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::{
    Session,
    http::{self, Request, Target},
};
use crate::{
    ImageError, Result,
    manifest::{DOCKER_INDEX, DOCKER_MANIFEST, Descriptor, MANIFEST_MAX, OCI_INDEX, OCI_MANIFEST},
    reference::Selector,
    registry::{
        error::{Attempts, RegistryError},
        hosts::Endpoint,
    },
};

/// Interruptions of a layer, each without a byte in between, after which it is given up.
const INTERRUPTIONS: u32 = 4;

/// Addresses of a foreign layer that are tried.
const FOREIGN_URLS: usize = 8;

/// A manifest or index.
pub(crate) struct Fetched {
    pub(crate) bytes: Vec<u8>,
    pub(crate) digest: Digest,
    pub(crate) content_type: Option<String>,
}

/// A layer to download.
#[derive(Debug, Clone)]
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

impl Session {
    /// Fetches the manifest or index that the reference names.
    pub(crate) async fn top_manifest(&self) -> Result<Fetched> {
        let (path, wanted) = match self.reference.selector() {
            Selector::Tag(tag) => (format!("manifests/{tag}"), None),
            Selector::Digest(digest) => (format!("manifests/{digest}"), Some(digest)),
        };
        let object = format!("manifest of {}", self.reference);
        self.document(&object, &path, wanted, MANIFEST_MAX).await
    }

    /// Fetches one manifest of an index.
    pub(crate) async fn manifest(&self, descriptor: &Descriptor) -> Result<Fetched> {
        let path = format!("manifests/{}", descriptor.digest);
        let object = format!("manifest {} of {}", descriptor.digest, self.reference);
        self.document(&object, &path, Some(&descriptor.digest), MANIFEST_MAX).await
    }

    /// Fetches an image configuration.
    pub(crate) async fn config(&self, descriptor: &Descriptor) -> Result<Fetched> {
        let path = format!("blobs/{}", descriptor.digest);
        let object = format!("configuration {} of {}", descriptor.digest, self.reference);
        self.document(&object, &path, Some(&descriptor.digest), descriptor.size).await
    }

    /// Asks each host until one serves the document.
    pub(super) async fn document(
        &self,
        object: &str,
        path: &str,
        wanted: Option<&Digest>,
        limit: u64,
    ) -> Result<Fetched> {
        let mut attempts = Attempts::default();
        for endpoint in &self.endpoints {
            let able = if wanted.is_some() { endpoint.pull } else { endpoint.resolve && endpoint.pull };
            if !able {
                continue;
            }
            match self.document_from(endpoint, path, wanted, limit).await {
                Ok(fetched) => return Ok(fetched),
                Err(error) => attempts.add(&endpoint.host, error),
            }
        }
        Err(ImageError::Fetch { object: object.to_owned(), attempts })
    }

    async fn document_from(
        &self,
        endpoint: &Endpoint,
        path: &str,
        wanted: Option<&Digest>,
        limit: u64,
    ) -> Result<Fetched, RegistryError> {
        let accept = format!("{OCI_INDEX}, {DOCKER_INDEX}, {OCI_MANIFEST}, {DOCKER_MANIFEST}, */*;q=0.1");
        let request = Request { target: Target::Path(path), accept: Some(&accept), offset: 0, head: false };
        let mut again = true;
        let (response, bytes) = loop {
            let mut response = self.get(endpoint, request).await?;
            match http::body(&mut response, limit, self.config.progress_timeout).await {
                // Requests are repeated until a head comes; a document that breaks off later, once.
                Err(RegistryError::Connect(_)) if std::mem::take(&mut again) => {}
                body => break (response, body?),
            }
        };
        let content_type = text(&response, &CONTENT_TYPE);
        let claimed = text(&response, &HeaderName::from_static("docker-content-digest"));
        let encoding = text(&response, &CONTENT_ENCODING)
            .filter(|encoding| !encoding.is_empty() && !encoding.eq_ignore_ascii_case("identity"));
        let digest = Digest::from_sha256(&Sha256::digest(&bytes).into());
        // What has the digest that was asked for is that, whatever it is called.
        if let Some(encoding) = encoding.filter(|_| wanted != Some(&digest)) {
            return Err(RegistryError::Encoding(encoding));
        }
        let claimed = claimed.and_then(|claimed| claimed.parse::<Digest>().ok());
        match wanted.or(claimed.as_ref()) {
            Some(expected) if *expected != digest => {
                Err(RegistryError::Digest { expected: expected.clone(), actual: digest })
            }
            _ => Ok(Fetched { bytes, digest, content_type }),
        }
    }

    /// Where a layer may be: the hosts that may serve layers, and for a foreign one then the addresses that it names, asked
    /// with nothing of the last host but its right to be asked itself.
    pub(crate) fn places(&self, layer: &Descriptor) -> impl Iterator<Item = (&Arc<Endpoint>, Option<Url>)> {
        let hosts = self.endpoints.iter().filter(|endpoint| endpoint.pull);
        let last = hosts.clone().next_back();
        let foreign = layer.urls.iter().filter(|_| layer.is_foreign()).take(FOREIGN_URLS);
        let foreign = foreign.filter_map(move |url| Some((last?, Some(Url::parse(url).ok()?))));
        hosts.map(|endpoint| (endpoint, None)).chain(foreign)
    }

    /// Streams a layer from one host, or from where the image says that it is, into `sink` and returns when it is complete or when nobody wants more. After a broken
    /// connection it goes on where it stopped.
    pub(crate) async fn stream(
        &self,
        endpoint: &Endpoint,
        foreign: Option<&Url>,
        blob: &Blob,
        sink: mpsc::Sender<Bytes>,
    ) -> Result<(), RegistryError> {
        let path = format!("blobs/{}", blob.digest);
        let target = foreign.map_or(Target::Path(&path), Target::Foreign);
        let (mut offset, mut interruptions) = (0, 0);
        loop {
            let response = self.get(endpoint, Request { target, accept: None, offset, head: false }).await?;
            let before = offset;
            match self.pump(response, blob, &mut offset, &sink).await {
                Ok(()) => return Ok(()),
                Err(error) if !matches!(error, RegistryError::Connect(_)) => return Err(error),
                Err(error) => {
                    interruptions = if offset > before { 1 } else { interruptions + 1 };
                    if interruptions > INTERRUPTIONS {
                        return Err(error);
                    }
                    tracing::debug!(host = endpoint.host, digest = %blob.digest, offset, %error, "resuming a layer");
                    tokio::time::sleep(http::pause(interruptions)).await;
                }
            }
        }
    }

    async fn pump(
        &self,
        mut response: Response,
        blob: &Blob,
        offset: &mut u64,
        sink: &mpsc::Sender<Bytes>,
    ) -> Result<(), RegistryError> {
        // A host that does not know ranges sends everything again; what is known is skipped.
        let is_part = response.status().as_u16() == 206;
        let mut skip = if is_part { 0 } else { *offset };
        if is_part {
            check_range(&response, *offset)?;
        }
        if let Some(length) = response.content_length() {
            let actual = length.saturating_add(*offset - skip);
            if actual != blob.size {
                return Err(RegistryError::Length { expected: blob.size, actual });
            }
        }
        let stall = self.config.progress_timeout;
        loop {
            let chunk = tokio::time::timeout(stall, response.chunk())
                .await
                .map_err(|_| RegistryError::Stalled(stall))?;
            let Some(mut chunk) = chunk.map_err(|error| RegistryError::from_reqwest(&error))? else { break };
            let skipped = skip.min(chunk.len() as u64);
            skip -= skipped;
            let chunk = chunk.split_off(skipped as usize);
            if chunk.is_empty() {
                continue;
            }
            *offset += chunk.len() as u64;
            if *offset > blob.size {
                return Err(RegistryError::Length { expected: blob.size, actual: *offset });
            }
            if sink.send(chunk).await.is_err() {
                return Ok(());
            }
        }
        if *offset == blob.size {
            Ok(())
        } else {
            Err(RegistryError::Connect("the connection ended early".into()))
        }
    }
}

/// Checks that a part begins where it was asked to.
fn check_range(response: &Response, wanted: u64) -> Result<(), RegistryError> {
    let sent = text(response, &CONTENT_RANGE).unwrap_or_default();
    let first = sent
        .trim()
        .strip_prefix("bytes")
        .and_then(|range| range.trim().split('-').next()?.parse::<u64>().ok());
    match first {
        Some(first) if first == wanted => Ok(()),
        // Without the header, the length that is left and the digest tell.
        None if sent.is_empty() && wanted > 0 => Ok(()),
        _ => Err(RegistryError::Range { wanted, sent: sent.chars().take(100).collect() }),
    }
}

/// A header's value, if it is text.
fn text(response: &Response, name: &HeaderName) -> Option<String> {
    response.headers().get(name)?.to_str().ok().map(str::to_owned)
}
