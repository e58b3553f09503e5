//! The filesystem that holds the writable layers, and names of block devices.

use std::{collections::HashMap, fs, path::Path};

use rustix::fs::{major, minor, stat, statvfs};

use crate::{Error, Result};

/// A filesystem's size and device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Volume {
    /// What is mounted, as mount(8) shows it: `/dev/sda1`; `major:minor` when that is not known.
    pub device: String,
    /// Size in bytes.
    pub bytes: u64,
    /// How many inodes it can have; 0 where there is no such limit.
    pub inodes: u64,
    /// How many of them are free.
    pub inodes_free: u64,
}

/// The filesystem that `path` is on, in constant time.
///
/// # Errors
/// `path` does not exist or its filesystem does not answer.
pub fn volume(path: &Path) -> Result<Volume> {
    let fail = |operation| {
        move |errno: rustix::io::Errno| Error::File { operation, path: path.to_owned(), source: errno.into() }
    };
    let size = statvfs(path).map_err(fail("statvfs"))?;
    let device = stat(path).map_err(fail("stat"))?.st_dev;
    let number = format!("{}:{}", major(device), minor(device));
    let mounts = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let mounts = String::from_utf8_lossy(&mounts);
    Ok(Volume {
        device: source(&mounts, &number).unwrap_or(number),
        bytes: size.f_blocks.saturating_mul(size.f_frsize),
        inodes: size.f_files,
        inodes_free: size.f_ffree,
    })
}

/// What is mounted from device `number` (proc_pid_mountinfo(5)):
/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
pub(crate) fn source(mountinfo: &str, number: &str) -> Option<String> {
    mountinfo.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        (before.split(' ').nth(2)? == number).then(|| after.split(' ').nth(1).map(str::to_owned))?
    })
}

/// Names of block devices by number, each looked up once.
#[derive(Debug, Default)]
pub struct DeviceNames(HashMap<(u32, u32), String>);

impl DeviceNames {
    /// `/dev/sda`; `major:minor` of a device that sysfs does not know.
    pub fn of(&mut self, major: u32, minor: u32) -> &str {
        self.0.entry((major, minor)).or_insert_with(|| {
            let uevent = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/uevent"));
            let name = uevent.ok().and_then(|text| {
                text.lines().find_map(|line| line.strip_prefix("DEVNAME=").map(|name| format!("/dev/{name}")))
            });
            name.unwrap_or_else(|| format!("{major}:{minor}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_is_that_of_the_devices_own_mount() {
        let text = "22 1 254:0 / / rw shared:1 - ext4 /dev/vda1 rw\n30 22 0:25 / /proc rw - proc proc rw\n";
        assert_eq!(source(text, "254:0").as_deref(), Some("/dev/vda1"));
        assert_eq!(source(text, "0:25").as_deref(), Some("proc"));
        assert_eq!(source(text, "9:9"), None);
    }

    #[test]
    fn a_volume_has_a_size_and_an_unknown_device_its_number() {
        let root = volume(Path::new("/")).unwrap();
        assert!(root.bytes > 0 && !root.device.is_empty(), "{root:?}");
        assert!(volume(Path::new("/no/such/path")).is_err());
        assert_eq!(DeviceNames::default().of(4095, 1), "4095:1");
    }
}
