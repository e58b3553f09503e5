//! Owner, mode, extended attributes and times of a member.

use std::{
    ffi::OsStr,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
};

use rustix::{
    fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};

use super::{UnpackError, io_error};
use crate::tar::TarEntry;

/// Sets everything on an open file or directory. The order matters: a change of owner clears the setuid bits and file
/// capabilities, and every change moves the times.
pub(crate) fn set_on(file: &OwnedFd, entry: &TarEntry, path: &[u8]) -> Result<(), UnpackError> {
    rustix::fs::fchown(file, owner(entry.uid), group(entry.gid))
        .map_err(io_error("change the owner of", path))?;
    rustix::fs::fchmod(file, Mode::from_raw_mode(entry.mode))
        .map_err(io_error("change the mode of", path))?;
    for (name, value) in entry.xattrs.iter().filter(|(name, _)| is_kept(name)) {
        match rustix::fs::fsetxattr(file, OsStr::from_bytes(name), value, XattrFlags::empty()) {
            Ok(()) => {}
            // The filesystem has no such attributes. Capabilities decide what a program may do, so they may not get lost.
            Err(Errno::NOTSUP) if name != b"security.capability" => {}
            Err(errno) => return Err(io_error("set an extended attribute of", path)(errno)),
        }
    }
    Ok(())
}

/// Sets owner, mode and times on a node that cannot be opened (device, fifo, symbolic link). It was made by us under a
/// descriptor a moment ago, and nobody else works in this directory.
pub(super) fn set_at(
    parent: &OwnedFd,
    name: &[u8],
    entry: &TarEntry,
    path: &[u8],
    symlink: bool,
) -> Result<(), UnpackError> {
    let name = OsStr::from_bytes(name);
    rustix::fs::chownat(
        parent,
        name,
        Some(owner_id(entry.uid)),
        Some(group_id(entry.gid)),
        AtFlags::SYMLINK_NOFOLLOW,
    )
    .map_err(io_error("change the owner of", path))?;
    if !symlink {
        rustix::fs::chmodat(parent, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())
            .map_err(io_error("change the mode of", path))?;
    }
    rustix::fs::utimensat(parent, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(io_error("set the time of", path))
}

pub(crate) fn set_times(file: &OwnedFd, mtime: (i64, u32), path: &[u8]) -> Result<(), UnpackError> {
    rustix::fs::futimens(file, &times(mtime)).map_err(io_error("set the time of", path))
}

pub(crate) fn times((seconds, nanos): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

fn owner(uid: u32) -> Option<Uid> {
    Some(owner_id(uid))
}

fn group(gid: u32) -> Option<Gid> {
    Some(group_id(gid))
}

fn owner_id(uid: u32) -> Uid {
    Uid::from_raw(uid)
}

fn group_id(gid: u32) -> Gid {
    Gid::from_raw(gid)
}

/// Kept is what programs in a container can rely on. Labels of security modules and trusted attributes belong to the
/// node and are not the image's to set. Those of overlayfs would change what the layers below show; published images
/// have them, left there by the storage of whoever built the image, and mean nothing by it.
pub(crate) fn is_kept(name: &[u8]) -> bool {
    if name.starts_with(b"user.overlay.") {
        return false;
    }
    name.starts_with(b"user.")
        || matches!(name, b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_of_the_node_are_not_the_images_to_set() {
        for (name, expected) in [
            ("user.a", true),
            ("security.capability", true),
            ("security.selinux", false),
            ("trusted.other", false),
            ("trusted.overlay.opaque", false),
            ("user.overlay.redirect", false),
        ] {
            assert_eq!(is_kept(name.as_bytes()), expected, "{name}");
        }
    }
}
