//! Paths that a container must not read or write.

use std::{
    collections::HashSet,
    os::fd::{AsFd, OwnedFd},
};

use husk_sys::{
    mount,
    mount::{Attr, Change},
    root::Root,
};
use rustix::{
    fs::{self, FileType, Mode, OFlags},
    io::Errno,
};

use super::pod;
use crate::{Failure, Step, failure::At, stdio};

/// What masked paths show, in the caller's mount namespace.
pub(crate) struct Covers {
    empty: OwnedFd,
    null: OwnedFd,
}

impl Covers {
    /// Those in a tmpfs of the pod's or the container's own ([`super::pod`]), open at `tmpfs`.
    pub(crate) fn of(tmpfs: impl AsFd) -> Result<Self, Failure> {
        let open = |name| {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            fs::openat(tmpfs.as_fd(), name, flags, Mode::empty()).at(Step::Mask, name)
        };
        Ok(Self { empty: open(pod::EMPTY)?, null: open(pod::NULL)? })
    }
}

/// Hides paths: a directory shows as an empty read-only one, anything else as a null device. Both come from a sealed tmpfs, so
/// there is no superblock per path, and nothing the container made is trusted to be a null device (CVE-2025-31133). Paths that
/// do not exist need no hiding, nor one that was named before; symlinks are followed inside the root.
pub(crate) fn hide(root: &Root, paths: &[String], covers: &Covers) -> Result<(), Failure> {
    let step = Step::Mask;
    let mut named = HashSet::new();
    for path in paths.iter().filter(|path| named.insert(path.as_str())) {
        let Some(target) = find(root, path, step)? else { continue };
        let stat = fs::fstat(&target).at(step, path)?;
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let cover =
            mount::clone_fd(if directory { &covers.empty } else { &covers.null }, false).at(step, path)?;
        if !directory && !stdio::is_null_device(cover.as_fd()).at(step, path)? {
            return Err(Failure::because(step, path, "what would cover it is no null device"));
        }
        mount::attach(&cover, &target).at(step, path)?;
    }
    Ok(())
}

/// Makes paths read-only; mounts below them stay as they are, as in runc.
pub(crate) fn readonly(root: &Root, paths: &[String]) -> Result<(), Failure> {
    let step = Step::Readonly;
    for path in paths {
        let Some(target) = find(root, path, step)? else { continue };
        let copy = mount::clone_fd(&target, true).at(step, path)?;
        mount::change(&copy, false, Change::set(Attr::MOUNT_ATTR_RDONLY)).at(step, path)?;
        mount::attach(&copy, &target).at(step, path)?;
    }
    Ok(())
}

fn find(root: &Root, path: &str, step: Step) -> Result<Option<OwnedFd>, Failure> {
    match root.open(path, OFlags::PATH) {
        Ok(target) => Ok(Some(target)),
        Err(error) if matches!(error.errno(), Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error).at(step, path),
    }
}
