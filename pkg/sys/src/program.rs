//! A program file lent to a process whose children enter containers.
//!
//! Until its execve such a child still is the program it was cloned from, and a container can get at that: by
//! `/proc/self/exe` as its own command, by `#!/proc/self/exe`, by `/proc/<pid>/exe` of a child that it may trace. So the
//! process is started from a mount of its own of the file (CVE-2019-5736 and its kin):
//!
//! - *read-only*: whoever reaches the file through it changes neither content nor mode, owner or attributes (`EROFS`);
//! - *noexec*, as soon as the process runs: nobody executes it a second time, by whatever link (`EACCES`);
//! - *attached nowhere, and dissolved* by [`withdraw`]: not even CAP_SYS_ADMIN changes its flags any more (`EINVAL`).
//!
//! The file's pages stay shared by all processes started from it. Where mounts are refused, a sealed copy in memory takes
//! its place.

use std::{
    io::ErrorKind,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{self, MemfdFlags, Mode, OFlags, SealFlags},
    io::Errno,
};

use crate::{
    Error, Result,
    error::Named,
    mount::{self, Attr, Change, Propagation},
};

/// Executable whatever `vm.memfd_noexec` says (Linux 6.3).
const MFD_EXEC: MemfdFlags = MemfdFlags::from_bits_retain(0x10);

/// Opens the program at `path` for one process to be started from `/proc/self/fd/<n>`: a mount of its own, or a sealed
/// copy.
///
/// # Errors
/// Those of opening the file; of the copy, where the kernel mounts nothing here.
pub fn lend(path: &Path) -> Result<OwnedFd> {
    match lend_mount(path) {
        // Unbindable, or forbidden to us.
        Err(error) if matches!(error.errno(), Errno::INVAL | Errno::PERM | Errno::NOSYS) => sealed_copy(path),
        other => other,
    }
}

fn lend_mount(path: &Path) -> Result<OwnedFd> {
    let tree = mount::clone_path(path, false)?;
    let attributes = Attr::MOUNT_ATTR_RDONLY | Attr::MOUNT_ATTR_NODEV;
    let change = Change { propagation: Some(Propagation::Private), ..Change::set(attributes) };
    mount::change(&tree, false, change)?;
    Ok(tree)
}

/// For the process that was started from what [`lend`] gave, on its descriptor of it: nobody executes the program a second
/// time, and the mount belongs to no namespace once this last descriptor is closed.
///
/// # Errors
/// Those of mount_setattr(2) and fchmod(2); `EINVAL` for a file that is neither.
pub fn withdraw(lent: OwnedFd) -> Result<()> {
    match mount::change(&lent, false, Change::set(Attr::MOUNT_ATTR_NOEXEC)) {
        Err(error) if error.errno() == Errno::INVAL => withdraw_copy(&lent),
        other => other,
    }
}

fn withdraw_copy(copy: &OwnedFd) -> Result<()> {
    // Only a copy has seals; anything else is a file of the node, whose mode is not ours to change.
    fs::fcntl_get_seals(copy).named("fcntl", || "lent program, F_GET_SEALS".into())?;
    // Whoever owns it may give the bit back, and executes a copy that no other process was started from.
    fs::fchmod(copy, Mode::from_raw_mode(0o400)).named("fchmod", || "lent program, 0400".into())
}

