//! The layer's directory tree by descriptor. Every name is resolved by the kernel below the root; no path string
//! reaches it in any other way.

use std::{
    collections::{BTreeSet, HashMap},
    ffi::OsStr,
    fs, io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::PathBuf,
    rc::Rc,
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, RawMode, ResolveFlags, Stat, XattrFlags},
    io::Errno,
};

use super::{UnpackError, shown};

/// The attribute that makes overlayfs hide the directory's lower namesakes.
const OPAQUE: &str = "trusted.overlay.opaque";
/// Directory descriptors kept. Archives list a directory's members together, so few are enough.
const CACHE: usize = 32;
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

/// The tree.
#[derive(Debug)]
pub(crate) struct Tree {
    root: Rc<OwnedFd>,
    cache: HashMap<Vec<u8>, Rc<OwnedFd>>,
    pub(crate) implicit: BTreeSet<Vec<u8>>,
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
    /// Opens the existing directory `root`.
    pub(crate) fn open(root: &std::path::Path, aside: PathBuf) -> Result<Self, UnpackError> {
        let fd = rustix::fs::open(root, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(io_error("open the layer directory", b""))?;
        Ok(Self {
            root: Rc::new(fd),
            cache: HashMap::new(),
            implicit: BTreeSet::new(),
            aside: Aside { path: aside, directory: None, next: 0 },
        })
    }

    /// The layer's root.
    pub(crate) fn root(&self) -> Rc<OwnedFd> {
        Rc::clone(&self.root)
    }

    /// The directory `path`, if it is there.
    pub(crate) fn existing(&mut self, path: &[u8]) -> Result<Option<Rc<OwnedFd>>, UnpackError> {
        if path.is_empty() {
            return Ok(Some(self.root()));
        }
        if let Some(found) = self.cache.get(path) {
            return Ok(Some(Rc::clone(found)));
        }
        match open_beneath(&self.root, path, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(fd) => Ok(Some(self.remember(path, fd))),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::XDEV | Errno::LOOP) => Err(escape(path)),
            Err(errno) => Err(io_error("open directory", path)(errno)),
        }
    }

    /// The directory `path`, made with its parents where missing. Those made are noted as implicit.
    pub(crate) fn ensure(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>, UnpackError> {
        match self.existing(path) {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => {}
            // A whiteout in the way: the layer hides the lower directory and then puts files in a new one.
            Err(UnpackError::Io { source, .. }) if source.kind() == io::ErrorKind::NotADirectory => {}
            Err(error) => return Err(error),
        }
        let (parent_path, name) = split(path);
        let parent = self.ensure(parent_path)?;
        let make = || rustix::fs::mkdirat(&*parent, OsStr::from_bytes(name), Mode::from_raw_mode(0o755));
        match make() {
            Ok(()) => drop(self.implicit.insert(path.to_vec())),
            Err(Errno::EXIST) => {
                let stat = stat(&parent, name).map_err(io_error("inspect", path))?;
                if !is_whiteout(&stat) {
                    return Err(UnpackError::Member {
                        path: shown(path),
                        reason: "is used as a directory but is none",
                    });
                }
                unlink(&parent, name).map_err(io_error("remove the whiteout", path))?;
                make().map_err(io_error("make directory", path))?;
                let fd = self.directory(&parent, name, path)?;
                set_opaque(&fd).map_err(io_error("mark as opaque", path))?;
            }
            Err(errno) => return Err(io_error("make directory", path)(errno)),
        }
        self.directory(&parent, name, path)
    }

    /// Opens the directory `name` of `parent`, which is `path` of the layer, and remembers it.
    pub(crate) fn directory(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        path: &[u8],
    ) -> Result<Rc<OwnedFd>, UnpackError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(parent, OsStr::from_bytes(name), flags, Mode::empty())
            .map_err(io_error("open directory", path))?;
        Ok(self.remember(path, fd))
    }

    fn remember(&mut self, path: &[u8], fd: OwnedFd) -> Rc<OwnedFd> {
        if self.cache.len() >= CACHE {
            self.cache.clear();
        }
        let fd = Rc::new(fd);
        self.cache.insert(path.to_vec(), Rc::clone(&fd));
        fd
    }

