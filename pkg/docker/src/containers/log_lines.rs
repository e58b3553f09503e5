//! The lines of a log as the monitor writes them, which are the CRI's: `<time> <stdout|stderr> <P|F> <bytes>`, where F had a line feed behind
//! it and P goes on in the next.

use std::io;

use husk_model::UnixNanos;

use crate::{http::Output, when};

/// One line of the file.
pub(super) struct Line<'a> {
    time: &'a str,
    /// Where it was written.
    pub(super) output: Output,
    /// A line feed followed.
    pub(super) whole: bool,
    bytes: &'a [u8],
}

impl<'a> Line<'a> {
    /// A line without its line feed; `None` for what is none.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let time = std::str::from_utf8(parts.next()?).ok()?;
        let output = match parts.next()? {
            b"stdout" => Output::Out,
            b"stderr" => Output::Err,
            _ => return None,
        };
        let whole = parts.next()? == b"F";
        Some(Self { time, output, whole, bytes: parts.next().unwrap_or_default() })
    }

    /// When it was written.
    pub(super) fn at(&self) -> Option<UnixNanos> {
        when::nanos(self.time)
    }

    /// What a client is shown.
    pub(super) fn shown(&self, timestamps: bool) -> Vec<u8> {
        let mut shown = Vec::with_capacity(self.bytes.len() + 40);
        if timestamps {
            // In UTC, whatever zone the node is in.
            let time = self.at().map(when::text).unwrap_or_else(|| self.time.to_owned());
            shown.extend(time.as_bytes());
            shown.push(b' ');
        }
        shown.extend(self.bytes);
        if self.whole {
            shown.push(b'\n');
        }
        shown
    }
}

/// Bytes read at once on the way back.
const PIECE: u64 = 64 << 10;
/// So much of a line says what it is.
const HEAD: usize = 256;

/// Where the last `wanted` lines of a log begin, and how many of these it has: fewer when all of it belongs to them. What goes on in the
/// next line is one with it; the very last may go on for ever.
///
/// `read` reads at a place, and `length` is where the log ends. However long lines are, a piece is in memory at once.
///
/// # Errors
/// Those of reading, and of `is_wanted` saying no.
pub(super) fn tail(
    mut read: impl FnMut(&mut [u8], u64) -> io::Result<()>,
    length: u64,
    wanted: u64,
    is_wanted: &dyn Fn() -> bool,
) -> io::Result<(u64, u64)> {
    let mut back = Back { wanted, count: 0, feed: None, is_last: true };
    let (mut to, mut after) = (length, Vec::new());
    while to > 0 {
        if !is_wanted() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let from = to.saturating_sub(PIECE);
        let mut piece = vec![0; (to - from) as usize];
        read(&mut piece, from)?;
        let own = piece.len();
        piece.extend(after);
        let mut end = own;
        while let Some(at) = piece[..end].iter().rposition(|byte| *byte == b'\n') {
            if let Some(start) = back.line_begins(&piece[at + 1..]) {
                return Ok((start, back.count));
            }
            back.feed = Some(from + at as u64);
            end = at;
        }
        piece.truncate(HEAD);
        (to, after) = (from, piece);
    }
    Ok((back.line_begins(&after).unwrap_or(0), back.count))
}

/// The way back through a log.
struct Back {
    wanted: u64,
    count: u64,
    /// Where the line ends whose beginning is looked for; before the first line feed none is.
    feed: Option<u64>,
    is_last: bool,
}

impl Back {
    /// The beginning of the line is found, `bytes` begin there. Returns where the last lines begin, if all of them were before this one.
    fn line_begins(&mut self, bytes: &[u8]) -> Option<u64> {
        let feed = self.feed?;
        let head = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let is_whole = Line::parse(head).is_none_or(|line| line.whole);
        if is_whole || self.is_last {
            if self.count == self.wanted {
                return Some(feed + 1);
            }
            self.count += 1;
        }
        self.is_last = false;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail_of(log: &[u8], wanted: u64) -> (u64, u64) {
        let read = |piece: &mut [u8], at: u64| {
            assert!(piece.len() as u64 <= PIECE, "no more is in memory");
            let at = at as usize;
            piece.copy_from_slice(&log[at..at + piece.len()]);
            Ok(())
        };
        tail(read, log.len() as u64, wanted, &|| true).unwrap()
    }

    #[test]
    fn the_last_lines_are_found_whatever_their_length_and_wherever_pieces_end() {
        let line = |length: usize, kind: &str| {
            let mut line = format!("2026-01-02T03:04:05.000000001Z stdout {kind} ").into_bytes();
            line.resize(line.len() + length, b'x');
            line.push(b'\n');
            line
        };
        for length in [0, 1, 100, 16 << 10, (64 << 10) - 40, (64 << 10) - 39, 300 << 10] {
            let lines: Vec<_> = (0..20).map(|number| line(length + number, "F")).collect();
            let log = lines.concat();
            for wanted in [0, 1, 2, 19] {
                let tail: usize = lines[20 - wanted as usize..].iter().map(Vec::len).sum();
                assert_eq!(tail_of(&log, wanted), ((log.len() - tail) as u64, wanted), "{length} {wanted}");
            }
            assert_eq!(tail_of(&log, 20), (0, 20));
            assert_eq!(tail_of(&log, 99), (0, 20));
        }
        // A line without an end, in many parts.
        let mut log = line(10, "F");
        let first = log.len() as u64;
        (0..2000).for_each(|_| log.extend(line(16 << 10, "P")));
        assert_eq!(tail_of(&log, 1), (first, 1));
        assert_eq!(tail_of(&log, 2), (0, 2));
        assert_eq!(tail_of(b"", 5), (0, 0));
        assert_eq!(tail_of(b"no line of ours", 5), (0, 0));
    }

    #[test]
    fn a_way_back_that_nobody_waits_for_ends() {
        let read = |piece: &mut [u8], _| {
            piece.fill(b'x');
            Ok(())
        };
        assert!(tail(read, u64::MAX, 1, &|| false).is_err());
    }
}