/// A copy of a program in memory, whose content can't be changed and that nobody else uses.
///
/// # Errors
/// Those of reading the file, of memfd_create(2) and fcntl(2).
pub fn sealed_copy(path: &Path) -> Result<OwnedFd> {
    let named = |call| {
        move |error: std::io::Error| {
            let errno = match error.kind() {
                ErrorKind::UnexpectedEof => Errno::IO,
                _ => Errno::from_io_error(&error).unwrap_or(Errno::IO),
            };
            Error::new(call, format!("{path:?}"), errno)
        }
    };
    let mut source = std::fs::File::open(path).map_err(named("open"))?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let copy = match fs::memfd_create("husk-program", flags | MFD_EXEC) {
        Err(Errno::INVAL) => fs::memfd_create("husk-program", flags),
        other => other,
    };
    let mut copy = std::fs::File::from(copy.named("memfd_create", || "husk-program".into())?);
    std::io::copy(&mut source, &mut copy).map_err(named("copy"))?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    fs::fcntl_add_seals(&copy, seals).named("fcntl", || "F_ADD_SEALS".into())?;
    // Opened anew, since the kernel does not execute what is open for writing.
    let path = format!("/proc/self/fd/{}", copy.as_fd().as_raw_fd());
    fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).named("open", || "memfd".into())
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::PermissionsExt,
        process::{Command, Stdio},
    };

    use super::*;

    fn root() -> bool {
        let root = rustix::process::geteuid().is_root();
        if !root {
            husk_test_support::skip("root");
        }
        root
    }

    /// A program of one test's own, in a directory that goes with it.
    fn program() -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        std::fs::copy("/bin/true", &path).unwrap();
        (dir, path)
    }

    fn by_descriptor(fd: &OwnedFd) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd())
    }

    fn runs(path: &str) -> Result<(), ErrorKind> {
        let child = Command::new(path).stdout(Stdio::null()).spawn();
        child.map(|mut child| assert!(child.wait().unwrap().success())).map_err(|error| error.kind())
    }

    #[test]
    fn a_lent_program_runs_until_it_is_withdrawn_and_never_changes() {
        if !root() {
            return;
        }
        let (_dir, path) = program();
        let lent = lend(&path).unwrap();
        let link = by_descriptor(&lent);
        runs(&link).unwrap();
        let errno = |error: std::io::Error| error.raw_os_error();
        let mode = std::fs::Permissions::from_mode(0o0);
        assert_eq!(std::fs::set_permissions(&link, mode).map_err(errno), Err(Some(30)), "EROFS");
        assert_eq!(std::os::unix::fs::chown(&link, Some(1), None).map_err(errno), Err(Some(30)), "EROFS");
        let xattr = fs::setxattr(&link, "user.x", b"x", fs::XattrFlags::empty());
        assert_eq!(xattr, Err(Errno::ROFS));

        let kept = lent.try_clone().unwrap();
        withdraw(lent).unwrap();
        assert_eq!(runs(&by_descriptor(&kept)), Err(ErrorKind::PermissionDenied));
        runs(path.to_str().unwrap()).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);
    }

    #[test]
    fn a_dissolved_mount_keeps_its_flags_from_everybody() {
        if !root() {
            return;
        }
        let (_dir, path) = program();
        let lent = lend(&path).unwrap();
        // What a running program is to its /proc/<pid>/exe: the file, not the mount's own descriptor.
        let open = std::fs::File::open(by_descriptor(&lent)).unwrap();
        withdraw(lent).unwrap();
        let clear = Attr::MOUNT_ATTR_RDONLY | Attr::MOUNT_ATTR_NOEXEC;
        let error = mount::change(&open, false, Change { clear, ..Change::default() }).unwrap_err();
        assert_eq!(error.errno(), Errno::INVAL);
    }

    #[test]
    fn a_sealed_copy_runs_until_it_is_withdrawn_and_never_changes() {
        let (_dir, path) = program();
        let copy = sealed_copy(&path).unwrap();
        let link = by_descriptor(&copy);
        runs(&link).unwrap();
        let write = std::fs::File::options().write(true).open(&link).and_then(|mut file| {
            use std::io::Write as _;
            file.write_all(b"x")
        });
        assert!(write.is_err());
        let kept = copy.try_clone().unwrap();
        withdraw(copy).unwrap();
        assert_eq!(runs(&by_descriptor(&kept)), Err(ErrorKind::PermissionDenied));
    }

    #[test]
    fn a_file_of_the_node_is_not_taken_for_a_lent_one() {
        let (_dir, path) = program();
        assert!(withdraw(std::fs::File::open(&path).unwrap().into()).is_err());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);
    }
}
