//! Devices, links and the terminal in a container's /dev.

use std::{
    ffi::OsStr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use husk_sys::{
    mount,
    mount::{Attr, Filesystem},
    root::{Node, Root},
};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};
use rustix::{
    fs::{self, FileType, Gid, Mode, OFlags, Uid},
    io::Errno,
};

use super::{
    attach,
    planned::{self, Planned, Source},
};
use crate::{Failure, Step, UserNamespace, failure::At};

/// The devices every container has (OCI runtime-spec, config-linux: Default Devices).
const DEFAULTS: &[(&str, u32, u32)] = &[
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// Links in /dev (OCI runtime-spec, runtime-linux: Dev symbolic links), and what they lead to.
const LINKS: &[(&str, &str)] = &[
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("core", "/proc/kcore"),
    ("ptmx", "pts/ptmx"),
];

/// For a user namespace, in which no device can be made: makes the container's /dev and the devices in it before it is
/// entered. The default devices are root's in the container. Those of the spec keep the owner that they have on the
/// node: a privileged container sees all of the node's, and may open what anybody on the node may.
pub(crate) fn make_on_node(
    planned: &mut Vec<Planned>,
    devices: &[LinuxDevice],
    user: &UserNamespace,
) -> Result<(), Failure> {
    let owner = user.root();
    let mut elsewhere = Vec::new();
    for mount in planned.iter_mut().filter(|mount| mount.destination == Path::new("/dev")) {
        let Source::New { kind, name, options } = &mut mount.source else { continue };
        for (key, id) in [("uid", owner.0), ("gid", owner.1)] {
            options.data.push((key.to_owned(), Some(id.to_string())));
        }
        let tmpfs = attach::make(kind, name, options, &mount.destination)?;
        let root = Root::new(tmpfs.try_clone().at(Step::Device, "/dev")?);
        for device in devices {
            match device.path().strip_prefix("/dev") {
                Ok(path) => create(&root, path, DeviceNode::of(device)?, None)?,
                Err(_) => elsewhere.push(alone(device)?),
            }
        }
        for &(path, major, minor) in DEFAULTS {
            let node = DeviceNode { owner, ..DeviceNode::default_device(major, minor) };
            create(&root, Path::new(path).strip_prefix("/dev").unwrap_or(Path::new(path)), node, None)?;
        }
        mount.source = Source::Made { tmpfs, readonly: options.readonly() };
    }
    planned.extend(elsewhere);
    Ok(())
}

/// A device outside of /dev, as a mount of its own.
fn alone(device: &LinuxDevice) -> Result<Planned, Failure> {
    let (step, object) = (Step::Device, device.path().display());
    let tmpfs =
        Filesystem::new("tmpfs").and_then(|new| new.mount(Attr::MOUNT_ATTR_NOSUID)).at(step, &object)?;
    let root = Root::new(tmpfs);
    create(&root, Path::new("device"), DeviceNode::of(device)?, None)?;
    let node = root.open("device", OFlags::PATH).at(step, &object)?;
    let tree = mount::clone_fd(node, false).at(step, &object)?;
    let destination = planned::destination(device.path())?;
    Ok(Planned {
        destination,
        source: Source::Tree { tree, directory: false, procfs: false, shared: None, follows: None },
    })
}

/// The /dev of a root that nothing is mounted on there: a directory of the root itself, made if it is missing.
pub(crate) fn of_root(root: &Root) -> Result<OwnedFd, Failure> {
    root.ensure("/dev", Node::Directory, Mode::from_raw_mode(0o755)).at(Step::Device, "/dev")
}

/// Creates devices and links in `dev`, the container's own /dev, and what the request wants elsewhere.
pub(crate) fn furnish(root: &Root, dev: &OwnedFd, devices: &[LinuxDevice]) -> Result<(), Failure> {
    refuse_covered(root, dev)?;
    let filesystem = |fd: BorrowedFd<'_>| fs::fstat(fd).map(|stat| stat.st_dev).at(Step::Device, "/dev");
    let homes = [filesystem(root.as_fd())?, filesystem(dev.as_fd())?];
    let make = |path: &Path, node: DeviceNode| match in_dev(path) {
        Some(name) => node.make(dev.as_fd(), name, path),
        None => create(root, path, node, Some(homes)),
    };
    for device in devices {
        make(device.path(), DeviceNode::of(device)?)?;
    }
    for &(path, major, minor) in DEFAULTS {
        make(Path::new(path), DeviceNode::default_device(major, minor))?;
    }
    for &(name, target) in LINKS {
        match fs::symlinkat(target, dev, name) {
            // The spec's own mounts and devices come first.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno).at(Step::Device, format_args!("/dev/{name}")),
        }
    }
    Ok(())
}

/// The name of what lies right in /dev.
fn in_dev(path: &Path) -> Option<&OsStr> {
    path.file_name().filter(|_| path.parent() == Some(Path::new("/dev")))
}

/// A volume whose destination leads to /dev by a link of the image lies on the container's own. What is made in /dev would be made
/// in the volume, on the node's disk and with the node's privileges. (A volume at /dev itself is asked for, and nothing made in it.)
fn refuse_covered(root: &Root, dev: &OwnedFd) -> Result<(), Failure> {
    let step = Step::Device;
    let shown = root.open_straight("dev", OFlags::PATH | OFlags::DIRECTORY).at(step, "/dev")?;
    let (shown, own) = (fs::fstat(shown).at(step, "/dev")?, fs::fstat(dev).at(step, "/dev")?);
    if (shown.st_dev, shown.st_ino) == (own.st_dev, own.st_ino) {
        return Ok(());
    }
    Err(Failure::because(
        Step::Mount,
        "/dev",
        "a mount lies on it whose destination is a link of the image to /dev",
    ))
}

struct DeviceNode {
    kind: FileType,
    number: u64,
    mode: u32,
    owner: (u32, u32),
}

impl DeviceNode {
    fn of(device: &LinuxDevice) -> Result<Self, Failure> {
        let refuse = |why| Failure::because(Step::Device, device.path().display(), why);
        let kind = match device.typ() {
            LinuxDeviceType::B => FileType::BlockDevice,
            LinuxDeviceType::C | LinuxDeviceType::U => FileType::CharacterDevice,
            LinuxDeviceType::P => FileType::Fifo,
            LinuxDeviceType::A => return Err(refuse("type \"a\" is no device")),
        };
        let number = |number: i64| u32::try_from(number).map_err(|_| refuse("bad device number"));
        Ok(Self {
            kind,
            number: fs::makedev(number(device.major())?, number(device.minor())?),
            mode: device.file_mode().unwrap_or(0o666),
            owner: (device.uid().unwrap_or(0), device.gid().unwrap_or(0)),
        })
    }

    fn default_device(major: u32, minor: u32) -> Self {
        let number = fs::makedev(major, minor);
        Self { kind: FileType::CharacterDevice, number, mode: 0o666, owner: (0, 0) }
    }

    /// Makes it in a directory, as what the container sees at `path`.
    fn make(&self, parent: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<(), Failure> {
        // Exact, because the child's umask is 0 until it is set up.
        let mode = Mode::from_raw_mode(self.mode & 0o7777);
        match fs::mknodat(parent, name, self.kind, mode, self.number) {
            Ok(()) => {}
            // Listed twice, or a mount of the spec lies there.
            Err(Errno::EXIST) => return Ok(()),
            Err(errno) => return Err(errno).at(Step::Device, path.display()),
        }
        if self.owner != (0, 0) {
            let (uid, gid) = (Uid::from_raw(self.owner.0), Gid::from_raw(self.owner.1));
            fs::chownat(parent, name, Some(uid), Some(gid), fs::AtFlags::SYMLINK_NOFOLLOW)
                .at(Step::Device, path.display())?;
        }
        Ok(())
    }
}

/// Only in the filesystems `homes`, if there are any: no device is made in a volume.
fn create(root: &Root, path: &Path, device: DeviceNode, homes: Option<[u64; 2]>) -> Result<(), Failure> {
    let object = path.display();
    let (parent, name) = root.ensure_parent(path).at(Step::Device, &object)?;
    let home = fs::fstat(&parent).at(Step::Device, &object)?.st_dev;
    if homes.is_some_and(|homes| !homes.contains(&home)) {
        return Err(Failure::because(Step::Device, object, "it would be made in a mounted volume"));
    }
    device.make(parent.as_fd(), name, path)
}

/// Puts the container's terminal at /dev/console. The slave is the descriptor the kernel gave for our own master, not
/// whatever lies at some path (CVE-2025-52565).
pub(crate) fn console(root: &Root, slave: BorrowedFd<'_>) -> Result<(), Failure> {
    let (step, object) = (Step::Terminal, "/dev/console");
    let tree: OwnedFd = mount::clone_fd(slave, false).at(step, object)?;
    let target = root.ensure("/dev/console", Node::File, Mode::from_raw_mode(0o755)).at(step, object)?;
    mount::attach(tree.as_fd(), &target).at(step, object)?;
    let shown = root.open("/dev/console", OFlags::PATH).at(step, object)?;
    let (shown, own) = (fs::fstat(&shown).at(step, object)?, fs::fstat(slave).at(step, object)?);
    if (shown.st_rdev, shown.st_ino) != (own.st_rdev, own.st_ino) {
        return Err(Failure::because(step, object, "it is not the terminal that was put there"));
    }
    Ok(())
}
