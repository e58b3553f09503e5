//! One file of a tree as a member of an archive.

use std::{
    ffi::{CStr, OsStr},
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
};

use rustix::{
    fs::{FileType, Mode, OFlags, Stat},
    io::Errno,
};

use crate::{
    tar::{EntryKind, TarEntry},
    unpack::is_kept,
};

/// Longest list of attribute names, and longest value, in bytes (XATTR_LIST_MAX, XATTR_SIZE_MAX).
const XATTR_MAX: usize = 64 << 10;
/// Bytes of all attributes of one file: what readers take in an extended header, with room for its other records.
const XATTRS_MAX: usize = 512 << 10;

/// A handle on `name` itself, whatever it is, which opens nothing; `None` when it is gone.
pub(super) fn handle(at: impl AsFd, name: &CStr) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(at, name, flags, Mode::empty()) {
        Ok(handle) => Ok(Some(handle)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Opens the regular file of a handle for reading. By the handle and not by a name, under which somebody may have put a device
/// or a FIFO meanwhile, whose opening does things or waits.
pub(super) fn open_regular(handle: &OwnedFd) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    // Reading shall not show in the times of the container's files; allowed to owners and those who may act as one.
    let opened = match rustix::fs::open(&*path, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => rustix::fs::open(&*path, flags, Mode::empty()),
        opened => opened,
    };
    Ok(File::from(opened?))
}

/// A member with all that a status tells. `None` for sockets, which archives do not have.
pub(super) fn of(stat: &Stat, path: Vec<u8>) -> Option<TarEntry> {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => EntryKind::Regular,
        FileType::Directory => EntryKind::Directory,
        FileType::Symlink => EntryKind::Symlink,
        FileType::CharacterDevice => EntryKind::Char,
        FileType::BlockDevice => EntryKind::Block,
        FileType::Fifo => EntryKind::Fifo,
        _ => return None,
    };
    let device = match kind {
        EntryKind::Char | EntryKind::Block => {
            (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev))
        }
        _ => (0, 0),
    };
    let size = if kind == EntryKind::Regular { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 };
    Some(TarEntry {
        path,
        kind,
        link: Vec::new(),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: (stat.st_mtime, 0),
        device,
        xattrs: Vec::new(),
        size,
        sparse: None,
    })
}

/// Target of the symbolic link of a handle.
pub(super) fn target(handle: &OwnedFd) -> io::Result<Vec<u8>> {
    Ok(rustix::fs::readlinkat(handle, c"", Vec::new())?.into_bytes())
}

/// The attributes of an open file or directory that images may have.
pub(super) fn attributes(file: impl AsFd) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut names = vec![0; XATTR_MAX];
    let length = match rustix::fs::flistxattr(&file, &mut names) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => 0,
        Err(errno) => return Err(errno.into()),
    };
    let (mut attributes, mut total) = (Vec::new(), 0);
    for name in names[..length].split(|byte| *byte == 0).filter(|name| is_kept(name)) {
        let Some(value) = attribute(&file, name)? else { continue };
        total += name.len() + value.len();
        if total > XATTRS_MAX {
            let reason = format!("more than {XATTRS_MAX} bytes of extended attributes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
        }
        attributes.push((name.to_vec(), value));
    }
    Ok(attributes)
}

/// One attribute; `None` when there is none of this name.
pub(super) fn attribute(file: impl AsFd, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0; XATTR_MAX];
    match rustix::fs::fgetxattr(file, OsStr::from_bytes(name), &mut value) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}
