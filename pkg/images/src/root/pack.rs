//! A tree as an archive that is put together while it is read.

use std::{
    collections::{HashMap, VecDeque},
    io::{self, Cursor, Read},
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use husk_sys::tree::{Entry, Step, Walk};
use rustix::fs::{FileType, Stat, fstat};

use super::{Mounts, holes, member};
use crate::{
    pieces::{Joined, Live, Piece, Pieces},
    stop::Stop,
    tar::{self, EntryKind, TarEntry},
    unpack::{
        marks::{is_opaque, is_whiteout},
        shown,
    },
    walked::Path,
};

/// Most bytes of the paths of files with several names, which are kept to tell the further ones as links.
const LINKED_MAX: usize = 64 << 20;

/// How a tree is archived.
#[derive(Debug, Clone)]
pub(crate) enum Form {
    /// As it shows: whoever unpacks it has the same files.
    Plain,
    /// An overlay's upper directory as a layer of an image: what it hides becomes whiteouts; what the runtime left for these mounts is left
    /// out.
    Layer(Mounts),
}

/// The archive of a tree, made while it is read. Files that change meanwhile are as they are when they are read, of the length that
/// they had before; what is gone is left out. Reading fails when directories were moved so that parts were not seen.
pub struct TreeArchive(Joined<Pack>);

impl std::fmt::Debug for TreeArchive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TreeArchive").finish_non_exhaustive()
    }
}

impl TreeArchive {
    pub(super) fn new(pack: Pack) -> Self {
        Self(Joined::new(pack))
    }
}

impl Read for TreeArchive {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.0.read(out)
    }
}

/// The pieces of the archive.
pub(crate) struct Pack {
    walk: Option<Walk>,
    parts: Parts,
    is_ended: bool,
}

/// What is made of the entries that the walk comes to.
struct Parts {
    form: Form,
    /// What stands before every path.
    prefix: Vec<u8>,
    path: Path,
    queue: VecDeque<Piece>,
    /// Headers of the root, until something of it is archived.
    first: Vec<u8>,
    /// First names of files with several, by device and inode.
    linked: HashMap<(u64, u64), Vec<u8>>,
    linked_bytes: usize,
    stop: Stop,
}

impl Pack {
    /// All that is in `root`, below `prefix`; with `itself` the directory too.
    pub(crate) fn of_tree(
        root: &OwnedFd,
        prefix: &[u8],
        itself: bool,
        form: Form,
        stop: &Stop,
    ) -> io::Result<Self> {
        let mut pack =
            Self { walk: Some(Walk::new(root)?), parts: Parts::new(prefix, form, stop), is_ended: false };
        if itself {
            let entry =
                member::of(&fstat(root)?, if prefix.is_empty() { b".".to_vec() } else { prefix.to_vec() });
            if let Some(mut entry) = entry {
                entry.xattrs = member::attributes(root)?;
                pack.parts.first = tar::header(&entry, 0);
            }
        }
        Ok(pack)
    }

    /// One file that is no directory, by its handle, as `name`.
    pub(super) fn of_file(handle: &OwnedFd, name: &[u8]) -> io::Result<Self> {
        let mut parts = Parts::new(b"", Form::Plain, &Stop::default());
        let stat = fstat(handle)?;
        let entry = member::of(&stat, name.to_vec())
            .ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "a socket cannot be archived"))?;
        parts.add(handle, &stat, entry)?;
        Ok(Self { walk: None, parts, is_ended: false })
    }

    /// Whether there is nothing in it but the root itself.
    pub(crate) fn is_empty(&mut self) -> io::Result<bool> {
        while self.parts.queue.is_empty() && self.step()? {}
        Ok(self.parts.queue.is_empty())
    }

    /// Goes on to the next entry; `false` at the end.
    fn step(&mut self) -> io::Result<bool> {
        let Some(walk) = &mut self.walk else { return Ok(false) };
        self.parts.stop.check()?;
        if walk.next(|entry| self.parts.visit(entry))? {
            return Ok(true);
        }
        if walk.is_torn() {
            let reason =
                "directories were moved while they were archived; pause what moves them and try again";
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, reason));
        }
        self.walk = None;
        Ok(false)
    }
}

impl Pieces for Pack {
    fn next(&mut self) -> io::Result<Option<Piece>> {
        loop {
            if !self.parts.queue.is_empty() && !self.parts.first.is_empty() {
                return Ok(Some(bytes(std::mem::take(&mut self.parts.first))));
            }
            if let Some(piece) = self.parts.queue.pop_front() {
                return Ok(Some(piece));
            }
            if !self.step()? && self.parts.queue.is_empty() {
                break;
            }
        }
        if std::mem::replace(&mut self.is_ended, true) {
            return Ok(None);
        }
        let first = std::mem::take(&mut self.parts.first);
        Ok(Some(bytes([&first[..], &tar::END].concat())))
    }
}

impl Parts {
    fn new(prefix: &[u8], form: Form, stop: &Stop) -> Self {
        Self {
            form,
            prefix: prefix.to_vec(),
            path: Path::default(),
            queue: VecDeque::new(),
            first: Vec::new(),
            linked: HashMap::new(),
            linked_bytes: 0,
            stop: stop.clone(),
        }
    }

    fn visit(&mut self, entry: &Entry<'_>) -> io::Result<Step> {
        self.path.enter(entry.depth, entry.name.to_bytes());
        let visited = self.visit_one(entry);
        visited.map_err(|error| {
            io::Error::new(error.kind(), format!("archive {:?}: {error}", shown(&self.path.bytes)))
        })
    }

