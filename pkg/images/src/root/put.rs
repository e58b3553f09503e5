//! An archive unpacked into a directory of a root, where a container may be at work meanwhile.
//!
//! Unlike the unpacking of a layer (`unpack`), nothing that was looked up stays true: so parents are resolved by the kernel inside the
//! root each time, files are made and never opened where somebody else made them, and owners and modes are given to descriptors.
//! What the thread that does this can reach is the root alone.

use std::{
    ffi::{CString, OsStr},
    io::{BufRead, BufReader, Read},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    rc::Rc,
    sync::mpsc,
    thread::ScopedJoinHandle,
};

use husk_sys::{
    root::{Node, Root},
    tree,
};
use rustix::{
    fs::{AtFlags, FileType, Gid, Mode, OFlags, SeekFrom, Uid, fstat},
    io::Errno,
};

use super::find::{failed, open};
use crate::{
    ImageError, Result, UnpackError, confine,
    pipeline::{BLOCKS, Blocks, inflated},
    stop::Stop,
    tar::{EntryKind, Sink, TarEntry, TarError, TarReader},
    unpack::{
        attributes, io_error,
        limits::{Budget, Meter, PATH_MAX, Resource, TRAILING_MAX},
        marks::stat,
        shown,
        space::Space,
        tree::{clean, split},
    },
};

/// Directories that get the archive's time in the end; further ones keep that of the unpacking.
const TIMES_MAX: usize = 64 << 10;
/// What a node without content is counted as.
const BLOCK: u64 = 4096;

/// Whose the files are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Owners {
    /// Those that the archive names.
    #[default]
    Archive,
    /// This user and group, for all.
    All(u32, u32),
}

/// How to unpack.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PutRequest {
    /// Whose the files are.
    pub owners: Owners,
    /// A directory that is there is not replaced by something else, nor something else by a directory: that is an error.
    pub keep_kinds: bool,
}

/// Unpacks `archive`, a tar, plain or compressed by gzip or zstd, into the directory at `path` in `root`. Links in `path` and in the way of
/// members lead inside the root only. What is there is replaced, but for directories, which are merged. What was unpacked before a failure
/// stays. Blocks until `archive` ends; an error of it ends the work.
///
/// # Errors
/// [`ImageError::RootPath`] when `path` is no directory, or cannot be written; [`ImageError::Put`] for an archive or a member that cannot be
/// unpacked, or beyond the limits of a layer.
pub fn put_archive(
    root: &OwnedFd,
    path: &Path,
    archive: impl Read + Send,
    request: PutRequest,
) -> Result<()> {
    let broken = |source| ImageError::Put { path: shown(path.as_os_str().as_bytes()), source };
    let base = clean(path.as_os_str().as_bytes()).map_err(broken)?;
    let directory =
        open(root, &base, OFlags::PATH | OFlags::DIRECTORY).map_err(failed("write into", path))?;
    let stop = Stop::default();
    let (filled, blocks) = mpsc::sync_channel::<Vec<u8>>(BLOCKS);
    let (recycle, empty) = mpsc::channel::<Vec<u8>>();
    let (read, put) = std::thread::scope(|scope| {
        let stop = &stop;
        let put = std::thread::Builder::new().name("husk-put".into()).spawn_scoped(scope, move || {
            let confined = confine::to_root(root);
            let unconfined = |source| UnpackError::Io { step: "confine", path: "the thread".into(), source };
            confined.map_err(unconfined)?;
            let input = Blocks::new(blocks, recycle, stop);
            Put::new(root, base, directory, request)?.all(&mut TarReader::new(input, Nowhere))
        });
        let mut archive = BufReader::with_capacity(256 << 10, archive);
        let read = inflated(&mut archive, stop, filled, &empty);
        let put = match put.map(ScopedJoinHandle::join) {
            Ok(Ok(put)) => put,
            Ok(Err(_)) => Err(UnpackError::Interrupted),
            Err(source) => {
                Err(UnpackError::Io { step: "start a thread for", path: "unpacking".into(), source })
            }
        };
        (read, put)
    });
    match (read, put) {
        // The end of a stream that failed shows as a cut archive; the cause is the stream.
        (Err(error), Err(UnpackError::Tar(_)) | Ok(())) => Err(broken(error)),
        (_, put) => put.map_err(broken),
    }
}

