//! Giving a registry what it does not have: blobs, resumed where an interruption left them, and manifests (OCI distribution-spec,
//! "Push").
//!
//! ```text
//! POST  blobs/uploads/            where to (or the blob of another repository is mounted, and that is all)
//! PATCH <there>                   the bytes, in one request; after an interruption
//! GET   <there>                     how many came, and PATCH from there
//! PUT   <there>?digest=           that was all, and what it is
//! ```

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use husk_model::Digest;
use hyper::body::{Body, Frame, SizeHint};
use reqwest::{
    Method, Response, StatusCode, Url,
    header::{AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, RANGE},
};
use tokio::sync::mpsc;

use super::{
    Session,
    http::{self, ATTEMPTS, Failure, Request, Target},
};
use crate::registry::{error::RegistryError, hosts::Endpoint, reach::Reach};

/// Interruptions of an upload, each without a byte in between, after which it is given up.
const INTERRUPTIONS: u32 = 4;
/// Bytes of a file that are read at once.
const CHUNK: usize = 128 << 10;
/// Chunks that may wait for the connection.
const CHUNKS: usize = 4;

/// A blob to be uploaded.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    /// Has these bytes from its beginning on.
    pub(crate) file: Arc<File>,
}

/// An upload under way.
#[derive(Debug, Clone)]
pub(crate) struct Upload {
    url: Url,
    /// Of whoever named the address.
    reach: Reach,
}

/// What came of asking for an upload.
#[derive(Debug)]
pub(crate) enum Begun {
    /// The repository has the blob now.
    Mounted,
    /// The bytes are to be sent.
    Upload(Upload),
}

/// A request that changes something.
struct Call<'a> {
    method: Method,
    to: &'a Upload,
    headers: Vec<(HeaderName, String)>,
    body: Sent<'a>,
}

enum Sent<'a> {
    Nothing,
    Bytes(&'a [u8]),
    /// A blob from an offset on, and who counts.
    File(&'a Content, u64, &'a Arc<AtomicU64>),
}

impl Session {
    /// The first host that answers; there are several where HTTPS need not be spoken.
    pub(crate) async fn home(&self) -> Result<&Arc<Endpoint>, (String, RegistryError)> {
        if let [only] = self.endpoints.as_slice() {
            return Ok(only);
        }
        let mut failure = None;
        for endpoint in &self.endpoints {
            match self.ping(endpoint).await {
                Err(error @ RegistryError::Connect(_)) if endpoint.tentative => {
                    failure = Some((endpoint.host.clone(), error));
                }
                // Whatever else it answers, it is there, and what is wrong shows when something is asked of it.
                _ => return Ok(endpoint),
            }
        }
        Err(failure.unwrap_or_else(|| (self.reference.host().to_owned(), RegistryError::NotFound)))
    }

    /// Whether the registry lets in who asks (distribution-spec, "Determining Support").
    pub(crate) async fn ping(&self, endpoint: &Endpoint) -> Result<(), RegistryError> {
        let base = format!("{}/", endpoint.base.as_str().trim_end_matches('/'));
        let url = Url::parse(&base).map_err(|error| RegistryError::Connect(error.to_string()))?;
        let to = Upload { url, reach: Reach::Anywhere };
        let call = || Call { method: Method::GET, to: &to, headers: Vec::new(), body: Sent::Nothing };
        self.called(endpoint, call).await.map(drop)
    }

