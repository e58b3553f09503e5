//! Copying from a layer below: the attributes of a directory, or a file that a hard link needs here.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read as _},
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
};

use rustix::{
    fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};

use super::{
    UnpackError, io_error,
    limits::{Meter, Resource},
    shown,
};
use crate::stop::Stop;

/// Longest list of attribute names and longest value read, in bytes (XATTR_SIZE_MAX).
const XATTR_MAX: usize = 64 << 10;
/// Bytes copied between two looks at whether anybody still waits.
const PIECE: u64 = 16 << 20;

/// Makes `to` look like `from`. Returns the time of modification that it has then.
pub(crate) fn attributes(from: &OwnedFd, to: &OwnedFd, path: &[u8]) -> Result<(i64, u32), UnpackError> {
    let fail = |errno| io_error("copy the attributes of", path)(errno);
    let stat = rustix::fs::fstat(from).map_err(fail)?;
    rustix::fs::fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))
        .map_err(fail)?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode)).map_err(fail)?;
    let mut names = vec![0; XATTR_MAX];
    let length = match rustix::fs::flistxattr(from, &mut names) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => 0,
        Err(errno) => return Err(fail(errno)),
    };
    let mut value = vec![0; XATTR_MAX];
    for name in
        names[..length].split(|b| *b == 0).filter(|name| !name.is_empty() && !name.starts_with(b"trusted."))
    {
        let name = OsStr::from_bytes(name);
        let length = rustix::fs::fgetxattr(from, name, &mut value).map_err(fail)?;
        rustix::fs::fsetxattr(to, name, &value[..length], XattrFlags::empty()).map_err(fail)?;
    }
    rustix::fs::futimens(to, &times(&stat)).map_err(fail)?;
    Ok((stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)))
}

/// Copies `name`, which is `stat` in `from`, into the directory `to`. `path` is for errors.
pub(crate) fn up(
    from: &OwnedFd,
    name: &[u8],
    stat: &Stat,
    to: &OwnedFd,
    meter: &mut Meter,
    stop: &Stop,
    path: &[u8],
) -> Result<(), UnpackError> {
    meter.spend(Resource::Inodes, 1)?;
    let fail = |errno| io_error("copy up", path)(errno);
    let kind = FileType::from_raw_mode(stat.st_mode);
    let text = OsStr::from_bytes(name);
    match kind {
        FileType::Directory => {
            let reason = "is a hard link to a directory";
            return Err(UnpackError::Member { path: shown(path), reason });
        }
        FileType::RegularFile => {
            meter.spend(Resource::Bytes, u64::try_from(stat.st_blocks).unwrap_or(0) * 512)?;
            return regular(from, text, to, stop, path);
        }
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(from, text, Vec::new()).map_err(fail)?;
            rustix::fs::symlinkat(target.as_c_str(), to, text).map_err(fail)?;
        }
        kind => {
            rustix::fs::mknodat(to, text, kind, Mode::from_raw_mode(stat.st_mode), stat.st_rdev)
                .map_err(fail)?;
        }
    }
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(to, text, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
    if kind != FileType::Symlink {
        rustix::fs::chmodat(to, text, Mode::from_raw_mode(stat.st_mode), AtFlags::empty()).map_err(fail)?;
    }
    rustix::fs::utimensat(to, text, &times(stat), AtFlags::SYMLINK_NOFOLLOW).map_err(fail)
}

fn regular(from: &OwnedFd, name: &OsStr, to: &OwnedFd, stop: &Stop, path: &[u8]) -> Result<(), UnpackError> {
    let fail = |errno| io_error("copy up", path)(errno);
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let source = rustix::fs::openat(from, name, flags | OFlags::RDONLY, Mode::empty()).map_err(fail)?;
    let new = flags | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let copy = rustix::fs::openat(to, name, new, Mode::from_raw_mode(0o600)).map_err(fail)?;
    let (mut source, mut copy) = (File::from(source), File::from(copy));
    loop {
        if stop.is_set() {
            return Err(UnpackError::Interrupted);
        }
        let copied = io::copy(&mut (&mut source).take(PIECE), &mut copy);
        let copied =
            copied.map_err(|source| UnpackError::Io { step: "copy up", path: shown(path), source })?;
        if copied == 0 {
            break;
        }
    }
    attributes(&source.into(), &copy.into(), path).map(drop)
}

fn times(stat: &Stat) -> Timestamps {
    let time = |sec: i64, nsec: u64| Timespec { tv_sec: sec, tv_nsec: i64::try_from(nsec).unwrap_or(0) };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}
