//! Keys of a terminal as they are pressed.

use std::{io, os::fd::OwnedFd};

use rustix::termios::{LocalModes, OptionalActions, Termios, isatty, tcgetattr, tcsetattr};
use tokio::io::unix::AsyncFd;

/// The terminal, with lines and echo off until this is dropped.
pub(super) struct Keys {
    terminal: AsyncFd<OwnedFd>,
    before: Termios,
}

impl Keys {
    /// Those of the standard input; none where that is no terminal.
    // Deprecated for descriptors that are no OwnedFd; this one is.
    #[allow(deprecated)]
    pub(super) fn of_stdin() -> Option<Self> {
        let stdin = rustix::stdio::stdin();
        let before = isatty(stdin).then(|| tcgetattr(stdin).ok())??;
        let terminal = AsyncFd::new(stdin.try_clone_to_owned().ok()?).ok()?;
        let mut raw = before.clone();
        raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        tcsetattr(stdin, OptionalActions::Now, &raw).ok()?;
        Some(Self { terminal, before })
    }

    /// Returns when q was pressed, or nobody is there any more.
    pub(super) async fn quit(&self) -> io::Result<()> {
        loop {
            let mut ready = self.terminal.readable().await?;
            let mut keys = [0; 64];
            let count = rustix::io::read(self.terminal.get_ref(), &mut keys)?;
            if count == 0 || keys[..count].contains(&b'q') {
                return Ok(());
            }
            ready.clear_ready();
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // A terminal that is gone has no modes.
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.before);
    }
}
