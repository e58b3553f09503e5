//! What a container that stands alone needs before it enters its root, and would have from its pod otherwise: a tmpfs with what
//! masked paths show ([`super::pod`]) and, for a user namespace, with the mounts on their way ([`super::locked`]).
//!
//! It lies where the container's root will: on the directory that the root is a copy of, in the container's own mount namespace,
//! and under that root soon after. It goes with the node's mounts.

use std::os::fd::OwnedFd;

use husk_sys::mount::{self, Attr, Filesystem};
use rustix::fs::{self, FileType, Mode};

use super::pod;
use crate::{Failure, Step, failure::At};

const OBJECT: &str = "tmpfs of the container's own";

/// Makes it, attached nowhere. [`seal`] ends it.
pub(crate) fn make() -> Result<OwnedFd, Failure> {
    let step = Step::Rootfs;
    let tmpfs = || -> husk_sys::Result<OwnedFd> {
        let tmpfs = Filesystem::new("tmpfs")?;
        tmpfs.string("source", "husk")?.string("mode", "755")?.string("size", "1m")?;
        tmpfs.mount(Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NOEXEC)
    };
    let tmpfs = tmpfs().at(step, OBJECT)?;
    fs::mkdirat(&tmpfs, pod::EMPTY, Mode::from_raw_mode(0o755)).at(step, pod::EMPTY)?;
    let (mode, null) = (Mode::from_raw_mode(0o666), fs::makedev(1, 3));
    fs::mknodat(&tmpfs, pod::NULL, FileType::CharacterDevice, mode, null).at(step, pod::NULL)?;
    Ok(tmpfs)
}

/// Makes it read-only as a filesystem: no copy of it in the container can be written to.
pub(crate) fn seal(shelf: &OwnedFd) -> Result<(), Failure> {
    mount::seal(shelf).at(Step::Rootfs, OBJECT)
}
