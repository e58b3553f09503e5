//! An archive that is put together again: bytes that a record has kept, and contents of files.

use std::{
    fs::File,
    io::{self, Cursor, Read, Take},
};

/// A piece of an archive.
pub(crate) enum Piece {
    /// Headers and padding.
    Bytes(Cursor<Vec<u8>>),
    /// So much of a file, from where it stands.
    Content(Take<File>),
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
        }
    }
}
