//! Entering a user namespace so that nobody in there can take back what the node's mounts refuse.
//!
//! Whoever owns a mount namespace may change the flags of every mount that was attached there: root of the user namespace, with
//! CAP_SYS_ADMIN in it, would make a read-only volume writable, or open devices. The kernel locks flags (read-only, nodev, nosuid,
//! noexec, access times) when a mount namespace is copied into another user namespace (`lock_mnt_tree`, mount_namespaces(7)).
//! So everything that comes from the node is attached in a mount namespace of the node's first, goes through such a copy, and what
//! the container gets are copies of those, which keep their locks.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use husk_sys::{
    mount,
    mount::{Attr, Filesystem},
    namespace,
};
use rustix::{
    fs::{self, FileType, Mode, OFlags},
    thread::{ThreadNameSpaceType, UnshareFlags},
};

use super::{
    planned::{Planned, Source},
    pod,
    supplies::Supplies,
    volumes,
};
use crate::{ContainerPlan, Failure, Step, failure::At, userns};

/// Enters the pod's user namespace and a mount namespace of the container's own, a copy of pause's, with all of `supplies`.
pub(crate) fn enter(plan: &ContainerPlan, supplies: &mut Supplies) -> Result<(), Failure> {
    let (step, namespaces) = (Step::Namespaces, &plan.namespaces);
    namespace::join(&namespaces.sandbox, ThreadNameSpaceType::MOUNT).at(step, "of the pod")?;
    namespace::unshare(UnshareFlags::NEWNS).at(step, "of the node")?;
    volumes::place(&mut supplies.mounts, &plan.image_volumes, &supplies.volumes)?;
    let store = Store::new()?;
    for (number, tree) in trees(supplies).enumerate() {
        store.put(number, tree)?;
    }
    userns::enter(plan)?;
    let mut own = UnshareFlags::NEWNS;
    own.set(UnshareFlags::NEWCGROUP, namespaces.cgroup);
    namespace::unshare(own).at(step, "of the container")?;
    for (number, tree) in trees(supplies).enumerate() {
        *tree = Store::take(number)?;
    }
    Ok(())
}

/// Every mount that was made with the privileges of the node and that a container is not to change.
fn trees(supplies: &mut Supplies) -> impl Iterator<Item = &mut OwnedFd> {
    let Supplies { overlay, mounts, .. } = supplies;
    std::iter::once(overlay).chain(mounts.iter_mut().flat_map(of_node))
}

fn of_node(planned: &mut Planned) -> Vec<&mut OwnedFd> {
    match &mut planned.source {
        Source::Tree { tree, .. } => vec![tree],
        Source::Controllers { controllers, .. } => {
            controllers.trees.iter_mut().map(|(_, tree)| tree).collect()
        }
        _ => Vec::new(),
    }
}

/// A tmpfs with a place for each mount, where the container's root will lie. It goes with pause's root.
struct Store(OwnedFd);

impl Store {
    fn new() -> Result<Self, Failure> {
        let (step, object) = (Step::Rootfs, "store of mounts");
        let attributes = Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NODEV | Attr::MOUNT_ATTR_NOEXEC;
        let tmpfs = Filesystem::new("tmpfs").and_then(|new| new.mount(attributes)).at(step, object)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let place = fs::open(Path::new("/").join(pod::ROOT), flags, Mode::empty()).at(step, object)?;
        mount::attach(&tmpfs, place).at(step, object)?;
        Ok(Self(tmpfs))
    }

    fn put(&self, number: usize, tree: &OwnedFd) -> Result<(), Failure> {
        let step = Step::Rootfs;
        let (name, mode) = (number.to_string(), Mode::from_raw_mode(0o700));
        let directory =
            FileType::from_raw_mode(fs::fstat(tree).at(step, &name)?.st_mode) == FileType::Directory;
        if directory {
            fs::mkdirat(&self.0, &name, mode).at(step, &name)?;
        } else {
            fs::mknodat(&self.0, &name, FileType::RegularFile, mode, 0).at(step, &name)?;
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let place = fs::openat(&self.0, &name, flags, Mode::empty()).at(step, &name)?;
        mount::attach(tree.as_fd(), place).at(step, &name)
    }

    /// With what is mounted below it: the kernel gives none without, lest something hidden be seen.
    fn take(number: usize) -> Result<OwnedFd, Failure> {
        let path: PathBuf = Path::new("/").join(pod::ROOT).join(number.to_string());
        mount::clone_path(&*path, true).at(Step::Rootfs, path.display())
    }
}
