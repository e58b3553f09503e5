//! Waiting for a process in the foreground: signals go on to it, its terminal is shown ([`crate::relay`]), its end is ours.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use husk_runtime::Child;
use husk_sys::pidfd;
use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};

use crate::{
    relay::{End, Relay},
    terminal::{Raw, plain_line_ends},
};

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
/// Those of poll(2) and waitid(2).
pub(crate) fn wait(child: &Child, mut screen: Option<&mut Screen>, signals: &SignalFd) -> io::Result<u8> {
    loop {
        let awaited = screen.as_ref().map(|screen| screen.relay.awaited()).unwrap_or_default();
        let mut fds = vec![
            PollFd::new(&child.pidfd, PollFlags::IN),
            PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
        ];
        if let Some(screen) = &screen {
            fds.extend(
                awaited.iter().map(|(end, flags)| PollFd::from_borrowed_fd(screen.relay.fd(*end), *flags)),
            );
        }
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        if let Some(screen) = &mut screen {
            let ends = awaited.iter().zip(&ready[2..]).filter(|(_, ready)| **ready);
            ends.for_each(|((end, _), _)| screen.relay.serve(*end));
        }
        if ready[0] {
            let exit = pidfd::reap(&child.pidfd).map_err(io::Error::other)?;
            if let Some(screen) = screen {
                screen.finish(signals)?;
            }
            return Ok(u8::try_from(exit.code() & 0xff).unwrap_or(255));
        }
        if ready[1] {
            forward(child, signals, screen.as_deref())?;
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
    relay: Relay,
    raw: Option<Raw>,
}

/// Most that is read of a terminal after the container's end: more than one holds. Whoever writes on is not the container any more.
const LAST: usize = 256 << 10;

impl Screen {
    /// To be made before the container writes its first word.
    ///
    /// # Errors
    /// Those of tcsetattr(3) and fcntl(2).
    pub(crate) fn new(master: OwnedFd) -> io::Result<Self> {
        plain_line_ends(master.as_fd())?;
        let relay = Relay::new(master, rustix::stdio::stdin(), rustix::stdio::stdout())?;
        let screen = Self { relay, raw: Raw::enter()? };
        screen.resize();
        Ok(screen)
    }

    fn resize(&self) {
        if let Some(raw) = &self.raw {
            raw.resize(self.relay.terminal());
        }
    }

    /// Shows what the container has left. A reader that takes its time is waited for, until somebody wants us to end.
    fn finish(&mut self, signals: &SignalFd) -> io::Result<()> {
        let mut left = LAST;
        loop {
            while self.relay.awaited().iter().any(|(end, _)| *end == End::Output) {
                let mut fds = [
                    PollFd::from_borrowed_fd(self.relay.fd(End::Output), PollFlags::OUT),
                    PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
                ];
                match poll(&mut fds, None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(errno) => return Err(errno.into()),
                }
                let [output, signalled] = fds.map(|fd| !fd.revents().is_empty());
                if output {
                    self.relay.serve(End::Output);
                }
                if signalled && is_to_end(signals)? {
                    return Ok(());
                }
            }
            let count = if left > 0 { self.relay.show() } else { 0 };
            left = left.saturating_sub(count);
            if count == 0 {
                return Ok(());
            }
        }
    }
}

/// Whether one of the signals that have come is one to end by.
fn is_to_end(signals: &SignalFd) -> io::Result<bool> {
    while let Some(info) = signals.read_signal()? {
        let signal = i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok());
        if matches!(signal, Some(Signal::SIGTERM | Signal::SIGINT | Signal::SIGHUP | Signal::SIGQUIT)) {
            return Ok(true);
        }
    }
    Ok(false)
}
