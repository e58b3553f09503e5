//! Attaching the mounts to the root, in the container's own mount namespace.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use husk_sys::{
    mount,
    mount::{Attr, Change, Filesystem, Propagation},
    root::{Node, Root},
};
use rustix::{
    fs::{self, FileType, Mode, OFlags},
    io::Errno,
};

use super::{
    options::{CONTEXT, Options},
    planned::{Controllers, Planned, Source, attributes},
    relabel, tmpfs,
};
use crate::{Failure, Step, failure::At};

/// Files of /proc that lxcfs and the like may cover with their own (runc has the same list).
const COVERABLE: &[&str] = &[
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/net/dev",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// What was attached and is not finished.
pub(crate) struct Attached {
    /// The tmpfs mounts that are to become read-only once they are furnished.
    readonly_later: Vec<OwnedFd>,
    /// The container's own /dev.
    pub dev: Option<OwnedFd>,
}

/// Attaches everything, in order. `procfs` is taken for /proc, where it cannot be made by us.
pub(crate) fn all(
    root: &Root,
    planned: Vec<Planned>,
    mut shm: Option<OwnedFd>,
    mut procfs: Option<OwnedFd>,
) -> Result<Attached, Failure> {
    let mut attached = Attached { readonly_later: Vec::new(), dev: None };
    for Planned { destination, source } in planned {
        let destination = &*destination;
        match source {
            Source::Tree { tree, directory, procfs, shared, .. } => {
                refuse_over_proc(destination, procfs)?;
                let node = if directory { Node::Directory } else { Node::File };
                attach_onto(&ensure(root, destination, node)?, destination, node, &tree)?;
                if let Some(all) = shared {
                    mount::change(&tree, all, Change::propagation(Propagation::Shared))
                        .at(Step::Mount, destination.display())?;
                }
            }
            Source::New { kind, name, mut options } => {
                let covered = tmpfs::covered(root, &kind, &mut options, destination)?;
                let filesystem = match procfs.take_if(|_| kind == "proc") {
                    Some(procfs) => super::procfs::with_options(procfs, &options, destination)?,
                    None => make(&kind, &name, &options, destination)?,
                };
                if let Some(covered) = covered {
                    tmpfs::copy_up(&covered, &filesystem, destination)?;
                }
                attached.note(&filesystem, destination)?;
                if options.readonly() && kind == "tmpfs" {
                    // The mounts inside need their mount points first.
                    attach_filesystem(root, destination, &filesystem, &kind)?;
                    attached.readonly_later.push(filesystem);
                    continue;
                }
                if options.readonly() {
                    mount::change(&filesystem, false, Change::set(Attr::MOUNT_ATTR_RDONLY))
                        .at(Step::Mount, destination.display())?;
                }
                attach_filesystem(root, destination, &filesystem, &kind)?;
            }
            Source::Made { tmpfs, readonly } => {
                attached.note(&tmpfs, destination)?;
                attach_filesystem(root, destination, &tmpfs, "tmpfs")?;
                if readonly {
                    attached.readonly_later.push(tmpfs);
                }
            }
            Source::Controllers { controllers, options } => {
                let tmpfs = attach_controllers(root, destination, controllers, &options)?;
                if options.readonly() {
                    attached.readonly_later.push(tmpfs);
                }
            }
            Source::Image { .. } | Source::PodFile { .. } => {
                return Err(Failure::because(
                    Step::Mount,
                    destination.display(),
                    "its source was not opened",
                ));
            }
            Source::SharedMemory => {
                let Some(shm) = shm.take() else { continue };
                attach(root, destination, Node::Directory, shm)?;
            }
        }
    }
    Ok(attached)
}

impl Attached {
    fn note(&mut self, filesystem: &OwnedFd, destination: &Path) -> Result<(), Failure> {
        if destination == Path::new("/dev") {
            self.dev = Some(filesystem.try_clone().at(Step::Device, "/dev")?);
        }
        Ok(())
    }
}

/// Makes a filesystem, detached.
pub(crate) fn make(
    kind: &str,
    name: &str,
    options: &Options,
    destination: &Path,
) -> Result<OwnedFd, Failure> {
    let make = || -> husk_sys::Result<OwnedFd> {
        let filesystem = Filesystem::new(kind)?;
        filesystem.string("source", name)?;
        let late = options.context().filter(|_| kind == "mqueue");
        for (key, value) in options.data.iter().filter(|(key, _)| late.is_none() || key != CONTEXT) {
            match value {
                Some(value) => filesystem.string(key, value.as_str())?,
                None => filesystem.flag(key)?,
            };
        }
        // Where the node's sysfs is read-only, the kernel gives a user namespace none that was not so from the start.
        let at_once = match kind == "sysfs" && options.readonly() {
            true => Attr::MOUNT_ATTR_RDONLY,
            false => Attr::empty(),
        };
        let mount = filesystem.mount(attributes(options) | at_once)?;
        if let Some(label) = late {
            label_root(&mount, label)?;
        }
        // A new mount is private.
        if let Some((propagation, all)) = options.propagation {
            mount::change(&mount, all, Change::propagation(propagation))?;
        }
        Ok(mount)
    };
    make().at(Step::Mount, destination.display())
}

/// The queues of an IPC namespace were made with it, before this mount: a label can only be set afterwards, if at all.
fn label_root(mount: &OwnedFd, label: &str) -> husk_sys::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let labelled = fs::openat(mount, ".", flags, Mode::empty())
        .and_then(|root| fs::fsetxattr(&root, relabel::ATTRIBUTE, label.as_bytes(), fs::XattrFlags::empty()));
    match labelled {
        Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
        Err(errno) => Err(husk_sys::Error::new("fsetxattr", format!("mqueue, {label:?}"), errno)),
    }
}

