//! A path inside a root: what is there, and the archive of it.

use std::{
    ffi::OsString,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
};

use husk_sys::root::Root;
use rustix::fs::{FileType, OFlags, Stat, fstat};

use super::{Form, Pack, TreeArchive, member};
use crate::{
    ImageError, Result,
    stop::Stop,
    unpack::{shown, tree::clean},
};

/// Links followed for one path, as the kernel does.
const LINKS_MAX: usize = 40;
/// Components looked at for the place that a link leads to.
const STEPS_MAX: usize = 4096;

/// What is at a path of a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathStat {
    /// The last component of the path as it was given; `.` for the root, and for a path that ends in `/.`.
    pub name: OsString,
    /// Bytes of a file.
    pub size: u64,
    /// Type and permissions as stat(2) has them (`st_mode`).
    pub mode: u32,
    /// Time of modification: seconds and nanoseconds since 1970.
    pub mtime: (i64, u32),
    /// Where a symbolic link leads in the end, as an absolute path inside the root, whether something is there or not.
    pub link_target: Option<PathBuf>,
}

/// What is at `path` in `root`. A symbolic link at its end is meant itself, unless the path ends in `/` or `/.`.
///
/// # Errors
/// [`ImageError::RootPath`]: NotFound when nothing is there, InvalidArgument when a file is used as a directory.
pub fn stat_path(root: &OwnedFd, path: &Path) -> Result<PathStat> {
    let place = Place::find(root, path)?;
    place.stat(root)
}

/// The archive of what is at `path` in `root` (as [`stat_path`] has it), whose paths begin with [`PathStat::name`]. What is mounted
/// in it shows as an empty directory.
///
/// # Errors
/// As [`stat_path`].
pub fn archive_path(root: &OwnedFd, path: &Path) -> Result<(PathStat, TreeArchive)> {
    let place = Place::find(root, path)?;
    let told = place.stat(root)?;
    let name = told.name.as_bytes();
    let pack = if place.is_directory() {
        place.readable(root).and_then(|directory| {
            Pack::of_tree(&directory, name, true, Form::Plain, &Stop::default())
                .map_err(failed("archive", path))
        })?
    } else {
        Pack::of_file(&place.handle, name).map_err(failed("archive", path))?
    };
    Ok((told, TreeArchive::new(pack)))
}

/// The archive of all that is in `root`. What is mounted in it shows as an empty directory.
///
/// # Errors
/// [`ImageError::RootPath`] when it cannot be read.
pub fn flatten(root: &OwnedFd) -> Result<TreeArchive> {
    let pack = Pack::of_tree(root, b"", false, Form::Plain, &Stop::default());
    pack.map(TreeArchive::new).map_err(failed("archive", Path::new("/")))
}

/// What a path led to.
struct Place {
    /// As it was given.
    path: PathBuf,
    /// Without `.` and `..`, which mean what they mean in text, as with Docker.
    clean: Vec<u8>,
    follow: bool,
    handle: OwnedFd,
    stat: Stat,
}

impl Place {
    fn find(root: &OwnedFd, path: &Path) -> Result<Self> {
        let text = path.as_os_str().as_bytes();
        let clean = clean(text).map_err(|_| {
            failed("look up", path)(io::Error::new(
                io::ErrorKind::InvalidFilename,
                "a name is too long or has a NUL",
            ))
        })?;
        let follow = clean.is_empty() || text.ends_with(b"/") || text.ends_with(b"/.");
        let flags = if follow { OFlags::PATH | OFlags::DIRECTORY } else { OFlags::PATH | OFlags::NOFOLLOW };
        let handle = open(root, &clean, flags).map_err(failed("look up", path))?;
        let stat = fstat(&handle).map_err(|errno| failed("look up", path)(errno.into()))?;
        Ok(Self { path: path.to_owned(), clean, follow, handle, stat })
    }

    fn is_directory(&self) -> bool {
        FileType::from_raw_mode(self.stat.st_mode) == FileType::Directory
    }

    fn stat(&self, root: &OwnedFd) -> Result<PathStat> {
        let is_link = FileType::from_raw_mode(self.stat.st_mode) == FileType::Symlink;
        let target = is_link.then(|| led_to(root, &self.clean)).transpose();
        let target = target.map_err(failed("follow the link", &self.path))?;
        Ok(PathStat {
            name: OsString::from_vec(self.name().to_vec()),
            size: u64::try_from(self.stat.st_size).unwrap_or(0),
            mode: self.stat.st_mode,
            mtime: (self.stat.st_mtime, u32::try_from(self.stat.st_mtime_nsec).unwrap_or(0)),
            link_target: target.map(|target| Path::new("/").join(OsString::from_vec(target))),
        })
    }

    fn name(&self) -> &[u8] {
        let last = self.clean.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let is_dot = self.path.as_os_str().as_bytes().ends_with(b"/.");
        if last.is_empty() || is_dot { b"." } else { last }
    }

    /// The directory, to be read. The very one that was found.
    fn readable(&self, root: &OwnedFd) -> Result<OwnedFd> {
        let flags =
            OFlags::RDONLY | OFlags::DIRECTORY | if self.follow { OFlags::empty() } else { OFlags::NOFOLLOW };
        open(root, &self.clean, flags).map_err(failed("read", &self.path))
    }
}

/// Opens `path` inside `root`.
pub(super) fn open(root: impl AsFd, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let root = Root::new(root.as_fd().try_clone_to_owned()?);
    let path = Path::new("/").join(OsString::from_vec(path.to_vec()));
    root.open(path, flags).map_err(|error| error.errno().into())
}

pub(super) fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ImageError {
    let path = shown(path.as_os_str().as_bytes());
    move |source| ImageError::RootPath { step, path, source }
}

/// Where `path` leads when all links in it are followed inside `root`; what is missing of it stays as it is. To be told, not to be opened:
/// somebody may change it meanwhile.
fn led_to(root: &OwnedFd, path: &[u8]) -> io::Result<Vec<u8>> {
    let parts = |path: &[u8]| -> Vec<Vec<u8>> {
        path.rsplit(|byte| *byte == b'/').filter(|part| !part.is_empty()).map(<[u8]>::to_vec).collect()
    };
    let (mut real, mut todo): (Vec<Vec<u8>>, _) = (Vec::new(), parts(path));
    let (mut links, mut steps) = (0, 0);
    while let Some(part) = todo.pop() {
        steps += 1;
        if links > LINKS_MAX || steps > STEPS_MAX {
            return Err(rustix::io::Errno::LOOP.into());
        }
        match part.as_slice() {
            b"." => continue,
            b".." => {
                real.pop();
                continue;
            }
            _ => real.push(part),
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let Ok(handle) = open(root, &real.join(&b'/'), flags) else { continue };
        if FileType::from_raw_mode(fstat(&handle)?.st_mode) == FileType::Symlink {
            links += 1;
            let target = member::target(&handle)?;
            match target.first() {
                Some(b'/') => real.clear(),
                _ => drop(real.pop()),
            }
            todo.extend(parts(&target));
        }
    }
    Ok(real.join(&b'/'))
}
