//! Looking up devices of the node.

use std::{
    fs,
    path::{Path, PathBuf},
};

use husk_cdi::{CdiError, Edits};
use husk_model::{ContainerConfig, Device, UserSpec};
use husk_spec::DeviceNode;
use rustix::fs::{FileType, Stat, major, minor, stat};

use tracing::warn;

use crate::error::{PodsError, Result};

/// What the CDI devices of these names change.
pub(crate) fn cdi(dirs: &[PathBuf], names: &[String]) -> std::result::Result<Edits, CdiError> {
    let unknown = |name: &String| CdiError::Unknown { name: name.clone(), broken: Vec::new() };
    let names = names.iter().map(|name| name.parse().map_err(|_| unknown(name)));
    let names = names.collect::<std::result::Result<Vec<_>, _>>()?;
    let edits = husk_cdi::load(dirs, &names)?;
    edits.warnings.iter().for_each(|warning| warn!("CDI device {warning}"));
    Ok(edits)
}

/// Who device nodes belong to that have no owner of their own: the container's user, as far as the request has it.
pub(crate) fn owner(config: &ContainerConfig) -> Option<u32> {
    match config.security.run_as_user {
        Some(UserSpec::Uid(uid)) => Some(uid),
        _ => None,
    }
}

/// Directories of /dev that are not devices of the node: each container has its own.
const NOT_DEVICES: [&str; 6] = ["pts", "shm", "mqueue", "fd", ".lxc", ".udev"];

/// Depth to which a directory of devices is searched; /dev/bus/usb/001 is three deep.
const MAX_DEPTH: u32 = 6;

/// The request's devices and, for a privileged container, all of the node's.
pub(crate) fn collect(config: &ContainerConfig) -> Result<Vec<DeviceNode>> {
    let mut nodes = Vec::new();
    if config.security.privileged {
        walk(Path::new("/dev"), "/dev", "rwm", MAX_DEPTH, &mut nodes);
        nodes.retain(|node| node.path != "/dev/console" && node.path != "/dev/ptmx");
    }
    for (index, device) in config.devices.iter().enumerate() {
        let before = nodes.len();
        request(index, device, &mut nodes)?;
        // A node named by the request replaces the one that privileged mode brought.
        let named: Vec<String> = nodes[before..].iter().map(|node| node.path.clone()).collect();
        let mut position = 0;
        nodes.retain(|node| {
            position += 1;
            position > before || !named.contains(&node.path)
        });
    }
    Ok(nodes)
}

fn request(index: usize, device: &Device, nodes: &mut Vec<DeviceNode>) -> Result<()> {
    let field = || format!("config.devices[{index}].host_path");
    let wrong =
        |reason: String| PodsError::HostPath { field: field(), path: device.host_path.clone(), reason };
    let status = stat(&device.host_path).map_err(|errno| wrong(errno.to_string()))?;
    if let Some(node) = node(&status, &device.container_path, &device.permissions) {
        nodes.push(node);
        return Ok(());
    }
    if FileType::from_raw_mode(status.st_mode) != FileType::Directory {
        return Err(wrong("is neither a device nor a directory of devices".to_owned()));
    }
    let before = nodes.len();
    walk(Path::new(&device.host_path), &device.container_path, &device.permissions, MAX_DEPTH, nodes);
    if nodes.len() == before { Err(wrong("is a directory without devices".to_owned())) } else { Ok(()) }
}

fn node(status: &Stat, path: &str, access: &str) -> Option<DeviceNode> {
    let block = match FileType::from_raw_mode(status.st_mode) {
        FileType::BlockDevice => true,
        FileType::CharacterDevice => false,
        _ => return None,
    };
    Some(DeviceNode {
        path: path.to_owned(),
        block,
        major: major(status.st_rdev),
        minor: minor(status.st_rdev),
        mode: status.st_mode & 0o7777,
        uid: status.st_uid,
        gid: status.st_gid,
        access: access.to_owned(),
    })
}

/// Adds every device below `dir`; what cannot be read or is a symlink is passed over.
fn walk(dir: &Path, shown: &str, access: &str, depth: u32, nodes: &mut Vec<DeviceNode>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let Ok(status) = rustix::fs::lstat(entry.path()) else { continue };
        let path = format!("{shown}/{name}");
        if let Some(node) = node(&status, &path, access) {
            nodes.push(node);
        } else if FileType::from_raw_mode(status.st_mode) == FileType::Directory
            && depth > 0
            && !NOT_DEVICES.contains(&name.as_str())
        {
            walk(&entry.path(), &path, access, depth - 1, nodes);
        }
    }
}
