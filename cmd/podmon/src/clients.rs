//! Connections: who asks, and how answers and events get back.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, OwnedFd},
};

use husk_proto::podmon::{self, event, response, server_frame};

use crate::{
    fault::Outcome,
    frame::{Inbox, Outbox, Received},
    journal::journal,
    poll::{Interest, Key, Poller, Source},
};

/// An answer other than an error.
pub type Answer = response::Result;

/// A request that waits for its answer. The client may be gone by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    pub client: Key,
    pub id: u64,
}

/// A request with the descriptors that came along; it must claim its own.
#[derive(Debug)]
pub struct Incoming {
    pub caller: Caller,
    pub call: Option<podmon::request::Call>,
    pub fds: Vec<OwnedFd>,
}

#[derive(Debug)]
struct Client {
    socket: OwnedFd,
    inbox: Inbox,
    outbox: Outbox,
    subscribed: bool,
    /// Whether room for output is waited for.
    writing: bool,
}

/// Every connection.
#[derive(Debug, Default)]
pub struct Clients {
    all: BTreeMap<Key, Client>,
}

/// A daemon needs one connection, and a second while it reconnects; a tool may want one. More are refused, so that
/// nothing can exhaust our descriptors.
const MAX_CLIENTS: usize = 32;

impl Clients {
    /// Takes a new connection.
    pub fn admit(&mut self, poller: &Poller, key: Key, socket: OwnedFd) -> io::Result<()> {
        let peer = rustix::net::sockopt::socket_peercred(&socket)?;
        if !peer.uid.is_root() || self.all.len() >= MAX_CLIENTS {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        poller.add(&socket, Source::Connection(key), Interest::Read)?;
        let (inbox, outbox) = (Inbox::default(), Outbox::default());
        self.all.insert(key, Client { socket, inbox, outbox, subscribed: false, writing: false });
        Ok(())
    }

    /// Reads what a client sent and sends what it can take. Requests come out in order.
    pub fn ready(&mut self, poller: &Poller, key: Key, scratch: &mut [u8]) -> Vec<Incoming> {
        self.flush(poller, key);
        let Some(client) = self.all.get_mut(&key) else { return Vec::new() };
        let mut incoming = Vec::new();
        match client.read(key, scratch, &mut incoming) {
            Ok(false) => {}
            Ok(true) => self.drop_client(poller, key),
            Err(error) => {
                journal!("connection closed: {error}");
                self.drop_client(poller, key);
            }
        }
        incoming
    }

    pub fn reply(&mut self, poller: &Poller, caller: Caller, outcome: Outcome<Answer>) {
        let result = Some(outcome.unwrap_or_else(Answer::Error));
        let response = podmon::Response { id: caller.id, result };
        self.send(poller, caller.client, server_frame::Frame::Response(response));
    }

    /// Pushes an event to everyone who subscribed.
    pub fn publish(&mut self, poller: &Poller, event: event::Event) {
        let subscribed: Vec<Key> =
            self.all.iter().filter(|(_, client)| client.subscribed).map(|(key, _)| *key).collect();
        for key in subscribed {
            let event = podmon::Event { event: Some(event.clone()) };
            self.send(poller, key, server_frame::Frame::Event(event));
        }
    }

    pub fn subscribe(&mut self, key: Key) {
        if let Some(client) = self.all.get_mut(&key) {
            client.subscribed = true;
        }
    }

    fn send(&mut self, poller: &Poller, key: Key, frame: server_frame::Frame) {
        let Some(client) = self.all.get_mut(&key) else { return };
        match client.outbox.push(&podmon::ServerFrame { frame: Some(frame) }) {
            Ok(()) => self.flush(poller, key),
            Err(error) => {
                journal!("connection closed: {error}");
                self.drop_client(poller, key);
            }
        }
    }

    fn flush(&mut self, poller: &Poller, key: Key) {
        let Some(client) = self.all.get_mut(&key) else { return };
        let flushed = client.outbox.flush(&client.socket).and_then(|empty| {
            if client.writing == empty {
                let interest = if empty { Interest::Read } else { Interest::Both };
                poller.modify(&client.socket, Source::Connection(key), interest)?;
                client.writing = !empty;
            }
            Ok(())
        });
        if flushed.is_err() {
            self.drop_client(poller, key);
        }
    }

    fn drop_client(&mut self, poller: &Poller, key: Key) {
        if let Some(client) = self.all.remove(&key) {
            poller.remove(client.socket.as_fd());
        }
    }
}

impl Client {
    /// True when the client closed its end. Requests that came before an error are still served.
    fn read(&mut self, key: Key, scratch: &mut [u8], incoming: &mut Vec<Incoming>) -> io::Result<bool> {
        // Bounded, so that one client cannot keep the others waiting.
        for _ in 0..16 {
            let received = self.inbox.receive(&self.socket, scratch)?;
            while let Some(request) = self.inbox.next()? {
                let caller = Caller { client: key, id: request.id };
                let mut fds = Vec::new();
                for _ in 0..expected_fds(request.call.as_ref()) {
                    let missing =
                        || io::Error::new(io::ErrorKind::InvalidData, "request without its descriptors");
                    fds.push(self.inbox.take_fd().ok_or_else(missing)?);
                }
                incoming.push(Incoming { caller, call: request.call, fds });
            }
            match received {
                Received::Some => {}
                Received::Later => return Ok(false),
                Received::End => return Ok(true),
            }
        }
        Ok(false)
    }
}

/// How many descriptors a request brings.
fn expected_fds(call: Option<&podmon::request::Call>) -> usize {
    use podmon::request::Call;
    match call {
        Some(Call::Exec(exec)) if exec.terminal => 1,
        Some(Call::Exec(exec)) => [exec.stdin, exec.stdout, exec.stderr].iter().filter(|flag| **flag).count(),
        Some(Call::Attach(attach)) => {
            [attach.stdin, attach.stdout, attach.stderr].iter().filter(|flag| **flag).count()
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use rustix::{
        net::{AddressFamily, SocketFlags, SocketType, socketpair},
        process::Uid,
    };

    use super::*;

    /// One end of a connection whose other end was made by `uid`.
    fn from(uid: u32) -> OwnedFd {
        // A thread of its own: the kernel keeps users by thread, and notes that of whoever makes a socket.
        let make = move || {
            let uid = Uid::from_raw(uid);
            rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap().0
        };
        std::thread::spawn(make).join().unwrap()
    }

    #[test]
    fn nobody_but_root_speaks_to_a_monitor() {
        if !rustix::process::geteuid().is_root() {
            husk_test_support::skip("root");
            return;
        }
        let (poller, mut clients) = (Poller::new().unwrap(), Clients::default());
        for uid in [1, 1000, 65_535, u32::MAX - 1] {
            let refused = clients.admit(&poller, 1, from(uid)).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied, "{uid}");
        }
        clients.admit(&poller, 2, from(0)).unwrap();
    }

    #[test]
    fn clients_are_as_many_as_descriptors_allow() {
        if !rustix::process::geteuid().is_root() {
            husk_test_support::skip("root");
            return;
        }
        let (poller, mut clients) = (Poller::new().unwrap(), Clients::default());
        for key in 0..MAX_CLIENTS {
            clients.admit(&poller, key as Key, from(0)).unwrap();
        }
        assert!(clients.admit(&poller, 1000, from(0)).is_err());
    }
}
