//! Frames on a nonblocking socket: u32 little-endian length, then the message.

use std::{
    collections::VecDeque,
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
};

use husk_proto::podmon;
use prost::Message;
use rustix::{
    io::Errno,
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recvmsg, send},
};

/// Most descriptors waiting to be claimed by requests. More than this is not a client of ours.
const MAX_FDS: usize = 16;

/// What was received and not yet taken.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
    /// In the order of their requests. A stream socket may deliver descriptors a little before the frame they belong
    /// to, never after it, so requests claim them in order.
    fds: VecDeque<OwnedFd>,
}

/// What a read came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// Nothing more for now.
    Later,
    /// There may be more.
    Some,
    /// The client closed its end.
    End,
}

impl Inbox {
    /// Reads once.
    pub fn receive(&mut self, socket: impl AsFd, scratch: &mut [u8]) -> io::Result<Received> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let message =
            match recvmsg(socket, &mut [IoSliceMut::new(scratch)], &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
                Ok(message) => message,
                Err(Errno::AGAIN | Errno::INTR) => return Ok(Received::Later),
                Err(error) => return Err(error.into()),
            };
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                self.fds.extend(fds);
            }
        }
        if self.fds.len() > MAX_FDS {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "too many descriptors"));
        }
        if message.bytes == 0 {
            return Ok(Received::End);
        }
        self.bytes.extend_from_slice(&scratch[..message.bytes]);
        Ok(Received::Some)
    }

    /// Takes the next whole request. An error means that the stream cannot be understood any further.
    pub fn next(&mut self) -> io::Result<Option<podmon::Request>> {
        let Some((header, rest)) = self.bytes.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*header) as usize;
        if length > podmon::MAX_REQUEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "request is too long"));
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let request = podmon::Request::decode(body)?;
        self.bytes.drain(..4 + length);
        if self.bytes.is_empty() {
            self.bytes = Vec::new();
        }
        Ok(Some(request))
    }

    /// Claims the next descriptor for the request taken last.
    pub fn take_fd(&mut self) -> Option<OwnedFd> {
        self.fds.pop_front()
    }
}

/// What waits to be sent.
#[derive(Debug, Default)]
pub struct Outbox {
    frames: VecDeque<Vec<u8>>,
    /// Bytes of the first frame that are sent.
    sent: usize,
    waiting: usize,
}

/// A client that does not read its answers is dropped beyond this. Two whole exec outputs fit.
const MAX_WAITING: usize = 2 * podmon::MAX_FRAME;

impl Outbox {
    /// Queues a frame.
    pub fn push(&mut self, frame: &podmon::ServerFrame) -> io::Result<()> {
        let length = frame.encoded_len();
        let mut bytes = Vec::with_capacity(4 + length);
        bytes.extend_from_slice(&(length as u32).to_le_bytes());
        frame.encode_raw(&mut bytes);
        self.waiting += bytes.len();
        self.frames.push_back(bytes);
        if self.waiting > MAX_WAITING {
            return Err(io::Error::new(io::ErrorKind::OutOfMemory, "client does not read its answers"));
        }
        Ok(())
    }

    /// Sends what the socket takes; true when nothing is left.
    pub fn flush(&mut self, socket: impl AsFd) -> io::Result<bool> {
        while let Some(frame) = self.frames.front() {
            match send(&socket, &frame[self.sent..], SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(count) => self.sent += count,
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if self.sent == frame.len() {
                self.waiting -= frame.len();
                self.sent = 0;
                self.frames.pop_front();
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::unix::net::UnixStream};

    use podmon::request::Call;

    use super::*;

    fn frame(id: u64) -> Vec<u8> {
        let call = Some(Call::StartContainer(podmon::StartContainer { container_id: "c".into() }));
        let body = podmon::Request { id, call }.encode_to_vec();
        [&(body.len() as u32).to_le_bytes()[..], &body].concat()
    }

    #[test]
    fn a_request_that_arrives_byte_by_byte_is_taken_once_it_is_whole() {
        let (mut client, server) = UnixStream::pair().unwrap();
        server.set_nonblocking(true).unwrap();
        let mut inbox = Inbox::default();
        let mut scratch = [0; 64];
        let bytes = frame(5);
        for byte in &bytes[..bytes.len() - 1] {
            client.write_all(&[*byte]).unwrap();
            assert_eq!(inbox.receive(&server, &mut scratch).unwrap(), Received::Some);
            assert!(inbox.next().unwrap().is_none());
        }
        client.write_all(&bytes[bytes.len() - 1..]).unwrap();
        inbox.receive(&server, &mut scratch).unwrap();
        assert_eq!(inbox.next().unwrap().unwrap().id, 5);
        assert_eq!(inbox.receive(&server, &mut scratch).unwrap(), Received::Later);
        drop(client);
        assert_eq!(inbox.receive(&server, &mut scratch).unwrap(), Received::End);
    }

    #[test]
    fn requests_in_one_read_come_out_in_order() {
        let mut inbox = Inbox { bytes: [frame(1), frame(2)].concat(), ..Inbox::default() };
        assert_eq!(inbox.next().unwrap().unwrap().id, 1);
        assert_eq!(inbox.next().unwrap().unwrap().id, 2);
        assert!(inbox.next().unwrap().is_none());
    }

    #[test]
    fn a_length_beyond_the_limit_and_a_body_that_is_no_message_are_errors() {
        let mut inbox = Inbox { bytes: u32::MAX.to_le_bytes().to_vec(), ..Inbox::default() };
        assert!(inbox.next().is_err());
        let mut inbox = Inbox { bytes: vec![3, 0, 0, 0, 0xff, 0xff, 0xff], ..Inbox::default() };
        assert!(inbox.next().is_err());
    }

    #[test]
    fn a_client_that_never_reads_is_cut_off_instead_of_filling_memory() {
        let (_client, server) = UnixStream::pair().unwrap();
        let mut outbox = Outbox::default();
        let stdout = vec![0; 16 << 20];
        let output = podmon::ExecOutput { stdout, ..Default::default() };
        let result = Some(podmon::response::Result::ExecOutput(output));
        let response = podmon::Response { id: 1, result };
        let frame = podmon::ServerFrame { frame: Some(podmon::server_frame::Frame::Response(response)) };
        outbox.push(&frame).unwrap();
        assert!(!outbox.flush(&server).unwrap());
        while outbox.push(&frame).is_ok() {
            assert!(outbox.frames.len() < 10);
        }
    }
}
