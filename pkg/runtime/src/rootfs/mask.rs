//! Paths that a container must not read or write.

use std::{os::fd::AsFd, path::Path};

use husk_sys::{
    mount,
    mount::{Attr, Change},
    root::Root,
};
use rustix::{
    fs::{self, FileType, OFlags},
    io::Errno,
};

use super::pod;
use crate::{Failure, Step, failure::At, stdio};

/// Hides paths: a directory shows as an empty read-only one, anything else as a null device. Both come from the pod's
/// sealed tmpfs, so there is no superblock per path, and nothing the container made is trusted to be a null device
/// (CVE-2025-31133). Paths that do not exist need no hiding; symlinks are followed inside the root.
pub(crate) fn hide(root: &Root, paths: &[String]) -> Result<(), Failure> {
    let step = Step::Mask;
    for path in paths {
        let Some(target) = find(root, path, step)? else { continue };
        let stat = fs::fstat(&target).at(step, path)?;
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let name = if directory { pod::EMPTY } else { pod::NULL };
        let cover = mount::clone_path(Path::new("/").join(name).as_path(), false).at(step, path)?;
        if !directory && !stdio::is_null_device(cover.as_fd()).at(step, path)? {
            return Err(Failure::because(step, path, "the pod's null device is something else"));
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

fn find(root: &Root, path: &str, step: Step) -> Result<Option<std::os::fd::OwnedFd>, Failure> {
    match root.open(path, OFlags::PATH) {
        Ok(target) => Ok(Some(target)),
        Err(error) if matches!(error.errno(), Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error).at(step, path),
    }
}
