//! Where the fields of a header block are (RFC 7541), as far as finding `:authority` needs it. Nothing is decompressed.

use std::ops::Range;

/// Entries of the dynamic table that are remembered: each counts 32 bytes of the 4096 that a server grants by default
/// (RFC 7541, 4.1; RFC 9113, 6.5.2), so there are never more.
const ENTRIES: u32 = 128;
/// Entries of the static table; the dynamic table's follow (RFC 7541, 2.3.3).
const STATIC: u64 = 61;
/// `:authority` in the static table.
const AUTHORITY: u64 = 1;
const NAME: &[u8] = b":authority";
/// The same in Huffman's code (RFC 7541, appendix B), whose padding is fixed: there is no other form.
const NAME_IN_HUFFMAN: &[u8] = &[0xb8, 0x3b, 0x53, 0x39, 0xec, 0x32, 0x7d, 0x7f];

/// Which of the names that the client put into the dynamic table are `:authority`: bit 0 is the newest. What the table has
/// evicted is not followed, since an index to it is an error whatever is remembered here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Names(u128);

impl Names {
    fn is_authority(self, index: u64) -> bool {
        match index.checked_sub(STATIC + 1) {
            None => index == AUTHORITY,
            Some(age) if age < u64::from(ENTRIES) => self.0 >> age & 1 == 1,
            Some(_) => false,
        }
    }

    fn insert(&mut self, is_authority: bool) {
        self.0 = self.0 << 1 | u128::from(is_authority);
    }
}

/// A string of a header block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text {
    /// Where its length begins; that byte's highest bit says whether the string is in Huffman's code.
    pub(super) length_at: usize,
    /// Where its bytes are.
    pub(super) bytes: Range<usize>,
}

/// The block is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Reads the field at `at`, which is inside of the block: where the next one begins, and the value if it is an `:authority` that
/// is spelt out. A field that is an index alone was spelt out before. One at a time, since a block may be made of authorities.
pub(super) fn field(block: &[u8], at: usize, names: &mut Names) -> Result<(usize, Option<Text>), Malformed> {
    let mut cursor = Cursor { block, at };
    let mut authority = None;
    match *block.get(at).ok_or(Malformed)? {
        // Indexed field.
        0x80.. => drop(cursor.integer(7)?),
        // Size update.
        0x20..=0x3f => drop(cursor.integer(5)?),
        // Literals: with indexing, never indexed, without indexing.
        first => {
            let indexed = first >= 0x40;
            let is_authority = match cursor.integer(if indexed { 6 } else { 4 })? {
                0 => {
                    let name = &block[cursor.text()?.bytes];
                    name == NAME || name == NAME_IN_HUFFMAN
                }
                index => names.is_authority(index),
            };
            let value = cursor.text()?;
            if indexed {
                names.insert(is_authority);
            }
            authority = is_authority.then_some(value);
        }
    }
    Ok((cursor.at, authority))
}

struct Cursor<'b> {
    block: &'b [u8],
    at: usize,
}

