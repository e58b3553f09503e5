//! Every `:authority` that a client sends, replaced on its way to the server.
//!
//! On a unix socket a request's authority names nothing, and clients send what they have: Go `localhost`, C++, Python, Ruby and
//! Swift the socket's path percent-encoded, Java the path as it is. The last two are no authority to the http crate, which makes
//! h2 reset the stream before any service sees the call (hyperium/h2 pull request 487). So the bytes are changed before h2
//! reads them.
//!
//! A value is replaced by as many bytes of plain text, and nothing else in the stream moves: no length of a frame, no padding,
//! no fragment changes. The replacement of a string in Huffman's code is never longer than the string was, so the entry that it
//! becomes in the server's dynamic table (RFC 7541, 4.1) is not larger than in the client's. The server thus evicts no sooner
//! than the client, and every index that the client may use means the same field at both ends. A client that encodes its own
//! strings longer than they are gains nothing: it could have sent at once whatever its server then reads.
//!
//! An empty authority cannot be replaced in place: the field would have to grow, and with it its entry in the server's table,
//! which might then evict what the client still refers to. It is refused as before. grpc-go sends one when it dials a target
//! without an endpoint (issues 2628, 3854), which leads to no unix socket unless a program brings a dialer of its own.
//!
//! What h2 takes differently is fatal to the connection or the client's own loss: a HEADERS frame of a stream that depends on
//! itself is never decompressed there, so its entries are in the client's table alone.

use std::ops::Range;

use super::hpack::{Malformed, Names, Text, field};

/// What a client says first (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Length, type, flags and stream of a frame (RFC 9113, 4.1).
const HEAD: usize = 9;
/// Types of frames that carry header blocks (RFC 9113, 6.2 and 6.10).
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// Bytes of an unfinished header block that are held, twice what the server accepts. More is handed on as it is, for the server
/// to refuse.
const MAX_HELD: usize = 2 * crate::MAX_METADATA as usize;
/// Fragments of one header block; the smallest frame size that a peer may use makes 64 of a MiB.
const MAX_FRAGMENTS: usize = 256;
/// Repeated to the length of what it replaces.
const REPLACEMENT: &[u8] = b"localhost-";

/// Follows the bytes of one connection from client to server.
#[derive(Debug, Default)]
pub struct Rewriter {
    phase: Phase,
    names: Names,
    block: Block,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// So much of the preface was seen.
    Preface(usize),
    /// A frame begins, or goes on as a header block.
    Frames,
    /// So much of a frame without interest is left.
    Skipping(usize),
    /// These are not the bytes of a sane client; the server sees them as they are.
    Off,
}

impl Default for Phase {
    fn default() -> Self {
        Phase::Preface(0)
    }
}

/// A header block of which some frames were seen. Places count from its first frame.
#[derive(Debug, Default)]
struct Block {
    stream: [u8; 4],
    fragments: Vec<Range<usize>>,
    /// Where the next frame begins.
    at: usize,
}

/// What became of the bytes at a frame's beginning.
enum Step {
    /// So many may be handed on.
    Done(usize),
    /// A header block is not complete.
    More,
}

impl Rewriter {
    /// Changes what must be changed in `bytes`; returns how many of them may be handed on. The rest belongs to a frame that is
    /// not complete: it is expected again, at the front of the next call's bytes. At most about 2 MiB are kept back.
    pub fn walk(&mut self, bytes: &mut [u8]) -> usize {
        let mut done = 0;
        loop {
            let rest = &mut bytes[done..];
            if rest.is_empty() {
                return done;
            }
            match self.phase {
                Phase::Off => return bytes.len(),
                Phase::Preface(seen) => done += self.preface(seen, rest),
                Phase::Skipping(left) => {
                    let passed = left.min(rest.len());
                    done += passed;
                    self.phase = if passed == left { Phase::Frames } else { Phase::Skipping(left - passed) };
                }
                Phase::Frames => match self.frame(rest) {
                    Some(Step::Done(passed)) => done += passed,
                    Some(Step::More) => return done,
                    None => self.give_up(),
                },
            }
        }
    }

    /// All bytes that come from now on are handed on as they are.
    fn give_up(&mut self) {
        self.phase = Phase::Off;
        self.block = Block::default();
    }

    fn preface(&mut self, seen: usize, rest: &[u8]) -> usize {
        let wanted = &PREFACE[seen..];
        let length = wanted.len().min(rest.len());
        if rest[..length] != wanted[..length] {
            self.give_up();
            return 0;
        }
        self.phase = if length == wanted.len() { Phase::Frames } else { Phase::Preface(seen + length) };
        length
    }

