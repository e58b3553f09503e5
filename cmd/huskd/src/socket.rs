//! The CRI socket: inherited from systemd, or made here.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt, chown},
        net::{UnixListener as StdListener, UnixStream},
    },
    path::Path,
};

use nix::{
    sys::socket::{getsockopt, sockopt::PeerCredentials},
    unistd::Gid,
};
use rustix::{
    io::Errno,
    process::{Pid, test_kill_process},
};
use tokio::net::UnixListener;

/// Owner and group may connect; whoever can is root on the node.
const MODE: u32 = 0o660;

/// The inherited socket if there is one (systemd socket activation, sd_listen_fds(3)), else a new one at `address`.
pub(crate) fn listen(address: &Path) -> io::Result<UnixListener> {
    let wrap =
        |error: io::Error| io::Error::new(error.kind(), format!("socket {}: {error}", address.display()));
    let inherited = listenfd::ListenFd::from_env().take_unix_listener(0)?;
    let listener = match inherited {
        Some(listener) => listener,
        None => bind(address, MODE, None).map_err(wrap)?,
    };
    listener.set_nonblocking(true).map_err(wrap)?;
    UnixListener::from_std(listener).map_err(wrap)
}

/// A new socket at `address` with these permissions, of this group if not of huskd's own.
pub(crate) fn bind(address: &Path, mode: u32, group: Option<Gid>) -> io::Result<StdListener> {
    if let Some(parent) = address.parent() {
        fs::create_dir_all(parent)?;
    }
    remove_stale(address)?;
    // Bound under another name and renamed, so that nobody connects before the mode is set.
    let mut hidden = address.as_os_str().to_owned();
    hidden.push(".new");
    match fs::remove_file(&hidden) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = StdListener::bind(&hidden)?;
    chown(&hidden, None, group.map(Gid::as_raw))?;
    fs::set_permissions(&hidden, fs::Permissions::from_mode(mode))?;
    fs::rename(&hidden, address)?;
    Ok(listener)
}

/// A socket nobody listens on was left by a daemon that was killed; anything else is not ours to remove.
pub(crate) fn remove_stale(address: &Path) -> io::Result<()> {
    let kind = match fs::symlink_metadata(address) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !kind.is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "exists and is not a socket"));
    }
    match UnixStream::connect(address) {
        Ok(stream) => match listener_of(&stream)? {
            // Killed while it started a monitor, which has the socket until it executes and never answers on it.
            pid if !runs(pid) => fs::remove_file(address),
            pid => {
                let reason = format!("another process listens on it (pid {pid})");
                Err(io::Error::new(io::ErrorKind::AddrInUse, reason))
            }
        },
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(address),
        Err(error) => Err(error),
    }
}

/// Who called listen(2) on the other end (SO_PEERCRED, unix(7)).
fn listener_of(stream: &UnixStream) -> io::Result<i32> {
    Ok(getsockopt(stream, PeerCredentials)?.pid())
}

/// Whether a process exists. One of another PID namespace has pid 0 here and is taken as running, as is whoever was given the
/// number since: nothing is done to it, and the socket is left alone.
fn runs(pid: i32) -> bool {
    Pid::from_raw(pid).is_none_or(|pid| test_kill_process(pid) != Err(Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_socket_that_nobody_listens_on_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let address = dir.path().join("s");
        drop(StdListener::bind(&address).unwrap());
        let group = Gid::current();
        let listener = bind(&address, MODE, Some(group)).unwrap();
        let made = fs::metadata(&address).unwrap();
        assert_eq!((made.permissions().mode() & 0o777, made.gid()), (MODE, group.as_raw()));
        UnixStream::connect(&address).unwrap();
        drop(listener);
    }

    #[test]
    fn a_living_socket_and_a_plain_file_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let address = dir.path().join("s");
        let _listener = StdListener::bind(&address).unwrap();
        assert_eq!(bind(&address, MODE, None).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let file = dir.path().join("f");
        fs::write(&file, "precious").unwrap();
        assert_eq!(bind(&file, MODE, None).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    }
}
