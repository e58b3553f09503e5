//! Applies the members of an archive one by one.

use std::{
    ffi::OsStr,
    io::BufRead,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    rc::Rc,
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, SeekFrom},
    io::Errno,
};

use super::{
    Destination, Limits, UnpackError, Unpacked, attributes,
    record::Recorder,
    shown,
    tree::{Cleared, Tree, clean, escape, io_error, is_whiteout, set_opaque, split, stat},
};
use crate::{
    stop::Stop,
    tar::{EntryKind, TarEntry, TarReader},
};

/// Bytes written between two looks at the free space of the disk.
const SPACE_CHECK: u64 = 64 << 20;
/// Share of the disk that a pull leaves free, as a divisor, so that the node's own services can go on.
const SPACE_RESERVE: u64 = 100;

/// Unpacks the archive `input` and returns what it was. The caller removes the destination when this fails.
pub(crate) fn unpack(
    input: impl BufRead,
    destination: &Destination,
    limits: Limits,
    stop: &Stop,
) -> Result<Unpacked, UnpackError> {
    let recorder = Recorder::create(&destination.record)?;
    let mut layer = Layer {
        tree: Tree::open(&destination.root, destination.aside.clone())?,
        reader: TarReader::new(input, recorder),
        limits,
        result: Unpacked::default(),
        directories: Vec::new(),
        written: 0,
        since_check: 0,
    };
    layer.check_space()?;
    while let Some(entry) = layer.reader.next_entry()? {
        if stop.is_set() {
            return Err(UnpackError::Interrupted);
        }
        layer.apply(&entry)?;
        if layer.reader.offset() > limits.bytes {
            return Err(UnpackError::TooLarge { limit: limits.bytes, what: "bytes" });
        }
    }
    layer.reader.drain()?;
    layer.finish()
}

struct Layer<R> {
    tree: Tree,
    reader: TarReader<R, Recorder>,
    limits: Limits,
    result: Unpacked,
    /// Directories and their times, set at the end because every new member moves them.
    directories: Vec<(Vec<u8>, (i64, u32))>,
    written: u64,
    since_check: u64,
}

impl<R: BufRead> Layer<R> {
    fn apply(&mut self, entry: &TarEntry) -> Result<(), UnpackError> {
        self.result.inodes += 1;
        if self.result.inodes > self.limits.entries {
            return Err(UnpackError::TooLarge { limit: self.limits.entries, what: "files" });
        }
        let path = clean(&entry.path)?;
        if path.is_empty() {
            return self.root(entry);
        }
        let (parent_path, name) = split(&path);
        match name.strip_prefix(b".wh.") {
            None => self.member(entry, &path, parent_path, name),
            Some(b".wh..opq") => {
                self.result.opaque |= parent_path.is_empty();
                self.tree.opaque(parent_path)
            }
            // Bookkeeping of aufs (.wh..wh.plnk, .wh..wh.aufs).
            Some(hidden) if hidden.starts_with(b".wh.") => Ok(()),
            Some(b"" | b"." | b"..") => Err(UnpackError::Escape {
                path: shown(&path),
                reason: "it is the whiteout of the directory itself",
            }),
            Some(hidden) => {
                let parent = self.tree.ensure(parent_path)?;
                self.result.bytes += BLOCK;
                self.tree.whiteout(&parent, hidden, &path)
            }
        }
    }

    /// The member that describes the root directory itself.
    fn root(&mut self, entry: &TarEntry) -> Result<(), UnpackError> {
        if entry.kind != EntryKind::Directory {
            return Err(UnpackError::Member {
                path: shown(&entry.path),
                reason: "names the root but is no directory",
            });
        }
        attributes::set_on(&self.tree.root(), entry, b"/")?;
        self.directories.push((Vec::new(), entry.mtime));
        Ok(())
    }

