//! The record of an archive: every byte that is not file content, and where the content is in the layer. With it an
//! export reproduces the archive bit for bit, so its diff id still holds, without keeping the blob.
//!
//! The file is one zstd stream of operations, each a tag byte and little-endian numbers:
//!
//! ```text
//! 1 u32 length, bytes                        raw bytes of the archive
//! 2 u64 offset, u64 length, u16 n, path      content of the file `path` of the layer
//! 3 u32 number, u16 n, path                  what was at `path` until now is kept aside under `number`
//! 4 u16 n, path, u16 m, path                 in the end, what was at the first path is at the second (older versions)
//! ```

use std::{
    fs::{File, OpenOptions},
    io::{self, BufReader, BufWriter, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use super::UnpackError;
use crate::tar::{Sink, TarError};

/// Raw bytes gathered before they become an operation.
const GATHER: usize = 32 << 10;
/// Headers repeat, and the fastest level finds that.
const LEVEL: i32 = 1;

/// Writes a record.
pub(crate) struct Recorder {
    out: zstd::stream::write::Encoder<'static, BufWriter<File>>,
    raw: Vec<u8>,
}

impl Recorder {
    pub(crate) fn create(path: &Path) -> Result<Self, UnpackError> {
        let fail =
            |source| UnpackError::Io { step: "create the record", path: path.display().to_string(), source };
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .map_err(fail)?;
        let out = zstd::stream::write::Encoder::new(BufWriter::new(file), LEVEL).map_err(fail)?;
        Ok(Self { out, raw: Vec::with_capacity(GATHER) })
    }

    /// The next bytes of the archive are this part of the file `path`.
    pub(crate) fn content(&mut self, path: &[u8], offset: u64, length: u64) -> Result<(), UnpackError> {
        self.flush_raw()?;
        self.write(&[&[2], &offset.to_le_bytes()[..], &length.to_le_bytes(), &name(path), path])
    }

    /// What was at `path` is from now on kept under `number`.
    pub(crate) fn aside(&mut self, path: &[u8], number: u32) -> Result<(), UnpackError> {
        self.flush_raw()?;
        self.write(&[&[3], &number.to_le_bytes()[..], &name(path), path])
    }

    pub(crate) fn finish(mut self) -> Result<(), UnpackError> {
        self.flush_raw()?;
        self.out.finish().and_then(|mut file| file.flush()).map_err(failed)
    }

    fn flush_raw(&mut self) -> Result<(), UnpackError> {
        if self.raw.is_empty() {
            return Ok(());
        }
        let raw = std::mem::take(&mut self.raw);
        self.write(&[&[1], &(raw.len() as u32).to_le_bytes()[..], &raw])?;
        self.raw = raw;
        self.raw.clear();
        Ok(())
    }

    fn write(&mut self, parts: &[&[u8]]) -> Result<(), UnpackError> {
        parts.iter().try_for_each(|part| self.out.write_all(part)).map_err(failed)
    }
}

impl Sink for Recorder {
    fn raw(&mut self, mut bytes: &[u8]) -> Result<(), TarError> {
        while !bytes.is_empty() {
            if self.raw.len() >= GATHER {
                self.flush_raw().map_err(|error| TarError::Read(io::Error::other(error)))?;
            }
            let take = bytes.len().min(GATHER - self.raw.len());
            self.raw.extend_from_slice(&bytes[..take]);
            bytes = &bytes[take..];
        }
        Ok(())
    }
}

fn name(path: &[u8]) -> [u8; 2] {
    // At most `limits::PATH_MAX`.
    (path.len() as u16).to_le_bytes()
}

fn failed(source: io::Error) -> UnpackError {
    UnpackError::Io { step: "write", path: "the layer's record".to_owned(), source }
}

/// One step of reproducing an archive.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Raw(Vec<u8>),
    Content { path: Vec<u8>, offset: u64, length: u64 },
    Aside { path: Vec<u8>, number: u32 },
    Moved { from: Vec<u8>, to: Vec<u8> },
}

/// Reads a record.
pub(crate) struct RecordReader {
    input: zstd::stream::read::Decoder<'static, BufReader<File>>,
}

impl RecordReader {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { input: zstd::stream::read::Decoder::new(File::open(path)?)? })
    }

    /// The next operation; `None` at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<Operation>> {
        let mut tag = [0];
        if self.input.read(&mut tag)? == 0 {
            return Ok(None);
        }
        let operation = match tag[0] {
            1 => {
                let length = u32::from_le_bytes(self.array()?) as usize;
                if length > GATHER {
                    return Err(damaged("a raw part is too long"));
                }
                Operation::Raw(self.bytes(length)?)
            }
            2 => {
                let (offset, length) = (u64::from_le_bytes(self.array()?), u64::from_le_bytes(self.array()?));
                Operation::Content { offset, length, path: self.path()? }
            }
            3 => Operation::Aside { number: u32::from_le_bytes(self.array()?), path: self.path()? },
            4 => Operation::Moved { from: self.path()?, to: self.path()? },
            _ => return Err(damaged("unknown operation")),
        };
        Ok(Some(operation))
    }

    fn path(&mut self) -> io::Result<Vec<u8>> {
        let length = u16::from_le_bytes(self.array()?);
        self.bytes(length.into())
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn bytes(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.input.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

fn damaged(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
