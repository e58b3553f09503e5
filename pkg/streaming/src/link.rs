//! A connection as its session sees it: whether it still stands, and how it is left.

use std::{pin::Pin, time::Duration};

use tokio::{
    sync::watch,
    task::{AbortHandle, JoinHandle},
};

use crate::channel::{Frame, Frames};

/// How long a client may take to close its connection after everything was said.
const LINGER: Duration = Duration::from_secs(5);
/// How long it may take to receive what was said last.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Who says goodbye first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Farewell {
    /// The client, when its streams have ended; a server that closed first would cut off what the client's kernel has not
    /// handed over yet (SPDY).
    Clients,
    /// The server, whose close message tells the client that nothing follows (WebSocket).
    Servers,
}

/// The tasks that read and write a connection; they end with it.
#[derive(Debug)]
pub(crate) struct Link {
    frames: Frames,
    closed: watch::Receiver<bool>,
    farewell: Farewell,
    writer: JoinHandle<()>,
    reader: AbortHandle,
}

type Reading = Pin<Box<dyn Future<Output = ()> + Send>>;
/// True when it ended with the goodbye; the client may then still be there.
type Writing = Pin<Box<dyn Future<Output = bool> + Send>>;

impl Link {
    /// Runs a connection's reader and writer.
    pub(crate) fn run(frames: Frames, farewell: Farewell, reader: Reading, writer: Writing) -> Self {
        let (closing, closed) = watch::channel(false);
        let also_closing = closing.clone();
        let reader = tokio::spawn(async move {
            reader.await;
            closing.send_replace(true);
        });
        let writer = tokio::spawn(async move {
            if !writer.await {
                also_closing.send_replace(true);
            }
        });
        Self { frames, closed, farewell, writer, reader: reader.abort_handle() }
    }

    /// Resolves when the client is gone.
    pub(crate) async fn closed(&self) {
        // An error means that both tasks are gone.
        let _ = self.closed.clone().wait_for(|closed| *closed).await;
    }

    /// Leaves the connection after its last frame was queued.
    pub(crate) async fn finish(mut self) {
        match self.farewell {
            Farewell::Clients => {
                self.client_closes().await;
                // Also when it has closed: by this the writer ends.
                self.say_goodbye().await;
            }
            Farewell::Servers => {
                self.say_goodbye().await;
                self.client_closes().await;
            }
        }
        let _ = tokio::time::timeout(LINGER, &mut self.writer).await;
    }

    async fn client_closes(&self) {
        let _ = tokio::time::timeout(LINGER, self.closed()).await;
    }

    /// Waits until it is queued, behind all else.
    async fn say_goodbye(&self) {
        let _ = tokio::time::timeout(LAST_WORDS, self.frames.send(Frame::Goodbye)).await;
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.reader.abort();
        self.writer.abort();
    }
}