    fn visit_one(&mut self, entry: &Entry<'_>) -> io::Result<Step> {
        let Some(handle) = member::handle(entry.directory, &entry.name)? else { return Ok(Step::Over) };
        let stat = fstat(&handle)?;
        let name = entry.name.to_bytes();
        if let Form::Layer(mounts) = &self.form {
            if mounts.left(&self.path.bytes, &stat) {
                return Ok(Step::Over);
            }
            if is_whiteout(&stat) {
                self.whiteout(&[b".wh.", name].concat());
                return Ok(Step::Over);
            }
            // In a layer such a name would hide another.
            if name.starts_with(b".wh.") {
                return Ok(Step::Over);
            }
        }
        let path = self.named(&self.path.bytes);
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            if let Some(entry) = member::of(&stat, path) {
                self.add(&handle, &stat, entry)?;
            }
            return Ok(Step::Over);
        }
        let Some(directory) = entry.open()? else {
            // Something is mounted there, or it is gone. Of a mount there is the directory.
            let exists = member::of(&stat, path).filter(|_| matches!(self.form, Form::Plain));
            self.queue.extend(exists.map(|entry| bytes(tar::header(&entry, 0))));
            return Ok(Step::Over);
        };
        self.directory(&directory, path)?;
        Ok(Step::Into(directory))
    }

    fn directory(&mut self, directory: &OwnedFd, path: Vec<u8>) -> io::Result<()> {
        let Some(mut entry) = member::of(&fstat(directory)?, path) else { return Ok(()) };
        entry.xattrs = member::attributes(directory)?;
        self.queue.push_back(bytes(tar::header(&entry, 0)));
        if matches!(self.form, Form::Layer(_)) {
            is_itself(directory, b"trusted.overlay.redirect")?;
            if is_opaque(directory) {
                self.whiteout_in(b".wh..wh..opq");
            }
        }
        Ok(())
    }

    /// Headers and content of what is no directory.
    fn add(&mut self, handle: &OwnedFd, stat: &Stat, mut entry: TarEntry) -> io::Result<()> {
        let several = (stat.st_dev, stat.st_ino);
        if let Some(first) = self.linked.get(&several) {
            entry.link = first.clone();
            (entry.kind, entry.size) = (EntryKind::Hardlink, 0);
            self.queue.push_back(bytes(tar::header(&entry, 0)));
            return Ok(());
        }
        if stat.st_nlink > 1 {
            self.linked_bytes += entry.path.len();
            if self.linked_bytes > LINKED_MAX {
                let reason = format!("more than {LINKED_MAX} bytes of names of files with several names");
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
            }
            self.linked.insert(several, entry.path.clone());
        }
        match entry.kind {
            EntryKind::Regular => return self.regular(handle, stat, entry),
            EntryKind::Symlink => entry.link = member::target(handle)?,
            _ => {}
        }
        self.queue.push_back(bytes(tar::header(&entry, 0)));
        Ok(())
    }

    fn regular(&mut self, handle: &OwnedFd, stat: &Stat, mut entry: TarEntry) -> io::Result<()> {
        let file = member::open_regular(handle)?;
        entry.xattrs = member::attributes(&file)?;
        let mut segments = vec![(0, entry.size)];
        let mut map = Vec::new();
        if matches!(self.form, Form::Layer(_)) {
            is_itself(file.as_fd(), b"trusted.overlay.metacopy")?;
            // Not in plain archives: not every reader knows holes, and a copy of a file shall be that.
            if let Some(found) = holes::segments(&file, stat) {
                map = tar::sparse_map(&found);
                segments.clone_from(&found);
                entry.sparse = Some(found);
            }
        }
        let stored = map.len() as u64 + segments.iter().map(|(_, length)| length).sum::<u64>();
        let mut head = tar::header(&entry, stored);
        head.extend(map);
        self.queue.push_back(bytes(head));
        let file = Arc::new(file);
        let parts = segments.into_iter().filter(|(_, length)| *length > 0);
        let live = parts.map(|(at, left)| Piece::Live(Live { file: Arc::clone(&file), at, left }));
        self.queue.extend(live);
        self.queue.push_back(bytes(vec![0; tar::padding(stored)]));
        Ok(())
    }

    /// The whiteout `name` beside what the walk is at.
    fn whiteout(&mut self, name: &[u8]) {
        let parent = self.path.parent();
        let path = if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() };
        self.empty(&path);
    }

    /// The whiteout `name` in the directory that the walk is at.
    fn whiteout_in(&mut self, name: &[u8]) {
        let path = [&self.path.bytes, &b"/"[..], name].concat();
        self.empty(&path);
    }

    fn empty(&mut self, path: &[u8]) {
        let entry = TarEntry { path: self.named(path), mode: 0, ..TarEntry::file("", 0) };
        self.queue.push_back(bytes(tar::header(&entry, 0)));
    }

    fn named(&self, path: &[u8]) -> Vec<u8> {
        match self.prefix.as_slice() {
            b"" => path.to_vec(),
            prefix => [prefix, b"/", path].concat(),
        }
    }
}

fn bytes(bytes: Vec<u8>) -> Piece {
    Piece::Bytes(Cursor::new(bytes))
}

/// Checks that an upper directory says everything itself: what these attributes stand for is in the layers below, in a way that no image
/// has.
fn is_itself(file: impl AsFd, attribute: &'static [u8]) -> io::Result<()> {
    match member::attribute(file, attribute)? {
        None => Ok(()),
        Some(_) => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!(
                "it has {}, which a layer cannot tell; turn redirect_dir and metacopy of the kernel's overlay module off",
                shown(attribute)
            ),
        )),
    }
}
