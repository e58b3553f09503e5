//! Standard streams of a child.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use husk_model::{ResolvedUser, Stdio, Streams};
use husk_sys::root::Root;
use rustix::{
    fs::{self, FileType, Mode, OFlags},
    io::Errno,
    stdio::{dup2_stderr, dup2_stdin, dup2_stdout},
};

use crate::{Failure, Step, failure::At};

/// Descriptors the child has to keep.
pub(crate) fn descriptors(stdio: &Stdio<OwnedFd>) -> Vec<RawFd> {
    match stdio {
        Stdio::Pipes(streams) => streams.ends().map(AsRawFd::as_raw_fd).collect(),
        Stdio::Terminal(_) => Vec::new(),
    }
}

/// Points all three at the node's /dev/null, so that the parent's own streams do not stay open in the child.
pub(crate) fn null_all() -> Result<(), Failure> {
    let null = fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .at(Step::Prepare, "/dev/null")?;
    set(Some(null.as_fd()), Some(null.as_fd()), Some(null.as_fd()))
}

/// Gives the plan's pipes to somebody, while the caller may. What else a client hands over is not ours to give: a
/// device's owner would change on the node.
pub(crate) fn give(stdio: &Stdio<OwnedFd>, (uid, gid): (u32, u32)) -> Result<(), Failure> {
    let Stdio::Pipes(streams) = stdio else { return Ok(()) };
    for stream in streams.ends() {
        let stat = fs::fstat(stream).at(Step::Prepare, "owner of a stream")?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Fifo && (stat.st_uid, stat.st_gid) != (uid, gid)
        {
            fs::fchown(stream, Some(fs::Uid::from_raw(uid)), Some(fs::Gid::from_raw(gid)))
                .at(Step::Prepare, "owner of a stream")?;
        }
    }
    Ok(())
}

/// Puts the plan's streams in place, and makes them the user's, who may open /dev/stdout. Those without an end get the container's own /dev/null if that is the real
/// device: a descriptor of the node's would let the container change the mode of the node's inode.
pub(crate) fn install(stdio: &Stdio<OwnedFd>, root: &Root, user: &ResolvedUser) -> Result<(), Failure> {
    give(stdio, (user.uid, user.gid))?;
    let Stdio::Pipes(Streams { stdin, stdout, stderr }) = stdio else { return Ok(()) };
    if let Some(null) = container_null(root) {
        set(Some(null.as_fd()), Some(null.as_fd()), Some(null.as_fd()))?;
    }
    set(stdin.as_ref().map(AsFd::as_fd), stdout.as_ref().map(AsFd::as_fd), stderr.as_ref().map(AsFd::as_fd))
}

/// Makes a terminal all three streams.
pub(crate) fn install_terminal(terminal: BorrowedFd<'_>) -> Result<(), Failure> {
    set(Some(terminal), Some(terminal), Some(terminal))
}

fn set(
    stdin: Option<BorrowedFd<'_>>,
    stdout: Option<BorrowedFd<'_>>,
    stderr: Option<BorrowedFd<'_>>,
) -> Result<(), Failure> {
    stdin.map_or(Ok(()), dup2_stdin).at(Step::Prepare, "stdin")?;
    stdout.map_or(Ok(()), dup2_stdout).at(Step::Prepare, "stdout")?;
    stderr.map_or(Ok(()), dup2_stderr).at(Step::Prepare, "stderr")
}

fn container_null(root: &Root) -> Option<OwnedFd> {
    let null = root.open("dev/null", OFlags::PATH).ok()?;
    is_null_device(null.as_fd()).ok()?.then_some(())?;
    // O_PATH first: opening some other device for real could have effects.
    root.open("dev/null", OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK)
        .ok()
        .filter(|null| is_null_device(null.as_fd()) == Ok(true))
}

/// Whether a descriptor is character device 1:3 (CVE-2025-31133: a container's /dev/null may be anything).
pub(crate) fn is_null_device(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    let stat = fs::fstat(fd)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && stat.st_rdev == fs::makedev(1, 3))
}
