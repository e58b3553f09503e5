//! Turns a stored layer back into the archive it came from, byte for byte, by its record.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    os::fd::OwnedFd,
};

use rustix::fs::{Mode, OFlags};

use crate::{
    pieces::{Joined, Piece, Pieces},
    unpack::{
        Destination,
        record::{Operation, RecordReader},
        tree::open_beneath,
    },
};

/// What happened to files after their content was unpacked.
#[derive(Default)]
struct Changes {
    /// By path: positions in the record, in order, at which what was there was set aside, and the numbers it is kept under.
    asides: HashMap<Vec<u8>, Vec<(usize, u32)>>,
    /// From, to; in the order in which they were made. Only in records of older versions.
    moves: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Writes the archive of `layer` to `out`. The caller compares the digest: files on disk may have been damaged.
pub(crate) fn reproduce(layer: &Destination, out: &mut impl Write) -> io::Result<()> {
    io::copy(&mut Replay::open(layer)?, out).map(drop)
}

/// The archive's pieces.
pub(crate) struct Replay {
    changes: Changes,
    root: OwnedFd,
    kept: Option<OwnedFd>,
    record: RecordReader,
    /// Operations read.
    at: usize,
}

impl Replay {
    pub(crate) fn open(layer: &Destination) -> io::Result<Joined<Self>> {
        let changes = Changes::read(layer)?;
        let root = directory(&layer.root)?;
        let kept = if changes.asides.is_empty() { None } else { Some(directory(&layer.aside)?) };
        let record = RecordReader::open(&layer.record)?;
        Ok(Joined::new(Self { changes, root, kept, record, at: 0 }))
    }
}

impl Pieces for Replay {
    fn next(&mut self) -> io::Result<Option<Piece>> {
        while let Some(operation) = self.record.next()? {
            let at = self.at;
            self.at += 1;
            match operation {
                Operation::Raw(bytes) => return Ok(Some(Piece::Bytes(io::Cursor::new(bytes)))),
                Operation::Content { path, offset, length } => {
                    let mut file = match self.changes.aside(at, &path).zip(self.kept.as_ref()) {
                        Some((name, kept)) => open(kept, &name)?,
                        None => open(&self.root, &self.changes.place(path))?,
                    };
                    file.seek(SeekFrom::Start(offset))?;
                    return Ok(Some(Piece::Content(file.take(length))));
                }
                Operation::Aside { .. } | Operation::Moved { .. } => {}
            }
        }
        Ok(None)
    }
}

impl Changes {
    /// Reads them in a first pass, because they concern content before them.
    fn read(layer: &Destination) -> io::Result<Self> {
        let mut record = RecordReader::open(&layer.record)?;
        let (mut changes, mut at) = (Self::default(), 0);
        while let Some(operation) = record.next()? {
            match operation {
                Operation::Aside { path, number } => {
                    changes.asides.entry(path).or_default().push((at, number));
                }
                Operation::Moved { from, to } => changes.moves.push((from, to)),
                _ => {}
            }
            at += 1;
        }
        Ok(changes)
    }

    /// Where the file that operation `at` unpacked to `path` is kept, if it was replaced later, by itself or with a directory
    /// that it was in: by what happened first.
    fn aside(&self, at: usize, path: &[u8]) -> Option<Vec<u8>> {
        if self.asides.is_empty() {
            return None;
        }
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
        let first = ends.chain([path.len()]).filter_map(|end| {
            let events = self.asides.get(&path[..end])?;
            let next = events.get(events.partition_point(|(when, _)| *when <= at))?;
            Some((*next, end))
        });
        let ((_, number), end) = first.min()?;
        Some([number.to_string().as_bytes(), &path[end..]].concat())
    }

    /// Where the file of `path` is in the end.
    fn place(&self, mut path: Vec<u8>) -> Vec<u8> {
        for (from, to) in &self.moves {
            if covers(from, &path) {
                path = [to, &path[from.len()..]].concat();
            }
        }
        path
    }
}

/// Whether `path` is `moved` or inside of it.
fn covers(moved: &[u8], path: &[u8]) -> bool {
    path.strip_prefix(moved).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

fn directory(path: &std::path::Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

fn open(root: &OwnedFd, path: &[u8]) -> io::Result<File> {
    Ok(open_beneath(root, path, OFlags::RDONLY | OFlags::NOFOLLOW)?.into())
}
