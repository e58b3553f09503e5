//! Devices, links and the terminal in a container's /dev.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use husk_sys::{
    mount,
    root::{Node, Root},
};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};
use rustix::{
    fs::{self, FileType, Gid, Mode, OFlags, Uid},
    io::Errno,
};

use super::sources::{Planned, Source};
use crate::{Failure, Step, failure::At};

/// The devices every container has (OCI runtime-spec, config-linux: Default Devices).
const DEFAULTS: &[(&str, u32, u32)] = &[
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

const LINKS: &[(&str, &str)] = &[
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/core", "/proc/kcore"),
    ("/dev/ptmx", "pts/ptmx"),
];

/// Whether /dev is the container's own. A bind of some directory there is left as it is.
pub(crate) fn is_own(planned: &[Planned]) -> bool {
    planned
        .iter()
        .any(|mount| mount.destination == Path::new("/dev") && matches!(mount.source, Source::New { .. }))
}

/// Creates devices and links.
pub(crate) fn furnish(root: &Root, devices: &[LinuxDevice]) -> Result<(), Failure> {
    for device in devices {
        let kind = match device.typ() {
            LinuxDeviceType::B => FileType::BlockDevice,
            LinuxDeviceType::C | LinuxDeviceType::U => FileType::CharacterDevice,
            LinuxDeviceType::P => FileType::Fifo,
            LinuxDeviceType::A => {
                return Err(Failure::because(
                    Step::Device,
                    device.path().display(),
                    "type \"a\" is no device",
                ));
            }
        };
        let number = |number: i64| {
            u32::try_from(number)
                .map_err(|_| Failure::because(Step::Device, device.path().display(), "bad device number"))
        };
        let node = DeviceNode {
            kind,
            number: fs::makedev(number(device.major())?, number(device.minor())?),
            mode: device.file_mode().unwrap_or(0o666),
            owner: (device.uid().unwrap_or(0), device.gid().unwrap_or(0)),
        };
        create(root, device.path(), node)?;
    }
    for &(path, major, minor) in DEFAULTS {
        let number = fs::makedev(major, minor);
        let node = DeviceNode { kind: FileType::CharacterDevice, number, mode: 0o666, owner: (0, 0) };
        create(root, Path::new(path), node)?;
    }
    for &(path, target) in LINKS {
        let (parent, name) = root.ensure_parent(Path::new(path)).at(Step::Device, path)?;
        match fs::symlinkat(target, &parent, name) {
            // The spec's own mounts and devices come first.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno).at(Step::Device, path),
        }
    }
    Ok(())
}

struct DeviceNode {
    kind: FileType,
    number: u64,
    mode: u32,
    owner: (u32, u32),
}

fn create(root: &Root, path: &Path, device: DeviceNode) -> Result<(), Failure> {
    let object = path.display();
    let (parent, name) = root.ensure_parent(path).at(Step::Device, &object)?;
    // Exact, because the child's umask is 0 until it is set up.
    let mode = Mode::from_raw_mode(device.mode & 0o7777);
    match fs::mknodat(&parent, name, device.kind, mode, device.number) {
        Ok(()) => {}
        // Listed twice, or a mount of the spec lies there.
        Err(Errno::EXIST) => return Ok(()),
        Err(errno) => return Err(errno).at(Step::Device, &object),
    }
    if device.owner != (0, 0) {
        let (uid, gid) = (Uid::from_raw(device.owner.0), Gid::from_raw(device.owner.1));
        fs::chownat(&parent, name, Some(uid), Some(gid), fs::AtFlags::SYMLINK_NOFOLLOW)
            .at(Step::Device, &object)?;
    }
    Ok(())
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