    /// `None` when the client breaks the rules, or the bounds.
    fn frame(&mut self, rest: &mut [u8]) -> Option<Step> {
        loop {
            let Some(head) = Head::read(&rest[self.block.at..]) else { return Some(Step::More) };
            let first = self.block.at == 0;
            if first && head.kind != HEADERS {
                // Its own head counts too.
                self.phase = Phase::Skipping(HEAD + head.length);
                return Some(Step::Done(0));
            }
            if !first && (head.kind != CONTINUATION || head.stream != self.block.stream) {
                return None;
            }
            let begin = self.block.at + HEAD;
            let end = begin + head.length;
            if end > MAX_HELD || self.block.fragments.len() == MAX_FRAGMENTS {
                return None;
            }
            if rest.len() < end {
                return Some(Step::More);
            }
            let fragment = head.fragment(&rest[begin..end])?;
            self.block.fragments.push(begin + fragment.start..begin + fragment.end);
            self.block.stream = head.stream;
            self.block.at = end;
            if head.flags & END_HEADERS != 0 {
                let block = std::mem::take(&mut self.block);
                block.rewrite(rest, &mut self.names).ok()?;
                return Some(Step::Done(end));
            }
        }
    }
}

struct Head {
    length: usize,
    kind: u8,
    flags: u8,
    stream: [u8; 4],
}

impl Head {
    fn read(bytes: &[u8]) -> Option<Self> {
        let [l1, l2, l3, kind, flags, s1, s2, s3, s4] = *bytes.first_chunk::<HEAD>()?;
        let length = u32::from_be_bytes([0, l1, l2, l3]) as usize;
        // The stream's first bit is reserved and means nothing.
        Some(Self { length, kind, flags, stream: [s1 & 0x7f, s2, s3, s4] })
    }

    /// Where in the payload the fragment of the header block is: without padding and priority.
    fn fragment(&self, payload: &[u8]) -> Option<Range<usize>> {
        let (mut begin, mut end) = (0, payload.len());
        if self.kind == HEADERS {
            if self.flags & PADDED != 0 {
                begin += 1;
                end = end.checked_sub(usize::from(*payload.first()?))?;
            }
            if self.flags & PRIORITY != 0 {
                begin += 5;
            }
        }
        (begin <= end).then_some(begin..end)
    }
}

impl Block {
    fn rewrite(self, frames: &mut [u8], names: &mut Names) -> Result<(), Malformed> {
        if let [fragment] = self.fragments.as_slice() {
            return replace(&mut frames[fragment.clone()], names);
        }
        let mut whole: Vec<u8> = Vec::new();
        self.fragments.iter().for_each(|fragment| whole.extend(&frames[fragment.clone()]));
        replace(&mut whole, names)?;
        let mut left = whole.as_slice();
        for fragment in self.fragments {
            let (own, others) = left.split_at(fragment.len());
            frames[fragment].copy_from_slice(own);
            left = others;
        }
        Ok(())
    }
}

