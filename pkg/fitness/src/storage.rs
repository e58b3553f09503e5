//! The file systems of root and state: space, features, an overlay, mapped ids.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use husk_config::Config;
use husk_monitor::MonitorConfig;
use husk_sys::mount::{Attr, Filesystem};
use rustix::fs::{Mode, OFlags, XattrFlags};

use crate::{Check, words::read};

const NO_CONTAINER: &str = "no container can be started";
/// TMPFS_MAGIC of linux/magic.h.
const TMPFS: rustix::fs::FsWord = 0x0102_1994;
/// Less than this, or than a tenth, is little.
const LITTLE_BYTES: u64 = 2 << 30;
const LITTLE_INODES: u64 = 100_000;

pub(crate) async fn checks(config: &Config) -> Vec<Check> {
    let mut checks =
        vec![space("disk of root", &config.root), space("disk of state", &config.state), state(config)];
    match tempfile::Builder::new().prefix(".husk-check-").tempdir_in(nearest(&config.root)) {
        Ok(dir) => {
            checks.push(features(dir.path()));
            checks.push(overlay(dir.path()));
            checks.push(user_namespaces(config, dir.path()).await);
        }
        Err(error) => checks.push(Check::missing(
            "root directory",
            format!("{}: {error}", config.root.display()),
            NO_CONTAINER,
            "make its file system writable, or set root to another directory",
        )),
    }
    checks
}

/// The directory itself, or the nearest one above it that is there: huskd makes the rest.
fn nearest(dir: &Path) -> PathBuf {
    dir.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

fn space(subject: &'static str, dir: &Path) -> Check {
    let dir = nearest(dir);
    let stat = match rustix::fs::statvfs(&dir) {
        Ok(stat) => stat,
        Err(errno) => {
            let found = format!("{}: {errno}", dir.display());
            return Check::missing(subject, found, NO_CONTAINER, "make the directory readable");
        }
    };
    let (free, all) = (stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize);
    let (inodes, all_inodes) = (stat.f_favail, stat.f_files);
    let found = format!("{}: {} MiB and {} inodes free", dir.display(), free >> 20, inodes);
    // Some file systems (btrfs) make inodes as they are needed, and say 0 of 0. A small tmpfs is as small as it is wanted.
    let few = all_inodes > 0 && inodes < LITTLE_INODES.min(all_inodes / 10);
    if free < LITTLE_BYTES.min(all / 10) || few {
        return Check::warning(
            subject,
            found,
            "pulls and writes of containers fail soon, and the kubelet evicts pods",
            "free some, or move the directory to a larger file system",
        );
    }
    Check::ok(subject, found)
}

/// Records of pods must not outlive the boot.
fn state(config: &Config) -> Check {
    let dir = nearest(&config.state);
    match rustix::fs::statfs(&dir) {
        Ok(stat) if stat.f_type == TMPFS => Check::ok("state directory", "on a tmpfs"),
        _ => Check::warning(
            "state directory",
            format!("{} is not on a tmpfs", dir.display()),
            "records of pods outlive a reboot (the next start removes them), and each pod start writes to a disk",
            "set state to a directory on a tmpfs, such as /run/husk",
        ),
    }
}

/// File types in listings and extended attributes: overlayfs needs both of its upper file system.
fn features(dir: &Path) -> Check {
    let file = dir.join("file");
    let tried = fs::write(&file, "").and_then(|()| {
        let set = |name: &str| {
            rustix::fs::setxattr(&file, name, b"y", XattrFlags::empty()).map_err(|errno| {
                io::Error::new(io::Error::from(errno).kind(), format!("set {name}: {errno}"))
            })
        };
        set("trusted.husk.check")?;
        set("user.husk.check")?;
        let open =
            rustix::fs::open(dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        for entry in rustix::fs::Dir::new(open)? {
            if entry?.file_type() == rustix::fs::FileType::Unknown {
                return Err(io::Error::other(
                    "listings do not tell types of files (d_type; XFS with ftype=0)",
                ));
            }
        }
        Ok(())
    });
    match tried {
        Ok(()) => Check::ok("file system of root", "tells types of files, has trusted and user attributes"),
        Err(error) => Check::missing(
            "file system of root",
            error.to_string(),
            NO_CONTAINER,
            "put root on ext4, on XFS made with ftype=1, or on btrfs",
        ),
    }
}

/// Mounts an overlay that is attached nowhere, with the options of a container's root, and writes through it.
fn overlay(dir: &Path) -> Check {
    match try_overlay(dir) {
        Ok(()) => Check::ok("overlay", "an overlay was mounted and written to"),
        Err(error) => Check::missing(
            "overlay",
            error,
            NO_CONTAINER,
            "modprobe overlay (CONFIG_OVERLAY_FS), and root on a file system that can be its upper layer",
        ),
    }
}

fn try_overlay(dir: &Path) -> Result<(), String> {
    let parts = ["lower", "upper", "work"].map(|name| dir.join(name));
    for part in &parts {
        fs::create_dir(part).map_err(|error| format!("{}: {error}", part.display()))?;
    }
    let [lower, upper, work] = &parts;
    fs::write(lower.join("below"), "x").map_err(|error| error.to_string())?;
    let mount = Filesystem::new("overlay").map_err(|error| error.to_string()).and_then(|overlay| {
        for (key, path) in [("lowerdir", lower), ("upperdir", upper), ("workdir", work)] {
            overlay.string(key, path.as_path()).map_err(|error| error.to_string())?;
        }
        overlay.mount(Attr::empty()).map_err(|error| error.to_string())
    })?;
    let write = || -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CLOEXEC;
        fs::File::from(rustix::fs::openat(&mount, "below", flags, Mode::empty())?).write_all(b"y")
    };
    write().map_err(|error| format!("write to an overlay: {error}"))?;
    match fs::read(upper.join("below")) {
        Ok(text) if text == b"xy" => Ok(()),
        _ => Err("a write to an overlay did not reach its upper layer".into()),
    }
}

/// In a process of its own, which husk-podmon is able to be.
async fn user_namespaces(config: &Config, dir: &Path) -> Check {
    let subject = "user namespaces";
    let consequence = "pods with hostUsers: false are refused";
    if read("/proc/sys/user/max_user_namespaces").as_deref() == Some("0") {
        let found = "user.max_user_namespaces is 0";
        return Check::warning(subject, found, consequence, "sysctl -w user.max_user_namespaces=65536");
    }
    if let Err(error) = fs::metadata(&config.runtime.podmon) {
        let found = format!("not tried: {}: {error}", config.runtime.podmon.display());
        return Check::warning(subject, found, consequence, "install husk-podmon beside huskd");
    }
    let monitor = MonitorConfig {
        podmon_path: config.runtime.podmon.clone(),
        pause_path: config.runtime.pause.clone(),
        nofile_soft: None,
    };
    match monitor.probe_user_namespaces(dir).await {
        Ok(()) => Check::ok(subject, "a mapped layer was mounted in one"),
        Err(reason) => Check::warning(
            subject,
            reason,
            consequence,
            "Linux 5.19 or later, and root on a file system that can be mapped (ext4, XFS, btrfs)",
        ),
    }
}