    fn member(
        &mut self,
        entry: &TarEntry,
        path: &[u8],
        parent_path: &[u8],
        name: &[u8],
    ) -> Result<(), UnpackError> {
        let parent = self.tree.ensure(parent_path)?;
        match entry.kind {
            EntryKind::Directory => self.directory(entry, path, &parent, name),
            EntryKind::Regular => self.regular(entry, path, &parent, name),
            EntryKind::Hardlink => self.hardlink(entry, path, &parent, name),
            EntryKind::Symlink => {
                let target = OsStr::from_bytes(&entry.link);
                self.place(path, &parent, name, "make the link", || {
                    rustix::fs::symlinkat(target, &*parent, OsStr::from_bytes(name))
                })?;
                self.result.bytes += BLOCK;
                attributes::set_at(&parent, name, entry, path, true)
            }
            EntryKind::Char | EntryKind::Block | EntryKind::Fifo => {
                let kind = match entry.kind {
                    EntryKind::Char => FileType::CharacterDevice,
                    EntryKind::Block => FileType::BlockDevice,
                    _ => FileType::Fifo,
                };
                let device = rustix::fs::makedev(entry.device.0, entry.device.1);
                self.place(path, &parent, name, "make the node", || {
                    rustix::fs::mknodat(
                        &*parent,
                        OsStr::from_bytes(name),
                        kind,
                        Mode::from_raw_mode(0),
                        device,
                    )
                })?;
                self.result.bytes += BLOCK;
                attributes::set_at(&parent, name, entry, path, false)
            }
        }
    }