fn replace(block: &mut [u8], names: &mut Names) -> Result<(), Malformed> {
    let mut at = 0;
    while at < block.len() {
        let (next, authority) = field(block, at, names)?;
        if let Some(Text { length_at, bytes }) = authority {
            block[length_at] &= 0x7f;
            block[bytes].iter_mut().zip(REPLACEMENT.iter().cycle()).for_each(|(to, from)| *to = *from);
        }
        at = next;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &[u8] = b"/run/husk/husk.sock";

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags, 0, 0, 0, 1]);
        frame.extend(payload);
        frame
    }

    /// A header block with this authority, and one that refers to it.
    fn blocks() -> (Vec<u8>, Vec<u8>) {
        let mut first = vec![0x83, 0x86, 0x41, PATH.len() as u8];
        first.extend(PATH);
        first.extend(b"\x40\x01a\x01b");
        (first, b"\x83\x86\xbf\xbe".to_vec())
    }

    /// What the server sees when the client's bytes come in pieces of `piece`.
    fn seen(client: &[u8], piece: usize) -> Vec<u8> {
        let (mut rewriter, mut held, mut out) = (Rewriter::default(), Vec::new(), Vec::new());
        for piece in client.chunks(piece) {
            held.extend(piece);
            let done = rewriter.walk(&mut held);
            out.extend(held.drain(..done));
        }
        out.extend(held);
        out
    }

    #[test]
    fn a_path_becomes_an_authority_and_nothing_else_changes() {
        let (first, second) = blocks();
        let padded = [&[3, 9, 9, 9, 9, 9][..], &first, &[0, 0, 0]].concat();
        let (begin, rest) = first.split_at(10);
        let (middle, end) = rest.split_at(4);
        let client = [
            PREFACE.to_vec(),
            frame(4, 0, b"\0\x03\0\0\0\x64"),
            frame(HEADERS, END_HEADERS, &first),
            // Bytes of a message that look like a header.
            frame(0, 1, &frame(HEADERS, END_HEADERS, &first)),
            frame(HEADERS, END_HEADERS, &second),
            frame(HEADERS, END_HEADERS | PADDED | PRIORITY, &padded),
            frame(HEADERS, 0, begin),
            frame(CONTINUATION, 0, middle),
            frame(CONTINUATION, END_HEADERS, end),
        ]
        .concat();
        let whole = seen(&client, client.len());
        assert_eq!(whole.len(), client.len());
        let text = String::from_utf8_lossy(&whole);
        // The one that is left is in the message.
        assert_eq!(text.matches("/run/husk/husk.sock").count(), 1, "{text}");
        assert_eq!(text.matches("localhost-localhost").count(), 2, "{text}");
        let changed = whole.iter().zip(&client).filter(|(to, from)| to != from).count();
        assert!(changed <= 3 * PATH.len(), "{changed}");
        for piece in [1, 2, 7, 64] {
            assert_eq!(seen(&client, piece), whole, "in pieces of {piece}");
        }
    }

    #[test]
    fn huffmans_code_is_replaced_and_its_place_in_the_table_kept() {
        // The requests of RFC 7541, C.4: an authority in Huffman's code, then by its index 62, then 63.
        let requests: [&[u8]; 3] = [
            b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff",
            b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf",
            b"\x82\x87\x85\xbf\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf",
        ];
        // The third request's header is the newest entry; the authority's name, by now the third, is used for another value.
        let last = b"\x82\x7f\x01\x03/ab\x7f\x00\x03/cd";
        let client: Vec<u8> = [PREFACE.to_vec()]
            .into_iter()
            .chain(
                requests.into_iter().chain([last.as_slice()]).map(|block| frame(HEADERS, END_HEADERS, block)),
            )
            .flatten()
            .collect();
        let mut wanted = client.clone();
        let first = PREFACE.len() + HEAD + 4;
        wanted[first] = 12;
        wanted[first + 1..first + 13].copy_from_slice(b"localhost-lo");
        let end = wanted.len() - 6;
        wanted[end - 3..end].copy_from_slice(b"loc");
        for piece in [1, 5, client.len()] {
            assert_eq!(seen(&client, piece), wanted, "in pieces of {piece}");
        }
    }

    #[test]
    fn what_breaks_the_rules_is_handed_on_as_it_came() {
        let (first, _) = blocks();
        for wrong in [
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            [PREFACE.to_vec(), frame(HEADERS, 0, &first), frame(0, 0, b"x")].concat(),
            [PREFACE.to_vec(), frame(HEADERS, END_HEADERS, b"\x41\x7f"), frame(HEADERS, END_HEADERS, &first)]
                .concat(),
            [PREFACE.to_vec(), frame(HEADERS, END_HEADERS | PADDED, b"\x09")].concat(),
            [PREFACE.to_vec(), frame(CONTINUATION, END_HEADERS, &first)].concat(),
        ] {
            for piece in [1, wrong.len()] {
                assert_eq!(seen(&wrong, piece), wrong);
            }
        }
    }

    #[test]
    fn a_header_block_without_end_is_held_up_to_a_bound() {
        for piece in [0, 16 << 10] {
            let mut rewriter = Rewriter::default();
            assert_eq!(rewriter.walk(&mut PREFACE.to_vec()), PREFACE.len());
            let mut held = frame(HEADERS, 0, b"\x83");
            let most = (MAX_HELD + HEAD + piece).min((MAX_FRAGMENTS + 1) * (HEAD + piece.max(1)));
            while rewriter.walk(&mut held) == 0 {
                assert!(held.len() <= most, "{} bytes are held", held.len());
                held.extend(frame(CONTINUATION, 0, &vec![0x83; piece]));
            }
            assert_eq!(rewriter.phase, Phase::Off);
        }
    }
}
