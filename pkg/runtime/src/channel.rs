//! The report socket: a `SOCK_SEQPACKET` pair, so that a message is whole or absent and the end of the child is an EOF.
//!
//! | message | from | when | then |
//! | --- | --- | --- | --- |
//! | Ready (user, warnings, maybe the terminal) | child | set up | the child waits for the gate, if it has one |
//! | Prepared | child of a container that stands alone | its namespaces and mounts are there | it waits for the gate |
//! | Successor (pid, its pidfd) | child | it cloned the process that goes on | the child exits with code 0; its successor waits |
//! | Listener (of its seccomp filter) | child, if its plan says so | the filter is loaded | the child goes on; what the filter leaves to the listener waits |
//! | Failed (step, object, errno, detail) | child | a step failed | the child exits with code 1 |
//! | Go | parent | it knows of the successor | the successor begins |
//! | Go | parent | the gate opens | the child executes |
//! | EOF | child | execve closed the socket, or the child died | the pidfd tells which |
//!
//! A successor has a pair of its own. Were it the predecessor's, that one would hold off the EOF until it has exited, which on a busy
//! node may be after the end of what the successor executed: a quick command would seem never to have run.

use std::{
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use husk_model::ResolvedUser;
use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    },
};

use crate::{Account, Failure, Step, user::MAX_GROUPS};

const READY: u8 = 1;
const FAILED: u8 = 2;
const GO: u8 = 3;
const SUCCESSOR: u8 = 4;
const PREPARED: u8 = 5;
const LISTENER: u8 = 6;

/// The child's end was closed with a message of ours unread. The kernel tells it once, ahead of what the child had said.
const UNREAD: Errno = Errno::CONNRESET;

/// Longest message. Senders cut their texts to fit.
const MAX_MESSAGE: usize = 64 * 1024;
/// Longest text in a message, bytes.
const MAX_TEXT: usize = 4096;

/// A decoded message of a child.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Ready { account: Account, warnings: Vec<String> },
    Prepared,
    Successor { pid: u32 },
    Listener,
    Failed(Failure),
}

/// The two ends, parent's first. The parent receives with MSG_DONTWAIT.
pub(crate) fn pair() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

pub(crate) fn send(
    socket: BorrowedFd<'_>,
    message: &Message,
    attached: Option<BorrowedFd<'_>>,
) -> rustix::io::Result<()> {
    let bytes = encode(message);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let rights = attached.map(|fd| [fd]);
    if let Some(rights) = &rights {
        ancillary.push(SendAncillaryMessage::ScmRights(rights));
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL).map(drop)
}

/// `Ok(None)` at EOF; `WOULDBLOCK` when there is nothing yet.
pub(crate) fn receive(socket: BorrowedFd<'_>) -> rustix::io::Result<Option<(Message, Option<OwnedFd>)>> {
    let Some(length) = next_length(socket)? else { return Ok(None) };
    let mut bytes = vec![0; length];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let length = loop {
        match rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags) {
            Err(Errno::INTR | UNREAD) => {}
            other => break other?.bytes,
        }
    };
    let fd = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    let message = decode(&bytes[..length]).ok_or(Errno::PROTO)?;
    Ok(Some((message, fd)))
}

/// Length of the message to come, or `None` at EOF. Most have 40 bytes: the monitor's memory is what counts.
fn next_length(socket: BorrowedFd<'_>) -> rustix::io::Result<Option<usize>> {
    let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK | RecvFlags::TRUNC;
    loop {
        // With MSG_TRUNC the second number is the real length of the message.
        match rustix::net::recv(socket, &mut [0; 1], flags) {
            Err(Errno::INTR | UNREAD) => {}
            Err(errno) => return Err(errno),
            Ok((_, 0)) => return Ok(None),
            Ok((_, length)) if length <= MAX_MESSAGE => return Ok(Some(length)),
            Ok(_) => return Err(Errno::MSGSIZE),
        }
    }
}

pub(crate) fn send_go(socket: BorrowedFd<'_>) -> rustix::io::Result<()> {
    rustix::net::send(socket, &[GO], SendFlags::NOSIGNAL | SendFlags::DONTWAIT).map(drop)
}

/// Blocks until the gate opens; false when the parent is gone.
pub(crate) fn wait_go(socket: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    let mut byte = [0; 1];
    loop {
        match rustix::net::recv(socket.as_fd(), &mut byte, RecvFlags::empty()) {
            Err(Errno::INTR) => {}
            Err(Errno::CONNRESET) => return Ok(false),
            Err(errno) => return Err(errno),
            Ok((length, _)) => return Ok(length == 1 && byte[0] == GO),
        }
    }
}