/// Unpacks without a thread of its own, in small measure.
#[cfg(feature = "fuzzing")]
pub(crate) fn put_small(root: &OwnedFd, archive: &[u8], request: PutRequest) -> Outcome {
    let directory = root.try_clone().map_err(|source| UnpackError::Io {
        step: "keep",
        path: "the root".into(),
        source,
    })?;
    let mut put = Put::new(root, Vec::new(), directory, request)?;
    let small = [(Resource::Bytes, 16 << 20), (Resource::Inodes, 10_000), (Resource::Lookups, 1 << 16)];
    for (resource, limit) in small {
        put.meter = put.meter.limited(resource, limit);
    }
    put.all(&mut TarReader::new(archive, Nowhere))
}

struct Nowhere;

impl Sink for Nowhere {
    fn raw(&mut self, _bytes: &[u8]) -> Result<(), TarError> {
        Ok(())
    }
}

struct Put {
    root: Root,
    /// The directory's path, without links.
    base: Vec<u8>,
    directory: OwnedFd,
    request: PutRequest,
    /// The parent of the last member.
    parent: Option<(Vec<u8>, Rc<OwnedFd>)>,
    times: Vec<(Vec<u8>, (i64, u32))>,
    meter: Meter,
    space: Space,
    content: u64,
}

type Outcome<T = ()> = std::result::Result<T, UnpackError>;

impl Put {
    fn new(root: &OwnedFd, base: Vec<u8>, directory: OwnedFd, request: PutRequest) -> Outcome<Self> {
        let root = root.try_clone().map_err(|source| UnpackError::Io {
            step: "keep",
            path: "the root".into(),
            source,
        })?;
        Ok(Self {
            root: Root::new(root),
            base,
            directory,
            request,
            parent: None,
            times: Vec::new(),
            meter: Meter::new(&Budget::default()),
            space: Space::default(),
            content: 0,
        })
    }

    fn all(mut self, reader: &mut TarReader<impl BufRead, Nowhere>) -> Outcome {
        while let Some(mut entry) = reader.next_entry()? {
            self.meter.spend(Resource::Inodes, 1)?;
            self.space.check(&self.directory, self.content, self.meter.spent(Resource::Inodes))?;
            if let Owners::All(uid, gid) = self.request.owners {
                (entry.uid, entry.gid) = (uid, gid);
            }
            let inside = clean(&entry.path)?;
            // The directory itself is there, and stays as it is.
            if !inside.is_empty() {
                self.member(reader, &entry, &inside)?;
            }
        }
        reader.drain(TRAILING_MAX)?;
        for (path, time) in std::mem::take(&mut self.times) {
            // Whoever moved or removed it meanwhile has it as it is.
            if let Ok(directory) = open(&self.root, &path, OFlags::RDONLY | OFlags::DIRECTORY) {
                attributes::set_times(&directory, time, &path)?;
            }
        }
        Ok(())
    }

    fn member(
        &mut self,
        reader: &mut TarReader<impl BufRead, Nowhere>,
        entry: &TarEntry,
        inside: &[u8],
    ) -> Outcome {
        let path = self.full(inside);
        if path.len() > PATH_MAX {
            return Err(member(inside, "leads deeper than a path can name (4096 bytes)"));
        }
        let (parent_path, name) = split(&path);
        let parent = self.parent(parent_path, inside)?;
        if !self.make_room(entry, &parent, name, inside)? {
            self.parent = None;
        }
        if entry.kind != EntryKind::Regular {
            self.meter.spend(Resource::Bytes, BLOCK)?;
        }
        match entry.kind {
            EntryKind::Directory => self.put_directory(entry, &path, &parent, name, inside),
            EntryKind::Regular => self.put_file(reader, entry, &parent, name, inside),
            EntryKind::Hardlink => self.put_link(entry, &parent, name, inside),
            _ => put_node(entry, &parent, name, inside),
        }
    }