    /// Whether the repository has this blob, of this size.
    pub(crate) async fn has_blob(
        &self,
        endpoint: &Endpoint,
        digest: &Digest,
        size: u64,
    ) -> Result<bool, RegistryError> {
        let path = format!("blobs/{digest}");
        let request = Request { target: Target::Path(&path), accept: None, offset: 0, head: true };
        match self.get(endpoint, request).await {
            // Not `content_length`, which is that of the answer's empty body.
            Ok(response) => {
                let told = response.headers().get("content-length").and_then(|value| value.to_str().ok());
                Ok(told.and_then(|told| told.parse::<u64>().ok()).is_none_or(|told| told == size))
            }
            Err(RegistryError::NotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Asks for an upload; `mount` names a blob and another repository that is known to have it.
    pub(crate) async fn begin_upload(
        &self,
        endpoint: &Endpoint,
        mount: Option<(&Digest, &str)>,
    ) -> Result<Begun, RegistryError> {
        let mut url = self.url(endpoint, "blobs/uploads/")?;
        if let Some((digest, from)) = mount {
            url.query_pairs_mut().append_pair("mount", digest.as_str()).append_pair("from", from);
        }
        let to = Upload { url, reach: Reach::Anywhere };
        let call = || Call { method: Method::POST, to: &to, headers: Vec::new(), body: Sent::Nothing };
        let (response, reach) = self.called(endpoint, call).await?;
        match response.status() {
            StatusCode::CREATED => Ok(Begun::Mounted),
            _ => Ok(Begun::Upload(next(endpoint, &to, &response, reach)?)),
        }
    }

    /// Sends a blob to `upload`; `counted` tells at any time how many bytes of it the registry has been given.
    pub(crate) async fn upload(
        &self,
        endpoint: &Endpoint,
        mut upload: Upload,
        content: &Content,
        counted: &Arc<AtomicU64>,
    ) -> Result<(), RegistryError> {
        let (mut offset, mut interruptions) = (0, 0);
        loop {
            counted.store(offset, Ordering::Relaxed);
            // All came, and only the answer did not.
            if offset > 0 && offset == content.size {
                break;
            }
            let (error, asked) = match self.patch(endpoint, &upload, content, offset, counted).await {
                Ok(next) => {
                    upload = next;
                    break;
                }
                Err(failure) => failure,
            };
            // 404 and 416: it knows another state of the upload than we do.
            let is_interrupted = error.is_transient()
                || matches!(
                    error,
                    RegistryError::Stalled(_)
                        | RegistryError::NotFound
                        | RegistryError::Status { status: 416, .. }
                );
            interruptions += 1;
            if !is_interrupted || interruptions > INTERRUPTIONS {
                return Err(error);
            }
            tracing::debug!(host = endpoint.host, digest = %content.digest, offset, %error, "resuming an upload");
            http::wait(asked, interruptions).await;
            (upload, offset) = match self.came(endpoint, &upload).await {
                Ok((next, came)) if came > 0 && came <= content.size => {
                    interruptions = if came > offset { 0 } else { interruptions };
                    (next, came)
                }
                // It has nothing, or does not know the upload any more.
                _ => match self.begin_upload(endpoint, None).await? {
                    Begun::Upload(upload) => (upload, 0),
                    Begun::Mounted => return Ok(()),
                },
            };
        }
        self.finish_upload(endpoint, &upload, content).await
    }

    async fn patch(
        &self,
        endpoint: &Endpoint,
        upload: &Upload,
        content: &Content,
        offset: u64,
        counted: &Arc<AtomicU64>,
    ) -> Result<Upload, Failure> {
        let mut headers = vec![(CONTENT_TYPE, "application/octet-stream".to_owned())];
        // Registries differ in what they take of it; the first request does without, as Docker's does.
        if offset > 0 {
            headers.push((CONTENT_RANGE, format!("{offset}-{}", content.size.saturating_sub(1))));
        }
        let body = Sent::File(content, offset, counted);
        let call = Call { method: Method::PATCH, to: upload, headers, body };
        let (response, reach) = self.call(endpoint, &call).await?;
        if !response.headers().contains_key(LOCATION) {
            return Ok(upload.clone());
        }
        next(endpoint, upload, &response, reach).map_err(|error| (error, None))
    }

    /// How many bytes of an upload have come.
    async fn came(&self, endpoint: &Endpoint, upload: &Upload) -> Result<(Upload, u64), RegistryError> {
        let call = || Call { method: Method::GET, to: upload, headers: Vec::new(), body: Sent::Nothing };
        let (response, reach) = self.called(endpoint, call).await?;
        let range = response.headers().get(RANGE).and_then(|value| value.to_str().ok());
        let next = next(endpoint, upload, &response, reach).unwrap_or_else(|_| upload.clone());
        Ok((next, range.and_then(came_of).unwrap_or(0)))
    }

    async fn finish_upload(
        &self,
        endpoint: &Endpoint,
        upload: &Upload,
        content: &Content,
    ) -> Result<(), RegistryError> {
        let mut upload = upload.clone();
        upload.url.query_pairs_mut().append_pair("digest", content.digest.as_str());
        let call = || Call { method: Method::PUT, to: &upload, headers: Vec::new(), body: Sent::Nothing };
        match self.called(endpoint, call).await {
            Ok(_) => Ok(()),
            // The answer to an earlier one may have been lost.
            Err(error) => match self.has_blob(endpoint, &content.digest, content.size).await {
                Ok(true) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Gives the repository a manifest under `name`, a tag.
    pub(crate) async fn put_manifest(
        &self,
        endpoint: &Endpoint,
        name: &str,
        media_type: &str,
        manifest: &[u8],
    ) -> Result<(), RegistryError> {
        let url = self.url(endpoint, &format!("manifests/{name}"))?;
        let to = Upload { url, reach: Reach::Anywhere };
        let call = || Call {
            method: Method::PUT,
            to: &to,
            headers: vec![(CONTENT_TYPE, media_type.to_owned())],
            body: Sent::Bytes(manifest),
        };
        self.called(endpoint, call).await.map(drop)
    }

    /// Repeats a call until it succeeds or fails for good.
    async fn called<'a>(
        &self,
        endpoint: &Endpoint,
        call: impl Fn() -> Call<'a>,
    ) -> Result<(Response, Reach), RegistryError> {
        let mut attempt = 1;
        loop {
            let (error, asked) = match self.call(endpoint, &call()).await {
                Ok(answered) => return Ok(answered),
                Err(failure) => failure,
            };
            let is_settled = endpoint.tentative && matches!(error, RegistryError::Connect(_));
            if !error.is_transient() || attempt == ATTEMPTS || is_settled {
                return Err(error);
            }
            tracing::debug!(host = endpoint.host, attempt, %error, "repeating a registry request");
            http::wait(asked, attempt).await;
            attempt += 1;
        }
    }

    /// One call, with a login if the registry wants one. It follows no redirects: a registry says where an upload goes by `Location`.
    async fn call(&self, endpoint: &Endpoint, call: &Call<'_>) -> Result<(Response, Reach), Failure> {
        let is_home = call.to.url.origin() == endpoint.base.origin();
        let first = if is_home { self.authorization(endpoint) } else { None };
        let (mut response, mut reach) =
            self.send(endpoint, call, first).await.map_err(|error| (error, None))?;
        if response.status() == StatusCode::UNAUTHORIZED && is_home {
            let challenges = http::challenges(&response);
            let header = self.log_in(endpoint, &challenges, reach).await.map_err(|error| (error, None))?;
            (response, reach) =
                self.send(endpoint, call, Some(header)).await.map_err(|error| (error, None))?;
        }
        self.accepted(response).await.map(|response| (response, reach))
    }

    async fn send(
        &self,
        endpoint: &Endpoint,
        call: &Call<'_>,
        authorization: Option<HeaderValue>,
    ) -> Result<(Response, Reach), RegistryError> {
        let Upload { url, reach } = call.to;
        let mut builder = endpoint.client(url, *reach)?.request(call.method.clone(), url.clone());
        if url.origin() == endpoint.base.origin() {
            builder = builder.headers(endpoint.headers.clone());
            if let Some(value) = authorization {
                builder = builder.header(AUTHORIZATION, value);
            }
        }
        for (name, value) in &call.headers {
            builder = builder.header(name, value);
        }
        let still = Arc::new(AtomicU64::new(0));
        let counted = match &call.body {
            Sent::File(_, _, counted) => *counted,
            _ => &still,
        };
        builder = match &call.body {
            Sent::Nothing if call.method == Method::GET => builder,
            // Its length of 0 is told.
            Sent::Nothing => builder.body(Vec::new()),
            Sent::Bytes(bytes) => builder.body(bytes.to_vec()),
            Sent::File(content, offset, counted) => {
                builder.body(reqwest::Body::wrap(FileBody::of(content, *offset, counted)))
            }
        };
        let sent = while_moving(self.config.progress_timeout, counted, builder.send()).await;
        let response = sent.ok_or(RegistryError::Stalled(self.config.progress_timeout))?;
        let response = response.map_err(|error| RegistryError::from_reqwest(&error))?;
        let peer = response.remote_addr().filter(|_| !endpoint.is_proxied(url));
        Ok((response, reach.behind(url, peer)))
    }
}

/// Where an upload goes on.
fn next(
    endpoint: &Endpoint,
    at: &Upload,
    response: &Response,
    reach: Reach,
) -> Result<Upload, RegistryError> {
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let location = location.ok_or_else(|| RegistryError::Redirect("an upload without a location".into()))?;
    let url = at.url.join(location).map_err(|error| RegistryError::Redirect(error.to_string()))?;
    if at.url.scheme() == "https" && url.scheme() == "http" {
        let host = url.host_str().unwrap_or_default();
        return Err(RegistryError::Redirect(format!("from HTTPS to HTTP at {host}")));
    }
    let reach = if url.origin() == endpoint.base.origin() { Reach::Anywhere } else { reach };
    Ok(Upload { url, reach })
}

/// Bytes that `Range: 0-<last>` tells of. A registry that has none says `0-0`, as one that has a single byte does.
fn came_of(range: &str) -> Option<u64> {
    let range = range.trim();
    let range = range.strip_prefix("bytes=").unwrap_or(range);
    let last: u64 = range.strip_prefix("0-")?.parse().ok()?;
    if last == 0 { None } else { last.checked_add(1) }
}

/// Waits for `work` for as long as `counted` moves within each `patience`; `None` when it does not.
async fn while_moving<T>(
    patience: Duration,
    counted: &AtomicU64,
    work: impl Future<Output = T>,
) -> Option<T> {
    let mut work = std::pin::pin!(work);
    loop {
        let before = counted.load(Ordering::Relaxed);
        match tokio::time::timeout(patience, &mut work).await {
            Ok(done) => return Some(done),
            Err(_) if counted.load(Ordering::Relaxed) == before => return None,
            Err(_) => {}
        }
    }
}

/// A part of a file as the body of a request.
struct FileBody {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    left: u64,
    counted: Arc<AtomicU64>,
}

impl FileBody {
    fn of(content: &Content, offset: u64, counted: &Arc<AtomicU64>) -> Self {
        let (sink, chunks) = mpsc::channel(CHUNKS);
        let (file, size) = (Arc::clone(&content.file), content.size);
        // Ends with the body, which drops the receiver.
        drop(tokio::task::spawn_blocking(move || {
            let mut at = offset;
            while at < size {
                let mut chunk = vec![0; CHUNK.min(usize::try_from(size - at).unwrap_or(CHUNK))];
                let read = file.read_exact_at(&mut chunk, at).map(|()| Bytes::from(chunk));
                let (is_over, length) = (read.is_err(), read.as_ref().map_or(0, Bytes::len));
                if sink.blocking_send(read).is_err() || is_over {
                    return;
                }
                at += length as u64;
            }
        }));
        Self { chunks, left: content.size.saturating_sub(offset), counted: Arc::clone(counted) }
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let polled = self.chunks.poll_recv(context);
        polled.map(|chunk| match chunk {
            Some(Ok(chunk)) => {
                self.left = self.left.saturating_sub(chunk.len() as u64);
                self.counted.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                Some(Ok(Frame::data(chunk)))
            }
            Some(Err(error)) => Some(Err(error)),
            None => Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the blob's reader ended early"))),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_come_is_one_more_than_the_last_byte() {
        for (range, came) in [
            ("0-0", None),
            ("0-1", Some(2)),
            ("bytes=0-99", Some(100)),
            (" 0-99 ", Some(100)),
            ("5-99", None),
            ("0-", None),
            ("0--1", None),
            ("0-18446744073709551615", None),
        ] {
            assert_eq!(came_of(range), came, "{range}");
        }
    }
}