    /// Makes room for a new member at `path`.
    pub(crate) fn clear(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        path: &[u8],
    ) -> Result<Cleared, UnpackError> {
        let stat = stat(parent, name).map_err(io_error("inspect", path))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory | FileType::RegularFile => {
                self.cache.clear();
                let inside = [path, b"/"].concat();
                self.implicit.retain(|implicit| implicit != path && !implicit.starts_with(&inside));
                self.aside
                    .take(parent, name)
                    .map_err(io_error("set aside", path))
                    .map(|n| Cleared::Replaced(Some(n)))
            }
            _ => {
                // A symlink may have been part of how a cached directory was reached.
                self.cache.clear();
                unlink(parent, name).map_err(io_error("replace", path))?;
                Ok(if is_whiteout(&stat) { Cleared::Whiteout } else { Cleared::Replaced(None) })
            }
        }
    }

    /// Hides `name` of the layers below. A member of the same archive stays: whiteouts concern lower layers only.
    pub(crate) fn whiteout(&mut self, parent: &OwnedFd, name: &[u8], path: &[u8]) -> Result<(), UnpackError> {
        let device = rustix::fs::makedev(0, 0);
        let made = rustix::fs::mknodat(
            parent,
            OsStr::from_bytes(name),
            FileType::CharacterDevice,
            Mode::from_raw_mode(0),
            device,
        );
        match made {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => {
                let stat = stat(parent, name).map_err(io_error("inspect", path))?;
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    let fd = self.directory(parent, name, path)?;
                    set_opaque(&fd).map_err(io_error("mark as opaque", path))?;
                }
                Ok(())
            }
            Err(errno) => Err(io_error("make the whiteout of", path)(errno)),
        }
    }

    /// Hides everything that the layers below have in the directory `path`.
    pub(crate) fn opaque(&mut self, path: &[u8]) -> Result<(), UnpackError> {
        self.ensure(path)?;
        // A descriptor for reading: the cached one may be O_PATH, which takes no attributes.
        let fd = open_beneath(&self.root, path, OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(io_error("open directory", path))?;
        set_opaque(&fd).map_err(io_error("mark as opaque", path))
    }

    /// Drops cached directories after something was moved.
    pub(crate) fn forget(&mut self) {
        self.cache.clear();
    }

    /// Opens a directory for attribute changes, if it is (still) one.
    pub(crate) fn for_attributes(&self, path: &[u8]) -> Option<OwnedFd> {
        open_beneath(&self.root, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW).ok()
    }
}

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

/// Brings a path of an archive into the form `a/b/c`. Leading slashes and `.` mean the root, as in every unpacker; `..`
/// has no place in an honest archive and is refused.
pub(crate) fn clean(path: &[u8]) -> Result<Vec<u8>, UnpackError> {
    let mut cleaned = Vec::with_capacity(path.len());
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => continue,
            b".." => return Err(UnpackError::Escape { path: shown(path), reason: "it contains '..'" }),
            part if part.len() > 255 => {
                return Err(UnpackError::Member {
                    path: shown(path),
                    reason: "has a name longer than 255 bytes",
                });
            }
            part if part.contains(&0) => {
                return Err(UnpackError::Member { path: shown(path), reason: "has a NUL in its name" });
            }
            _ => {}
        }
        if !cleaned.is_empty() {
            cleaned.push(b'/');
        }
        cleaned.extend_from_slice(part);
    }
    Ok(cleaned)
}

pub(crate) fn stat(parent: &OwnedFd, name: &[u8]) -> Result<Stat, Errno> {
    rustix::fs::statat(parent, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW)
}

pub(crate) fn unlink(parent: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    rustix::fs::unlinkat(parent, OsStr::from_bytes(name), AtFlags::empty())
}

pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode as RawMode) == FileType::CharacterDevice && stat.st_rdev == 0
}

pub(crate) fn set_opaque(directory: &OwnedFd) -> Result<(), Errno> {
    rustix::fs::fsetxattr(directory, OPAQUE, b"y", XattrFlags::empty())
}

pub(crate) fn is_opaque(directory: &OwnedFd) -> bool {
    let mut value = [0u8; 1];
    matches!(rustix::fs::fgetxattr(directory, OPAQUE, &mut value), Ok(1)) && value == *b"y"
}

pub(crate) fn escape(path: &[u8]) -> UnpackError {
    UnpackError::Escape {
        path: shown(path),
        reason: "it passes through a symbolic link that points out of the layer",
    }
}

/// The path is made presentable only when there is an error: this is on the way of every file of a pull.
pub(crate) fn io_error(step: &'static str, path: &[u8]) -> impl FnOnce(Errno) -> UnpackError {
    move |errno| UnpackError::Io { step, path: shown(path), source: errno.into() }
}
