//! Connections of the builder, and what they ask for.

use std::{
    collections::HashMap,
    convert::Infallible,
    fs::File,
    io,
    net::Ipv4Addr,
    os::fd::AsFd,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use husk_images::ImageStore;
use husk_model::Digest;
use hyper::{
    Method, Request, StatusCode,
    body::{Frame, Incoming},
    header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinHandle};
use tracing::{debug, warn};

use super::{
    answers::{Answer, answer},
    pull, push,
    ticket::{Order, Ticket, blobs},
};
use crate::{
    error::{BuildError, Result},
    grpc::AnyBody,
};

/// Connections at once. buildkitd has few for each build; steps of builds can open more, and get nothing.
const CONNECTIONS: usize = 256;
/// How long a connection may take to ask for something.
const IDLE: Duration = Duration::from_secs(60);
/// How long accepting rests when the node has no descriptors for a connection.
const EXHAUSTED: Duration = Duration::from_millis(100);
/// Bytes of a piece of a context.
const PIECE: usize = 256 << 10;

/// The registry of one builder.
#[derive(Debug)]
pub(crate) struct Registry {
    /// Its port on 127.0.0.1, in the builder's network namespace.
    pub(crate) port: u16,
    spool: PathBuf,
    tickets: Arc<Tickets>,
    serving: JoinHandle<()>,
}

/// Builds under way, by token.
#[derive(Debug, Default)]
struct Tickets(Mutex<HashMap<String, Weak<Ticket>>>);

impl Tickets {
    fn all(&self) -> MutexGuard<'_, HashMap<String, Weak<Ticket>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, token: &str) -> Option<Arc<Ticket>> {
        self.all().get(token)?.upgrade()
    }
}

impl Registry {
    /// Listens in the namespace `ns`, and keeps what comes in `spool`, which it empties.
    ///
    /// # Errors
    /// [`BuildError::File`].
    pub(crate) fn start(images: Arc<ImageStore>, ns: impl AsFd, spool: PathBuf) -> Result<Self> {
        let failed = || BuildError::file("open a registry in", "the network namespace");
        match std::fs::remove_dir_all(&spool) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(BuildError::file("empty", &spool)(error));
            }
            _ => {}
        }
        std::fs::create_dir_all(&spool).map_err(BuildError::file("make", &spool))?;
        let listen = || std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let listener = husk_sys::netns::with(ns.as_fd(), listen).and_then(|bound| bound).map_err(failed())?;
        listener.set_nonblocking(true).map_err(failed())?;
        let port = listener.local_addr().map_err(failed())?.port();
        let listener = TcpListener::from_std(listener).map_err(failed())?;
        let tickets = Arc::new(Tickets::default());
        let serving = tokio::spawn(serve(listener, images, Arc::clone(&tickets)));
        Ok(Self { port, spool, tickets, serving })
    }

    /// Lets a build in, for as long as what is returned is held.
    ///
    /// # Errors
    /// [`BuildError::File`].
    pub(crate) fn admit(&self, order: Order) -> Result<Arc<Ticket>> {
        let failed =
            |reason: String| BuildError::file("name a build in", &self.spool)(io::Error::other(reason));
        let token = push::random().map_err(failed)?;
        let spool = self.spool.join(push::random().map_err(failed)?);
        std::fs::create_dir_all(blobs(&spool)).map_err(BuildError::file("make", &spool))?;
        let ticket = Arc::new(Ticket::new(token.clone(), order, spool));
        let mut all = self.tickets.all();
        all.retain(|_, ticket| ticket.strong_count() > 0);
        all.insert(token, Arc::downgrade(&ticket));
        Ok(ticket)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, images: Arc<ImageStore>, tickets: Arc<Tickets>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    // Connections end with the registry.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let accepted = tokio::select! {
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "cannot accept a connection of the builder");
                tokio::time::sleep(EXHAUSTED).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            warn!(most = CONNECTIONS, "a connection to the builder's registry was turned away");
            continue;
        };
        let (images, tickets) = (Arc::clone(&images), Arc::clone(&tickets));
        connections.spawn(async move {
            let _place = place;
            let service = service_fn(move |request| {
                let (images, tickets) = (Arc::clone(&images), Arc::clone(&tickets));
                async move { Ok::<_, Infallible>(respond(&images, &tickets, request).await) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(IDLE)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                debug!(%error, "a connection to the builder's registry broke off");
            }
        });
    }
}

async fn respond(images: &Arc<ImageStore>, tickets: &Tickets, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let ticket = match parts.as_slice() {
        ["context", token] | ["v2", token, ..] => tickets.of(token),
        _ => None,
    };
    // To everybody else there is nothing here.
    let Some(ticket) = ticket else { return answer(StatusCode::NOT_FOUND) };
    match parts.as_slice() {
        ["context", _] => context(&ticket, request.method()),
        ["v2", _, name @ .., kind, last] => {
            let name = name.join("/");
            route(images, &ticket, request, &path, (&name, kind, last)).await
        }
        _ => answer(StatusCode::NOT_FOUND),
    }
}

