//! What a tmpfs takes over from the directory that it covers: the mode, unless the spec says one, and with `tmpcopyup` all that
//! is in it (both as runc does).
//!
//! The directory is the image's, so it is walked by descriptors and nothing in it is followed; the copy is bounded by the size of
//! the tmpfs and by a depth.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use husk_sys::root::Root;
use rustix::{
    fs::{self, AtFlags, Dir, FileType, Mode, OFlags, Stat},
    io::Errno,
};

use super::options::Options;
use crate::{Failure, Step, failure::At};

/// Deeper than directories are anywhere that are copied into memory.
const MAX_DEPTH: usize = 64;

/// Gives a tmpfs without a mode that of the directory which it will cover, and returns the directory, if its content is to be
/// copied.
pub(crate) fn covered(
    root: &Root,
    kind: &str,
    options: &mut Options,
    destination: &Path,
) -> Result<Option<OwnedFd>, Failure> {
    if kind != "tmpfs" {
        return Ok(None);
    }
    let step = Step::Mount;
    let directory = match root.open(destination, OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(directory) => directory,
        // What is not there is made, and what is none is refused where it is mounted.
        Err(error) if matches!(error.errno(), Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(error) => return Err(error).at(step, destination.display()),
    };
    if !options.data.iter().any(|(key, _)| key == "mode") {
        let mode = fs::fstat(&directory).at(step, destination.display())?.st_mode & 0o7777;
        options.data.push(("mode".to_owned(), Some(format!("{mode:o}"))));
    }
    Ok(options.copy_up.then_some(directory))
}

/// Copies what is in `from` to the root of a tmpfs that is attached nowhere yet.
pub(crate) fn copy_up(from: &OwnedFd, tmpfs: &OwnedFd, destination: &Path) -> Result<(), Failure> {
    let to = open_dir(tmpfs.as_fd(), OsStr::new(".")).at(Step::Mount, destination.display())?;
    copy_dir(from.as_fd(), to.as_fd(), 0).at(Step::Mount, destination.display()).map_err(|failure| {
        let detail = "its content cannot be copied to the tmpfs";
        failure.explain(detail)
    })
}

fn copy_dir(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: usize) -> rustix::io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(Errno::LOOP);
    }
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." {
            continue;
        }
        let stat = fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                fs::mkdirat(to, name, Mode::from_raw_mode(0o700))?;
                let (from, to) = (open_dir(from, name)?, open_dir(to, name)?);
                copy_dir(from.as_fd(), to.as_fd(), depth + 1)?;
                own(to.as_fd(), &stat)?;
            }
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let source = fs::openat(from, name, flags, Mode::empty())?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let copy = fs::openat(to, name, flags, Mode::from_raw_mode(0o600))?;
                own(copy.as_fd(), &stat)?;
                io::copy(&mut File::from(source), &mut File::from(copy))
                    .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
            }
            FileType::Symlink => {
                let target = fs::readlinkat(from, name, Vec::new())?;
                fs::symlinkat(target, to, name)?;
            }
            // Devices, sockets and pipes are nothing to copy.
            _ => {}
        }
    }
    Ok(())
}

fn open_dir(at: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(at, name, flags, Mode::empty())
}

/// Owner first: a change of it takes the setuid bit away.
fn own(fd: BorrowedFd<'_>, stat: &Stat) -> rustix::io::Result<()> {
    fs::fchown(fd, Some(fs::Uid::from_raw(stat.st_uid)), Some(fs::Gid::from_raw(stat.st_gid)))?;
    fs::fchmod(fd, Mode::from_raw_mode(stat.st_mode & 0o7777))
}