pub(crate) fn encode(message: &Message) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    match message {
        Message::Ready { account: Account { user, home }, warnings } => {
            out.push(READY);
            for number in [user.uid, user.gid, user.groups.len().min(MAX_GROUPS) as u32] {
                put_u32(&mut out, number);
            }
            for &group in user.groups.iter().take(MAX_GROUPS) {
                put_u32(&mut out, group);
            }
            put_bytes(&mut out, home);
            let warnings = &warnings[..warnings.len().min(4)];
            put_u32(&mut out, warnings.len() as u32);
            warnings.iter().for_each(|warning| put_text(&mut out, warning));
        }
        Message::Prepared => out.push(PREPARED),
        Message::Listener => out.push(LISTENER),
        Message::Successor { pid } => {
            out.push(SUCCESSOR);
            put_u32(&mut out, *pid);
        }
        Message::Failed(failure) => {
            out.push(FAILED);
            out.push(failure.step as u8);
            put_u32(&mut out, failure.errno.map_or(0, |errno| errno.raw_os_error() as u32));
            put_text(&mut out, &failure.object);
            put_text(&mut out, &failure.detail);
        }
    }
    out
}

pub(crate) fn decode(mut bytes: &[u8]) -> Option<Message> {
    let input = &mut bytes;
    match take_u8(input)? {
        READY => {
            let (uid, gid, count) = (take_u32(input)?, take_u32(input)?, take_u32(input)?);
            let groups = (0..count).map(|_| take_u32(input)).collect::<Option<_>>()?;
            let home = take_bytes(input)?;
            let count = take_u32(input)?;
            let warnings = (0..count.min(4)).map(|_| take_text(input)).collect::<Option<_>>()?;
            let account = Account { user: ResolvedUser { uid, gid, groups }, home };
            Some(Message::Ready { account, warnings })
        }
        PREPARED => Some(Message::Prepared),
        LISTENER => Some(Message::Listener),
        SUCCESSOR => Some(Message::Successor { pid: take_u32(input)? }),
        FAILED => {
            let step = Step::from_number(take_u8(input)?)?;
            let errno = take_errno(input)?;
            Some(Message::Failed(Failure {
                step,
                errno,
                object: take_text(input)?,
                detail: take_text(input)?,
            }))
        }
        _ => None,
    }
}

fn put_u32(out: &mut Vec<u8>, number: u32) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_bytes(out, &text.as_bytes()[..text.floor_char_boundary(MAX_TEXT)]);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(MAX_TEXT)];
    put_u32(out, bytes.len() as u32);
    out.extend_from_slice(bytes);
}

fn take_u8(input: &mut &[u8]) -> Option<u8> {
    let (&first, rest) = input.split_first()?;
    *input = rest;
    Some(first)
}

fn take_u32(input: &mut &[u8]) -> Option<u32> {
    let (number, rest) = input.split_first_chunk()?;
    *input = rest;
    Some(u32::from_le_bytes(*number))
}

/// 0 is none. The kernel has no numbers beyond 4095 (include/linux/err.h).
fn take_errno(input: &mut &[u8]) -> Option<Option<Errno>> {
    match take_u32(input)? {
        0 => Some(None),
        number @ 1..=4095 => Some(Some(Errno::from_raw_os_error(number as i32))),
        _ => None,
    }
}

fn take_text(input: &mut &[u8]) -> Option<String> {
    String::from_utf8(take_bytes(input)?).ok()
}

fn take_bytes(input: &mut &[u8]) -> Option<Vec<u8>> {
    let length = take_u32(input)? as usize;
    let (bytes, rest) = input.split_at_checked(length)?;
    *input = rest;
    Some(bytes.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready() -> Message {
        let user = ResolvedUser { uid: 1000, gid: 1000, groups: vec![10, 1000] };
        let account = Account { user, home: b"/home/\xfcser".to_vec() };
        Message::Ready { account, warnings: vec!["no CAP_SYS_RESOURCE".to_owned()] }
    }

    #[test]
    fn what_is_sent_is_what_arrives() {
        let (parent, child) = pair().unwrap();
        let failed = Message::Failed(Failure {
            step: Step::Mount,
            object: "/data".into(),
            errno: Some(Errno::NOTDIR),
            detail: "x".into(),
        });
        send(child.as_fd(), &ready(), Some(parent.as_fd())).unwrap();
        send(child.as_fd(), &Message::Successor { pid: 4711 }, Some(parent.as_fd())).unwrap();
        send(child.as_fd(), &failed, None).unwrap();
        drop(child);
        let (message, fd) = receive(parent.as_fd()).unwrap().unwrap();
        assert_eq!(message, ready());
        assert!(fd.is_some());
        let (message, fd) = receive(parent.as_fd()).unwrap().unwrap();
        assert_eq!((message, fd.is_some()), (Message::Successor { pid: 4711 }, true));
        assert_eq!(receive(parent.as_fd()).unwrap().unwrap().0, failed);
        assert!(receive(parent.as_fd()).unwrap().is_none());
    }

    #[test]
    fn a_text_without_end_is_cut_and_the_message_still_fits() {
        let long = "ä".repeat(100_000);
        let bytes = encode(&Message::Failed(Failure {
            step: Step::Source,
            object: long.clone(),
            errno: Some(Errno::NOENT),
            detail: long,
        }));
        assert!(bytes.len() < MAX_MESSAGE);
        assert!(decode(&bytes).is_some());
    }

    #[test]
    fn a_truncated_message_is_refused() {
        let bytes = encode(&ready());
        for length in 0..bytes.len() {
            assert_eq!(decode(&bytes[..length]), None, "{length} bytes");
        }
    }
}
