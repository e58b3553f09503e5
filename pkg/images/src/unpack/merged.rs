//! Directories as the layers show them together: one's own above those of the layers below, in the order overlayfs has.

use std::{ffi::OsStr, os::fd::OwnedFd, os::unix::ffi::OsStrExt, rc::Rc};

use rustix::{
    fs::{FileType, Mode, OFlags, Stat},
    io::Errno,
};

use super::marks::{is_opaque, is_whiteout, stat};

/// A directory of the whole.
#[derive(Debug, Clone, Default)]
pub(crate) struct Merged {
    /// The layer's own part.
    pub(crate) own: Option<Rc<OwnedFd>>,
    /// Parts in layers below, topmost first. With neither, the directory is not there.
    pub(crate) lowers: Vec<Rc<OwnedFd>>,
}

/// What a name in a directory is.
#[derive(Debug)]
pub(crate) enum Child {
    Missing,
    Directory(Merged),
    /// A symbolic link and its target.
    Link(Vec<u8>),
    /// Anything else. In the layer itself it is in the way, in one below it can be hidden.
    Other {
        own: bool,
    },
}

impl Merged {
    /// Whether there is such a directory.
    pub(crate) fn exists(&self) -> bool {
        self.own.is_some() || !self.lowers.is_empty()
    }

    /// Looks up `name`.
    ///
    /// # Errors
    /// Those of the filesystem.
    pub(crate) fn child(&self, name: &[u8]) -> Result<Child, Errno> {
        let mut merged = Self::default();
        if let Some(own) = &self.own {
            match open(own, name) {
                Ok(directory) => {
                    let opaque = !self.lowers.is_empty() && is_opaque(&directory);
                    merged.own = Some(Rc::new(directory));
                    if opaque {
                        return Ok(Child::Directory(merged));
                    }
                }
                Err(Errno::NOENT) => {}
                Err(Errno::NOTDIR | Errno::LOOP) => return not_directory(own, name, true),
                Err(errno) => return Err(errno),
            }
        }
        for lower in &self.lowers {
            match open(lower, name) {
                Ok(directory) => {
                    let opaque = is_opaque(&directory);
                    merged.lowers.push(Rc::new(directory));
                    if opaque {
                        break;
                    }
                }
                Err(Errno::NOENT) => {}
                Err(Errno::NOTDIR | Errno::LOOP) if merged.exists() => break,
                Err(Errno::NOTDIR | Errno::LOOP) => return not_directory(lower, name, false),
                Err(errno) => return Err(errno),
            }
        }
        Ok(if merged.exists() { Child::Directory(merged) } else { Child::Missing })
    }

    /// The topmost thing that the layers below have under `name`: the directory that holds it, and what it is.
    ///
    /// # Errors
    /// Those of the filesystem.
    pub(crate) fn below(&self, name: &[u8]) -> Result<Option<(Rc<OwnedFd>, Stat)>, Errno> {
        for lower in &self.lowers {
            match stat(lower, name) {
                Ok(stat) if is_whiteout(&stat) => return Ok(None),
                Ok(stat) => return Ok(Some((Rc::clone(lower), stat))),
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(None)
    }
}

fn open(at: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, OsStr::from_bytes(name), flags, Mode::empty())
}

fn not_directory(at: &OwnedFd, name: &[u8], own: bool) -> Result<Child, Errno> {
    let stat = stat(at, name)?;
    if is_whiteout(&stat) {
        return Ok(Child::Missing);
    }
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        return Ok(Child::Other { own });
    }
    Ok(Child::Link(rustix::fs::readlinkat(at, OsStr::from_bytes(name), Vec::new())?.into_bytes()))
}
