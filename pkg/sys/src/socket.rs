//! What the kernel knows of a socket and rustix has no call for.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};

/// Memory that what was sent and has not been read takes, of a unix socket, by SIOCOUTQ (unix(7)).
///
/// It is counted in the kernel's buffers, so a byte that waits takes hundreds. While a buffer is being freed the kernel keeps one byte of it
/// counted, and wakes whoever polls for room before it takes that one away (`sock_wfree`): a socket of which all has been read has 0 or 1.
///
/// # Errors
/// Those of ioctl(2).
pub fn unread(socket: impl AsFd) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: SIOCOUTQ, which has the number of TIOCOUTQ, writes one int; the descriptor is borrowed and open.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    match result {
        0 => Ok(usize::try_from(bytes).unwrap_or(0)),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        os::unix::net::UnixStream,
    };

    use super::*;

    #[test]
    fn what_was_read_takes_nothing() {
        let (mut one, mut other) = UnixStream::pair().unwrap();
        assert_eq!(unread(&one).unwrap(), 0);
        one.write_all(b"ab").unwrap();
        assert!(unread(&one).unwrap() > 1);
        let mut byte = [0];
        other.read_exact(&mut byte).unwrap();
        assert!(unread(&one).unwrap() > 1, "a part of a buffer keeps all of it");
        other.read_exact(&mut byte).unwrap();
        assert!(unread(&one).unwrap() <= 1);
        drop(other);
        assert!(unread(&one).unwrap() <= 1);
    }
}
