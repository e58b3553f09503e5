//! The layer's directory tree by descriptor.
//!
//! Names resolve as a process in the container would resolve them, one component at a time, `NOFOLLOW`, in the root that
//! the layer makes up with those below it: absolute links start at that root and nothing leads out of it, `..` included.
//! What a link points to need not be there; it is made, where somebody would find it through the link. Nobody else works
//! in the tree while this does, so what was looked up stays true.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs, io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::PathBuf,
    rc::Rc,
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat},
    io::Errno,
};

use super::{
    UnpackError, copy, io_error,
    limits::{LINKS_MAX, Meter, PATH_MAX, Resource},
    marks::{is_opaque, is_whiteout, set_opaque, stat},
    merged::{Child, Merged},
    notes::Notes,
    shown,
};

/// Directories remembered. Archives list a directory's members together, so few are enough.
const CACHE: usize = 32;
/// Descriptors they may hold; above other layers each directory has several.
const CACHE_DESCRIPTORS: usize = 128;
/// How often a lookup is repeated when a rename elsewhere on the node makes the kernel unsure (EAGAIN).
const LOOKUPS: usize = 128;

/// What stood in the place of a new member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cleared {
    /// A whiteout: the layer hides what is below.
    Whiteout,
    /// Something of the same archive; `Some` with the number under which its content is kept.
    Replaced(Option<u32>),
}

/// A directory of the layer that is there.
#[derive(Debug)]
pub(crate) struct Spot {
    /// Its path, without links.
    pub(crate) path: Vec<u8>,
    pub(crate) own: Rc<OwnedFd>,
    merged: Merged,
}

impl Spot {
    /// The path of an entry.
    pub(crate) fn inside(&self, name: &[u8]) -> Vec<u8> {
        join(&self.path, name)
    }
}

/// The tree.
#[derive(Debug)]
pub(crate) struct Tree {
    root: Merged,
    cache: HashMap<Vec<u8>, Rc<Spot>>,
    descriptors: usize,
    pub(crate) notes: Notes,
    pub(crate) meter: Meter,
    aside: Aside,
}

/// Where replaced files go; made when first needed.
#[derive(Debug)]
struct Aside {
    path: PathBuf,
    directory: Option<OwnedFd>,
    next: u32,
}

