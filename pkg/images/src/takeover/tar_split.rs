//! The archive of a layer of `containers/storage`, byte for byte: its tar-split record has headers and padding, the layer's
//! directory has the files' contents.
//!
//! The record is JSON, one object a line, compressed: `{"type": 2, "payload": base64}` are bytes of the archive, `{"type": 1, "name" or
//! "name_raw", "size"}` the content of a file. Its checksums are not looked at: the archive has to come to the layer's diff id.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    os::fd::OwnedFd,
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustix::fs::{Mode, OFlags};
use serde::Deserialize;

use crate::{
    pieces::{Joined, Piece, Pieces},
    unpack::tree::{clean, open_beneath},
};

/// Bytes of a line: the headers of one member, in base64.
const LINE_MAX: u64 = 16 << 20;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Line {
    r#type: u8,
    name: String,
    name_raw: Option<String>,
    size: i64,
    payload: Option<String>,
}

/// The archive's pieces.
pub(super) struct Archive<R: Read> {
    record: BufReader<flate2::read::MultiGzDecoder<R>>,
    root: OwnedFd,
}

fn damaged(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}

impl<R: Read> Archive<R> {
    /// The archive that `record` tells of, with files from `root`.
    pub(super) fn open(record: R, root: &Path) -> io::Result<Joined<Self>> {
        let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        let root = rustix::fs::open(root, flags, Mode::empty())?;
        let record = BufReader::new(flate2::read::MultiGzDecoder::new(record));
        Ok(Joined::new(Self { record, root }))
    }

    /// A regular file below the root, whatever links are on the way.
    fn file(&self, name: &[u8]) -> io::Result<File> {
        let shown = String::from_utf8_lossy(name).into_owned();
        let path = clean(name).map_err(|error| damaged(error.to_string()))?;
        // Without NONBLOCK, opening a FIFO would wait for its other end.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = open_beneath(&self.root, &path, flags).map_err(|errno| {
            io::Error::new(io::Error::from(errno).kind(), format!("open {shown}: {errno}"))
        })?;
        let file = File::from(file);
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(damaged(format!("{shown} is no regular file any more"))),
        }
    }
}

impl<R: Read> Pieces for Archive<R> {
    fn next(&mut self) -> io::Result<Option<Piece>> {
        loop {
            let mut text = Vec::new();
            (&mut self.record).take(LINE_MAX).read_until(b'\n', &mut text)?;
            if text.is_empty() {
                return Ok(None);
            }
            let line: Line = serde_json::from_slice(&text)
                .map_err(|error| damaged(format!("the tar-split record is damaged: {error}")))?;
            let bytes = |text: &str| STANDARD.decode(text).map_err(|error| damaged(error.to_string()));
            match line.r#type {
                1 if line.size > 0 => {
                    let name = line.name_raw.map_or_else(|| Ok(line.name.into_bytes()), |raw| bytes(&raw))?;
                    return Ok(Some(Piece::Content(self.file(&name)?.take(line.size.unsigned_abs()))));
                }
                // An empty file has no content.
                1 => {}
                2 => {
                    let payload = bytes(&line.payload.unwrap_or_default())?;
                    return Ok(Some(Piece::Bytes(io::Cursor::new(payload))));
                }
                other => return Err(damaged(format!("the tar-split record has an entry of type {other}"))),
            }
        }
    }
}
