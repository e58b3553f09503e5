//! The bytes on a plugin's socket: ttrpc messages inside the frames of two multiplexed connections.
//!
//! ```text
//! trunk    connection u32 | length u32 | bytes of that connection
//! message  length u32 | stream u32 | type u8 | flags u8 | content           (all big endian)
//! ```
//! Connection 1 carries the runtime's calls to the plugin, connection 2 the plugin's to the runtime. Both limits are those of
//! the Go implementation. What a plugin claims is believed only as far as it has sent it: buffers grow with what arrives.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest content of a ttrpc message, in bytes.
pub(crate) const MAX_CONTENT: usize = 4 << 20;
const MESSAGE_HEADER: usize = 10;
const TRUNK_HEADER: usize = 8;
/// Longest payload of a trunk frame.
const MAX_PAYLOAD: usize = MAX_CONTENT + MESSAGE_HEADER;
/// The Go side reads a connection through a buffer of this size and fails when a frame does not fit into it, unless it is in the
/// middle of a message that does. So a message goes out as a first frame of at most this size and one with all the rest;
/// many small ones would overflow its queue of 256 frames.
const FIRST_PAYLOAD: usize = 4096;

/// Who is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Callee {
    Plugin,
    Runtime,
}

impl Callee {
    fn connection(self) -> u32 {
        match self {
            Callee::Plugin => 1,
            Callee::Runtime => 2,
        }
    }

    fn of(connection: u32) -> Option<Self> {
        [Callee::Plugin, Callee::Runtime].into_iter().find(|callee| callee.connection() == connection)
    }
}

/// Type of a message. Streams (type 3) are not used by NRI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Request = 1,
    Response = 2,
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) callee: Callee,
    pub(crate) stream: u32,
    pub(crate) kind: Kind,
    pub(crate) content: Vec<u8>,
}

/// Why a peer's bytes cannot be understood. After it the connection is of no use: there is nothing to find the next frame by.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("the connection failed")]
    Io(#[from] io::Error),
    #[error("a frame of {0} bytes; {MAX_PAYLOAD} is the most")]
    LongFrame(u32),
    #[error("a message of {0} bytes; {MAX_CONTENT} is the most")]
    LongMessage(u32),
    #[error("a message of type {0}")]
    UnknownType(u8),
}

/// The trunk frames of a message.
pub(crate) fn encode(message: &Message) -> Vec<u8> {
    let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes();
    let mut bytes = Vec::with_capacity(MESSAGE_HEADER + message.content.len());
    bytes.extend(length(message.content.len()));
    bytes.extend(message.stream.to_be_bytes());
    bytes.extend([message.kind as u8, 0]);
    bytes.extend(&message.content);
    let (first, rest) = bytes.split_at(bytes.len().min(FIRST_PAYLOAD));
    let mut frames = Vec::with_capacity(bytes.len() + 2 * TRUNK_HEADER);
    for payload in [first, rest].into_iter().filter(|payload| !payload.is_empty()) {
        frames.extend(message.callee.connection().to_be_bytes());
        frames.extend(length(payload.len()));
        frames.extend(payload);
    }
    frames
}

/// Reads messages from a trunk.
#[derive(Debug)]
pub(crate) struct Reader<R> {
    trunk: R,
    plugin: Vec<u8>,
    runtime: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(crate) fn new(trunk: R) -> Self {
        Self { trunk, plugin: Vec::new(), runtime: Vec::new() }
    }

