//! The terminal of a container or an exec.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use husk_model::WindowSize;
use husk_sys::root::Root;
use rustix::{
    fs::{self, FileType, OFlags},
    process::ioctl_tiocsctty,
    pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use crate::{Failure, Step, failure::At, stdio};

/// `f_type` of devpts (DEVPTS_SUPER_MAGIC).
const DEVPTS_MAGIC: u64 = 0x1cd1;

/// Both sides of a pty.
#[derive(Debug)]
pub(crate) struct Terminal {
    pub master: OwnedFd,
    pub slave: OwnedFd,
}

/// Opens a pty in the container's own devpts, so that it has a name there. Neither side is found by a path the
/// container could have replaced: ptmx must be the device of a devpts, the slave comes from the master itself.
pub(crate) fn open(root: &Root, size: Option<WindowSize>) -> Result<Terminal, Failure> {
    let (step, object) = (Step::Terminal, "/dev/pts/ptmx");
    let ptmx = root.open("dev/pts/ptmx", OFlags::PATH).at(step, object)?;
    let (stat, statfs) = (fs::fstat(&ptmx).at(step, object)?, fs::fstatfs(&ptmx).at(step, object)?);
    let genuine = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && stat.st_rdev == fs::makedev(5, 2)
        && statfs.f_type as u64 == DEVPTS_MAGIC;
    if !genuine {
        return Err(Failure::because(step, object, "it is not the multiplexer of a devpts"));
    }
    let master = root.open("dev/pts/ptmx", OFlags::RDWR | OFlags::NOCTTY).at(step, object)?;
    if fs::fstat(&master).at(step, object)?.st_ino != stat.st_ino {
        return Err(Failure::because(step, object, "it was replaced while it was being opened"));
    }
    unlockpt(&master).at(step, object)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = ioctl_tiocgptpeer(&master, flags).at(step, "slave")?;
    if let Some(WindowSize { rows, columns }) = size {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&slave, size).at(step, "window size")?;
    }
    Ok(Terminal { master, slave })
}

impl Terminal {
    /// Makes the slave all three streams, owned by the user.
    pub(crate) fn install(&self, uid: u32) -> Result<(), Failure> {
        fs::fchown(&self.slave, Some(fs::Uid::from_raw(uid)), None).at(Step::Terminal, "owner")?;
        stdio::install_terminal(self.slave.as_fd())
    }

    /// Both.
    pub(crate) fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.master.as_fd(), self.slave.as_fd()]
    }

    /// Makes it the controlling terminal of the session that the caller leads.
    pub(crate) fn control(&self) -> Result<(), Failure> {
        ioctl_tiocsctty(&self.slave).at(Step::Terminal, "TIOCSCTTY")
    }
}