/// Attaches onto `destination`, which is made if it is missing.
fn attach(root: &Root, destination: &Path, node: Node, tree: OwnedFd) -> Result<(), Failure> {
    attach_onto(&ensure(root, destination, node)?, destination, node, &tree)
}

fn ensure(root: &Root, destination: &Path, node: Node) -> Result<OwnedFd, Failure> {
    root.ensure(destination, node, Mode::from_raw_mode(0o755)).at(Step::Mount, destination.display())
}

/// Attaches onto what is open at `target`, which is what the container sees at `destination`.
fn attach_onto(target: &OwnedFd, destination: &Path, node: Node, tree: &OwnedFd) -> Result<(), Failure> {
    refuse_inside_proc(target.as_fd(), destination)?;
    let stat = fs::fstat(target).at(Step::Mount, destination.display())?;
    let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    if directory != (node == Node::Directory) {
        let detail = if directory {
            "the source is a file, but the image has a directory there"
        } else {
            "the source is a directory, but the image has a file there"
        };
        return Err(Failure::because(Step::Mount, destination.display(), detail));
    }
    mount::attach(tree, target).at(Step::Mount, destination.display())
}

/// As [`attach`], of a filesystem of that kind; for what other steps rely on being where it says, no symlink of the image may
/// be in the way (CVE-2019-19921 for /proc, CVE-2026-41579 for /dev).
fn attach_filesystem(root: &Root, destination: &Path, tree: &OwnedFd, kind: &str) -> Result<(), Failure> {
    let own = kind == "proc" && destination == Path::new("/proc");
    refuse_over_proc(destination, own)?;
    let fixed = matches!(kind, "proc" | "sysfs" | "devpts" | "mqueue" | "cgroup2")
        || destination == Path::new("/dev");
    let target = match fixed {
        true => ensure_straight(root, destination, kind)?,
        false => ensure(root, destination, Node::Directory)?,
    };
    attach_onto(&target, destination, Node::Directory, tree)
}

/// What lies at `destination` itself: what was looked at is what is mounted on.
fn ensure_straight(root: &Root, destination: &Path, kind: &str) -> Result<OwnedFd, Failure> {
    let straight = || root.open_straight(destination, OFlags::PATH | OFlags::DIRECTORY);
    let opened = match straight() {
        Err(error) if error.errno() == Errno::NOENT => {
            ensure(root, destination, Node::Directory)?;
            straight()
        }
        opened => opened,
    };
    opened.at(Step::Mount, destination.display()).map_err(|failure| {
        failure.explain(format!("{kind} must be mounted on ordinary directory, without symlinks"))
    })
}

/// Only a procfs may lie on /proc: the steps after this one trust what they read there.
fn refuse_over_proc(destination: &Path, procfs: bool) -> Result<(), Failure> {
    if destination == Path::new("/proc") && !procfs {
        return Err(Failure::because(Step::Mount, "/proc", "only a procfs can be mounted there"));
    }
    Ok(())
}

/// And nothing inside it, by whatever path it was reached (CVE-2019-16884).
fn refuse_inside_proc(target: std::os::fd::BorrowedFd<'_>, destination: &Path) -> Result<(), Failure> {
    let statfs = fs::fstatfs(target).at(Step::Mount, destination.display())?;
    let coverable = COVERABLE.iter().any(|path| Path::new(path) == destination);
    if statfs.f_type as u64 != husk_sys::procfs::MAGIC || coverable {
        return Ok(());
    }
    Err(Failure::because(Step::Mount, destination.display(), "nothing can be mounted inside /proc"))
}

fn attach_controllers(
    root: &Root,
    destination: &Path,
    controllers: Controllers,
    options: &Options,
) -> Result<OwnedFd, Failure> {
    let at = |error: husk_sys::Result<OwnedFd>| error.at(Step::Mount, destination.display());
    let tmpfs = at(Filesystem::new("tmpfs").and_then(|tmpfs| {
        if let Some(label) = options.context() {
            tmpfs.string(CONTEXT, label)?;
        }
        // A privileged container may write to it: it is for mount points and links, and for nothing else.
        tmpfs.string("mode", "755")?.string("size", "64k")?.string("nr_inodes", "128")?;
        tmpfs.mount(attributes(options))
    }))?;
    attach_filesystem(root, destination, &tmpfs, "tmpfs")?;
    // Through the tmpfs itself, which is new and ours: no path of the image leads there.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    for (name, tree) in controllers.trees {
        let place = fs::mkdirat(&tmpfs, &name, Mode::from_raw_mode(0o755))
            .and_then(|()| fs::openat(&tmpfs, &name, flags, Mode::empty()))
            .at(Step::Mount, destination.join(&name).display())?;
        mount::attach(&tree, &place).at(Step::Mount, destination.join(&name).display())?;
    }
    for (name, target) in controllers.links {
        fs::symlinkat(target, &tmpfs, &name).at(Step::Mount, destination.join(name).display())?;
    }
    Ok(tmpfs)
}

/// Makes the tmpfs mounts read-only that were asked to be.
pub(crate) fn finish(attached: Attached) -> Result<(), Failure> {
    attached.readonly_later.iter().try_for_each(|mount| {
        mount::change(mount, false, Change::set(Attr::MOUNT_ATTR_RDONLY)).at(Step::Readonly, "tmpfs")
    })
}
