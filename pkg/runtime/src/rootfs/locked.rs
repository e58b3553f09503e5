//! Entering a user namespace so that nobody in there can take back what the node's mounts refuse.
//!
//! Whoever owns a mount namespace may change the flags of every mount that was attached there: root of the user namespace, with
//! CAP_SYS_ADMIN in it, would make a read-only volume writable, or open devices. The kernel locks flags (read-only, nodev, nosuid,
//! noexec, access times) when a mount namespace is copied into another user namespace (`lock_mnt_tree`, mount_namespaces(7)).
//! So everything that comes from the node is attached in a mount namespace of the node's first, goes through such a copy, and what
//! the container gets are copies of those, which keep their locks.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::Path,
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
    let place = Path::new("/").join(pod::ROOT);
    let store = Filesystem::new("tmpfs").and_then(|new| new.mount(ATTRIBUTES)).at(step, "store of mounts")?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = fs::open(&place, flags, Mode::empty()).at(step, "store of mounts")?;
    mount::attach(&store, target).at(step, "store of mounts")?;
    put(&store, supplies)?;
    userns::enter(plan)?;
    let mut own = UnshareFlags::NEWNS;
    own.set(UnshareFlags::NEWCGROUP, namespaces.cgroup);
    namespace::unshare(own).at(step, "of the container")?;
    take(&place, supplies)
}

/// Of a tmpfs that mounts are left in.
pub(crate) const ATTRIBUTES: Attr =
    Attr::MOUNT_ATTR_NOSUID.union(Attr::MOUNT_ATTR_NODEV).union(Attr::MOUNT_ATTR_NOEXEC);

/// Attaches each of the mounts at a place of its own in a tmpfs, which goes when the root is entered.
pub(crate) fn put(store: &OwnedFd, supplies: &mut Supplies) -> Result<(), Failure> {
    let step = Step::Rootfs;
    for (number, tree) in trees(supplies).enumerate() {
        let (name, mode) = (number.to_string(), Mode::from_raw_mode(0o700));
        let directory =
            FileType::from_raw_mode(fs::fstat(&*tree).at(step, &name)?.st_mode) == FileType::Directory;
        if directory {
            fs::mkdirat(store, &name, mode).at(step, &name)?;
        } else {
            fs::mknodat(store, &name, FileType::RegularFile, mode, 0).at(step, &name)?;
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let place = fs::openat(store, &name, flags, Mode::empty()).at(step, &name)?;
        mount::attach(tree.as_fd(), place).at(step, &name)?;
    }
    Ok(())
}

/// Takes them from there, in a mount namespace that is a copy. With what is mounted below each: the kernel gives none without,
/// lest something hidden be seen.
pub(crate) fn take(store: &Path, supplies: &mut Supplies) -> Result<(), Failure> {
    for (number, tree) in trees(supplies).enumerate() {
        let path = store.join(number.to_string());
        *tree = mount::clone_path(&*path, true).at(Step::Rootfs, path.display())?;
    }
    Ok(())
}

/// Every mount that was made with the privileges of the node and that a container is not to change.
fn trees(supplies: &mut Supplies) -> impl Iterator<Item = &mut OwnedFd> {
    let Supplies { root, mounts, .. } = supplies;
    std::iter::once(root).chain(mounts.iter_mut().flat_map(of_node))
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