    fn full(&self, inside: &[u8]) -> Vec<u8> {
        if self.base.is_empty() { inside.to_vec() } else { [&self.base, &b"/"[..], inside].concat() }
    }

    /// The directory at `path` of the root, made where it is missing.
    fn parent(&mut self, path: &[u8], inside: &[u8]) -> Outcome<Rc<OwnedFd>> {
        if let Some((have, parent)) = &self.parent
            && have == path
        {
            return Ok(Rc::clone(parent));
        }
        let steps = path.iter().filter(|byte| **byte == b'/').count() as u64 + 1;
        self.meter.spend(Resource::Lookups, steps)?;
        let text = Path::new("/").join(OsStr::from_bytes(path));
        let made = self.root.ensure(text, Node::Directory, Mode::from_raw_mode(0o755));
        let parent = made.map_err(|error| io_error("make the directory of", inside)(error.errno()))?;
        let kind = FileType::from_raw_mode(fstat(&parent).map_err(io_error("inspect", path))?.st_mode);
        if kind != FileType::Directory {
            return Err(io_error("make the directory of", inside)(Errno::NOTDIR));
        }
        let parent = Rc::new(parent);
        self.parent = Some((path.to_vec(), Rc::clone(&parent)));
        Ok(parent)
    }

    /// Removes what is in the way of a member; `false` when a directory was.
    fn make_room(&self, entry: &TarEntry, parent: &OwnedFd, name: &[u8], inside: &[u8]) -> Outcome<bool> {
        let there = match stat(parent, name) {
            Ok(stat) => FileType::from_raw_mode(stat.st_mode) == FileType::Directory,
            Err(Errno::NOENT) => return Ok(true),
            Err(errno) => return Err(io_error("inspect", inside)(errno)),
        };
        let comes = entry.kind == EntryKind::Directory;
        if there && comes {
            return Ok(true);
        }
        if self.request.keep_kinds && there != comes {
            let reason = if there {
                "would replace a directory with a non-directory"
            } else {
                "would replace a non-directory with a directory"
            };
            return Err(member(inside, reason));
        }
        let name = CString::new(name).map_err(|_| member(inside, "has a NUL in its name"))?;
        tree::remove(parent, &name).map_err(io_error("replace", inside))?;
        Ok(!there)
    }

