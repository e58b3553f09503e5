//! An accepted connection whose client's bytes are read through a [`Rewriter`], and which can be taken back while its client
//! has said nothing.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
    sync::oneshot,
};
use tonic::transport::server::{Connected, UdsConnectInfo};

use super::Rewriter;

/// Read at once into what is held back.
const PIECE: usize = 4 << 10;

/// A client's connection.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    rewriter: Rewriter,
    /// The front of a header block that is not complete.
    held: Vec<u8>,
    /// Bytes for the server, from here on.
    ready: Vec<u8>,
    taken: usize,
    /// Resolves when the connection is taken back; gone once the client has spoken.
    revoked: Option<oneshot::Receiver<()>>,
}

impl Connection {
    /// Wraps a connection. The sender ends it as long as its client has sent nothing; it is closed as soon as the client has.
    pub fn new(stream: UnixStream) -> (Self, oneshot::Sender<()>) {
        let (revoke, revoked) = oneshot::channel();
        let connection = Self {
            stream,
            rewriter: Rewriter::default(),
            held: Vec::new(),
            ready: Vec::new(),
            taken: 0,
            revoked: Some(revoked),
        };
        (connection, revoke)
    }

    /// Reads into what is held; true at the client's end.
    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut piece = [0; PIECE];
        let mut read = ReadBuf::new(&mut piece);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
        let ended = read.filled().is_empty();
        self.held.extend_from_slice(read.filled());
        // What is not complete at the end never will be: the server finds that out.
        let done = if ended { self.held.len() } else { self.rewriter.walk(&mut self.held) };
        if done == self.held.len() {
            self.ready = std::mem::take(&mut self.held);
        } else {
            self.ready = self.held.drain(..done).collect();
        }
        self.taken = 0;
        Poll::Ready(Ok(ended))
    }

    /// Hands out what is ready; false when nothing is.
    fn hand_out(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let left = &self.ready[self.taken..];
        if left.is_empty() {
            return false;
        }
        let length = left.len().min(buf.remaining());
        buf.put_slice(&left[..length]);
        self.taken += length;
        if self.taken == self.ready.len() {
            self.ready = Vec::new();
            self.taken = 0;
        }
        true
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(revoked) = &mut this.revoked
            && let Poll::Ready(Ok(())) = Pin::new(revoked).poll(cx)
        {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        loop {
            if buf.remaining() == 0 || this.hand_out(buf) {
                return Poll::Ready(Ok(()));
            }
            if !this.held.is_empty() {
                if ready!(this.fill(cx))? && this.ready.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            // The usual case: the bytes are looked at where the server wants them.
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
            if buf.filled().len() == before {
                return Poll::Ready(Ok(()));
            }
            this.revoked = None;
            let done = before + this.rewriter.walk(&mut buf.filled_mut()[before..]);
            this.held.extend_from_slice(&buf.filled()[done..]);
            buf.set_filled(done);
            if done > before {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

impl Connected for Connection {
    type ConnectInfo = UdsConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn bytes_arrive_whole_however_they_are_sent_and_read() {
        let block = b"\x83\x41\x04/a/b";
        let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        for _ in 0..50 {
            sent.extend([0, 0, block.len() as u8, 1, 4, 0, 0, 0, 1]);
            sent.extend(block);
        }
        let wanted = String::from_utf8_lossy(&sent).replace("/a/b", "loca");
        for piece in [1, 3, 30, 1000] {
            let (mut client, server) = UnixStream::pair().unwrap();
            let (mut server, _revoke) = Connection::new(server);
            let sent = sent.clone();
            tokio::spawn(async move {
                for piece in sent.chunks(piece) {
                    client.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
            });
            let mut seen = Vec::new();
            let mut buffer = vec![0; piece];
            loop {
                let read = server.read(&mut buffer).await.unwrap();
                if read == 0 {
                    break;
                }
                seen.extend_from_slice(&buffer[..read]);
            }
            assert_eq!(String::from_utf8_lossy(&seen), wanted);
        }
    }

    #[tokio::test]
    async fn only_a_silent_connection_can_be_taken_back() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let (mut server, revoke) = Connection::new(server);
        let mut buffer = [0; 4];
        client.write_all(b"PRI ").await.unwrap();
        server.read_exact(&mut buffer).await.unwrap();
        assert!(revoke.is_closed());
        let (_client, server) = UnixStream::pair().unwrap();
        let (mut server, revoke) = Connection::new(server);
        let (read, ()) = tokio::join!(server.read(&mut buffer), async { revoke.send(()).unwrap() });
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    }
}
