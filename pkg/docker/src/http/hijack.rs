//! A connection that leaves HTTP: attach and exec.
//!
//! A client that asks for `Upgrade: tcp` gets 101 UPGRADED; an older one gets 200 with an open end. Either way HTTP ends with the
//! head of the answer, and the same socket carries bytes both ways, each way with its own end. The handler leaves what is to
//! be done with the socket in the connection's slot; the connection does it when the head has been sent.

use std::{
    future::Future,
    io,
    os::fd::{AsFd, OwnedFd},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use hyper::{
    Response, StatusCode, Version as HttpVersion,
    header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf, unix::AsyncFd},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use super::{answer::Answer, body::Body};

/// Content type of a stream with the bytes as they are.
pub(crate) const RAW: &str = "application/vnd.docker.raw-stream";
/// Content type of a stream in frames (API 1.42).
pub(crate) const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";

/// A connection without HTTP.
#[derive(Debug)]
pub(crate) struct Hijacked {
    /// What the client says, from the first byte after its request on; its end is that the client has nothing more to say.
    pub(crate) reader: Reader,
    /// What is said to the client. Shut down, the client sees the end and may still write; dropped, too.
    pub(crate) writer: Writer,
    /// Tells when the client has gone altogether.
    pub(crate) presence: Presence,
}

/// The writing side of a [`Hijacked`] connection.
///
/// Nothing follows the head of the answer before the client has read that: some (docker-py) read the head through a buffer and the rest from the
/// socket, and would lose what they got with the head.
#[derive(Debug)]
pub(crate) struct Writer {
    stream: OwnedWriteHalf,
    /// The head has been read.
    is_heard: bool,
}

/// Whether a client is there, also one that says nothing more and is told nothing.
#[derive(Debug)]
pub(crate) struct Presence(Option<AsyncFd<OwnedFd>>);

/// The reading side of a [`Hijacked`] connection.
#[derive(Debug)]
pub(crate) struct Reader {
    /// Came with the request.
    before: Bytes,
    stream: OwnedReadHalf,
}

impl Hijacked {
    /// A connection whose client has sent `before` already.
    pub(crate) fn new(stream: UnixStream, before: Bytes) -> Self {
        let presence = Presence::of(&stream);
        let (reader, writer) = stream.into_split();
        Self {
            reader: Reader { before, stream: reader },
            writer: Writer { stream: writer, is_heard: false },
            presence,
        }
    }
}

impl Presence {
    // Deprecated for types that are no OwnedFd.
    #[allow(deprecated)]
    fn of(stream: &UnixStream) -> Self {
        let watch = |fd| AsyncFd::with_interest(fd, Interest::PRIORITY);
        // Without a descriptor to spare, a client that has gone is noticed when it is to be told something.
        Self(stream.as_fd().try_clone_to_owned().and_then(watch).ok())
    }

    /// Resolves when the client has closed both ways of the connection. One that has only nothing more to say is still there:
    /// the kernel reports such an end to those that want to read, and EPOLLHUP to all.
    pub(crate) async fn gone(&self) {
        match &self.0 {
            Some(fd) => drop(fd.ready(Interest::PRIORITY).await),
            None => std::future::pending().await,
        }
    }
}

impl Writer {
    /// Resolves when the client has read the head, or is gone. The kernel tells of room whenever something was read.
    fn poll_heard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.is_heard {
            let stream: &UnixStream = self.stream.as_ref();
            ready!(stream.poll_write_ready(cx))?;
            let all_read = stream.try_io(Interest::WRITABLE, || match husk_sys::socket::unread(stream)? {
                0 | 1 => Ok(()),
                _ => Err(io::ErrorKind::WouldBlock.into()),
            });
            match all_read {
                Ok(()) => self.is_heard = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Writer {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_heard(cx))?;
        Pin::new(&mut this.stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

impl AsyncRead for Reader {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.before.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        }
        let length = this.before.len().min(buf.remaining());
        buf.put_slice(&this.before[..length]);
        this.before.advance(length);
        Poll::Ready(Ok(()))
    }
}

type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What is done with a connection that leaves HTTP.
pub(crate) type Session = Box<dyn FnOnce(Hijacked) -> Running + Send>;

/// Where a handler leaves its session for the connection.
#[derive(Clone, Default)]
pub(crate) struct SessionSlot(Arc<Mutex<Option<Session>>>);

impl std::fmt::Debug for SessionSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionSlot")
    }
}

impl SessionSlot {
    /// Leaves a session.
    pub(crate) fn leave<F: Future<Output = ()> + Send + 'static>(
        &self,
        session: impl FnOnce(Hijacked) -> F + Send + 'static,
    ) {
        let session: Session = Box::new(move |io| Box::pin(session(io)));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
    }

    /// Takes it, if one was left.
    pub(crate) fn take(&self) -> Option<Session> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The head after which a connection speaks another protocol.
pub(super) fn upgraded(protocol: &'static str) -> Answer {
    let mut answer = Response::new(Body::OpenEnd);
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.headers_mut().insert(UPGRADE, HeaderValue::from_static(protocol));
    answer
}

/// The head that ends HTTP on a connection.
pub(super) fn head(wants_upgrade: bool, content_type: &'static str) -> Answer {
    let mut answer = Response::new(Body::OpenEnd);
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if wants_upgrade {
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        answer.headers_mut().insert(UPGRADE, HeaderValue::from_static("tcp"));
    } else {
        // With 1.1 the stream would be cut into chunks, which clients that hijack do not expect.
        *answer.version_mut() = HttpVersion::HTTP_10;
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn nothing_follows_the_head_before_that_is_read() {
        let (mut client, mut server) = UnixStream::pair().unwrap();
        server.write_all(b"head").await.unwrap();
        let mut io = Hijacked::new(server, Bytes::new());
        {
            let mut writing = std::pin::pin!(io.writer.write_all(b"rest"));
            assert!(writing.as_mut().now_or_never().is_none());
            let mut seen = [0; 64];
            let count = client.read(&mut seen).await.unwrap();
            assert_eq!(&seen[..count], b"head");
            writing.await.unwrap();
        }
        // Later pieces wait for nobody.
        io.writer.write_all(b" of it").now_or_never().unwrap().unwrap();
        drop(io);
        let mut rest = String::new();
        client.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "rest of it");
    }

    #[tokio::test]
    async fn a_client_that_goes_before_it_reads_is_not_waited_for() {
        let (client, mut server) = UnixStream::pair().unwrap();
        server.write_all(b"head").await.unwrap();
        let mut io = Hijacked::new(server, Bytes::new());
        let writing = tokio::spawn(async move { io.writer.write_all(b"rest").await });
        tokio::task::yield_now().await;
        drop(client);
        assert!(writing.await.unwrap().is_err());
    }

    #[tokio::test]
    async fn a_client_that_says_nothing_more_is_there_until_it_hangs_up() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let io = Hijacked::new(server, Bytes::new());
        client.write_all(b"input").await.unwrap();
        client.shutdown().await.unwrap();
        tokio::task::yield_now().await;
        assert!(io.presence.gone().now_or_never().is_none(), "it may still listen");
        drop(client);
        io.presence.gone().await;
    }
}