    fn directory(
        &mut self,
        entry: &TarEntry,
        path: &[u8],
        parent: &Rc<OwnedFd>,
        name: &[u8],
    ) -> Result<(), UnpackError> {
        let make = || rustix::fs::mkdirat(&**parent, OsStr::from_bytes(name), Mode::from_raw_mode(0o700));
        let mut opaque = false;
        match make() {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let stat = stat(parent, name).map_err(io_error("inspect", path))?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                    // The layer hides the lower entry, and what it puts there must not merge with it.
                    opaque = is_whiteout(&stat);
                    self.clear(parent, name, path)?;
                    make().map_err(io_error("make directory", path))?;
                }
            }
            Err(errno) => return Err(io_error("make directory", path)(errno)),
        }
        let directory = self.tree.directory(parent, name, path)?;
        if opaque {
            set_opaque(&directory).map_err(io_error("mark as opaque", path))?;
        }
        self.tree.implicit.remove(path);
        self.result.bytes += BLOCK;
        self.directories.push((path.to_vec(), entry.mtime));
        attributes::set_on(&directory, entry, path)
    }

    fn regular(
        &mut self,
        entry: &TarEntry,
        path: &[u8],
        parent: &Rc<OwnedFd>,
        name: &[u8],
    ) -> Result<(), UnpackError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = self.place(path, parent, name, "make the file", || {
            rustix::fs::openat(&**parent, OsStr::from_bytes(name), flags, Mode::from_raw_mode(0o600))
        })?;
        match &entry.sparse {
            None => self.copy(&file, path, 0, entry.size)?,
            Some(segments) => {
                rustix::fs::ftruncate(&file, entry.size).map_err(io_error("size the file", path))?;
                for (offset, length) in segments {
                    rustix::fs::seek(&file, SeekFrom::Start(*offset)).map_err(io_error("seek in", path))?;
                    self.copy(&file, path, *offset, *length)?;
                }
            }
        }
        attributes::set_on(&file, entry, path)?;
        attributes::set_times(&file, entry.mtime, path)
    }

    /// Writes `length` bytes of content at the file's position, which is `offset`.
    fn copy(&mut self, file: &OwnedFd, path: &[u8], offset: u64, length: u64) -> Result<(), UnpackError> {
        self.result.bytes += length.next_multiple_of(BLOCK);
        if self.result.bytes > self.limits.bytes {
            return Err(UnpackError::TooLarge { limit: self.limits.bytes, what: "bytes" });
        }
        let mut left = length;
        while left > 0 {
            let slice = self.reader.content()?;
            let take = slice.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            if take == 0 {
                return Err(UnpackError::Member {
                    path: shown(path),
                    reason: "has less content than its header says",
                });
            }
            let done = match rustix::io::write(file, &slice[..take]) {
                Ok(0) => return Err(io_error("write", path)(Errno::NOSPC)),
                Ok(done) => done,
                Err(Errno::INTR) => 0,
                Err(errno) => return Err(io_error("write", path)(errno)),
            };
            self.reader.consume(done);
            left -= done as u64;
        }
        if length > 0 {
            self.reader.sink.content(path, offset, length)?;
        }
        self.written += length;
        self.since_check += length;
        if self.since_check >= SPACE_CHECK { self.check_space() } else { Ok(()) }
    }

    fn hardlink(
        &mut self,
        entry: &TarEntry,
        path: &[u8],
        parent: &Rc<OwnedFd>,
        name: &[u8],
    ) -> Result<(), UnpackError> {
        let target = clean(&entry.link)?;
        if target.is_empty() || target == path {
            return Err(UnpackError::Member {
                path: shown(path),
                reason: "is a hard link to itself or to the root",
            });
        }
        let (target_parent, target_name) = split(&target);
        let found = match self.tree.existing(target_parent) {
            Ok(Some(directory)) => stat(&directory, target_name).is_ok().then_some(directory),
            Ok(None) => None,
            Err(UnpackError::Escape { .. }) => return Err(escape(path)),
            Err(error) => return Err(error),
        };
        let Some(directory) = found else {
            // The file is in a layer below, or nowhere: known when the image is put together.
            self.result.links.push((target, path.to_vec()));
            return Ok(());
        };
        self.place(path, parent, name, "link", || {
            rustix::fs::linkat(
                &*directory,
                OsStr::from_bytes(target_name),
                &**parent,
                OsStr::from_bytes(name),
                AtFlags::empty(),
            )
        })
    }

    /// Makes something at `name`, replacing an earlier member.
    fn place<T>(
        &mut self,
        path: &[u8],
        parent: &Rc<OwnedFd>,
        name: &[u8],
        step: &'static str,
        make: impl Fn() -> Result<T, Errno>,
    ) -> Result<T, UnpackError> {
        match make() {
            Err(Errno::EXIST) => {
                self.clear(parent, name, path)?;
                make().map_err(io_error(step, path))
            }
            result => result.map_err(io_error(step, path)),
        }
    }

    fn clear(&mut self, parent: &Rc<OwnedFd>, name: &[u8], path: &[u8]) -> Result<(), UnpackError> {
        if let Cleared::Replaced(Some(number)) = self.tree.clear(parent, name, path)? {
            self.reader.sink.aside(path, number)?;
        }
        Ok(())
    }

    fn check_space(&mut self) -> Result<(), UnpackError> {
        self.since_check = 0;
        let stat = rustix::fs::fstatvfs(&*self.tree.root()).map_err(io_error("measure the disk of", b"/"))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        let reserve = stat.f_blocks.saturating_mul(stat.f_frsize) / SPACE_RESERVE;
        if free < reserve { Err(UnpackError::DiskFull { free }) } else { Ok(()) }
    }

    fn finish(mut self) -> Result<Unpacked, UnpackError> {
        for (path, mtime) in std::mem::take(&mut self.directories) {
            // A later member may have replaced the directory.
            if let Some(directory) = self.tree.for_attributes(&path) {
                attributes::set_times(&directory, mtime, &path)?;
            }
        }
        self.result.archive = self.reader.offset();
        self.result.implicit = std::mem::take(&mut self.tree.implicit).into_iter().collect();
        self.reader.sink.finish()?;
        Ok(self.result)
    }
}

/// What a node without content is counted as.
const BLOCK: u64 = 4096;
