//! Lines of a byte stream, long ones cut.

/// Longest content of one log line. containerd's default; kubelet and crictl join the parts, and critest's reader fails
/// on lines beyond 64 KiB.
pub const MAX_LINE: usize = 16 << 10;

/// Whether a newline ended this piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    Full,
    Partial,
}

/// Holds the beginning of a line until its end arrives. Memory is allocated only while there is one.
#[derive(Debug, Default)]
pub struct Splitter {
    carry: Vec<u8>,
}

impl Splitter {
    /// Calls `emit` for each piece that is complete: a line, or [`MAX_LINE`] bytes of one that goes on. A piece is the
    /// concatenation of two slices, so that nothing is copied here but the carry.
    pub fn feed(&mut self, mut bytes: &[u8], mut emit: impl FnMut(Tag, [&[u8]; 2])) {
        while !bytes.is_empty() {
            let room = MAX_LINE - self.carry.len();
            let window = &bytes[..bytes.len().min(room + 1)];
            match window.iter().position(|byte| *byte == b'\n') {
                Some(end) => {
                    emit(Tag::Full, [&self.carry, &bytes[..end]]);
                    self.carry.clear();
                    bytes = &bytes[end + 1..];
                }
                // A line of exactly MAX_LINE bytes is whole, so one byte more is needed to know that it goes on.
                None if window.len() > room => {
                    emit(Tag::Partial, [&self.carry, &bytes[..room]]);
                    self.carry.clear();
                    bytes = &bytes[room..];
                }
                None => {
                    self.carry.extend_from_slice(bytes);
                    return;
                }
            }
        }
        self.carry = Vec::new();
    }

    /// The beginning of a line whose end will not come.
    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.carry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(chunks: &[&[u8]]) -> Vec<(Tag, Vec<u8>)> {
        let mut splitter = Splitter::default();
        let mut pieces = Vec::new();
        for chunk in chunks {
            splitter.feed(chunk, |tag, parts| pieces.push((tag, parts.concat())));
        }
        let rest = splitter.finish();
        if !rest.is_empty() {
            pieces.push((Tag::Partial, rest));
        }
        pieces
    }

    #[test]
    fn the_pieces_do_not_depend_on_how_the_bytes_were_cut_into_reads() {
        let mut data = b"a\n\nlong:".to_vec();
        data.extend(vec![b'x'; 40_000]);
        data.extend(b"\nend");
        let whole = split(&[&data]);
        let tags: Vec<_> = whole.iter().map(|(tag, piece)| (*tag, piece.len())).collect();
        let (full, partial) = (Tag::Full, Tag::Partial);
        let expected = [
            (full, 1),
            (full, 0),
            (partial, 16384),
            (partial, 16384),
            (full, 40_005 - 2 * 16384),
            (partial, 3),
        ];
        assert_eq!(tags, expected);
        for size in [1, 7, 4096, 16384, 16385] {
            assert_eq!(split(&data.chunks(size).collect::<Vec<_>>()), whole, "chunks of {size}");
        }
    }

    #[test]
    fn a_line_of_exactly_the_limit_is_one_full_line() {
        let mut data = vec![b'x'; MAX_LINE];
        data.push(b'\n');
        let pieces = split(&[&data[..100], &data[100..]]);
        assert_eq!(pieces.len(), 1);
        assert_eq!((pieces[0].0, pieces[0].1.len()), (Tag::Full, MAX_LINE));
    }
}
