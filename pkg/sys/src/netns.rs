//! Network namespaces as descriptors: make one, run code inside one, pin one to a path, take the pin away.
//!
//! `unshare` and `setns` change the calling thread only, so everything here that enters a namespace does it on a
//! thread of its own, which ends when the work is done. No thread of the caller ever changes its namespace.

use std::{
    ffi::CString,
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    },
    path::Path,
    thread,
};

use rustix::{
    mount::{UnmountFlags, mount_bind, unmount},
    thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space},
};

/// Magic number of nsfs, the filesystem namespace files live on (include/uapi/linux/magic.h).
const NSFS_MAGIC: rustix::fs::FsWord = 0x6e73_6673;

/// The namespace file of the calling thread.
const SELF: &str = "/proc/thread-self/ns/net";

/// Makes an empty network namespace (only a downed `lo`) and runs `prepare` inside it. The namespace lives as long
/// as the returned descriptor, a pin, a socket or a process in it.
///
/// `/proc/sys/net` seen by `prepare` is that of the new namespace: the kernel picks it by the reading thread.
///
/// # Errors
/// The errno of unshare(2) (`EPERM` without CAP_SYS_ADMIN, `ENOSPC` at `user.max_net_namespaces`) or of opening
/// the namespace file.
pub fn create<T: Send>(prepare: impl FnOnce() -> T + Send) -> io::Result<(OwnedFd, T)> {
    on_thread(|| {
        unshare_net()?;
        let ns: OwnedFd = File::open(SELF)?.into();
        Ok((ns, prepare()))
    })
}

/// Runs `inside` on a fresh thread in the namespace `ns`. A socket opened there belongs to `ns` for good and may be
/// used from any thread afterwards.
///
/// # Errors
/// The errno of setns(2): `EINVAL` when `ns` is not a network namespace.
pub fn with<T: Send>(ns: BorrowedFd<'_>, inside: impl FnOnce() -> T + Send) -> io::Result<T> {
    on_thread(|| {
        move_into_link_name_space(ns, Some(LinkNameSpaceType::Network))?;
        Ok(inside())
    })
}

/// The namespace of the calling thread.
///
/// # Errors
/// Those of opening `/proc/thread-self/ns/net`.
pub fn current() -> io::Result<OwnedFd> {
    Ok(File::open(SELF)?.into())
}

/// Opens the namespace pinned at `path`.
///
/// # Errors
/// `NotFound` when there is no such file; `InvalidInput` when it is not a namespace file, as after a reboot or when
/// the pin was taken away and only the plain file below is left.
pub fn open(path: &Path) -> io::Result<OwnedFd> {
    let file = File::open(path)?;
    if rustix::fs::fstatfs(&file)?.f_type == NSFS_MAGIC {
        Ok(file.into())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a namespace file"))
    }
}

/// Pins `ns` at `path`: an empty file is created there (it must not exist) and the namespace bind-mounted onto it.
/// A failed mount leaves no file.
///
/// # Errors
/// `AlreadyExists` when something is at `path`; otherwise the errno of the open or the mount.
pub fn pin(ns: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    drop(OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?);
    let source = format!("/proc/self/fd/{}", ns.as_fd().as_raw_fd());
    mount_bind(source, path).map_err(|error| {
        // The file is ours: created two lines above with O_EXCL.
        let _ = fs::remove_file(path);
        error.into()
    })
}

/// Takes the pin at `path` away: detaches the mount and removes the file. A missing file, and a file that carries no
/// mount, are fine. The namespace itself ends when nothing else holds it.
///
/// The removal also detaches copies of the mount in other mount namespaces (since Linux 3.18 unlinking a file lazily
/// unmounts what other namespaces have on it), so no stranger's private copy of the mount table keeps it alive.
///
/// # Errors
/// The errno of umount2(2) or unlink(2).
pub fn unpin(path: &Path) -> io::Result<()> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    // Stacked pins (a crash between two mounts of the same path cannot make them, a stray operator can) all go.
    while let Err(error) = unlink(path) {
        match error.raw_os_error() {
            Some(libc::ENOENT) => return Ok(()),
            Some(libc::EBUSY) => unmount(name.as_c_str(), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?,
            _ => return Err(error),
        }
    }
    Ok(())
}

fn unlink(path: &Path) -> io::Result<()> {
    fs::remove_file(path)
}

fn unshare_net() -> io::Result<()> {
    // SAFETY: the hazard of unshare is CLONE_FILES, which would split the descriptor table under OwnedFds of other
    // threads; the one flag passed here is CLONE_NEWNET, which touches nothing but this thread's network namespace.
    unsafe {
        rustix::thread::unshare_unsafe(UnshareFlags::NEWNET)?;
    }
    Ok(())
}

/// Runs `work` on a thread that lives only for it. A panic inside is handed on to the caller.
fn on_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        thread::Builder::new()
            .name("husk-netns".into())
            .spawn_scoped(scope, work)?
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn root() -> bool {
        let is_root = rustix::process::geteuid().is_root();
        if !is_root {
            husk_test_support::skip("root");
        }
        is_root
    }

    fn inode(path: &Path) -> u64 {
        fs::metadata(path).unwrap().ino()
    }

    #[test]
    fn a_new_namespace_is_another_one_and_leaves_the_caller_where_it_was() {
        if !root() {
            return;
        }
        let before = inode(Path::new(SELF));
        let (ns, inside) = create(|| inode(Path::new(SELF))).unwrap();
        assert_ne!(inside, before);
        assert_eq!(inode(Path::new(SELF)), before);
        assert_eq!(with(ns.as_fd(), || inode(Path::new(SELF))).unwrap(), inside);
    }

    #[test]
    fn a_pin_holds_the_namespace_until_it_is_taken_away() {
        if !root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pod");
        let (ns, inside) = create(|| inode(Path::new(SELF))).unwrap();
        pin(ns.as_fd(), &path).unwrap();
        drop(ns);
        let again = open(&path).unwrap();
        assert_eq!(with(again.as_fd(), || inode(Path::new(SELF))).unwrap(), inside);
        assert_eq!(pin(again.as_fd(), &path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        unpin(&path).unwrap();
        assert!(!path.exists());
        unpin(&path).unwrap();
    }

    #[test]
    fn a_pin_taken_away_is_gone_from_private_copies_of_the_mount_table() {
        if !root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pod");
        let (ns, _) = create(|| ()).unwrap();
        pin(ns.as_fd(), &path).unwrap();
        let mounted = |path: &Path| {
            fs::read_to_string("/proc/thread-self/mountinfo").unwrap().contains(path.to_str().unwrap())
        };
        let (copied, removed) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
        thread::scope(|scope| {
            let other = scope.spawn(|| {
                private_mounts();
                assert!(mounted(&path));
                copied.wait();
                removed.wait();
                mounted(&path)
            });
            copied.wait();
            unpin(&path).unwrap();
            removed.wait();
            assert!(!other.join().unwrap(), "the copy still carries the pin");
        });
    }

    /// A mount namespace with private propagation, as the worst neighbour has it.
    fn private_mounts() {
        use rustix::mount::{MountPropagationFlags, mount_change};
        // SAFETY: NEWNS (with the FS split it implies) concerns this test thread alone; CLONE_FILES is not passed.
        unsafe {
            rustix::thread::unshare_unsafe(UnshareFlags::NEWNS).unwrap();
        }
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
    }

    #[test]
    fn a_plain_file_is_not_a_namespace() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(open(file.path()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
