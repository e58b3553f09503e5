//! The descriptor-based mount API: a mount is made detached, given its attributes, then attached to a directory that is
//! already open. No path string is resolved between check and use.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::{
    fs::{AtFlags, CWD},
    io::Errno,
    mount as sys,
    mount::{FsMountFlags, FsOpenFlags, FsPickFlags, MoveMountFlags, OpenTreeFlags},
    path::Arg,
};

pub use rustix::mount::MountAttrFlags as Attr;

use crate::{
    Error, Result,
    error::{Named, check},
};

/// How a mount passes mount events on (mount_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Neither way.
    Private,
    /// Both ways.
    Shared,
    /// From the source only.
    Slave,
    /// Neither way, and it cannot be bind-mounted.
    Unbindable,
}

impl Propagation {
    const fn flag(self) -> u64 {
        match self {
            Self::Private => libc::MS_PRIVATE,
            Self::Shared => libc::MS_SHARED,
            Self::Slave => libc::MS_SLAVE,
            Self::Unbindable => libc::MS_UNBINDABLE,
        }
    }
}

/// A change of a mount's attributes.
#[derive(Debug, Clone, Copy)]
pub struct Change {
    /// Attributes to set.
    pub set: Attr,
    /// Attributes to clear. Setting an access-time mode clears the others by itself.
    pub clear: Attr,
    /// Propagation to give it.
    pub propagation: Option<Propagation>,
}

impl Default for Change {
    fn default() -> Self {
        Self { set: Attr::empty(), clear: Attr::empty(), propagation: None }
    }
}

impl Change {
    /// Sets attributes.
    pub fn set(attributes: Attr) -> Self {
        Self { set: attributes, ..Self::default() }
    }

    /// Sets the propagation.
    pub fn propagation(propagation: Propagation) -> Self {
        Self { propagation: Some(propagation), ..Self::default() }
    }

    /// Whether nothing would change.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.clear.is_empty() && self.propagation.is_none()
    }
}

/// A filesystem being configured.
#[derive(Debug)]
pub struct Filesystem {
    context: OwnedFd,
    kind: String,
}

impl Filesystem {
    /// Begins a new instance of a filesystem type.
    ///
    /// # Errors
    /// `ENODEV` for a type the kernel does not have.
    pub fn new(kind: &str) -> Result<Self> {
        let context =
            sys::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).named("fsopen", || format!("{kind:?}"))?;
        Ok(Self { context, kind: kind.to_owned() })
    }

    /// Sets `key=value`. The kernel takes at most 255 bytes.
    ///
    /// # Errors
    /// `EINVAL` for an option the filesystem does not have or a value it refuses.
    pub fn string(&self, key: &str, value: impl Arg + Copy) -> Result<&Self> {
        sys::fsconfig_set_string(&self.context, key, value).map_err(|errno| {
            self.error(format!("{:?}, {key:?}, {:?}", self.kind, value.to_string_lossy()), errno)
        })?;
        Ok(self)
    }

    /// Sets an option without a value.
    ///
    /// # Errors
    /// `EINVAL` for an option the filesystem does not have.
    pub fn flag(&self, key: &str) -> Result<&Self> {
        sys::fsconfig_set_flag(&self.context, key)
            .map_err(|errno| self.error(format!("{:?}, {key:?}", self.kind), errno))?;
        Ok(self)
    }

    /// Creates the superblock and a detached mount of it.
    ///
    /// # Errors
    /// Those of the filesystem, with its own message where it has one.
    pub fn mount(&self, attributes: Attr) -> Result<OwnedFd> {
        sys::fsconfig_create(&self.context)
            .map_err(|errno| self.error(format!("{:?}, FSCONFIG_CMD_CREATE", self.kind), errno))?;
        sys::fsmount(&self.context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .named("fsmount", || format!("{:?}, {attributes:?}", self.kind))
    }

    fn error(&self, arguments: String, errno: Errno) -> Error {
        // The kernel queues messages on the context: "e overlay: No changes allowed in lower layer".
        let mut buffer = [0_u8; 512];
        let mut notes = Vec::new();
        while let Ok(length) = rustix::io::read(&self.context, &mut buffer) {
            if length < 2 {
                break;
            }
            notes.push(String::from_utf8_lossy(&buffer[2..length]).trim_end().to_owned());
        }
        Error::new("fsconfig", arguments, errno).with_note(notes.join("; "))
    }
}

