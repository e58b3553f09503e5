//! What the new process does before it becomes buildkitd.
//!
//! huskd runs nothing of its own between fork and exec, so it executes itself again, with [`LAUNCH`] as its first argument. The process has one
//! thread and has been put into its namespaces' beginnings by whoever started it: it is PID 1 of a new PID namespace, and in the builder's network.

use std::{convert::Infallible, ffi::OsString, io, os::unix::process::CommandExt, process::Command};

use husk_sys::mount::{Attr, Change, Filesystem, Propagation};
use rustix::{
    fs::{CWD, Mode, OFlags},
    process::{Signal, set_parent_process_death_signal},
    thread::UnshareFlags,
};

/// The first argument of a huskd that becomes the builder's daemon.
pub const LAUNCH: &str = "become-builder";

/// Becomes the program of `arguments`. Returns only to say why not.
///
/// # Errors
/// The step that failed.
pub fn launch(mut arguments: impl Iterator<Item = OsString>) -> io::Result<Infallible> {
    let step = |step: &'static str| move |error: io::Error| io::Error::other(format!("{step}: {error}"));
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(io::Error::from).map_err(step("prctl"))?;
    // huskd may have died before the line above; then standard input, a pipe that it holds the other end of, is at its end.
    if is_orphan()? {
        return Err(io::Error::other("huskd has ended"));
    }
    own_mounts().map_err(io::Error::other).map_err(step("a mount namespace of its own"))?;
    let program = arguments.next().ok_or_else(|| io::Error::other("no program is named"))?;
    let error = Command::new(&program).args(arguments).exec();
    Err(step("execute the program")(error))
}

/// Whether the other end of standard input is gone.
fn is_orphan() -> io::Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let stdin = rustix::stdio::stdin();
    let mut polled = [PollFd::new(&stdin, PollFlags::IN)];
    poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    Ok(polled[0].revents().contains(PollFlags::HUP))
}

/// What the builder mounts is seen by nobody else, and goes with it; `/proc` is that of its processes.
fn own_mounts() -> husk_sys::Result<()> {
    husk_sys::namespace::unshare(UnshareFlags::NEWNS)?;
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |path: &str| {
        rustix::fs::openat(CWD, path, directory, Mode::empty())
            .map_err(|errno| husk_sys::Error::new("openat", path, errno))
    };
    husk_sys::mount::change(open("/")?, true, Change::propagation(Propagation::Slave))?;
    let attributes = Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NODEV | Attr::MOUNT_ATTR_NOEXEC;
    let proc = Filesystem::new("proc")?.mount(attributes)?;
    husk_sys::mount::attach(proc, open("/proc")?)
}
