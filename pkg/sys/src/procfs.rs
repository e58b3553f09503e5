//! procfs that a container cannot have tampered with.
//!
//! Writes to /proc by path were redirected by mounts and symlinks (CVE-2019-16884, CVE-2025-52881). [`Procfs::private`]
//! is a new mount that no path leads to; [`Procfs::host`] is the caller's /proc, checked. Below either, nothing may
//! be a symlink out or another mount.

use std::{
    io::Read,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{self, Mode, OFlags, ResolveFlags},
    io::Errno,
};

use crate::{
    Error, Result,
    error::Named,
    mount::{Attr, Filesystem},
};

/// `f_type` of procfs (PROC_SUPER_MAGIC).
pub const MAGIC: u64 = 0x9fa0;

/// A procfs.
#[derive(Debug)]
pub struct Procfs {
    root: OwnedFd,
}

impl Procfs {
    /// A new, detached procfs of the calling process's PID namespace. Its /proc/sys/net and the like show the namespaces
    /// of whoever opens them.
    ///
    /// # Errors
    /// Those of fsopen(2) and fsmount(2).
    pub fn private() -> Result<Self> {
        let attributes = Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NODEV | Attr::MOUNT_ATTR_NOEXEC;
        Ok(Self { root: Filesystem::new("proc")?.mount(attributes)? })
    }

    /// The /proc of the calling process, which must be a procfs.
    ///
    /// # Errors
    /// `EXDEV` when /proc is something else.
    pub fn host() -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = fs::open("/proc", flags, Mode::empty()).named("open", || "\"/proc\"".into())?;
        let statfs = fs::fstatfs(&root).named("fstatfs", || "\"/proc\"".into())?;
        if statfs.f_type as u64 != MAGIC {
            return Err(Error::new("fstatfs", "\"/proc\", which is no procfs", Errno::XDEV));
        }
        Ok(Self { root })
    }

    /// A mount of a procfs that the caller has checked to be one.
    ///
    /// # Errors
    /// When descriptors run out.
    pub fn at(root: &OwnedFd) -> Result<Self> {
        let root = root.try_clone().map_err(|error| {
            Error::new("fcntl", "F_DUPFD_CLOEXEC", Errno::from_io_error(&error).unwrap_or(Errno::MFILE))
        })?;
        Ok(Self { root })
    }

    /// The PID namespace that the caller's children go to.
    ///
    /// # Errors
    /// Those of openat2(2); `ENOENT` before the first one when it was just made.
    pub fn namespace_of_children(&self) -> Result<OwnedFd> {
        self.namespace_of(std::process::id(), "pid_for_children")
    }

    /// Opens a file of the calling process: `oom_score_adj`, `mountinfo`.
    ///
    /// # Errors
    /// Those of openat2(2); `EXDEV` when something is mounted over it.
    pub fn open_self(&self, name: &str, flags: OFlags) -> Result<OwnedFd> {
        self.open(&Path::new("self").join(name), flags, ResolveFlags::empty())
    }

    /// Reads a file of the calling process whole. Names in it may be any bytes; those that are no UTF-8 are replaced.
    ///
    /// # Errors
    /// As [`Self::open_self`].
    pub fn read_self(&self, name: &str) -> Result<String> {
        let file = self.open_self(name, OFlags::RDONLY)?;
        let mut bytes = Vec::new();
        std::fs::File::from(file)
            .read_to_end(&mut bytes)
            .map_err(|error| Error::new("read", name, Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// As [`Self::read_self`], of a process that the caller has not reaped: `uid_map`.
    ///
    /// # Errors
    /// Those of openat2(2) and read(2); `EXDEV` when something is mounted over it.
    pub fn read_of(&self, pid: u32, name: &str) -> Result<String> {
        let path = PathBuf::from(pid.to_string()).join(name);
        let file = self.open(&path, OFlags::RDONLY, ResolveFlags::NO_SYMLINKS)?;
        let mut text = String::new();
        std::fs::File::from(file).read_to_string(&mut text).map_err(|error| {
            Error::new("read", format!("{path:?}"), Errno::from_io_error(&error).unwrap_or(Errno::IO))
        })?;
        Ok(text)
    }

    /// Writes a file of a process that the caller has not reaped, so that the id is still its own: `uid_map`.
    ///
    /// # Errors
    /// Those of openat2(2) and write(2); `EXDEV` when something is mounted over it.
    pub fn write_of(&self, pid: u32, name: &str, text: &str) -> Result<()> {
        let path = PathBuf::from(pid.to_string()).join(name);
        let file = self.open(&path, OFlags::WRONLY, ResolveFlags::NO_SYMLINKS)?;
        // One write: the kernel takes an id map whole or not at all (user_namespaces(7)).
        rustix::io::write(&file, text.as_bytes()).named("write", || format!("{path:?}, {text:?}")).map(drop)
    }

    /// A namespace (`user`, `net`) of a process. The caller makes sure that the id is still that process's: it has not
    /// reaped it, or checks its identity afterwards.
    ///
    /// # Errors
    /// Those of openat2(2); `ENOENT` when there is no such process.
    pub fn namespace_of(&self, pid: u32, kind: &str) -> Result<OwnedFd> {
        let path = PathBuf::from(pid.to_string()).join("ns");
        self.namespace_in(&path, kind, ResolveFlags::NO_SYMLINKS)
    }

    /// A namespace of the calling process, whatever its number is in this procfs: in a PID namespace of its own it does not know that.
    ///
    /// # Errors
    /// Those of openat2(2).
    pub fn namespace_of_self(&self, kind: &str) -> Result<OwnedFd> {
        self.namespace_in(Path::new("self/ns"), kind, ResolveFlags::empty())
    }

    fn namespace_in(&self, path: &Path, kind: &str, resolve: ResolveFlags) -> Result<OwnedFd> {
        let dir = self.open(path, OFlags::PATH | OFlags::DIRECTORY, resolve)?;
        // The link itself is magic, which `open` refuses; its directory was found without any.
        fs::openat(&dir, kind, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .named("openat", || format!("proc, {path:?}, {kind:?}"))
    }

    /// Sets the sysctl at this path below /proc/sys: `net/ipv4/ip_forward`.
    ///
    /// # Errors
    /// `EINVAL` for a refused value, `ENOENT` for a sysctl the kernel does not have, `EXDEV` for a path that leads out of procfs.
    pub fn set_sysctl(&self, path: &str, value: &str) -> Result<()> {
        let path = Path::new("sys").join(path);
        let file = self.open(&path, OFlags::WRONLY, ResolveFlags::NO_SYMLINKS)?;
        rustix::io::write(&file, value.as_bytes()).named("write", || format!("{path:?}, {value:?}")).map(drop)
    }

    fn open(&self, path: &Path, flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd> {
        let resolve = resolve | ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
        fs::openat2(&self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
            .named("openat2", || format!("proc, {path:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_procfs_shows_the_caller() {
        let status = Procfs::host().unwrap().read_self("status").unwrap();
        assert!(status.contains("Pid:"));
    }
}
