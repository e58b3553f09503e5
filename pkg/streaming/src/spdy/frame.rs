//! Frames, without any I/O: bytes in and events out, frames in and bytes out.
//!
//! ```text
//! control: |1| version 3 (15) | type (16) | flags (8) | length (24) | …
//! data:    |0| stream id (31)             | flags (8) | length (24) | …
//! ```
//! (SPDY protocol draft 3.1, section 2.2.) A control frame is read whole, so it is limited; the payload of a data frame is
//! handed on as it comes, so its length needs no limit.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{
    error::SpdyError,
    headers::{Headers, Reader, Writer},
};

/// Longest control frame. A block of [`Headers`] compresses to far less.
const MAX_CONTROL: usize = 16 << 10;
/// Most payload in one event.
const MAX_CHUNK: usize = 32 << 10;
/// Payload shorter than this is copied, so that a byte that waits for its reader does not keep a whole buffer.
const SMALL: usize = 4 << 10;

const CONTROL: u16 = 0x8000;
const VERSION: u16 = 3;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;

const FLAG_FIN: u8 = 1;

/// Why a stream is reset (section 2.6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum ResetReason {
    /// The stream was refused before anything was done with it.
    Refused = 3,
    /// It is not needed any more.
    Cancel = 5,
}

/// What arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// A stream begins; with `fin` its sender has nothing to say on it.
    Open { id: u32, headers: Headers, fin: bool },
    /// Part of a stream's data; with `fin` the last.
    Data { id: u32, bytes: Bytes, fin: bool },
    /// A stream is broken off.
    Reset { id: u32 },
    /// To be sent back if the number is odd, the client's.
    Ping(u32),
    /// Nothing that concerns a server of streams.
    Other,
}

/// Takes bytes apart.
#[derive(Debug)]
pub(super) struct Decoder {
    /// Bytes that were read and not yet looked at.
    pub(super) buffer: BytesMut,
    headers: Reader,
    /// The data frame whose payload comes next.
    payload: Option<Payload>,
}

#[derive(Debug, Clone, Copy)]
struct Payload {
    id: u32,
    left: usize,
    fin: bool,
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self { buffer: BytesMut::new(), headers: Reader::new(), payload: None }
    }

    /// The next event; `None` when more bytes are needed.
    ///
    /// # Errors
    /// When the bytes are no frame or exceed a limit; nothing can be decoded after that.
    pub(super) fn next(&mut self) -> Result<Option<Event>, SpdyError> {
        if let Some(payload) = self.payload {
            return Ok(self.next_payload(payload));
        }
        let Some(header) = self.buffer.first_chunk::<8>() else { return Ok(None) };
        let first = u16::from_be_bytes([header[0], header[1]]);
        let flags = header[4];
        let length = u32::from_be_bytes([0, header[5], header[6], header[7]]) as usize;
        if first & CONTROL == 0 {
            let id = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
            self.buffer.advance(8);
            let payload = Payload { id, left: length, fin: flags & FLAG_FIN != 0 };
            if length == 0 {
                return Ok(Some(Event::Data { id, bytes: Bytes::new(), fin: payload.fin }));
            }
            self.payload = Some(payload);
            return Ok(self.next_payload(payload));
        }
        if first & !CONTROL != VERSION {
            return Err(SpdyError::Malformed("a frame is not of SPDY/3"));
        }
        if length > MAX_CONTROL {
            return Err(SpdyError::TooMuch("a control frame"));
        }
        let kind = u16::from_be_bytes([header[2], header[3]]);
        if self.buffer.len() < 8 + length {
            return Ok(None);
        }
        self.buffer.advance(8);
        let body = self.buffer.split_to(length);
        self.control(kind, flags, &body).map(Some)
    }

    fn next_payload(&mut self, payload: Payload) -> Option<Event> {
        let length = payload.left.min(self.buffer.len()).min(MAX_CHUNK);
        if length == 0 {
            return None;
        }
        let bytes = if length < SMALL {
            let copy = Bytes::copy_from_slice(&self.buffer[..length]);
            self.buffer.advance(length);
            copy
        } else {
            self.buffer.split_to(length).freeze()
        };
        let left = payload.left - length;
        self.payload = (left > 0).then_some(Payload { left, ..payload });
        Some(Event::Data { id: payload.id, bytes, fin: payload.fin && left == 0 })
    }

    fn control(&mut self, kind: u16, flags: u8, mut body: &[u8]) -> Result<Event, SpdyError> {
        let mut number = || {
            let (bytes, rest) =
                body.split_first_chunk::<4>().ok_or(SpdyError::Malformed("a control frame is too short"))?;
            body = rest;
            Ok(u32::from_be_bytes(*bytes))
        };
        match kind {
            SYN_STREAM => {
                let id = number()? & STREAM_ID;
                let _associated = number()?;
                // Priority and slot.
                let block = body
                    .split_first_chunk::<2>()
                    .ok_or(SpdyError::Malformed("a control frame is too short"))?
                    .1;
                Ok(Event::Open { id, headers: self.headers.read(block)?, fin: flags & FLAG_FIN != 0 })
            }
            // Not expected of a client, but they move the zlib stream on.
            SYN_REPLY | HEADERS => {
                number()?;
                self.headers.read(body)?;
                Ok(Event::Other)
            }
            RST_STREAM => Ok(Event::Reset { id: number()? & STREAM_ID }),
            PING => Ok(Event::Ping(number()?)),
            // GOAWAY: the connection's end follows. SETTINGS and WINDOW_UPDATE: nobody's flow depends on them (the clients'
            // library has no flow control). Others are to be ignored (section 2.2.1).
            _ => Ok(Event::Other),
        }
    }
}

