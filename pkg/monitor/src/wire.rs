//! Frames on the socket: u32 little-endian length, then the message; descriptors ride with the first byte.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use husk_proto::podmon;
use prost::Message;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, Interest},
    net::UnixStream,
};

/// Most descriptors one request carries (exec: three streams).
pub(crate) const MAX_FDS: usize = 4;

/// A request, encoded.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) bytes: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
}

pub(crate) fn encode(request: &podmon::Request, fds: Vec<OwnedFd>) -> Frame {
    let length = request.encoded_len();
    let mut bytes = Vec::with_capacity(4 + length);
    bytes.extend_from_slice(&(length as u32).to_le_bytes());
    request.encode_raw(&mut bytes);
    Frame { bytes, fds }
}

/// Writes a frame whole. Not cancel-safe: only the link's writer task calls it.
pub(crate) async fn write(socket: &UnixStream, frame: &Frame) -> io::Result<()> {
    let mut sent = 0;
    while sent < frame.bytes.len() {
        let fds = if sent == 0 { frame.fds.as_slice() } else { &[] };
        sent += socket.async_io(Interest::WRITABLE, || send(socket, &frame.bytes[sent..], fds)).await?;
    }
    Ok(())
}

fn send(socket: &UnixStream, bytes: &[u8], fds: &[OwnedFd]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors for one request"));
    }
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?)
}

/// Receives the one descriptor that a monitor sends over a socket of its own (an exec's terminal).
pub(crate) async fn receive_fd(socket: &UnixStream) -> io::Result<OwnedFd> {
    socket.async_io(Interest::READABLE, || take_fd(socket)).await
}

/// As [`receive_fd`], if the descriptor is there already.
pub(crate) fn take_fd(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0; 1];
    recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let fd = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    fd.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// Reads the next frame; `None` at the end of the stream. Not cancel-safe: only the link's reader task calls it.
pub(crate) async fn read(socket: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<podmon::ServerFrame>> {
    let mut header = [0; 4];
    match socket.read_exact(&mut header).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = u32::from_le_bytes(header) as usize;
    if length > podmon::MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "frame is too long"));
    }
    // Memory grows with what has arrived, not with what was announced.
    let mut bytes = Vec::new();
    if socket.take(length as u64).read_to_end(&mut bytes).await? < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(podmon::ServerFrame::decode(bytes.as_slice())?))
}
