//! One direction of one stream, whatever carries it: SPDY streams and WebSocket channels look the same to a session.
//!
//! Both directions are bounded. What a client sends and nobody takes yet draws on the connection's [`Budget`]; when that
//! is used up, the connection is not read any further, and TCP holds the client back. (SPDY has windows for single streams,
//! but the clients' library knows none, so nothing else could.) What is sent to a client goes through a short queue.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::{peer::Peer, spdy::ResetReason};

/// Bytes of a connection that may wait for whom they are for.
const BUDGET: usize = 512 << 10;
/// What the smallest piece counts: a piece costs more memory than its bytes.
const SMALLEST: usize = 256;
/// Frames that may wait for a slow client. Each has up to [`CHUNK`] bytes.
const QUEUE: usize = 8;

/// Bytes taken from a descriptor at once.
pub(crate) const CHUNK: usize = 32 << 10;

/// What a session sends. The carrier's writer makes frames or messages of it.
#[derive(Debug)]
pub(crate) enum Frame {
    /// A client's stream is accepted.
    Accept { id: u32 },
    /// Bytes on a stream.
    Data { id: u32, bytes: Bytes },
    /// Nothing more will come on a stream.
    End { id: u32 },
    /// A stream is broken off.
    Reset { id: u32, reason: ResetReason },
    /// The answer to a client's ping.
    Pong(u32),
    /// Everything was said; the writer ends after it.
    Goodbye,
}

/// The queue to a connection's writer.
pub(crate) type Frames = mpsc::Sender<Frame>;

/// Makes the queue.
pub(crate) fn frames() -> (Frames, mpsc::Receiver<Frame>) {
    mpsc::channel(QUEUE)
}

/// The connection is gone; nobody is there to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone;

/// What a client says on a stream.
#[derive(Debug)]
pub(crate) struct Input(mpsc::UnboundedReceiver<Piece>);

#[derive(Debug)]
enum Piece {
    Data(Bytes, OwnedSemaphorePermit),
    End,
}

/// The next of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// Bytes, never none.
    Data(Bytes),
    /// That was all; the client may still listen.
    End,
    /// The stream was broken off, or its connection.
    Lost,
}

impl Input {
    /// The next of what the client says. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Said {
        match self.0.recv().await {
            Some(Piece::Data(bytes, _room)) => Said::Data(bytes),
            Some(Piece::End) => Said::End,
            None => Said::Lost,
        }
    }
}

/// The other end of an [`Input`]. Dropped without [`Feed::end`], the stream counts as lost.
#[derive(Debug)]
pub(crate) struct Feed(mpsc::UnboundedSender<Piece>);

/// Makes a stream's direction from the client.
pub(crate) fn input() -> (Feed, Input) {
    // Unbounded in number, bounded by the budget that each piece has a part of.
    let (sender, receiver) = mpsc::unbounded_channel();
    (Feed(sender), Input(receiver))
}

impl Feed {
    /// Hands bytes on, when there is room for them. Without anybody to take them they are dropped: a client must not be
    /// held up by input that a program did not want.
    pub(crate) async fn data(&self, bytes: Bytes, budget: &Budget, peer: &Peer) -> Result<(), Gone> {
        if bytes.is_empty() || self.0.is_closed() {
            return Ok(());
        }
        let room = tokio::select! {
            room = budget.take(bytes.len()) => room,
            // Nobody takes the bytes, so the end of the connection is not read either.
            () = peer.hung_up() => return Err(Gone),
            () = self.0.closed() => return Ok(()),
        };
        let _ = self.0.send(Piece::Data(bytes, room));
        Ok(())
    }

    /// Whether the session still listens.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.0.is_closed()
    }

    /// The client has nothing more to say.
    pub(crate) fn end(self) {
        let _ = self.0.send(Piece::End);
    }
}

/// Room for what waits on a connection.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<Semaphore>);