async fn route(
    images: &Arc<ImageStore>,
    ticket: &Ticket,
    request: Request<Incoming>,
    path: &str,
    (name, kind, last): (&str, &str, &str),
) -> Answer {
    let method = request.method().clone();
    let is_output = name == "out" || name.starts_with("out/");
    match (method, is_output, kind) {
        (method @ (Method::GET | Method::HEAD), false, "manifests") => {
            pull::manifest(images, ticket, &method, name, last).await
        }
        (method @ (Method::GET | Method::HEAD), _, "blobs") => {
            let Ok(digest) = last.parse::<Digest>() else { return answer(StatusCode::NOT_FOUND) };
            let found = match is_output {
                true if method == Method::HEAD => push::has(images, ticket, &digest),
                true => None,
                false => pull::blob(ticket, &method, &digest),
            };
            found.unwrap_or_else(|| answer(StatusCode::NOT_FOUND))
        }
        (Method::POST, true, "uploads") => push::begin(path),
        (Method::PUT, true, "uploads") => {
            let query = request.uri().query().unwrap_or_default();
            let digest = query.split('&').find_map(|pair| pair.strip_prefix("digest=")).unwrap_or_default();
            let digest = percent_encoding::percent_decode_str(digest).decode_utf8_lossy().into_owned();
            push::blob(ticket, &digest, request.into_body()).await
        }
        (Method::PUT, true, "manifests") => {
            let media_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
            let media_type = media_type.unwrap_or_default().to_owned();
            push::manifest(images, ticket, last, media_type, request.into_body()).await
        }
        _ => answer(StatusCode::NOT_FOUND),
    }
}

/// The files of a build, as the client sent them.
fn context(ticket: &Ticket, method: &Method) -> Answer {
    let Some(file) = ticket.order.context.clone() else { return answer(StatusCode::NOT_FOUND) };
    let Ok(size) = file.metadata().map(|file| file.len()) else { return answer(StatusCode::NOT_FOUND) };
    let mut answer = answer(StatusCode::OK);
    answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(size));
    if *method != Method::HEAD {
        *answer.body_mut() = content(file);
    }
    answer
}

/// A file's content, read where each reader is: several may read it at once.
fn content(file: Arc<File>) -> AnyBody {
    let pieces = stream::try_unfold((file, 0), async |(file, at)| {
        let read = tokio::task::spawn_blocking(move || {
            let mut piece = vec![0; PIECE];
            let length = std::os::unix::fs::FileExt::read_at(&*file, &mut piece, at)?;
            piece.truncate(length);
            Ok::<_, io::Error>((file, piece))
        });
        let (file, piece) = read.await??;
        let next = at + piece.len() as u64;
        Ok::<_, crate::grpc::BoxError>(
            (!piece.is_empty()).then(|| (Frame::data(Bytes::from(piece)), (file, next))),
        )
    });
    StreamBody::new(pieces).boxed_unsync()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use futures_util::FutureExt;
    use husk_images::ImagesConfig;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;

    /// The digest of `hello`.
    const HELLO: &str = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    fn started(directory: &std::path::Path) -> Registry {
        let images = ImageStore::open(directory, ImagesConfig::default()).unwrap();
        let here = husk_sys::netns::current().unwrap();
        Registry::start(images, here, directory.join("results")).unwrap()
    }

    fn order(context: Option<Arc<File>>) -> Order {
        let credentials = Arc::new(|_| async { None }.boxed());
        Order { names: Vec::new(), pull: false, credentials, context }
    }

    async fn asked(registry: &Registry, request: &str, body: &str) -> String {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, registry.port)).await.unwrap();
        let length = body.len();
        let head =
            format!("{request} HTTP/1.1\r\nHost: r\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all((head + body).as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn strangers_get_nothing_and_a_token_ends_with_its_build() {
        if !rustix::process::geteuid().is_root() {
            return husk_test_support::skip("root");
        }
        let dir = tempfile::tempdir().unwrap();
        let registry = started(dir.path());
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"archive").unwrap();
        let ticket = registry.admit(order(Some(Arc::new(file)))).unwrap();
        let mine = format!("/context/{}", ticket.token);
        assert!(asked(&registry, &format!("GET {mine}"), "").await.ends_with("\r\n\r\narchive"));
        for path in [
            "/",
            "/v2/",
            "/context/",
            "/context/guess",
            "/v2/guess/out/blobs/uploads/",
            "/v2/guess/n/docker.io/a/manifests/b",
        ] {
            for method in ["GET", "HEAD", "POST", "PUT"] {
                let answer = asked(&registry, &format!("{method} {path}"), "").await;
                assert!(answer.starts_with("HTTP/1.1 404 "), "{method} {path}: {answer}");
            }
        }
        drop(ticket);
        assert!(asked(&registry, &format!("GET {mine}"), "").await.starts_with("HTTP/1.1 404 "));
    }

    #[tokio::test]
    async fn only_a_blob_that_is_what_its_digest_says_is_kept() {
        if !rustix::process::geteuid().is_root() {
            return husk_test_support::skip("root");
        }
        let dir = tempfile::tempdir().unwrap();
        let registry = started(dir.path());
        let ticket = registry.admit(order(None)).unwrap();
        let upload = format!("PUT /v2/{}/out/blobs/uploads/blob?digest={HELLO}", ticket.token);
        assert!(asked(&registry, &upload, "hallo").await.starts_with("HTTP/1.1 400 "));
        assert_eq!(std::fs::read_dir(ticket.blobs()).unwrap().count(), 0, "nothing of it is left");
        assert!(ticket.trouble().unwrap().contains("its digest is"));
        assert!(asked(&registry, &upload, "hello").await.starts_with("HTTP/1.1 201 "));
        let head = format!("HEAD /v2/{}/out/blobs/{HELLO}", ticket.token);
        assert!(asked(&registry, &head, "").await.starts_with("HTTP/1.1 200 "));
        // A manifest that is none is refused, and no image is made.
        let put = format!("PUT /v2/{}/out/manifests/built", ticket.token);
        assert!(asked(&registry, &put, "{}").await.starts_with("HTTP/1.1 400 "));
        assert_eq!(ticket.built(), None);
        let spool = ticket.spool.clone();
        drop(ticket);
        assert!(!spool.exists(), "what was spooled goes with the build");
    }
}
