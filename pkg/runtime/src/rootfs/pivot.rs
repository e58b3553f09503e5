//! Entering the container's root.

use husk_sys::{
    mount,
    mount::{Change, Propagation},
    root::Root,
};
use rustix::{
    fs::{self, Mode, OFlags},
    mount::{UnmountFlags, unmount},
    process::{chdir, chroot, fchdir, pivot_root},
};

use crate::{Failure, Step, failure::At};

/// Makes `root` the root directory and drops everything that was there before. Afterwards no mount of the node or of
/// pause is in the namespace.
pub(crate) fn enter(root: &Root) -> Result<(), Failure> {
    let step = Step::Pivot;
    fchdir(root).at(step, "")?;
    // The old root comes to lie on the new one at ".", which needs no directory for it (pivot_root(2), NOTES).
    pivot_root(".", ".").at(step, "pivot_root")?;
    unmount(".", UnmountFlags::DETACH).at(step, "umount of the old root")?;
    chdir("/").at(step, "/")
}

/// As [`enter`], where the node's root is one that pivot_root(2) does not take (an initial RAM filesystem): the root is moved over
/// it. What was there stays in the namespace, out of reach for whoever has no CAP_SYS_CHROOT and CAP_SYS_ADMIN.
pub(crate) fn enter_without_pivot(root: &Root) -> Result<(), Failure> {
    let step = Step::Pivot;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let node = fs::open("/", flags, Mode::empty()).at(step, "/")?;
    mount::attach(root, node).at(step, "/")?;
    fchdir(root).at(step, "")?;
    chroot(".").at(step, "chroot")?;
    chdir("/").at(step, "/")
}

/// Gives the root mount the propagation of the spec (`rootfsPropagation`).
pub(crate) fn propagate(root: &Root, propagation: &str) -> Result<(), Failure> {
    let (name, recursive) = match propagation.strip_prefix('r') {
        Some(name) => (name, true),
        None => (propagation, false),
    };
    let propagation = match name {
        "" => return Ok(()),
        "private" => Propagation::Private,
        "shared" => Propagation::Shared,
        "slave" => Propagation::Slave,
        "unbindable" => Propagation::Unbindable,
        _ => return Err(Failure::because(Step::Rootfs, propagation, "no such propagation")),
    };
    mount::change(root, recursive, Change::propagation(propagation)).at(Step::Rootfs, "propagation")
}