    /// The next message; `None` at the end of the trunk. Not cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Option<Message>, FrameError> {
        loop {
            for callee in [Callee::Plugin, Callee::Runtime] {
                if let Some(message) = take(self.buffer(callee), callee)? {
                    return Ok(Some(message));
                }
            }
            let connection = match self.trunk.read_u32().await {
                Ok(connection) => connection,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let length = self.trunk.read_u32().await?;
            if length as usize > MAX_PAYLOAD {
                return Err(FrameError::LongFrame(length));
            }
            let mut ignored = Vec::new();
            // A connection that nobody opened is not ours to complain about (the Go side drops its frames, too).
            let buffer = match Callee::of(connection) {
                Some(Callee::Plugin) => &mut self.plugin,
                Some(Callee::Runtime) => &mut self.runtime,
                None => &mut ignored,
            };
            let read = (&mut self.trunk).take(length.into()).read_to_end(buffer).await?;
            if read < length as usize {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }

    fn buffer(&mut self, callee: Callee) -> &mut Vec<u8> {
        match callee {
            Callee::Plugin => &mut self.plugin,
            Callee::Runtime => &mut self.runtime,
        }
    }
}

/// Takes a whole message from the front of a connection's bytes.
fn take(buffer: &mut Vec<u8>, callee: Callee) -> Result<Option<Message>, FrameError> {
    let Some((header, _)) = buffer.split_first_chunk::<MESSAGE_HEADER>() else { return Ok(None) };
    let [l0, l1, l2, l3, s0, s1, s2, s3, kind, _flags] = *header;
    let length = u32::from_be_bytes([l0, l1, l2, l3]);
    if length as usize > MAX_CONTENT {
        return Err(FrameError::LongMessage(length));
    }
    let kind = match kind {
        1 => Kind::Request,
        2 => Kind::Response,
        other => return Err(FrameError::UnknownType(other)),
    };
    let whole = MESSAGE_HEADER + length as usize;
    if buffer.len() < whole {
        return Ok(None);
    }
    let rest = buffer.split_off(whole);
    let mut content = std::mem::replace(buffer, rest);
    content.drain(..MESSAGE_HEADER);
    Ok(Some(Message { callee, stream: u32::from_be_bytes([s0, s1, s2, s3]), kind, content }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(callee: Callee, stream: u32, length: usize) -> Message {
        Message { callee, stream, kind: Kind::Request, content: vec![7; length] }
    }

    async fn read(bytes: &[u8]) -> Result<Vec<Message>, FrameError> {
        let mut reader = Reader::new(bytes);
        let mut messages = Vec::new();
        while let Some(message) = reader.next().await? {
            messages.push(message);
        }
        Ok(messages)
    }

    #[tokio::test]
    async fn messages_of_both_connections_come_back_whole() {
        let sent = [
            message(Callee::Plugin, 1, 0),
            message(Callee::Runtime, 3, 4086),
            message(Callee::Plugin, 5, 4087),
            message(Callee::Runtime, 7, MAX_CONTENT),
        ];
        let bytes: Vec<u8> = sent.iter().flat_map(encode).collect();
        assert_eq!(read(&bytes).await.unwrap(), sent);
    }

    #[tokio::test]
    async fn a_message_cut_into_single_bytes_comes_back_whole() {
        let sent = message(Callee::Plugin, 9, 20);
        let bytes: Vec<u8> =
            encode(&sent)[TRUNK_HEADER..].iter().flat_map(|byte| [0, 0, 0, 1, 0, 0, 0, 1, *byte]).collect();
        assert_eq!(read(&bytes).await.unwrap(), [sent]);
    }

    #[tokio::test]
    async fn a_claim_of_gigabytes_is_refused_before_anything_is_reserved() {
        let frame = [0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff];
        assert!(matches!(read(&frame).await, Err(FrameError::LongFrame(u32::MAX))));
        let message = [0, 0, 0, 2, 0, 0, 0, 10, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 1, 1, 0];
        assert!(matches!(read(&message).await, Err(FrameError::LongMessage(_))));
    }

    #[tokio::test]
    async fn garbage_and_an_end_in_the_middle_are_errors() {
        let unknown = [0, 0, 0, 2, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0, 1, 9, 0];
        assert!(matches!(read(&unknown).await, Err(FrameError::UnknownType(9))));
        let bytes = encode(&message(Callee::Plugin, 1, 100));
        assert!(matches!(read(&bytes[..50]).await, Err(FrameError::Io(_))));
    }

    #[tokio::test]
    async fn frames_of_unknown_connections_are_passed_over() {
        let mut bytes = vec![0, 0, 0, 9, 0, 0, 0, 2, 1, 2];
        let sent = message(Callee::Plugin, 1, 3);
        bytes.extend(encode(&sent));
        assert_eq!(read(&bytes).await.unwrap(), [sent]);
    }
}
