//! The monitor's side of its protocol. The monitor is a program and no library, so its module is compiled in here.

use std::{io::Write, os::unix::net::UnixStream};

#[allow(dead_code, unused_imports)]
#[path = "../../../cmd/podmon/src/frame.rs"]
mod frame;

/// The requests in what a client sends in pieces of `piece` bytes, until the first that cannot be read; in words.
pub(crate) fn requests(bytes: &[u8], piece: usize) -> Vec<String> {
    let (mut client, server) = UnixStream::pair().expect("a pair of sockets");
    server.set_nonblocking(true).expect("a socket can be nonblocking");
    let (mut inbox, mut scratch, mut requests) = (frame::Inbox::default(), [0; 4096], Vec::new());
    for piece in bytes.chunks(piece.clamp(1, 4096)) {
        client.write_all(piece).expect("the socket has room");
        while let Ok(frame::Received::Some) = inbox.receive(&server, &mut scratch) {}
        loop {
            match inbox.next() {
                Ok(Some(request)) => requests.push(format!("{request:?}")),
                Ok(None) => break,
                Err(_) => return requests,
            }
        }
    }
    requests
}
