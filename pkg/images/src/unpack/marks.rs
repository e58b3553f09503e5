//! What overlayfs reads in a layer beside files: whiteouts, which are 0:0 devices, and opaque directories.

use std::{ffi::OsStr, os::fd::OwnedFd, os::unix::ffi::OsStrExt};

use rustix::{
    fs::{AtFlags, FileType, RawMode, Stat, XattrFlags},
    io::Errno,
};

/// The attribute that makes overlayfs hide the directory's lower namesakes.
const OPAQUE: &str = "trusted.overlay.opaque";

/// An entry itself, not what it points to.
pub(crate) fn stat(parent: &OwnedFd, name: &[u8]) -> Result<Stat, Errno> {
    rustix::fs::statat(parent, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW)
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
