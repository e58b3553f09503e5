//! Pipes and terminals as descriptors that tasks can wait for.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use bytes::Bytes;
use husk_model::WindowSize;
use rustix::{
    fs::Mode,
    io::Errno,
    pipe::{PipeFlags, pipe_with},
    termios::Winsize,
};
use tokio::io::unix::AsyncFd;

use crate::channel::CHUNK;

/// Size of the pipes of a session; the default of 64 KiB makes a command and its copier wait for each other too often.
const PIPE: usize = 256 << 10;

/// Our end of a pipe, or a terminal's master.
#[derive(Debug)]
pub(crate) struct Fd(AsyncFd<OwnedFd>);

impl Fd {
    /// Takes over a descriptor and makes it non-blocking.
    // Deprecated because a type's `as_raw_fd` may lie; an OwnedFd's does not. The new name is an unsafe function.
    #[allow(deprecated)]
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Self(AsyncFd::new(fd)?))
    }

    /// Reads what is there, when something is; nothing at the end. Cancel-safe.
    pub(crate) async fn read(&self) -> io::Result<Bytes> {
        loop {
            let mut ready = self.0.readable().await?;
            let read = ready.try_io(|fd| {
                let mut bytes = Vec::with_capacity(CHUNK);
                rustix::io::read(fd, rustix::buffer::spare_capacity(&mut bytes))?;
                Ok(bytes)
            });
            match read {
                Ok(Ok(bytes)) => return Ok(bytes.into()),
                // A terminal whose last user has closed it.
                Ok(Err(error)) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => {
                    return Ok(Bytes::new());
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
    }

    /// Writes everything.
    pub(crate) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut ready = self.0.writable().await?;
            match ready.try_io(|fd| Ok(rustix::io::write(fd, bytes)?)) {
                Ok(Ok(written)) => bytes = &bytes[written..],
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
        Ok(())
    }

    /// Sets the window of a terminal, whose foreground processes get SIGWINCH.
    pub(crate) fn resize(&self, size: WindowSize) -> io::Result<()> {
        let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(rustix::termios::tcsetwinsize(self.0.get_ref(), size)?)
    }
}

/// A pipe: (read end, write end).
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    // Beyond the user's share of pipe buffers the default stays.
    let _ = rustix::pipe::fcntl_setpipe_size(&write, PIPE);
    // A command that is not root opens /dev/stdout by the pipe's mode.
    rustix::fs::fchmod(write.as_fd(), Mode::from_raw_mode(0o666))?;
    Ok((read, write))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_written_are_read_until_the_end() {
        let (read, write) = pipe().unwrap();
        let (read, write) = (Fd::new(read).unwrap(), Fd::new(write).unwrap());
        let sent = vec![7; 3 * PIPE];
        let (heard, ()) = tokio::join!(
            async {
                let mut heard = Vec::new();
                loop {
                    let bytes = read.read().await.unwrap();
                    if bytes.is_empty() {
                        return heard;
                    }
                    heard.extend_from_slice(&bytes);
                }
            },
            async {
                write.write_all(&sent).await.unwrap();
                drop(write);
            }
        );
        assert_eq!(heard, sent);
    }

    #[tokio::test]
    async fn a_terminal_nobody_has_open_is_at_its_end() {
        let master =
            rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY).unwrap();
        rustix::pty::unlockpt(&master).unwrap();
        let slave = rustix::pty::ioctl_tiocgptpeer(
            &master,
            rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY,
        )
        .unwrap();
        let master = Fd::new(master).unwrap();
        master.resize(WindowSize { columns: 132, rows: 43 }).unwrap();
        let size = rustix::termios::tcgetwinsize(&slave).unwrap();
        assert_eq!((size.ws_col, size.ws_row), (132, 43));
        rustix::io::write(&slave, b"bye").unwrap();
        drop(slave);
        assert_eq!(master.read().await.unwrap(), "bye");
        assert!(master.read().await.unwrap().is_empty());
    }
}
