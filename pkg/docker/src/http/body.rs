//! The body of an answer.
//!
//! A stream's pieces go through a short channel, so whoever writes waits for a slow client, and learns that it has gone.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::mpsc;

/// Pieces that may wait for a slow client.
const BACKLOG: usize = 8;

/// What is sent after the head of an answer.
#[derive(Debug)]
pub(crate) enum Body {
    /// All of it is there.
    Whole(Option<Bytes>),
    /// Piece by piece, until the sender is dropped.
    Stream(mpsc::Receiver<Piece>),
    /// HTTP ends here and the connection goes on.
    OpenEnd,
}

#[derive(Debug)]
pub(crate) enum Piece {
    Bytes(Bytes),
    /// The rest will not come: the client must not take what it has for whole.
    Broken,
}

/// The stream broke off; the connection is closed without the stream's proper end.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off")]
pub(crate) struct Broken;

impl Body {
    /// A stream and its writing end.
    pub(crate) fn stream() -> (Pieces, Self) {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        (Pieces(sender), Self::Stream(receiver))
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(pieces) => pieces.poll_recv(cx).map(|piece| match piece? {
                Piece::Bytes(bytes) => Some(Ok(Frame::data(bytes))),
                Piece::Broken => Some(Err(Broken)),
            }),
            Self::OpenEnd => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Stream(_) | Self::OpenEnd => SizeHint::new(),
        }
    }
}

/// The writing end of a stream. Dropped, the stream ends.
#[derive(Debug, Clone)]
pub(crate) struct Pieces(mpsc::Sender<Piece>);

/// The client is gone; nobody is there to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone;

impl Pieces {
    /// Sends bytes when there is room; each piece is flushed by itself. Cancel-safe: all or nothing.
    ///
    /// # Errors
    /// When the client is gone.
    pub(crate) async fn send(&self, bytes: impl Into<Bytes>) -> Result<(), Gone> {
        self.0.send(Piece::Bytes(bytes.into())).await.map_err(|_| Gone)
    }

    /// As [`Self::send`], from a thread that may block.
    ///
    /// # Errors
    /// When the client is gone.
    pub(crate) fn send_blocking(&self, bytes: impl Into<Bytes>) -> Result<(), Gone> {
        self.0.blocking_send(Piece::Bytes(bytes.into())).map_err(|_| Gone)
    }

    /// Sends bytes if there is room at this moment: for news that the next piece repeats or replaces.
    pub(crate) fn offer(&self, bytes: impl Into<Bytes>) {
        // Full or gone: either way the news is not for now.
        let _ = self.0.try_send(Piece::Bytes(bytes.into()));
    }

    /// Ends the stream as one that is not whole.
    pub(crate) async fn break_off(self) {
        let _ = self.0.send(Piece::Broken).await;
    }

    /// As [`Self::break_off`], from a thread that may block.
    pub(crate) fn break_off_blocking(self) {
        let _ = self.0.blocking_send(Piece::Broken);
    }

    /// Resolves when the client is gone.
    pub(crate) async fn closed(&self) {
        self.0.closed().await;
    }
}