impl Tree {
    /// Opens the existing directory `root`, above the roots of other layers, topmost first.
    pub(crate) fn open(
        root: &std::path::Path,
        lowers: Vec<OwnedFd>,
        aside: PathBuf,
        meter: Meter,
    ) -> Result<Self, UnpackError> {
        let fd = rustix::fs::open(root, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(io_error("open the layer directory", b""))?;
        Ok(Self {
            root: Merged { own: Some(Rc::new(fd)), lowers: visible(lowers) },
            cache: HashMap::new(),
            descriptors: 0,
            notes: Notes::default(),
            meter,
            aside: Aside { path: aside, directory: None, next: 0 },
        })
    }

    /// The layer's root.
    pub(crate) fn root(&self) -> Result<Rc<OwnedFd>, UnpackError> {
        self.root.own.clone().ok_or_else(|| io_error("open the layer directory", b"")(Errno::BADF))
    }

    /// The directory `path`, made with its parents where missing. Those made are noted as implied.
    pub(crate) fn ensure(&mut self, path: &[u8]) -> Result<Rc<Spot>, UnpackError> {
        if let Some(spot) = self.cache.get(path) {
            return Ok(Rc::clone(spot));
        }
        let (real, merged) = self.resolve(path)?;
        let spot = Rc::new(match merged.own.clone() {
            Some(own) => Spot { path: real, own, merged },
            None => self.make(real, path)?,
        });
        self.remember(path, &spot);
        Ok(spot)
    }

    /// What `name` in the directory `path` is without being followed: in this layer, or else below.
    pub(crate) fn find(&mut self, path: &[u8], name: &[u8]) -> Result<Option<Found>, UnpackError> {
        let (real, merged) = self.resolve(path)?;
        let inspect = io_error("inspect", path);
        if let Some(own) = &merged.own {
            match stat(own, name) {
                Ok(stat) if is_whiteout(&stat) => return Ok(None),
                Ok(_) => return Ok(Some(Found { directory: Rc::clone(own), real, below: None })),
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(inspect(errno)),
            }
        }
        let below = merged.below(name).map_err(inspect)?;
        Ok(below.map(|(directory, stat)| Found { directory, real, below: Some(stat) }))
    }

    /// Where `path` leads, links followed, nothing made.
    fn resolve(&mut self, path: &[u8]) -> Result<(Vec<u8>, Merged), UnpackError> {
        let (mut real, mut at, rest) = self.start(path);
        let mut todo: Vec<Vec<u8>> = parts(rest);
        let mut links = 0;
        while let Some(part) = todo.pop() {
            match part.as_slice() {
                b"" | b"." => {}
                b".." => {
                    // A layer below may have a link there, and another directory above that.
                    self.notes.unsure |= !at.exists();
                    real.truncate(split(&real).0.len());
                    at = self.walk(&real, path)?;
                }
                name => match self.step(&at, name, path)? {
                    Child::Link(target) => {
                        links += 1;
                        if links > LINKS_MAX || target.len() > PATH_MAX {
                            return Err(member(path, "passes through too many symbolic links"));
                        }
                        if target.first() == Some(&b'/') {
                            real.clear();
                            at = self.root.clone();
                        }
                        todo.extend(parts(&target));
                    }
                    child => {
                        real = join(&real, name);
                        if real.len() > PATH_MAX {
                            return Err(member(path, "leads deeper than a path can name (4096 bytes)"));
                        }
                        at = match child {
                            Child::Directory(merged) => merged,
                            _ => Merged::default(),
                        };
                    }
                },
            }
        }
        Ok((real, at))
    }

    /// The deepest directory on the way to `path` that is remembered, and the way from there.
    fn start<'path>(&self, path: &'path [u8]) -> (Vec<u8>, Merged, &'path [u8]) {
        let mut end = path.len();
        while end > 0 {
            if let Some(spot) = self.cache.get(&path[..end]) {
                return (spot.path.clone(), spot.merged.clone(), &path[end..]);
            }
            end = path[..end].iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        }
        (Vec::new(), self.root.clone(), path)
    }

