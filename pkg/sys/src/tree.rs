//! Trees that somebody else made: images and containers nest directories deeper than a path can name, make directories
//! of millions of entries, and change both while they are read.
//!
//! So nothing here recurses, nothing is named by a path of more than one component, symbolic links are not followed,
//! mounts are not entered, and the number of open descriptors does not grow with the tree: [`Walk`] visits, [`remove`]
//! and [`empty`] delete. Everything in husk that goes through such a tree goes through this module.

mod remove;
#[cfg(test)]
mod tests;
mod walk;

pub use remove::{empty, remove};
pub use walk::{Entry, Step, Walk};

use std::ffi::CStr;

use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{Mode, OFlags, ResolveFlags, openat2},
    io::Errno,
};

/// Levels whose directories stay open. Deeper ones are left and found again, or moved up.
const HELD: usize = 32;
/// How often a lookup is repeated when a rename elsewhere makes the kernel unsure (EAGAIN).
const LOOKUPS: usize = 128;

/// Opens the directory `name` itself, on the same mount; `ENOTDIR` or `ELOOP` for anything else, `EXDEV` for a mount.
fn open_directory(at: impl AsFd, name: &CStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    // NOATIME is for owners and for whoever may act as one.
    let mut flags = flags | OFlags::NOATIME;
    for _ in 0..LOOKUPS {
        match openat2(at.as_fd(), name, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(Errno::PERM) if flags.contains(OFlags::NOATIME) => flags.remove(OFlags::NOATIME),
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

fn is_dots(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}
