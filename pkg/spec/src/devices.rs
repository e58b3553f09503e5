//! Device nodes in the container and the device cgroup's rules.

use husk_model::DeviceRule;
use oci_spec::runtime::{
    LinuxDevice, LinuxDeviceBuilder, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType,
};

use crate::SpecError;

/// A device of the node as it is to appear in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceNode {
    /// Absolute path in the container.
    pub path: String,
    /// Block device; otherwise a character device.
    pub block: bool,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Any of `r`, `w`, `m`.
    pub access: String,
}

/// Character devices every container may use (runtime-spec, "Default Devices"): null, zero, full, tty, random, urandom,
/// ptmx, console and the terminals of its devpts. `None` is any minor.
const DEFAULT: [(i64, Option<i64>); 9] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(1)),
    (5, Some(2)),
    (136, None),
];

pub(crate) fn nodes(devices: &[DeviceNode]) -> Result<Vec<LinuxDevice>, SpecError> {
    devices
        .iter()
        .map(|device| {
            Ok(LinuxDeviceBuilder::default()
                .path(device.path.as_str())
                .typ(if device.block { LinuxDeviceType::B } else { LinuxDeviceType::C })
                .major(i64::from(device.major))
                .minor(i64::from(device.minor))
                .file_mode(device.mode)
                .uid(device.uid)
                .gid(device.gid)
                .build()?)
        })
        .collect()
}

fn rule(
    allow: bool,
    kind: LinuxDeviceType,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> Result<LinuxDeviceCgroup, SpecError> {
    let mut builder = LinuxDeviceCgroupBuilder::default().allow(allow).typ(kind).access(access);
    if let Some(major) = major {
        builder = builder.major(major);
    }
    if let Some(minor) = minor {
        builder = builder.minor(minor);
    }
    Ok(builder.build()?)
}

/// Deny all, then: everything for a privileged container; else making any node (without using it), the defaults and the
/// request's devices and rules.
pub(crate) fn rules(
    privileged: bool,
    devices: &[DeviceNode],
    more: &[DeviceRule],
) -> Result<Vec<LinuxDeviceCgroup>, SpecError> {
    if privileged {
        return Ok(vec![rule(true, LinuxDeviceType::A, None, None, "rwm")?]);
    }
    let mut rules = vec![
        rule(false, LinuxDeviceType::A, None, None, "rwm")?,
        rule(true, LinuxDeviceType::C, None, None, "m")?,
        rule(true, LinuxDeviceType::B, None, None, "m")?,
    ];
    for (major, minor) in DEFAULT {
        rules.push(rule(true, LinuxDeviceType::C, Some(major), minor, "rwm")?);
    }
    for device in devices {
        let kind = if device.block { LinuxDeviceType::B } else { LinuxDeviceType::C };
        rules.push(rule(true, kind, Some(device.major.into()), Some(device.minor.into()), &device.access)?);
    }
    for more in more {
        let kinds = match more.block {
            Some(true) => &[LinuxDeviceType::B][..],
            Some(false) => &[LinuxDeviceType::C],
            None => &[LinuxDeviceType::B, LinuxDeviceType::C],
        };
        for kind in kinds {
            let (major, minor) = (more.major.map(i64::from), more.minor.map(i64::from));
            rules.push(rule(true, *kind, major, minor, &more.access)?);
        }
    }
    Ok(rules)
}