impl Cursor<'_> {
    fn byte(&mut self) -> Result<u8, Malformed> {
        let byte = *self.block.get(self.at).ok_or(Malformed)?;
        self.at += 1;
        Ok(byte)
    }

    /// An integer in the last `prefix` bits of a byte and those that follow (RFC 7541, 5.1); at most four follow, which is more
    /// than any index or length here needs.
    fn integer(&mut self, prefix: u32) -> Result<u64, Malformed> {
        let mask = (1u64 << prefix) - 1;
        let mut value = u64::from(self.byte()?) & mask;
        if value < mask {
            return Ok(value);
        }
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            value += u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn text(&mut self) -> Result<Text, Malformed> {
        let length_at = self.at;
        let length = usize::try_from(self.integer(7)?).map_err(|_| Malformed)?;
        let end = self.at.checked_add(length).filter(|end| *end <= self.block.len()).ok_or(Malformed)?;
        let bytes = self.at..end;
        self.at = end;
        Ok(Text { length_at, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authorities(block: &[u8], names: &mut Names) -> Result<Vec<Text>, Malformed> {
        let (mut at, mut found) = (0, Vec::new());
        while at < block.len() {
            let (next, authority) = field(block, at, names)?;
            found.extend(authority);
            at = next;
        }
        Ok(found)
    }

    fn values(blocks: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut names = Names::default();
        let mut values = Vec::new();
        for block in blocks {
            let found = authorities(block, &mut names).unwrap();
            values.extend(found.into_iter().map(|text| block[text.bytes].to_vec()));
        }
        values
    }

    #[test]
    fn an_authority_is_found_in_every_form() {
        for block in [
            // With the static name: with indexing, without, never.
            b"\x82\x41\x02/s\x86".as_slice(),
            b"\x82\x01\x02/s",
            b"\x11\x02/s",
            // With a name of its own, plain and in Huffman's code.
            b"\x00\x0a:authority\x02/s",
            b"\x40\x88\xb8\x3b\x53\x39\xec\x32\x7d\x7f\x02/s",
            // After a size update.
            b"\x3f\xe1\x1f\x41\x02/s",
        ] {
            assert_eq!(values(&[block]), [b"/s"], "{block:?}");
        }
        assert!(values(&[b"\x82\x04\x02/s\x40\x01a\x02/s"]).is_empty());
    }

    #[test]
    fn a_name_of_the_dynamic_table_is_known() {
        let first = b"\x40\x0a:authority\x02/a\x40\x01x\x01y";
        // 62 is the newest entry, 63 the authority; then both have moved by one.
        assert_eq!(values(&[first, b"\x7f\x00\x02/b\x0f\x31\x02/c"]), [b"/a", b"/b", b"/c"]);
        assert_eq!(values(&[first, b"\x7e\x02/b"]), [b"/a"]);
    }

    #[test]
    fn an_index_beyond_the_table_is_nobodys() {
        let mut names = Names::default();
        for _ in 0..200 {
            names.insert(true);
        }
        for (index, expected) in [(0, false), (1, true), (2, false), (61, false), (62, true), (189, true)] {
            assert_eq!(names.is_authority(index), expected, "{index}");
        }
        // Nor does one wrap around, however large.
        for index in [190, 318, 1 << 28, u64::from(u32::MAX) + 63, u64::MAX] {
            assert!(!names.is_authority(index), "{index}");
        }
        // 62 + 128, and the largest that an integer may be.
        for block in [b"\x7f\x7f\x02/s".as_slice(), b"\x7f\xff\xff\xff\x7f\x02/s"] {
            assert_eq!(authorities(block, &mut names), Ok(Vec::new()), "{block:?}");
        }
    }

    #[test]
    fn entries_that_the_table_lost_move_no_name() {
        // The authority; an entry too large for any table, which empties it; an emptied table; then names count anew from 62.
        let huge = [b"\x40\x01x\x7f\x81\x1f".as_slice(), &[b'y'; 127 + 1 + (31 << 7)]].concat();
        let emptied = b"\x20\x3f\xe1\x1f\x40\x0a:authority\x02/b\x40\x01x\x01y";
        assert_eq!(
            values(&[b"\x41\x02/a", &huge, emptied, b"\x7f\x00\x02/c", b"\x7e\x02/d\x7f\x01\x02/n"]),
            [b"/a", b"/b", b"/c", b"/d"]
        );
    }

    #[test]
    fn what_is_cut_off_or_without_end_is_malformed() {
        for block in [b"\x41".as_slice(), b"\x41\x05/s", b"\x7f", b"\xff\xff\xff\xff\xff\xff", b"\x00\x02a"] {
            assert_eq!(authorities(block, &mut Names::default()), Err(Malformed), "{block:?}");
        }
    }
}
