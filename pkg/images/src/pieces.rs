//! An archive that is put together again: bytes that a record has kept, and contents of files.

use std::{
    fs::File,
    io::{self, Cursor, Read, Take},
    os::unix::fs::FileExt,
    sync::Arc,
};

/// A piece of an archive.
pub(crate) enum Piece {
    /// Headers and padding.
    Bytes(Cursor<Vec<u8>>),
    /// So much of a file, from where it stands.
    Content(Take<File>),
    /// A part of a file that somebody may be writing.
    Live(Live),
}

/// So much of a file. What it lacks at the end is zeros, as other archivers have it: the header that tells its length is out.
pub(crate) struct Live {
    pub(crate) file: Arc<File>,
    pub(crate) at: u64,
    pub(crate) left: u64,
}

/// Where the pieces come from, in order.
pub(crate) trait Pieces {
    /// The next one; `None` at the end.
    ///
    /// # Errors
    /// The record is damaged, or a file is not there.
    fn next(&mut self) -> io::Result<Option<Piece>>;
}

/// All pieces as a stream. A file that is shorter than its piece is an error.
pub(crate) struct Joined<P> {
    pieces: P,
    current: Option<Piece>,
}

impl<P> Joined<P> {
    pub(crate) fn new(pieces: P) -> Self {
        Self { pieces, current: None }
    }
}

impl<P: Pieces> Read for Joined<P> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            if let Some(piece) = &mut self.current {
                let read = piece.read(out)?;
                if read > 0 {
                    return Ok(read);
                }
            }
            self.current = self.pieces.next()?;
            if self.current.is_none() {
                return Ok(0);
            }
        }
    }
}

impl Piece {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Bytes(bytes) => bytes.read(out),
            Self::Content(file) => match file.read(out)? {
                0 if file.limit() > 0 => {
                    Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a file is shorter than it was"))
                }
                read => Ok(read),
            },
            Self::Live(live) => live.read(out),
        }
    }
}

impl Read for Live {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let most = out.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = match self.file.read_at(&mut out[..most], self.at)? {
            0 => {
                out[..most].fill(0);
                most
            }
            read => read,
        };
        self.at += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}