/// A detached copy of the mount (with `recursive`: and those below it) at `path`, or of what lies at that path in it.
/// Symlinks are followed.
///
/// # Errors
/// `ENOENT`, `ENOTDIR`, `EACCES` of the path; `EINVAL` for an unbindable mount.
pub fn clone_path(path: impl Arg + Copy, recursive: bool) -> Result<OwnedFd> {
    let flags = clone_flags(recursive);
    sys::open_tree(CWD, path, flags).named("open_tree", || format!("{:?}, {flags:?}", path.to_string_lossy()))
}

/// As [`clone_path`], of an open file or directory in the caller's mount namespace.
///
/// # Errors
/// `EINVAL` when it is not in the caller's mount namespace.
pub fn clone_fd(fd: impl AsFd, recursive: bool) -> Result<OwnedFd> {
    let flags = clone_flags(recursive) | OpenTreeFlags::AT_EMPTY_PATH;
    sys::open_tree(fd, c"", flags).named("open_tree", || format!("fd, {flags:?}"))
}

fn clone_flags(recursive: bool) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive { flags | OpenTreeFlags::AT_RECURSIVE } else { flags }
}

/// Attaches a detached mount on top of an open file or directory.
///
/// # Errors
/// `ENOTDIR` when one is a directory and the other is not; `EINVAL` when the target is not in the caller's namespace.
pub fn attach(mount: impl AsFd, target: impl AsFd) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    sys::move_mount(mount, c"", target, c"", flags).named("move_mount", || "mount, target".into())
}

/// Changes attributes of the mount whose root is open at `mount`.
///
/// # Errors
/// `EINVAL` when it is no mount's root, `EPERM` for attributes locked by another user namespace.
pub fn change(mount: impl AsFd, recursive: bool, change: Change) -> Result<()> {
    if change.is_empty() {
        return Ok(());
    }
    let atime = u64::from(Attr::MOUNT_ATTR__ATIME.bits());
    let changes_atime = change.set.bits() & (Attr::MOUNT_ATTR_NOATIME | Attr::MOUNT_ATTR_STRICTATIME).bits()
        != 0
        || change.clear.bits() & Attr::MOUNT_ATTR__ATIME.bits() != 0;
    let attributes = libc::mount_attr {
        attr_set: u64::from(change.set.bits()),
        // The access-time modes are one field: the kernel wants all of it cleared when any of it is set.
        attr_clr: u64::from(change.clear.bits()) & !atime | if changes_atime { atime } else { 0 },
        propagation: change.propagation.map_or(0, Propagation::flag),
        userns_fd: 0,
    };
    set_attributes(mount, recursive, attributes)
        .named("mount_setattr", || format!("mount, recursive={recursive}, {change:?}"))
}

/// Gives a detached mount (with `recursive`: and those below it) the ids of a user namespace: what id 0 owns on disk, the
/// namespace's own id 0 owns here. Cannot be undone or repeated.
///
/// # Errors
/// `EINVAL` for a filesystem that cannot do it (Linux 5.12 ext4, 5.15 btrfs, 6.3 tmpfs) and for a mount that was attached or
/// mapped already; `EPERM` without CAP_SYS_ADMIN over the filesystem.
pub fn map_ids(mount: impl AsFd, recursive: bool, user_namespace: impl AsFd) -> Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: user_namespace.as_fd().as_raw_fd() as u64,
    };
    set_attributes(mount, recursive, attributes)
        .named("mount_setattr", || format!("mount, recursive={recursive}, MOUNT_ATTR_IDMAP"))
}

fn set_attributes(
    mount: impl AsFd,
    recursive: bool,
    mut attributes: libc::mount_attr,
) -> rustix::io::Result<()> {
    let flags = (AtFlags::EMPTY_PATH.bits()) | if recursive { libc::AT_RECURSIVE as u32 } else { 0 };
    // SAFETY: the path is a constant C string; `attributes` lives across the call and its size is passed with it.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw mut attributes,
            size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}

/// Makes the whole filesystem behind a mount read-only, for every mount of it.
///
/// # Errors
/// `EBUSY` when a file on it is open for writing.
pub fn seal(mount: impl AsFd) -> Result<()> {
    let flags = FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH;
    let context = sys::fspick(mount, c"", flags).named("fspick", || "mount".into())?;
    sys::fsconfig_set_flag(&context, "ro").named("fsconfig", || "\"ro\"".into())?;
    sys::fsconfig_reconfigure(&context).named("fsconfig", || "FSCONFIG_CMD_RECONFIGURE".into())
}
