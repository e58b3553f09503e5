//! Copying between a client's streams and descriptors, and window sizes.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use husk_model::WindowSize;
use serde::Deserialize;
use tokio::sync::watch;

use crate::{
    channel::{Input, Output, Said},
    fd::Fd,
};

/// How long a command's output is waited for after it ended: what it left in the background may hold the pipe for ever.
const DRAIN: Duration = Duration::from_millis(250);
/// Most bytes taken after its end: what the pipe could hold, and more for one that was being filled meanwhile.
const LAST_BYTES: usize = 2 << 20;
/// Longest size message.
const LONGEST_SIZE: usize = 4 << 10;

/// Gives a client's input to `to` until its end, which closes `to`. Input that a program does not want is dropped.
pub(super) async fn input(mut from: Input, to: Arc<Fd>) {
    while let Said::Data(bytes) = from.next().await {
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// Gives what comes out of `from` to a client until its end. `over` becomes true when the command has ended. A client that
/// takes no more closes `from`, so that the command gets EPIPE.
pub(super) async fn output(from: Arc<Fd>, to: Output, mut over: watch::Receiver<bool>) {
    let mut after_end = 0;
    loop {
        let ended = *over.borrow();
        let bytes = if ended {
            tokio::time::timeout(DRAIN, from.read()).await.unwrap_or_else(|_| Ok(Bytes::new()))
        } else {
            tokio::select! {
                bytes = from.read() => bytes,
                _ = over.changed() => continue,
            }
        };
        let Ok(bytes) = bytes else { break };
        if ended {
            after_end += bytes.len();
        }
        if bytes.is_empty() || after_end > LAST_BYTES {
            break;
        }
        if to.send(bytes).await.is_err() {
            return;
        }
    }
    to.end().await;
}

/// Window sizes as the client sends them: JSON objects, one after the other.
#[derive(Debug)]
pub(super) struct Sizes {
    from: Input,
    text: Vec<u8>,
}

#[derive(Deserialize)]
struct Size {
    #[serde(rename = "Width")]
    width: u16,
    #[serde(rename = "Height")]
    height: u16,
}

impl Sizes {
    pub(super) fn new(from: Input) -> Self {
        Self { from, text: Vec::new() }
    }

    /// The next size; `None` when there will be none. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<WindowSize> {
        loop {
            if let Some(size) = self.parse() {
                return Some(size);
            }
            match self.from.next().await {
                Said::Data(bytes) if self.text.len() + bytes.len() <= LONGEST_SIZE => {
                    self.text.extend_from_slice(&bytes);
                }
                _ => return None,
            }
        }
    }

    /// Takes one whole object off the front. What is no object ends all parsing, since nothing tells where the next begins.
    fn parse(&mut self) -> Option<WindowSize> {
        let mut objects = serde_json::Deserializer::from_slice(&self.text).into_iter::<Size>();
        match objects.next()? {
            Ok(size) => {
                let used = objects.byte_offset();
                self.text.drain(..used);
                Some(WindowSize { columns: size.width, rows: size.height })
            }
            Err(error) if error.is_eof() => None,
            Err(_) => {
                self.text.clear();
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        channel::{self, Budget, Frame},
        fd::pipe,
        peer::Peer,
    };

    #[tokio::test]
    async fn sizes_are_read_however_they_are_cut() {
        let (feed, input) = channel::input();
        let (budget, peer) = (Budget::new(), Peer::unwatched());
        let mut sizes = Sizes::new(input);
        for part in [
            "{\"Width\":80,\"Hei",
            "ght\":24}\n{\"Width\":1,\"Height\":2}",
            "nonsense",
            "{\"Width\":3,\"Height\":4}",
        ] {
            feed.data(Bytes::from_static(part.as_bytes()), &budget, &peer).await.unwrap();
        }
        feed.end();
        let mut seen = Vec::new();
        while let Some(size) = sizes.next().await {
            seen.push((size.columns, size.rows));
        }
        assert_eq!(seen, [(80, 24), (1, 2), (3, 4)]);
    }

    #[tokio::test]
    async fn output_is_taken_to_its_end_and_not_waited_for_when_something_holds_the_pipe() {
        let (read, write) = pipe().unwrap();
        let (frames, mut queue) = channel::frames();
        let (over, ended) = watch::channel(false);
        rustix::io::write(&write, b"last words").unwrap();
        let copied = tokio::spawn(output(Arc::new(Fd::new(read).unwrap()), Output::new(1, frames), ended));
        over.send_replace(true);
        let mut said = Vec::new();
        while let Some(frame) = queue.recv().await {
            match frame {
                Frame::Data { bytes, .. } => said.extend_from_slice(&bytes),
                Frame::End { id: 1 } => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(said, b"last words");
        copied.await.unwrap();
        drop(write);
    }
}
