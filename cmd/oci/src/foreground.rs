//! Waiting for a process in the foreground: signals go on to it, its terminal is shown, its end is ours.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use husk_runtime::Child;
use husk_sys::pidfd;
use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::OFlags,
    io::Errno,
};

use crate::terminal::{Raw, plain_line_ends};

/// All signals, from now on told by a descriptor.
///
/// # Errors
/// Those of sigprocmask(2) and signalfd(2).
pub(crate) fn signals() -> io::Result<SignalFd> {
    let all = SigSet::all();
    all.thread_block()?;
    Ok(SignalFd::with_flags(&all, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

/// Waits for the end of a child, and returns its code: 128 plus the signal for one that a signal ended.
///
/// # Errors
/// Those of poll(2), and of a terminal.
pub(crate) fn wait(child: &Child, screen: Option<&Screen>, signals: &SignalFd) -> io::Result<u8> {
    let (mut shows, mut reads) = (screen.is_some(), screen.is_some());
    loop {
        let mut fds = vec![
            PollFd::new(&child.pidfd, PollFlags::IN),
            PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
        ];
        let stdin = rustix::stdio::stdin();
        if let Some(screen) = screen {
            let of = |wanted: bool| if wanted { PollFlags::IN } else { PollFlags::empty() };
            fds.push(PollFd::new(&screen.master, of(shows)));
            if reads {
                fds.push(PollFd::from_borrowed_fd(stdin, PollFlags::IN));
            }
        }
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        if let Some(screen) = screen {
            if shows && ready[2] {
                shows = screen.show()?;
            }
            if reads && ready.get(3) == Some(&true) {
                reads = screen.read(stdin)?;
            }
        }
        if ready[0] {
            if let Some(screen) = screen.filter(|_| shows) {
                screen.show()?;
            }
            let exit = pidfd::reap(&child.pidfd).map_err(io::Error::other)?;
            return Ok(u8::try_from(exit.code() & 0xff).unwrap_or(255));
        }
        if ready[1] {
            forward(child, signals, screen)?;
        }
    }
}

fn forward(child: &Child, signals: &SignalFd, screen: Option<&Screen>) -> io::Result<()> {
    while let Some(info) = signals.read_signal()? {
        match i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok()) {
            // Its end is told by its pidfd; whoever reads what we show may have gone.
            Some(Signal::SIGCHLD | Signal::SIGPIPE) => {}
            Some(Signal::SIGWINCH) if screen.is_some() => {
                if let Some(screen) = screen {
                    screen.resize();
                }
            }
            _ => {
                // One that it is not to get is the kernel's to refuse.
                let _ = husk_sys::send::signal(&child.pidfd, info.ssi_signo);
            }
        }
    }
    Ok(())
}

/// A container's terminal, shown on our own streams.
pub(crate) struct Screen {
    master: OwnedFd,
    raw: Option<Raw>,
}

impl Screen {
    /// To be made before the container writes its first word.
    ///
    /// # Errors
    /// Those of tcsetattr(3).
    pub(crate) fn new(master: OwnedFd) -> io::Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&master)?;
        rustix::fs::fcntl_setfl(&master, flags | OFlags::NONBLOCK)?;
        plain_line_ends(master.as_fd())?;
        let screen = Self { master, raw: Raw::enter()? };
        screen.resize();
        Ok(screen)
    }

    fn resize(&self) {
        if let Some(raw) = &self.raw {
            raw.resize(self.master.as_fd());
        }
    }

    /// Shows what is there. False when the other side is closed: EIO, for a terminal.
    fn show(&self) -> io::Result<bool> {
        let mut buffer = [0; 16 << 10];
        loop {
            match rustix::io::read(&self.master, &mut buffer) {
                Ok(0) | Err(Errno::IO) => return Ok(false),
                // A container whose output nobody reads runs on.
                Ok(count) => drop(write_all(rustix::stdio::stdout(), &buffer[..count])),
                Err(Errno::AGAIN) => return Ok(true),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Types what our caller types. False at its end.
    fn read(&self, stdin: BorrowedFd<'_>) -> io::Result<bool> {
        let mut buffer = [0; 1024];
        match rustix::io::read(stdin, &mut buffer) {
            Ok(0) | Err(Errno::IO) => Ok(false),
            Ok(count) => {
                // One that has gone types nothing any more.
                let _ = write_all(self.master.as_fd(), &buffer[..count]);
                Ok(true)
            }
            Err(Errno::INTR | Errno::AGAIN) => Ok(true),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Waits where it must: for a reader of ours, or for a terminal that is full.
fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::OUT)], None)?;
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
