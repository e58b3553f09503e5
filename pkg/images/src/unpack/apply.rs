//! Applies the members of an archive one by one.

use std::{
    ffi::OsStr,
    io::BufRead,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    rc::Rc,
};

use husk_sys::tree::{Step, Walk};
use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, SeekFrom},
    io::Errno,
};

use super::{
    Destination, UnpackError, Unpacked, attributes, copy, io_error,
    limits::{Meter, PATH_MAX, Resource, TRAILING_MAX},
    marks::{set_opaque, stat},
    record::Recorder,
    shown,
    space::Space,
    tree::{Cleared, Spot, Tree, clean, inode, open_directory, split},
};
use crate::{
    stop::Stop,
    tar::{EntryKind, TarEntry, TarReader},
};

/// Unpacks the archive `input` and returns what it was, and what it spent. The caller removes the destination when this
/// fails. `below` are the roots of the layers below, topmost first, when they are known: then names resolve through them,
/// and nothing is left to be settled.
pub(crate) fn unpack(
    input: impl BufRead,
    destination: &Destination,
    below: Option<Vec<OwnedFd>>,
    meter: Meter,
    stop: &Stop,
) -> Result<(Unpacked, Meter), UnpackError> {
    let recorder = Recorder::create(&destination.record)?;
    let knows_below = below.is_some();
    let lowers = below.unwrap_or_default();
    let mut layer = Layer {
        tree: Tree::open(&destination.root, lowers, destination.aside.clone(), meter)?,
        reader: TarReader::new(input, recorder),
        knows_below,
        opaque: false,
        stop,
        content: 0,
        overhead: 0,
        space: Space::default(),
    };
    loop {
        if stop.is_set() {
            return Err(UnpackError::Interrupted);
        }
        let entry = layer.reader.next_entry()?;
        layer.count_overhead()?;
        let Some(entry) = entry else { break };
        layer.apply(&entry)?;
    }
    layer.reader.drain(TRAILING_MAX)?;
    layer.finish()
}

struct Layer<'stop, R> {
    tree: Tree,
    reader: TarReader<R, Recorder>,
    knows_below: bool,
    opaque: bool,
    stop: &'stop Stop,
    /// Bytes of content read.
    content: u64,
    /// Bytes of the archive beside that, as counted so far.
    overhead: u64,
    space: Space,
}