const STREAM_ID: u32 = 0x7fff_ffff;

/// Puts frames together.
#[derive(Debug)]
pub(super) struct Encoder {
    headers: Writer,
}

impl Encoder {
    pub(super) fn new() -> Self {
        Self { headers: Writer::new() }
    }

    /// The acceptance of a stream.
    ///
    /// # Errors
    /// Those of compression.
    pub(super) fn reply(&mut self, id: u32) -> Result<Bytes, SpdyError> {
        let block = self.headers.write(&Headers::new())?;
        let mut frame = control(SYN_REPLY, 0, 4 + block.len());
        frame.put_u32(id);
        frame.put_slice(&block);
        Ok(frame.freeze())
    }

    /// A stream of our own (tests play the client with it).
    #[cfg(test)]
    pub(super) fn open(&mut self, id: u32, headers: &Headers, fin: bool) -> Bytes {
        let block = self.headers.write(headers).unwrap();
        let mut frame = control(SYN_STREAM, u8::from(fin), 10 + block.len());
        frame.put_u32(id);
        frame.put_u32(0);
        frame.put_u16(0);
        frame.put_slice(&block);
        frame.freeze()
    }
}

fn control(kind: u16, flags: u8, length: usize) -> BytesMut {
    let mut frame = BytesMut::with_capacity(8 + length);
    frame.put_u16(CONTROL | VERSION);
    frame.put_u16(kind);
    frame.put_u32((u32::from(flags) << 24) | length as u32);
    frame
}

/// The eight bytes before a payload shorter than 16 MiB.
pub(super) fn data_header(id: u32, length: usize, fin: bool) -> [u8; 8] {
    debug_assert!(length < 1 << 24);
    let mut header = [0; 8];
    header[..4].copy_from_slice(&(id & STREAM_ID).to_be_bytes());
    header[4..].copy_from_slice(&((u32::from(fin) << 24) | length as u32).to_be_bytes());
    header
}

/// Breaks a stream off.
pub(super) fn reset(id: u32, reason: ResetReason) -> Bytes {
    let mut frame = control(RST_STREAM, 0, 8);
    frame.put_u32(id);
    frame.put_u32(reason as u32);
    frame.freeze()
}

/// A ping or its echo.
pub(super) fn ping(number: u32) -> Bytes {
    let mut frame = control(PING, 0, 4);
    frame.put_u32(number);
    frame.freeze()
}

