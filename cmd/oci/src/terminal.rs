//! The caller's terminal, while a container in the foreground has one of its own.

use std::os::fd::BorrowedFd;

use rustix::{
    io::Errno,
    termios::{
        OptionalActions, OutputModes, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
    },
};

/// The caller's terminal, raw until this is dropped.
pub(crate) struct Raw {
    terminal: BorrowedFd<'static>,
    before: Termios,
}

impl Raw {
    /// Makes standard input raw, if it is a terminal.
    ///
    /// # Errors
    /// Those of tcsetattr(3).
    pub(crate) fn enter() -> rustix::io::Result<Option<Self>> {
        let terminal = rustix::stdio::stdin();
        if !isatty(terminal) {
            return Ok(None);
        }
        let before = tcgetattr(terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        // Its line ends are still made here: those of the container are plain.
        raw.output_modes |= OutputModes::OPOST;
        tcsetattr(terminal, OptionalActions::Now, &raw)?;
        Ok(Some(Self { terminal, before }))
    }

    /// Gives a container's terminal the size of ours.
    pub(crate) fn resize(&self, master: BorrowedFd<'_>) {
        // One that has gone has no size any more.
        let _ = tcgetwinsize(self.terminal).and_then(|size| tcsetwinsize(master, size));
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that has gone needs nothing.
        let _ = tcsetattr(self.terminal, OptionalActions::Now, &self.before);
    }
}

/// Makes a container's terminal write its line ends as they are: whoever shows them makes his own.
///
/// # Errors
/// Those of tcsetattr(3).
pub(crate) fn plain_line_ends(master: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut modes = tcgetattr(master)?;
    modes.output_modes -= OutputModes::ONLCR;
    tcsetattr(master, OptionalActions::Now, &modes)
}