    /// The directory at a path without links.
    fn walk(&mut self, real: &[u8], path: &[u8]) -> Result<Merged, UnpackError> {
        let mut at = self.root.clone();
        for name in real.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            at = match self.step(&at, name, path)? {
                Child::Directory(merged) => merged,
                _ => return Ok(Merged::default()),
            };
        }
        Ok(at)
    }

    fn step(&mut self, at: &Merged, name: &[u8], path: &[u8]) -> Result<Child, UnpackError> {
        self.meter.spend(Resource::Lookups, 1 + at.lowers.len() as u64)?;
        if !at.exists() {
            return Ok(Child::Missing);
        }
        if name.len() > NAME_MAX {
            return Err(member(path, "passes through a name longer than 255 bytes"));
        }
        match at.child(name).map_err(io_error("open directory", path))? {
            Child::Other { own: true } => Err(member(path, "is used as a directory but is none")),
            child => Ok(child),
        }
    }

    /// Makes what is missing of the directory at `real`, a path without links.
    fn make(&mut self, real: Vec<u8>, path: &[u8]) -> Result<Spot, UnpackError> {
        let mut at = self.root.clone();
        let mut own = self.root()?;
        for name in real.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            let child = match self.step(&at, name, path)? {
                Child::Directory(merged) => merged,
                _ => Merged::default(),
            };
            at = if child.own.is_some() { child } else { self.make_one(&own, name, child.lowers, path)? };
            own = at.own.clone().ok_or_else(|| io_error("open directory", path)(Errno::NOENT))?;
        }
        Ok(Spot { path: real, own, merged: at })
    }

    fn make_one(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        lowers: Vec<Rc<OwnedFd>>,
        path: &[u8],
    ) -> Result<Merged, UnpackError> {
        self.meter.spend(Resource::Inodes, 1)?;
        self.meter.spend(Resource::Directories, 1)?;
        self.meter.spend(Resource::Implied, 1)?;
        let make = || rustix::fs::mkdirat(parent, OsStr::from_bytes(name), Mode::from_raw_mode(0o755));
        let hides = match make() {
            Ok(()) => false,
            Err(Errno::EXIST) => {
                // A whiteout: the layer hides the lower directory and then puts files in a new one.
                if !stat(parent, name).is_ok_and(|stat| is_whiteout(&stat)) {
                    return Err(member(path, "is used as a directory but is none"));
                }
                unlink(parent, name).map_err(io_error("remove the whiteout", path))?;
                make().map_err(io_error("make directory", path))?;
                true
            }
            Err(errno) => return Err(io_error("make directory", path)(errno)),
        };
        let directory = open_directory(parent, name, path)?;
        if hides {
            set_opaque(&directory).map_err(io_error("mark as opaque", path))?;
            return Ok(Merged { own: Some(Rc::new(directory)), lowers: Vec::new() });
        }
        let inode = inode(&directory, path)?;
        if let Some(lower) = lowers.first() {
            let mtime = copy::attributes(lower, &directory, path)?;
            self.notes.described(inode, mtime);
        } else {
            self.notes.implied(inode);
        }
        Ok(Merged { own: Some(Rc::new(directory)), lowers })
    }

    fn remember(&mut self, path: &[u8], spot: &Rc<Spot>) {
        if self.cache.len() >= CACHE || self.descriptors >= CACHE_DESCRIPTORS {
            self.forget();
        }
        self.descriptors += 1 + spot.merged.lowers.len();
        self.cache.insert(path.to_vec(), Rc::clone(spot));
    }

    /// Drops remembered directories after what leads to them may have changed.
    pub(crate) fn forget(&mut self) {
        self.cache.clear();
        self.descriptors = 0;
    }

    /// To be called when `name` was made in `spot`: it may hide what names were resolved through.
    pub(crate) fn made(&mut self, spot: &Spot, name: &[u8]) -> Result<(), UnpackError> {
        if spot.merged.below(name).map_err(io_error("inspect", name))?.is_some() {
            self.forget();
        }
        Ok(())
    }

    /// Makes room for a new member `name` of `spot`.
    pub(crate) fn clear(&mut self, spot: &Spot, name: &[u8], path: &[u8]) -> Result<Cleared, UnpackError> {
        self.forget();
        let stat = stat(&spot.own, name).map_err(io_error("inspect", path))?;
        match FileType::from_raw_mode(stat.st_mode) {
            kind @ (FileType::Directory | FileType::RegularFile) => {
                self.meter.spend(Resource::Replaced, spot.path.len() as u64 + 64)?;
                // What was put into it may have belonged where a link of a layer below points.
                self.notes.unsure |= kind == FileType::Directory && self.notes.any_implied();
                let number = self.aside.take(&spot.own, name).map_err(io_error("set aside", path))?;
                Ok(Cleared::Replaced(Some(number)))
            }
            _ => {
                unlink(&spot.own, name).map_err(io_error("replace", path))?;
                Ok(if is_whiteout(&stat) { Cleared::Whiteout } else { Cleared::Replaced(None) })
            }
        }
    }

    /// Hides `name` of the layers below. A member of the same archive stays: whiteouts concern lower layers only.
    pub(crate) fn whiteout(&mut self, spot: &Spot, name: &[u8], path: &[u8]) -> Result<(), UnpackError> {
        let made = rustix::fs::mknodat(
            &*spot.own,
            OsStr::from_bytes(name),
            FileType::CharacterDevice,
            Mode::from_raw_mode(0),
            rustix::fs::makedev(0, 0),
        );
        self.forget();
        match made {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => {
                let stat = stat(&spot.own, name).map_err(io_error("inspect", path))?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                    return Ok(());
                }
                let directory = open_directory(&spot.own, name, path)?;
                set_opaque(&directory).map_err(io_error("mark as opaque", path))
            }
            Err(errno) => Err(io_error("make the whiteout of", path)(errno)),
        }
    }

    /// Hides everything that the layers below have in the directory `path`. Returns whether that is the root.
    pub(crate) fn opaque(&mut self, path: &[u8]) -> Result<bool, UnpackError> {
        let spot = self.ensure(path)?;
        set_opaque(&spot.own).map_err(io_error("mark as opaque", path))?;
        self.forget();
        let root = spot.path.is_empty();
        if root {
            self.root.lowers.clear();
        }
        Ok(root)
    }
}