impl Budget {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(BUDGET)))
    }

    async fn take(&self, bytes: usize) -> OwnedSemaphorePermit {
        let share = bytes.clamp(SMALLEST, BUDGET) as u32;
        match Arc::clone(&self.0).acquire_many_owned(share).await {
            Ok(room) => room,
            // Closed: nobody ever does that.
            Err(_) => std::future::pending().await,
        }
    }
}

/// What is sent to a client on a stream.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    id: u32,
    frames: Frames,
    /// The client broke the stream off.
    refused: Arc<AtomicBool>,
}

impl Output {
    pub(crate) fn new(id: u32, frames: Frames) -> Self {
        Self { id, frames, refused: Arc::default() }
    }

    /// Shared with the connection's reader, which sets it when the client resets the stream.
    pub(crate) fn refusal(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.refused)
    }

    /// Sends bytes, at most [`CHUNK`], when the client has taken enough of what came before. Cancel-safe: all or nothing.
    ///
    /// # Errors
    /// When the stream or the connection is gone.
    pub(crate) async fn send(&self, bytes: Bytes) -> Result<(), Gone> {
        if self.refused.load(Ordering::Relaxed) {
            return Err(Gone);
        }
        self.frames.send(Frame::Data { id: self.id, bytes }).await.map_err(|_| Gone)
    }

    /// Says that this was all.
    pub(crate) async fn end(self) {
        if !self.refused.load(Ordering::Relaxed) {
            let _ = self.frames.send(Frame::End { id: self.id }).await;
        }
    }

    /// Breaks the stream off.
    pub(crate) async fn reset(self, reason: ResetReason) {
        if !self.refused.load(Ordering::Relaxed) {
            let _ = self.frames.send(Frame::Reset { id: self.id, reason }).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn input_that_nobody_takes_is_bounded_and_flows_again_when_it_is_taken() {
        let (feed, mut input) = input();
        let (budget, peer) = (Budget::new(), Peer::unwatched());
        let mut sent = 0;
        let chunk = Bytes::from(vec![1; CHUNK]);
        while tokio::time::timeout(Duration::from_secs(1), feed.data(chunk.clone(), &budget, &peer))
            .await
            .is_ok()
        {
            sent += CHUNK;
            assert!(sent <= BUDGET);
        }
        assert_eq!(sent, BUDGET);
        assert_eq!(input.next().await, Said::Data(chunk.clone()));
        feed.data(chunk, &budget, &peer).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn many_tiny_pieces_count_for_more_than_their_bytes() {
        let (feed, _input) = input();
        let (budget, peer) = (Budget::new(), Peer::unwatched());
        let mut sent = 0;
        let byte = Bytes::from_static(b"x");
        while tokio::time::timeout(Duration::from_secs(1), feed.data(byte.clone(), &budget, &peer))
            .await
            .is_ok()
        {
            sent += 1;
        }
        assert_eq!(sent, BUDGET / SMALLEST);
    }

    #[tokio::test]
    async fn input_for_nobody_is_dropped_even_while_it_waits_for_room() {
        let (feed, input) = input();
        let (budget, peer) = (Budget::new(), Peer::unwatched());
        let whole = Bytes::from(vec![0; BUDGET]);
        feed.data(whole.clone(), &budget, &peer).await.unwrap();
        let (waited, ()) = tokio::join!(feed.data(whole.clone(), &budget, &peer), async { drop(input) });
        assert_eq!(waited, Ok(()));
        feed.data(whole, &budget, &peer).await.unwrap();
    }

    #[tokio::test]
    async fn an_end_comes_after_the_bytes_and_a_loss_is_no_end() {
        let (budget, peer) = (Budget::new(), Peer::unwatched());
        let (feed, mut first) = input();
        feed.data(Bytes::from_static(b"x"), &budget, &peer).await.unwrap();
        feed.end();
        assert_eq!(first.next().await, Said::Data(Bytes::from_static(b"x")));
        assert_eq!(first.next().await, Said::End);
        let (feed, mut second) = input();
        drop(feed);
        assert_eq!(second.next().await, Said::Lost);
    }
}
