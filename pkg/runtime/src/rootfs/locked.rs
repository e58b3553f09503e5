//! Entering a user namespace so that nobody in there can take back what the node's mounts refuse.
//!
//! Whoever owns a mount namespace may change the flags of every mount that was attached there: root of the user namespace, with
//! CAP_SYS_ADMIN in it, would make a read-only volume writable, or open devices. The kernel locks flags (read-only, nodev, nosuid,
//! noexec, access times) when a mount namespace is copied into another user namespace (`lock_mnt_tree`, mount_namespaces(7)).
//! So everything that comes from the node is attached in a mount namespace of the node's first, goes through such a copy, and what
//! the container gets are copies of those, which keep their locks.

use std::{os::fd::OwnedFd, path::Path};

use husk_sys::{
    mount,
    mount::{Attr, Filesystem},
    namespace,
};
use rustix::{
    fs::{self, Mode, OFlags},
    thread::{ThreadNameSpaceType, UnshareFlags},
};

use super::{
    follow::{self, Follower},
    pod,
    supplies::{Followed, Supplies},
    volumes,
};
use crate::{ContainerPlan, Failure, Step, failure::At, userns};

/// Enters the pod's user namespace and a mount namespace of the container's own, a copy of pause's, with all of `supplies`.
/// `again` makes a copy that follows the node once more.
pub(crate) fn enter(
    plan: &ContainerPlan,
    supplies: &mut Supplies,
    mut follower: Option<Follower>,
    again: &dyn Fn(Followed) -> Result<OwnedFd, Failure>,
) -> Result<(), Failure> {
    let (step, namespaces) = (Step::Namespaces, &plan.namespaces);
    namespace::join(&namespaces.sandbox, ThreadNameSpaceType::MOUNT).at(step, "of the pod")?;
    namespace::unshare(UnshareFlags::NEWNS).at(step, "of the node")?;
    volumes::place(&mut supplies.mounts, &plan.image_volumes, &supplies.volumes)?;
    let place = Path::new("/").join(pod::ROOT);
    let store = stage(&place)?;
    put(&store, supplies)?;
    if let Some(follower) = &mut follower {
        follower.keep_up(&store, supplies, again)?;
    }
    userns::enter(plan)?;
    let mut own = UnshareFlags::NEWNS;
    own.set(UnshareFlags::NEWCGROUP, namespaces.cgroup);
    namespace::unshare(own).at(step, "of the container")?;
    take(&place, supplies, follower.as_ref())
}

/// Of a tmpfs that mounts are left in.
pub(crate) const ATTRIBUTES: Attr =
    Attr::MOUNT_ATTR_NOSUID.union(Attr::MOUNT_ATTR_NODEV).union(Attr::MOUNT_ATTR_NOEXEC);

/// Where copies that follow the node are attached once more.
const STAGE: &str = "stage";

/// Attaches each of the mounts at a place of its own in a tmpfs, which goes when the root is entered.
pub(crate) fn put(store: &OwnedFd, supplies: &mut Supplies) -> Result<(), Failure> {
    fs::mkdirat(store, STAGE, Mode::from_raw_mode(0o700)).at(Step::Rootfs, STAGE)?;
    supplies.trees().try_for_each(|(name, _, tree)| follow::put_one(store, &name, tree))
}

/// Takes them from there, in a mount namespace that is a copy. With what is mounted below each: the kernel gives none without,
/// lest something hidden be seen.
pub(crate) fn take(
    store: &Path,
    supplies: &mut Supplies,
    follower: Option<&Follower>,
) -> Result<(), Failure> {
    let stage = follower.map(|_| stage(&store.join(STAGE))).transpose()?;
    for (name, followed, tree) in supplies.trees() {
        *tree = match (followed, follower, &stage) {
            (Some(_), Some(follower), Some(stage)) => follow::take(follower.procfs(), store, &name, stage)?,
            _ => {
                let path = store.join(&name);
                mount::clone_path(&*path, true).at(Step::Rootfs, path.display())?
            }
        };
    }
    Ok(())
}

/// A tmpfs of the container's own at `path`.
pub(crate) fn stage(path: &Path) -> Result<OwnedFd, Failure> {
    let step = Step::Rootfs;
    let stage = Filesystem::new("tmpfs").and_then(|new| new.mount(ATTRIBUTES)).at(step, STAGE)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = fs::open(path, flags, Mode::empty()).at(step, STAGE)?;
    mount::attach(&stage, target).at(step, STAGE)?;
    Ok(stage)
}