impl<R: BufRead> Layer<'_, R> {
    fn count_overhead(&mut self) -> Result<(), UnpackError> {
        let overhead = self.reader.offset() - self.content;
        self.tree.meter.spend(Resource::Overhead, overhead - self.overhead)?;
        self.overhead = overhead;
        Ok(())
    }

    fn apply(&mut self, entry: &TarEntry) -> Result<(), UnpackError> {
        self.tree.meter.spend(Resource::Inodes, 1)?;
        self.check_space()?;
        let path = clean(&entry.path)?;
        if path.is_empty() {
            return self.root(entry);
        }
        let (parent_path, name) = split(&path);
        match name.strip_prefix(b".wh.") {
            None => self.member(entry, &path, parent_path, name),
            Some(b".wh..opq") => {
                self.opaque |= self.tree.opaque(parent_path)?;
                Ok(())
            }
            // Bookkeeping of aufs (.wh..wh.plnk, .wh..wh.aufs).
            Some(hidden) if hidden.starts_with(b".wh.") => Ok(()),
            Some(b"" | b"." | b"..") => Err(UnpackError::Member {
                path: shown(&path),
                reason: "is the whiteout of the directory itself",
            }),
            Some(hidden) => {
                let parent = self.tree.ensure(parent_path)?;
                self.tree.meter.spend(Resource::Bytes, BLOCK)?;
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
        self.count_attributes(entry)?;
        let root = self.tree.root()?;
        attributes::set_on(&root, entry, b"/")?;
        self.tree.notes.described(inode(&root, b"/")?, entry.mtime);
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
        if entry.kind != EntryKind::Hardlink {
            self.count_attributes(entry)?;
        }
        match entry.kind {
            EntryKind::Directory => self.directory(entry, path, &parent, name),
            EntryKind::Regular => self.regular(entry, path, &parent, name),
            EntryKind::Hardlink => self.hardlink(entry, path, &parent, name),
            EntryKind::Symlink => {
                let target = OsStr::from_bytes(&entry.link);
                self.place(path, &parent, name, "make the link", || {
                    rustix::fs::symlinkat(target, &*parent.own, OsStr::from_bytes(name))
                })?;
                attributes::set_at(&parent.own, name, entry, path, true)
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
                        &*parent.own,
                        OsStr::from_bytes(name),
                        kind,
                        Mode::from_raw_mode(0),
                        device,
                    )
                })?;
                attributes::set_at(&parent.own, name, entry, path, false)
            }
        }
    }

    /// What every member takes on the disk beside its content.
    fn count_attributes(&mut self, entry: &TarEntry) -> Result<(), UnpackError> {
        let attributes: usize = entry.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        let small = if entry.kind == EntryKind::Regular { 0 } else { BLOCK };
        self.tree.meter.spend(Resource::Bytes, small + attributes as u64)
    }

    fn directory(
        &mut self,
        entry: &TarEntry,
        path: &[u8],
        parent: &Rc<Spot>,
        name: &[u8],
    ) -> Result<(), UnpackError> {
        let make = || rustix::fs::mkdirat(&*parent.own, OsStr::from_bytes(name), Mode::from_raw_mode(0o700));
        let (mut made, mut opaque) = (true, false);
        self.check_depth(parent, name, path)?;
        match make() {
            Ok(()) => self.tree.made(parent, name)?,
            Err(Errno::EXIST) => {
                let stat = stat(&parent.own, name).map_err(io_error("inspect", path))?;
                made = FileType::from_raw_mode(stat.st_mode) != FileType::Directory;
                if made {
                    // What was there hid the lower entry, and the new directory must not merge with that.
                    opaque = true;
                    self.clear(parent, name, path)?;
                    make().map_err(io_error("make directory", path))?;
                }
            }
            Err(errno) => return Err(io_error("make directory", path)(errno)),
        }
        let directory = open_directory(&parent.own, name, path)?;
        if opaque {
            set_opaque(&directory).map_err(io_error("mark as opaque", path))?;
        }
        if made {
            self.tree.meter.spend(Resource::Directories, 1)?;
        }
        self.tree.notes.described(inode(&directory, path)?, entry.mtime);
        attributes::set_on(&directory, entry, path)
    }

    /// A path that nobody can name is not made.
    fn check_depth(&self, parent: &Spot, name: &[u8], path: &[u8]) -> Result<(), UnpackError> {
        if parent.path.len() + 1 + name.len() > PATH_MAX {
            let reason = "leads deeper than a path can name (4096 bytes)";
            return Err(UnpackError::Member { path: shown(path), reason });
        }
        Ok(())
    }

    fn regular(
        &mut self,
        entry: &TarEntry,
        path: &[u8],
        parent: &Rc<Spot>,
        name: &[u8],
    ) -> Result<(), UnpackError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = self.place(path, parent, name, "make the file", || {
            rustix::fs::openat(&*parent.own, OsStr::from_bytes(name), flags, Mode::from_raw_mode(0o600))
        })?;
        // As it is on the disk, so that the record finds it again whatever links become of.
        let real = parent.inside(name);
        match &entry.sparse {
            None => self.copy(&file, &real, 0, entry.size)?,
            Some(segments) => {
                rustix::fs::ftruncate(&file, entry.size).map_err(io_error("size the file", path))?;
                for (offset, length) in segments {
                    rustix::fs::seek(&file, SeekFrom::Start(*offset)).map_err(io_error("seek in", path))?;
                    self.copy(&file, &real, *offset, *length)?;
                }
            }
        }
        attributes::set_on(&file, entry, path)?;
        attributes::set_times(&file, entry.mtime, path)
    }

    /// Writes `length` bytes of content at the file's position, which is `offset`.
    fn copy(&mut self, file: &OwnedFd, path: &[u8], offset: u64, length: u64) -> Result<(), UnpackError> {
        self.tree.meter.spend(Resource::Bytes, length.next_multiple_of(BLOCK))?;
        self.tree.meter.spend(Resource::Overhead, path.len() as u64 + 64)?;
        let mut left = length;
        while left > 0 {
            if self.stop.is_set() {
                return Err(UnpackError::Interrupted);
            }
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
            self.content += done as u64;
            left -= done as u64;
        }
        if length > 0 {
            self.reader.sink.content(path, offset, length)?;
        }
        self.check_space()
    }

    fn hardlink(
        &mut self,
        entry: &TarEntry,
        path: &[u8],
        parent: &Rc<Spot>,
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
        let found = match self.tree.find(target_parent, target_name)? {
            Some(found) => found,
            None if !self.knows_below => {
                // The file is in a layer below, or nowhere: known when the image is put together.
                self.tree.notes.unsure = true;
                return Ok(());
            }
            None => {
                return Err(UnpackError::Member {
                    path: shown(path),
                    reason: "is a hard link to a file that no layer has",
                });
            }
        };
        let directory = match &found.below {
            None => found.directory,
            Some(stat) => {
                let spot = self.tree.ensure(&found.real)?;
                let meter = &mut self.tree.meter;
                copy::up(&found.directory, target_name, stat, &spot.own, meter, self.stop, &target)?;
                Rc::clone(&spot.own)
            }
        };
        if Rc::ptr_eq(&directory, &parent.own) && target_name == name {
            return Ok(());
        }
        self.place(path, parent, name, "link", || {
            rustix::fs::linkat(
                &*directory,
                OsStr::from_bytes(target_name),
                &*parent.own,
                OsStr::from_bytes(name),
                AtFlags::empty(),
            )
        })
    }

    /// Makes something at `name`, replacing an earlier member.
    fn place<T>(
        &mut self,
        path: &[u8],
        parent: &Rc<Spot>,
        name: &[u8],
        step: &'static str,
        make: impl Fn() -> Result<T, Errno>,
    ) -> Result<T, UnpackError> {
        self.check_depth(parent, name, path)?;
        match make() {
            Err(Errno::EXIST) => {
                self.clear(parent, name, path)?;
                make().map_err(io_error(step, path))
            }
            Ok(made) => {
                self.tree.made(parent, name)?;
                Ok(made)
            }
            Err(errno) => Err(io_error(step, path)(errno)),
        }
    }

    fn clear(&mut self, parent: &Rc<Spot>, name: &[u8], path: &[u8]) -> Result<(), UnpackError> {
        if let Cleared::Replaced(Some(number)) = self.tree.clear(parent, name, path)? {
            self.reader.sink.aside(&parent.inside(name), number)?;
        }
        Ok(())
    }

    fn check_space(&mut self) -> Result<(), UnpackError> {
        let inodes = self.tree.meter.spent(Resource::Inodes);
        self.space.check(&*self.tree.root()?, self.content, inodes)
    }

    fn finish(mut self) -> Result<(Unpacked, Meter), UnpackError> {
        let archive = self.reader.offset();
        let unsure = self.tree.notes.unsure;
        let (implied, times) = self.tree.notes.take();
        set_times(&*self.tree.root()?, &times, self.stop)?;
        self.reader.sink.finish()?;
        let Tree { meter, .. } = self.tree;
        let (bytes, inodes) = (meter.spent(Resource::Bytes), meter.spent(Resource::Inodes));
        Ok((Unpacked { bytes, inodes, archive, opaque: self.opaque, implied, unsure }, meter))
    }
}