/// The goodbye: no stream after `last` was or will be served.
pub(super) fn go_away(last: u32) -> Bytes {
    let mut frame = control(GOAWAY, 0, 8);
    frame.put_u32(last);
    frame.put_u32(0);
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers() -> Headers {
        [("streamtype", "stdin"), ("x", "y")].map(|(n, v)| (n.to_owned(), v.to_owned())).into()
    }

    /// A client's conversation, and what it means.
    fn conversation() -> (Vec<u8>, Vec<Event>) {
        let mut encoder = Encoder::new();
        let bytes = [
            &encoder.open(1, &headers(), false)[..],
            &encoder.open(3, &headers(), true)[..],
            &data_header(1, 5, false),
            b"hello",
            &ping(1),
            &control(9, 0, 8)[..],
            &[0; 8],
            &control(777, 0, 3)[..],
            b"???",
            &data_header(1, 0, true),
            &reset(3, ResetReason::Cancel),
            &go_away(0),
        ]
        .concat();
        let events = vec![
            Event::Open { id: 1, headers: headers(), fin: false },
            Event::Open { id: 3, headers: headers(), fin: true },
            Event::Data { id: 1, bytes: Bytes::from_static(b"hello"), fin: false },
            Event::Ping(1),
            Event::Other,
            Event::Other,
            Event::Data { id: 1, bytes: Bytes::new(), fin: true },
            Event::Reset { id: 3 },
            Event::Other,
        ];
        (bytes, events)
    }

    fn decode(pieces: impl Iterator<Item = Vec<u8>>) -> Result<Vec<Event>, SpdyError> {
        let mut decoder = Decoder::new();
        let mut events = Vec::new();
        for piece in pieces {
            decoder.buffer.extend_from_slice(&piece);
            while let Some(event) = decoder.next()? {
                match (events.last_mut(), event) {
                    (
                        Some(Event::Data { id, bytes, fin }),
                        Event::Data { id: same, bytes: more, fin: end },
                    ) if *id == same && !*fin => {
                        *bytes = Bytes::from([bytes.as_ref(), more.as_ref()].concat());
                        *fin = end;
                    }
                    (_, event) => events.push(event),
                }
            }
        }
        Ok(events)
    }

    #[test]
    fn a_conversation_means_the_same_however_it_is_cut() {
        let (bytes, events) = conversation();
        for size in [1, 2, 3, 7, 8, 9, 64, bytes.len()] {
            assert_eq!(decode(bytes.chunks(size).map(<[u8]>::to_vec)).unwrap(), events, "{size}");
        }
    }

    #[test]
    fn what_is_missing_is_waited_for() {
        let (bytes, events) = conversation();
        for length in 0..bytes.len() {
            let found = decode(std::iter::once(bytes[..length].to_vec())).unwrap();
            assert!(found.len() <= events.len());
        }
    }

    #[test]
    fn bytes_changed_on_their_way_never_do_more_than_end_the_connection() {
        let (bytes, _) = conversation();
        for position in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[position] = value;
                // Whatever comes of it: no panic, no event larger than what was sent.
                for event in decode(std::iter::once(changed)).unwrap_or_default() {
                    if let Event::Data { bytes: payload, .. } = event {
                        assert!(payload.len() <= bytes.len());
                    }
                }
            }
        }
    }

    #[test]
    fn noise_is_refused_or_waited_for() {
        let mut state = 0x2545_f491_4f6c_dd1du64;
        for _ in 0..2000 {
            let noise: Vec<u8> = (0..256)
                .map(|_| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    state as u8
                })
                .collect();
            let _ = decode(std::iter::once(noise.clone()));
            // As the rest of a frame that looks right.
            for kind in [SYN_STREAM, SYN_REPLY, RST_STREAM, PING, HEADERS] {
                let mut frame = control(kind, 0, noise.len()).to_vec();
                frame.extend_from_slice(&noise);
                let _ = decode(std::iter::once(frame));
            }
        }
    }

    #[test]
    fn a_control_frame_beyond_the_limit_is_refused_before_it_is_read() {
        let header = control(SYN_STREAM, 0, MAX_CONTROL + 1).to_vec();
        assert!(matches!(decode(std::iter::once(header)), Err(SpdyError::TooMuch(_))));
        let header = control(PING, 0, 0x00ff_ffff).to_vec();
        assert!(decode(std::iter::once(header)).is_err());
    }

    #[test]
    fn a_frame_of_another_version_ends_the_connection() {
        let mut frame = ping(1).to_vec();
        frame[1] = 2;
        assert!(decode(std::iter::once(frame)).is_err());
    }

    #[test]
    fn the_longest_data_frame_passes_without_being_held() {
        let mut decoder = Decoder::new();
        let total = (1 << 24) - 1;
        decoder.buffer.extend_from_slice(&data_header(1, total, true));
        let mut seen = 0;
        while seen < total {
            let more = (total - seen).min(64 << 10);
            decoder.buffer.extend_from_slice(&vec![7; more]);
            while let Some(event) = decoder.next().unwrap() {
                let Event::Data { id: 1, bytes, fin } = event else { panic!("{event:?}") };
                assert!(bytes.len() <= MAX_CHUNK);
                seen += bytes.len();
                assert_eq!(fin, seen == total);
            }
            assert!(decoder.buffer.is_empty());
        }
    }
}
