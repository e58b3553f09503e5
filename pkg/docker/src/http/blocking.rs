//! A request's body for whoever reads it on a thread that may block: archives are unpacked there.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

use super::call::Content;

/// Pieces that may wait for the reader.
const BACKLOG: usize = 8;

/// A body as std's reader. Broken off by the client, it ends with an error and never as if it were whole.
#[derive(Debug)]
pub(crate) struct BlockingReader {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
    ended: bool,
}

impl Content {
    /// Reads the body in a task of its own, as fast as it is taken. What nobody takes is read and dropped, so that a client that is
    /// still sending gets to read what was wrong with it.
    pub(crate) fn into_blocking(mut self) -> BlockingReader {
        let (sender, pieces) = mpsc::channel(BACKLOG);
        tokio::spawn(async move {
            loop {
                let piece = match self.next().await {
                    Ok(Some(piece)) => Ok(piece),
                    Ok(None) => Ok(Bytes::new()),
                    Err(failure) => Err(io::Error::other(failure.message().to_owned())),
                };
                let is_last = piece.as_ref().is_ok_and(Bytes::is_empty) || piece.is_err();
                let _nobody_takes_it = sender.send(piece).await;
                if is_last {
                    return;
                }
            }
        });
        BlockingReader { pieces, piece: Bytes::new(), ended: false }
    }
}

impl Read for BlockingReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() && !self.ended {
            // Without a last word the task was cut off.
            self.piece =
                self.pieces.blocking_recv().unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))?;
            self.ended = self.piece.is_empty();
        }
        let length = self.piece.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.piece[..length]);
        self.piece.advance(length);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_is_read_on_another_thread_to_its_end() {
        let body = vec![7; 300_000];
        let reader = Content::Whole(Bytes::from(body.clone())).into_blocking();
        let read = tokio::task::spawn_blocking(move || {
            let mut all = Vec::new();
            let mut reader = reader;
            reader.read_to_end(&mut all).map(|_| all)
        });
        assert_eq!(read.await.unwrap().unwrap(), body);
    }

    #[tokio::test]
    async fn a_body_whose_reader_was_cut_off_is_not_whole() {
        let (sender, pieces) = mpsc::channel(1);
        sender.send(Ok(Bytes::from_static(b"half"))).await.unwrap();
        drop(sender);
        let mut reader = BlockingReader { pieces, piece: Bytes::new(), ended: false };
        let read = tokio::task::spawn_blocking(move || reader.read_to_end(&mut Vec::new()));
        assert_eq!(read.await.unwrap().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