    fn put_directory(
        &mut self,
        entry: &TarEntry,
        path: &[u8],
        parent: &OwnedFd,
        name: &[u8],
        inside: &[u8],
    ) -> Outcome {
        self.meter.spend(Resource::Directories, 1)?;
        let name = OsStr::from_bytes(name);
        match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(io_error("make directory", inside)(errno)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(parent, name, flags, Mode::empty())
            .map_err(io_error("open directory", inside))?;
        attributes::set_on(&directory, entry, inside)?;
        if self.times.len() < TIMES_MAX {
            self.times.push((path.to_vec(), entry.mtime));
        }
        Ok(())
    }

    fn put_file(
        &mut self,
        reader: &mut TarReader<impl BufRead, Nowhere>,
        entry: &TarEntry,
        parent: &OwnedFd,
        name: &[u8],
        inside: &[u8],
    ) -> Outcome {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(parent, OsStr::from_bytes(name), flags, Mode::from_raw_mode(0o600))
            .map_err(io_error("make the file", inside))?;
        match &entry.sparse {
            None => self.copy(reader, &file, entry.size, inside)?,
            Some(segments) => {
                rustix::fs::ftruncate(&file, entry.size).map_err(io_error("size the file", inside))?;
                for (offset, length) in segments {
                    rustix::fs::seek(&file, SeekFrom::Start(*offset)).map_err(io_error("seek in", inside))?;
                    self.copy(reader, &file, *length, inside)?;
                }
            }
        }
        attributes::set_on(&file, entry, inside)?;
        attributes::set_times(&file, entry.mtime, inside)
    }

    fn copy(
        &mut self,
        reader: &mut TarReader<impl BufRead, Nowhere>,
        file: &OwnedFd,
        mut left: u64,
        inside: &[u8],
    ) -> Outcome {
        self.meter.spend(Resource::Bytes, left.next_multiple_of(BLOCK))?;
        while left > 0 {
            let slice = reader.content()?;
            let take = slice.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            if take == 0 {
                return Err(member(inside, "has less content than its header says"));
            }
            let done = match rustix::io::write(file, &slice[..take]) {
                Ok(0) => return Err(io_error("write", inside)(Errno::NOSPC)),
                Ok(done) => done,
                Err(Errno::INTR) => 0,
                Err(errno) => return Err(io_error("write", inside)(errno)),
            };
            reader.consume(done);
            left -= done as u64;
            self.content += done as u64;
            self.space.check(&self.directory, self.content, self.meter.spent(Resource::Inodes))?;
        }
        Ok(())
    }

    fn put_link(&mut self, entry: &TarEntry, parent: &OwnedFd, name: &[u8], inside: &[u8]) -> Outcome {
        let target = clean(&entry.link)?;
        if target.is_empty() {
            return Err(member(inside, "is a hard link to a directory"));
        }
        let target = self.full(&target);
        let (target_parent, target_name) = split(&target);
        let directory = open(&self.root, target_parent, OFlags::PATH | OFlags::DIRECTORY);
        let directory = directory.map_err(|source| UnpackError::Io {
            step: "find the file that is linked by",
            path: shown(inside),
            source,
        })?;
        let (from, to) = (OsStr::from_bytes(target_name), OsStr::from_bytes(name));
        rustix::fs::linkat(&directory, from, parent, to, AtFlags::empty()).map_err(io_error("link", inside))
    }
}

/// Makes a symbolic link, a device or a FIFO.
fn put_node(entry: &TarEntry, parent: &OwnedFd, name: &[u8], inside: &[u8]) -> Outcome {
    let name = OsStr::from_bytes(name);
    let kind = match entry.kind {
        EntryKind::Symlink => FileType::Symlink,
        EntryKind::Char => FileType::CharacterDevice,
        EntryKind::Block => FileType::BlockDevice,
        _ => FileType::Fifo,
    };
    let device = rustix::fs::makedev(entry.device.0, entry.device.1);
    let made = match kind {
        FileType::Symlink => rustix::fs::symlinkat(OsStr::from_bytes(&entry.link), parent, name),
        kind => rustix::fs::mknodat(parent, name, kind, Mode::from_raw_mode(0o600), device),
    };
    made.map_err(io_error("make", inside))?;
    // By a handle: under the name, somebody may have put a link to a file of the node meanwhile.
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle =
        rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(io_error("inspect", inside))?;
    let found = fstat(&handle).map_err(io_error("inspect", inside))?;
    if FileType::from_raw_mode(found.st_mode) != kind {
        return Err(member(inside, "was replaced while it was made"));
    }
    let owner = (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)));
    rustix::fs::chownat(&handle, c"", owner.0, owner.1, AtFlags::EMPTY_PATH)
        .map_err(io_error("change the owner of", inside))?;
    if kind != FileType::Symlink {
        let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
        rustix::fs::chmod(&*path, Mode::from_raw_mode(entry.mode))
            .map_err(io_error("change the mode of", inside))?;
    }
    rustix::fs::utimensat(&handle, c"", &attributes::times(entry.mtime), AtFlags::EMPTY_PATH)
        .map_err(io_error("set the time of", inside))
}

fn member(path: &[u8], reason: &'static str) -> UnpackError {
    UnpackError::Member { path: shown(path), reason }
}
