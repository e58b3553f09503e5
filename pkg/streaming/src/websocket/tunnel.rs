//! A byte stream in binary messages.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};

/// Most bytes put into one message.
const LONGEST: usize = 64 << 10;

/// What is written becomes binary messages; what arrives in such is read.
#[derive(Debug)]
pub(crate) struct Tunnel<T> {
    socket: WebSocketStream<T>,
    /// Of the message that is being read.
    rest: Bytes,
    closing: bool,
}

impl<T> Tunnel<T> {
    pub(crate) fn new(socket: WebSocketStream<T>) -> Self {
        Self { socket, rest: Bytes::new(), closing: false }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Tunnel<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.rest = bytes,
                Some(Ok(Message::Text(_))) => {
                    let reason = "a tunnel takes binary messages only";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, reason)));
                }
                // The close message is answered while the end is being read.
                Some(Ok(_)) => {}
                None | Some(Err(Error::ConnectionClosed)) => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(other(error))),
            }
        }
        let length = self.rest.len().min(buffer.remaining());
        buffer.put_slice(&self.rest[..length]);
        self.rest.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Tunnel<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(other)?;
        let length = bytes.len().min(LONGEST);
        let message = Message::Binary(Bytes::copy_from_slice(&bytes[..length]));
        Pin::new(&mut self.socket).start_send(message).map_err(other)?;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(other)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.closing {
            ready!(Pin::new(&mut self.socket).poll_ready(cx)).map_err(other)?;
            self.closing = true;
            let close = CloseFrame { code: CloseCode::Normal, reason: "".into() };
            Pin::new(&mut self.socket).start_send(Message::Close(Some(close))).map_err(other)?;
        }
        Pin::new(&mut self.socket).poll_flush(cx).map_err(other)
    }
}

fn other(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        error => io::Error::other(error),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{SinkExt, StreamExt};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;

    #[tokio::test]
    async fn bytes_come_through_however_they_are_cut_into_messages() {
        let (io, server) = tokio::io::duplex(1 << 20);
        let mut client = WebSocketStream::from_raw_socket(io, Role::Client, None).await;
        let mut tunnel = Tunnel::new(crate::websocket::server(server).await);
        for part in [&b"he"[..], b"", b"llo"] {
            client.send(Message::binary(part.to_vec())).await.unwrap();
        }
        client.send(Message::Ping(Bytes::new())).await.unwrap();
        let mut read = [0; 5];
        tunnel.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"hello");
        tunnel.write_all(b"back").await.unwrap();
        tunnel.shutdown().await.unwrap();
        let mut heard = Vec::new();
        while let Some(Ok(message)) = client.next().await {
            if let Message::Binary(bytes) = message {
                heard.extend_from_slice(&bytes);
            }
            tokio::task::yield_now().await;
            if heard == b"back" {
                break;
            }
        }
        assert!(
            matches!(client.next().await, Some(Ok(Message::Close(Some(close)))) if close.code == CloseCode::Normal)
        );
        drop(client);
        assert_eq!(tunnel.read(&mut read).await.unwrap_or(0), 0);
    }
}
