//! Turns a stored layer back into the archive it came from, byte for byte, by its record.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    os::fd::OwnedFd,
};

use rustix::fs::{Mode, OFlags};

use crate::unpack::{
    Destination,
    record::{Operation, RecordReader},
    tree::open_beneath,
};

/// What happened to files after their content was unpacked.
#[derive(Default)]
struct Changes {
    /// Position in the record, path, and number under which it is kept.
    asides: Vec<(usize, Vec<u8>, u32)>,
    /// From, to; in the order in which they were made.
    moves: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Writes the archive of `layer` to `out`. The caller compares the digest: files on disk may have been damaged.
pub(crate) fn reproduce(layer: &Destination, out: &mut impl Write) -> io::Result<()> {
    let changes = Changes::read(layer)?;
    let root = directory(&layer.root)?;
    let kept = if changes.asides.is_empty() { None } else { Some(directory(&layer.aside)?) };
    let mut record = RecordReader::open(&layer.record)?;
    let mut at = 0;
    while let Some(operation) = record.next()? {
        match operation {
            Operation::Raw(bytes) => out.write_all(&bytes)?,
            Operation::Content { path, offset, length } => {
                let mut file = match changes.aside(at, &path).zip(kept.as_ref()) {
                    Some((name, kept)) => open(kept, &name)?,
                    None => open(&root, &changes.place(path))?,
                };
                file.seek(SeekFrom::Start(offset))?;
                if io::copy(&mut file.take(length), out)? != length {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "a file is shorter than it was",
                    ));
                }
            }
            Operation::Aside { .. } | Operation::Moved { .. } => {}
        }
        at += 1;
    }
    Ok(())
}

impl Changes {
    /// Reads them in a first pass, because they concern content before them.
    fn read(layer: &Destination) -> io::Result<Self> {
        let mut record = RecordReader::open(&layer.record)?;
        let (mut changes, mut at) = (Self::default(), 0);
        while let Some(operation) = record.next()? {
            match operation {
                Operation::Aside { path, number } => changes.asides.push((at, path, number)),
                Operation::Moved { from, to } => changes.moves.push((from, to)),
                _ => {}
            }
            at += 1;
        }
        Ok(changes)
    }

    /// Where the file that operation `at` unpacked to `path` is kept, if it was replaced later.
    fn aside(&self, at: usize, path: &[u8]) -> Option<Vec<u8>> {
        let (_, from, number) =
            self.asides.iter().find(|(when, from, _)| *when > at && covers(from, path))?;
        Some([number.to_string().as_bytes(), &path[from.len()..]].concat())
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
