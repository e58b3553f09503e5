//! The /proc of a container that joins a PID namespace which others are in.
//!
//! A procfs shows the PID namespace of whoever makes it, and a process that makes one in there, with the privileges to mount
//! it, is there for others to trace. So it is a copy of one that is there already: of pause's, or of the target container's.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use husk_sys::{mount, mount::Propagation, namespace, procfs::Procfs, root::Root};
use rustix::{
    fs::{self, Mode, OFlags, StatxFlags},
    io::Errno,
    thread::ThreadNameSpaceType,
};

use super::{options::Options, planned, pod};
use crate::{Failure, Step, failure::At};

/// Inode of the root of every procfs (PROC_ROOT_INO).
const ROOT_INODE: u64 = 1;

/// That of the pod's PID namespace, in a copy of pause's mounts; none where the pod has the node's.
pub(crate) fn of_pod() -> Result<Option<OwnedFd>, Failure> {
    match mount::clone_path(Path::new("/").join(pod::PROC).as_path(), false) {
        Err(error) if error.errno() == Errno::NOENT => Ok(None),
        other => other.map(Some).at(Step::Source, "/proc"),
    }
}

/// That of another container's PID namespace, which is joined for our children: from the other's mounts, where it may have put
/// anything. What is taken is the root of a procfs, and shows that very namespace.
pub(crate) fn of_target(init: &OwnedFd) -> Result<OwnedFd, Failure> {
    let step = Step::Namespaces;
    let node = Procfs::host().at(step, "/proc")?;
    let kinds = ThreadNameSpaceType::MOUNT | ThreadNameSpaceType::PROCESS_ID;
    namespace::join(init, kinds).at(step, "of the target container")?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = fs::open("/", flags, Mode::empty()).map(Root::new).at(step, "/")?;
    let refuse =
        || Failure::because(step, "/proc", "the target container's is not that of its PID namespace");
    let found = root.open_straight("proc", OFlags::PATH | OFlags::DIRECTORY).at(step, "/proc")?;
    let statx = fs::statx(&found, c"", fs::AtFlags::EMPTY_PATH, StatxFlags::INO).at(step, "/proc")?;
    let genuine = fs::fstatfs(&found).at(step, "/proc")?.f_type as u64 == husk_sys::procfs::MAGIC
        && statx.stx_ino == ROOT_INODE;
    if !genuine {
        return Err(refuse());
    }
    // Without what lies on top of its files.
    let copy = mount::clone_fd(&found, false).at(step, "/proc")?;
    let shown = Procfs::at(&copy).and_then(|shown| shown.namespace_of(1, "pid")).map_err(|_| refuse())?;
    let joined = node.namespace_of_children().at(step, "pid_for_children")?;
    let inode = |file: &OwnedFd| fs::fstat(file).map(|stat| stat.st_ino).at(step, "PID namespace");
    if inode(&shown)? != inode(&joined)? {
        return Err(refuse());
    }
    Ok(copy)
}

/// Gives the copy the attributes that the spec asks for, whatever it had.
pub(crate) fn with_options(
    procfs: OwnedFd,
    options: &Options,
    destination: &Path,
) -> Result<OwnedFd, Failure> {
    use husk_sys::mount::{Attr, Change};
    let all =
        Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NODEV | Attr::MOUNT_ATTR_NOEXEC | Attr::MOUNT_ATTR_RDONLY;
    let set = planned::attributes(options);
    let (propagation, _) = options.propagation.unwrap_or((Propagation::Private, true));
    let change = Change { set, clear: all - set, propagation: Some(propagation) };
    mount::change(procfs.as_fd(), false, change).at(Step::Mount, destination.display())?;
    Ok(procfs)
}
