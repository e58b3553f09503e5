//! Entering the container's root.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, path::Path};

use husk_sys::{
    mount,
    mount::{Attr, Change, Filesystem, Propagation},
    procfs::Procfs,
    root::Root,
};
use rustix::{
    fs::{self, Mode, OFlags},
    io::Errno,
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
/// it. What was there stays in the namespace, out of reach for whoever has no CAP_SYS_CHROOT and CAP_SYS_ADMIN. But for the node's own
/// procfs and sysfs, which go: while a namespace has one that is whole, the kernel lets a user namespace in it mount another
/// (`mount_too_revealing`), and masks would be worth nothing.
pub(crate) fn enter_without_pivot(root: &Root) -> Result<(), Failure> {
    let step = Step::Pivot;
    // We are where the root lies.
    let own = rustix::process::getcwd(Vec::new()).at(step, "")?;
    let own = Path::new(OsStr::from_bytes(own.as_bytes()));
    let table = Procfs::host().and_then(|proc| proc.read_self("mountinfo")).at(step, "mountinfo")?;
    for point in revealing(&table).filter(|point| !Path::new(point).starts_with(own)) {
        match unmount(point, UnmountFlags::DETACH) {
            // Went with the one that it was mounted on.
            Ok(()) | Err(Errno::NOENT) => {}
            // Locked, or busy in a way that does not pass: it is covered.
            Err(_) => {
                let cover = Filesystem::new("tmpfs").and_then(|new| new.mount(Attr::MOUNT_ATTR_RDONLY));
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let place = fs::open(point, flags, Mode::empty()).at(step, point)?;
                mount::attach(&cover.at(step, point)?, place).at(step, point)?;
            }
        }
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let node = fs::open("/", flags, Mode::empty()).at(step, "/")?;
    mount::attach(root, node).at(step, "/")?;
    fchdir(root).at(step, "")?;
    chroot(".").at(step, "chroot")?;
    chdir("/").at(step, "/")
}

/// Where a mount table has a procfs or a sysfs (proc_pid_mountinfo(5)).
fn revealing(table: &str) -> impl Iterator<Item = &str> {
    table.lines().filter_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let kind = filesystem.split(' ').next()?;
        matches!(kind, "proc" | "sysfs").then(|| mount.split(' ').nth(4)).flatten()
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_shows_the_kernel_is_found_in_a_mount_table() {
        let table = "27 1 254:0 / / rw - ext4 /dev/vda rw\n\
            30 27 0:27 / /proc rw shared:5 - proc proc rw\n\
            31 27 0:28 / /sys rw,relatime - sysfs sysfs rw\n\
            32 30 0:29 / /proc/sys/fs rw - binfmt_misc none rw\n";
        assert_eq!(revealing(table).collect::<Vec<_>>(), ["/proc", "/sys"]);
    }
}