/// Gives directories their times, in the end because every new member moves them.
fn set_times(root: &OwnedFd, times: &[(u64, (i64, u32))], stop: &Stop) -> Result<(), UnpackError> {
    let set = |inode: u64, directory: &OwnedFd| match times.binary_search_by_key(&inode, |(inode, _)| *inode)
    {
        Ok(at) => attributes::set_times(directory, times[at].1, b"/"),
        Err(_) => Ok(()),
    };
    if times.is_empty() {
        return Ok(());
    }
    set(inode(root, b"/")?, root)?;
    let mut walk = Walk::new(root).map_err(io_error("list", b"/"))?;
    walk.all(|entry| {
        if stop.is_set() {
            return Err(UnpackError::Interrupted);
        }
        let step = entry.enter().map_err(io_error("open directory", entry.name.to_bytes()))?;
        if let Step::Into(directory) = &step {
            set(entry.inode, directory)?;
        }
        Ok(step)
    })
}

/// What a node without content is counted as.
const BLOCK: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unpack::limits::Budget;

    /// Unpacks with one limit lowered; the error's text.
    fn limited(archive: &[u8], resource: Resource, limit: u64) -> String {
        let dir = tempfile::tempdir().unwrap();
        let destination = Destination {
            root: dir.path().join("root"),
            aside: dir.path().join("aside"),
            record: dir.path().join("record"),
        };
        std::fs::create_dir(&destination.root).unwrap();
        let meter = Meter::new(&Budget::default()).limited(resource, limit);
        match unpack(archive, &destination, None, meter, &Stop::default()) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    fn archive(members: &[(&str, &[u8])], extension: Option<(&str, &[u8])>) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, content) in members {
            if let Some(extension) = extension {
                tar.append_pax_extensions([extension]).unwrap();
            }
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            let user = rustix::process::geteuid().as_raw();
            header.set_uid(user.into());
            header.set_gid(rustix::process::getegid().as_raw().into());
            tar.append_data(&mut header, path, *content).unwrap();
        }
        tar.into_inner().unwrap()
    }

    #[test]
    fn every_resource_is_bounded_where_it_is_spent() {
        let two = archive(&[("a", b"x"), ("b", b"y")], None);
        let nested = archive(&[("a/b/c/d/e/f", b"x")], None);
        let again = archive(&[("a", b"x"), ("a", b"y"), ("a", b"z")], None);
        let noted = archive(&[("a", b"x")], Some(("SCHILY.xattr.user.note", &[b'v'; 3000])));
        let commented = archive(&[("a", b"x")], Some(("comment", &[b'c'; 100_000])));
        for (name, archive, resource, enough, word) in [
            ("inodes", &two, Resource::Inodes, 2, "files"),
            ("directories", &nested, Resource::Directories, 5, "directories"),
            ("implied directories", &nested, Resource::Implied, 5, "description"),
            ("implied directories as inodes", &nested, Resource::Inodes, 6, "files"),
            ("content", &two, Resource::Bytes, 8192, "bytes"),
            ("attributes", &noted, Resource::Bytes, 4096 + 3020, "bytes"),
            ("headers", &commented, Resource::Overhead, 110_000, "headers"),
            ("lookups", &nested, Resource::Lookups, 10, "lookups"),
            ("replaced members", &again, Resource::Replaced, 200, "again"),
        ] {
            assert_eq!(limited(archive, resource, enough), "", "{name}");
            let error = limited(archive, resource, enough / 2);
            assert!(error.contains(word) && error.contains("the layer has more than"), "{name}: {error}");
        }
    }

    #[test]
    fn a_layer_that_nobody_waits_for_is_not_unpacked() {
        let dir = tempfile::tempdir().unwrap();
        let part = |name: &str| dir.path().join(name);
        let destination = Destination { root: part("root"), aside: part("aside"), record: part("record") };
        std::fs::create_dir(&destination.root).unwrap();
        let stop = Stop::default();
        stop.set();
        let two = archive(&[("a", b"x"), ("b", b"y")], None);
        let meter = Meter::new(&Budget::default());
        let error = unpack(&two[..], &destination, None, meter, &stop).unwrap_err();
        assert!(matches!(error, UnpackError::Interrupted), "{error}");
        assert_eq!(std::fs::read_dir(part("root")).unwrap().count(), 0);
    }
}
