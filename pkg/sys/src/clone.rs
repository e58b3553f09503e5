//! clone3 from a process with one thread.
//!
//! The child is a copy of the whole process, so it may do what the parent may do, allocation included: with a single
//! thread no lock can be held by somebody who does not exist in the child. That single thread is checked, not assumed.

use std::{
    convert::Infallible,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind},
};

use rustix::{fs, io::Errno, thread::UnshareFlags};

use crate::{
    Result,
    error::{Named, check},
};

/// How to clone.
#[derive(Debug, Clone, Copy)]
pub struct CloneOptions<'fd> {
    /// New namespaces of the child.
    pub namespaces: UnshareFlags,
    /// cgroup v2 directory the child is born in.
    pub into_cgroup: Option<BorrowedFd<'fd>>,
}

impl Default for CloneOptions<'_> {
    fn default() -> Self {
        Self { namespaces: UnshareFlags::empty(), into_cgroup: None }
    }
}

/// Proof that the calling process has one thread: it was cloned, and makes none. (/proc, which would tell, may be a
/// container's by the time somebody asks.)
#[derive(Debug, Clone, Copy)]
pub struct Alone(());

/// A process just cloned; nobody has waited for it.
#[derive(Debug)]
pub struct Cloned {
    /// In the caller's PID namespace. It stays this process's until the caller reaps it.
    pub pid: u32,
    /// CLOEXEC.
    pub pidfd: OwnedFd,
}

// clone3 only; libc's constants are `int`s, which these values overflow.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// The parent's handlers are not the child's: none of its signals runs code of the monitor in it (Linux 5.5).
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;

/// Exit code of a child whose closure panicked.
pub const PANICKED: i32 = 101;

/// Clones the process; the child runs `child` and never returns.
///
/// # Errors
/// `EDEADLK` when the process has more than one thread (a copy of it could wait for ever for a lock that a vanished
/// thread holds); otherwise those of clone3(2): `EBUSY` or `ENOENT` for a cgroup that takes no processes or is gone,
/// `EAGAIN` at `pids.max`.
pub fn clone(options: CloneOptions<'_>, child: impl FnOnce(Alone) -> Infallible) -> Result<Cloned> {
    if !single_threaded()? {
        return Err(crate::Error::new("clone3", "in a process with several threads", Errno::DEADLK));
    }
    let mut pidfd: libc::c_int = -1;
    let mut flags = u64::from(options.namespaces.bits()) | libc::CLONE_PIDFD as u64 | CLONE_CLEAR_SIGHAND;
    if options.into_cgroup.is_some() {
        flags |= CLONE_INTO_CGROUP;
    }
    let mut arguments = libc::clone_args {
        flags,
        pidfd: (&raw mut pidfd) as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: libc::SIGCHLD as u64,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: options.into_cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    // SAFETY: `arguments` lives across the call and its size is passed with it. Without CLONE_VM the child gets its own
    // copy of memory and of this stack, and the check above found no other thread whose locks it could inherit.
    let pid =
        check(unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<libc::clone_args>()) })
            .named("clone3", || format!("{:?}", options.namespaces))?;
    if pid == 0 {
        become_child(|| child(Alone(())));
    }
    // SAFETY: clone3 succeeded with CLONE_PIDFD, so the kernel stored a new descriptor here that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Cloned { pid: pid as u32, pidfd })
}

/// Clones a sibling: its parent is the caller's parent, which also reaps it. With clone(2), because filters of containers
/// let that through and not clone3(2), whose flags they can't see ([`crate::seccomp::permits_start`] knows of it).
///
/// # Errors
/// Those of clone(2): `EAGAIN` at `pids.max`, `EPERM` of a filter.
pub fn sibling(_: &Alone, namespaces: UnshareFlags, child: impl FnOnce() -> Infallible) -> Result<Cloned> {
    let mut pidfd: libc::c_int = -1;
    let flags = u64::from(namespaces.bits()) | SIBLING;
    // SAFETY: without CLONE_VM and with no stack given the child goes on with its own copy of this one; the kernel writes
    // the pidfd through the third argument, which lives across the call. The token says that no other thread holds a lock.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, flags, 0, &raw mut pidfd, 0, 0) })
        .named("clone", || format!("CLONE_PARENT, {namespaces:?}"))?;
    if pid == 0 {
        become_child(child);
    }
    // SAFETY: clone succeeded with CLONE_PIDFD, so the kernel stored a new descriptor here that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Cloned { pid: pid as u32, pidfd })
}

/// Flags of clone(2) for a [`sibling`].
pub(crate) const SIBLING: u64 = (libc::CLONE_PARENT | libc::CLONE_PIDFD) as u64;

fn become_child(child: impl FnOnce() -> Infallible) -> ! {
    // Unwinding would run the destructors of the parent's frames in the child.
    let code = match catch_unwind(AssertUnwindSafe(child)) {
        Ok(never) => match never {},
        Err(_) => PANICKED,
    };
    exit(code)
}

/// Whether the calling process has exactly one thread.
///
/// # Errors
/// When procfs is not mounted at /proc.
pub fn single_threaded() -> Result<bool> {
    // The kernel counts every thread as one more link of the directory (proc_task_getattr).
    let stat = fs::stat("/proc/self/task").named("stat", || "\"/proc/self/task\"".into())?;
    Ok(stat.st_nlink == 3)
}

/// Ends the process at once: no destructors, no atexit handlers, no flushed buffers of the parent.
pub fn exit(code: i32) -> ! {
    // SAFETY: _exit takes any integer and does not return.
    unsafe { libc::_exit(code) }
}

/// A pidfd of the calling process.
///
/// # Errors
/// Those of pidfd_open(2).
pub fn own_pidfd() -> Result<OwnedFd> {
    rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty())
        .named("pidfd_open", || "self".into())
        .inspect(|fd| debug_assert!(fd.as_fd().as_raw_fd() > 2))
}