/// What a name is, and where.
#[derive(Debug)]
pub(crate) struct Found {
    /// The directory that holds it.
    pub(crate) directory: Rc<OwnedFd>,
    /// That directory's path in the whole, without links.
    pub(crate) real: Vec<u8>,
    /// What it is, if a layer below has it.
    pub(crate) below: Option<Stat>,
}

/// Roots down to the first that hides what is below it.
pub(crate) fn visible(lowers: Vec<OwnedFd>) -> Vec<Rc<OwnedFd>> {
    let mut visible = Vec::with_capacity(lowers.len());
    for lower in lowers {
        let last = is_opaque(&lower);
        visible.push(Rc::new(lower));
        if last {
            break;
        }
    }
    visible
}

/// Components in reverse, for a stack.
fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    path.rsplit(|byte| *byte == b'/').filter(|part| !part.is_empty()).map(<[u8]>::to_vec).collect()
}

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}

fn member(path: &[u8], reason: &'static str) -> UnpackError {
    UnpackError::Member { path: shown(path), reason }
}

/// Opens the directory `name` of `parent`, which is `path` of the layer.
pub(crate) fn open_directory(parent: &OwnedFd, name: &[u8], path: &[u8]) -> Result<OwnedFd, UnpackError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, OsStr::from_bytes(name), flags, Mode::empty())
        .map_err(io_error("open directory", path))
}

pub(crate) fn inode(directory: &OwnedFd, path: &[u8]) -> Result<u64, UnpackError> {
    rustix::fs::fstat(directory).map(|stat| stat.st_ino).map_err(io_error("inspect", path))
}

/// Longest name of a file (NAME_MAX).
const NAME_MAX: usize = 255;

impl Aside {
    fn take(&mut self, parent: &OwnedFd, name: &[u8]) -> Result<u32, Errno> {
        let directory = match &self.directory {
            Some(directory) => directory,
            None => {
                match fs::create_dir(&self.path) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                        return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO));
                    }
                    _ => {}
                }
                let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
                self.directory.insert(rustix::fs::open(&self.path, flags, Mode::empty())?)
            }
        };
        let number = self.next;
        self.next += 1;
        rustix::fs::renameat(parent, OsStr::from_bytes(name), directory, number.to_string())?;
        Ok(number)
    }
}

/// Opens `path` below `root`. Relative links inside are followed; whatever would leave the root fails with EXDEV.
pub(crate) fn open_beneath(root: &OwnedFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { b"." } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    for _ in 0..LOOKUPS {
        match rustix::fs::openat2(
            root,
            OsStr::from_bytes(path),
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            resolve,
        ) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

/// Splits a clean path into its parent and name.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// Brings a path of an archive into the form `a/b/c`. Leading slashes and `.` mean the root, and `..` the directory that is
/// named before it, never above the root, as in every unpacker.
pub(crate) fn clean(path: &[u8]) -> Result<Vec<u8>, UnpackError> {
    let mut cleaned = Vec::with_capacity(path.len());
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => continue,
            b".." => {
                cleaned.truncate(split(&cleaned).0.len());
                continue;
            }
            part if part.len() > NAME_MAX => return Err(member(path, "has a name longer than 255 bytes")),
            part if part.contains(&0) => return Err(member(path, "has a NUL in its name")),
            _ => {}
        }
        if !cleaned.is_empty() {
            cleaned.push(b'/');
        }
        cleaned.extend_from_slice(part);
    }
    Ok(cleaned)
}

pub(crate) fn unlink(parent: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    rustix::fs::unlinkat(parent, OsStr::from_bytes(name), AtFlags::empty())
}
