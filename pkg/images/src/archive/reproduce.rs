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

/// A replacement within the archive: what was at `path` before operation `at` is kept aside.
struct Aside {
    at: usize,
    path: Vec<u8>,
    number: u32,
}

/// Writes the archive of `layer` to `out`. The caller compares the digest: files on disk may have been damaged.
pub(super) fn reproduce(layer: &Destination, out: &mut impl Write) -> io::Result<()> {
    let asides = asides(layer)?;
    let root = directory(&layer.root)?;
    let kept = if asides.is_empty() { None } else { Some(directory(&layer.aside)?) };
    let mut record = RecordReader::open(&layer.record)?;
    let mut at = 0;
    while let Some(operation) = record.next()? {
        match operation {
            Operation::Raw(bytes) => out.write_all(&bytes)?,
            Operation::Content { path, offset, length } => {
                let mut file = match asides
                    .iter()
                    .find(|aside| aside.at > at && covers(&aside.path, &path))
                    .zip(kept.as_ref())
                {
                    Some((aside, kept)) => open(
                        kept,
                        &[aside.number.to_string().as_bytes(), &path[aside.path.len()..]].concat(),
                    )?,
                    None => open(&root, &path)?,
                };
                file.seek(SeekFrom::Start(offset))?;
                if io::copy(&mut file.take(length), out)? != length {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "a file is shorter than it was",
                    ));
                }
            }
            Operation::Aside { .. } => {}
        }
        at += 1;
    }
    Ok(())
}

/// All replacements, found in a first pass because they concern content before them.
fn asides(layer: &Destination) -> io::Result<Vec<Aside>> {
    let mut record = RecordReader::open(&layer.record)?;
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(operation) = record.next()? {
        if let Operation::Aside { path, number } = operation {
            found.push(Aside { at, path, number });
        }
        at += 1;
    }
    Ok(found)
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
