//! Handing something over to whoever called: a terminal or a pidfd to a socket, a process id to a file.

use std::{
    fs::{self, File},
    io::{IoSlice, Write as _},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::{fs::OpenOptionsExt as _, net::UnixStream},
    },
    path::Path,
};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use crate::{Error, Result};

/// Sends a descriptor to the socket at `path`, with a name for it.
///
/// # Errors
/// Those of connect(2) and sendmsg(2).
pub fn send_descriptor(path: &Path, fd: BorrowedFd<'_>, name: &str) -> Result<()> {
    let socket = UnixStream::connect(path).map_err(Error::io("connect to", path))?;
    send(&socket, fd, name.as_bytes()).map_err(Error::io("send to", path))
}

/// Sends a descriptor with a text.
///
/// # Errors
/// Those of sendmsg(2), and of write(2) for a text that does not fit at once.
pub(crate) fn send(mut socket: &UnixStream, fd: BorrowedFd<'_>, text: &[u8]) -> std::io::Result<()> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    let parts = [IoSlice::new(text)];
    let sent = rustix::net::sendmsg(socket.as_fd(), &parts, &mut ancillary, SendFlags::NOSIGNAL)?;
    socket.write_all(&text[sent..])
}

/// Writes a process id to a file that is there whole or not at all. Not by `husk_node::file`, whose name for a file on its way may be
/// anybody's in a directory of the caller's: this one is new.
///
/// # Errors
/// Those of writing.
pub fn write_pid(path: &Path, pid: u32) -> Result<()> {
    let name = path.file_name().ok_or_else(|| Error::Invalid(format!("pid file {}", path.display())))?;
    let mut new = std::ffi::OsString::from(".");
    new.push(name);
    let new = path.with_file_name(new);
    let write = || {
        // One that a killed process left; removing follows no link.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = File::options().write(true).create_new(true).mode(0o644).open(&new)?;
        file.write_all(pid.to_string().as_bytes())?;
        fs::rename(&new, path)
    };
    write().map_err(Error::io("write", path))
}
