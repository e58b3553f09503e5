//! A registry on loopback that serves what a test gives it, takes what is pushed, and misbehaves as told.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Condvar, Mutex},
};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{
    Method, Request, Response,
    body::{Body, Frame, Incoming, SizeHint},
    header::{HeaderName, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

pub use super::talk::{Answer, Seen};
use super::{Image, talk::Content, uploads};

type Hook = dyn Fn(&Seen) -> Option<Answer> + Send + Sync;

/// Where hooks wait until the test lets them go on.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub fn wait(&self) {
        let (open, opened) = &*self.0;
        drop(opened.wait_while(open.lock().unwrap(), |open| !*open).unwrap());
    }

    pub fn open(&self) {
        let (open, opened) = &*self.0;
        *open.lock().unwrap() = true;
        opened.notify_all();
    }
}

/// The registry. Ends with the test's runtime.
#[derive(Clone)]
pub struct Registry {
    pub address: SocketAddr,
    content: Arc<Mutex<Content>>,
}

impl Registry {
    pub async fn start() -> Self {
        Self::with(|_| None).await
    }

    /// `hook` may answer in the registry's place.
    pub async fn with(hook: impl Fn(&Seen) -> Option<Answer> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let registry = Self { address: listener.local_addr().unwrap(), content: Arc::default() };
        let (content, hook): (_, Arc<Hook>) = (Arc::clone(&registry.content), Arc::new(hook));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (content, hook) = (Arc::clone(&content), Arc::clone(&hook));
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let (content, hook) = (Arc::clone(&content), Arc::clone(&hook));
                        async move { answer(content, hook, request).await }
                    });
                    // A client that goes away is part of some tests.
                    let _closed = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        registry
    }

    /// `127.0.0.1:port`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    pub fn put(&self, path: &str, media_type: &str, bytes: &[u8]) {
        self.content.lock().unwrap().files.insert(path.to_owned(), (media_type.to_owned(), bytes.to_vec()));
    }

    /// Serves `image` as `repository:tag` and by digest.
    pub fn push(&self, repository: &str, tag: &str, image: &Image) {
        for name in [tag, &image.digest()] {
            self.put(&format!("{repository}/manifests/{name}"), image.media_type, &image.manifest);
        }
        for (digest, blob) in &image.blobs {
            self.put(&format!("{repository}/blobs/{digest}"), "application/octet-stream", blob);
        }
    }

    /// Breaks the connection of the next upload that has none coming to it after so many bytes.
    pub fn cut_upload(&self, bytes: usize) {
        self.content.lock().unwrap().cuts.insert(0, bytes);
    }

    /// What it has under `path`, such as `repository/manifests/tag`.
    pub fn get(&self, path: &str) -> Option<(String, Vec<u8>)> {
        self.content.lock().unwrap().files.get(path).cloned()
    }

    /// Requests of this method.
    pub fn called(&self, method: Method) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.method == method).collect()
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.content.lock().unwrap().seen.clone()
    }

    /// How many requests had `part` in their path.
    pub fn count(&self, part: &str) -> usize {
        self.seen().iter().filter(|seen| seen.path.contains(part)).count()
    }
}

async fn answer(
    content: Arc<Mutex<Content>>,
    hook: Arc<Hook>,
    request: Request<Incoming>,
) -> io::Result<Response<Cut>> {
    let (head, body) = request.into_parts();
    let cut = if head.method == Method::PATCH { content.lock().unwrap().cuts.pop() } else { None };
    let seen = Seen {
        method: head.method,
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: head.headers,
        body: received(body, cut).await,
    };
    content.lock().unwrap().seen.push(seen.clone());
    if cut.is_some() {
        uploads::take(&mut content.lock().unwrap(), &seen);
        return Err(io::Error::other("cut"));
    }
    // A hook may wait: nothing is locked meanwhile, and no thread of the runtime is held, which may have other tasks to
    // run that nobody can take from it. Neither is it one that the runtime would wait for when the test fails.
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let served = || uploads::answer(&mut content.lock().unwrap(), &seen);
        let answer = hook(&seen).or_else(served).unwrap_or_else(|| stored(&content.lock().unwrap(), &seen));
        let _gone = tell.send(answer);
    });
    let answer = told.await.expect("the hook does not panic");
    let mut response = Response::builder().status(answer.status);
    for (name, value) in &answer.headers {
        response = response.header(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    Ok(response.body(Cut { at: 0, cut: answer.cut, body: answer.body.into() }).unwrap())
}

/// The body, or as much of it as comes before the cut.
async fn received(mut body: Incoming, cut: Option<usize>) -> Bytes {
    let mut bytes = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        bytes.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        if cut.is_some_and(|cut| bytes.len() >= cut) {
            break;
        }
    }
    bytes.truncate(cut.unwrap_or(usize::MAX));
    bytes.into()
}

fn stored(content: &Content, seen: &Seen) -> Answer {
    let path = seen.path.strip_prefix("/v2/").unwrap_or_default();
    let Some((media_type, bytes)) = content.files.get(path) else { return Answer::status(404) };
    let mut answer = Answer {
        status: 200,
        headers: vec![("content-type", media_type.clone())],
        body: bytes.clone(),
        cut: None,
    };
    let range = seen.headers.get("range").and_then(|value| value.to_str().ok());
    if let Some(start) =
        range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok())
    {
        answer.status = 206;
        answer.body = answer.body.split_off(start.min(bytes.len()));
    }
    answer
}

/// A body that can break off.
struct Cut {
    at: usize,
    cut: Option<usize>,
    body: Bytes,
}

impl Body for Cut {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let end = self.body.len().min(self.at + (16 << 10)).min(self.cut.unwrap_or(usize::MAX));
        if self.at == end {
            let broken = end < self.body.len();
            return std::task::Poll::Ready(broken.then(|| Err(std::io::Error::other("cut"))));
        }
        let chunk = self.body.slice(self.at..end);
        self.at = end;
        std::task::Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.body.len() as u64)
    }
}
