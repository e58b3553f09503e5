//! One 512-byte header: fields, numbers, checksum.

use super::{BLOCK, TarError};

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryKind {
    Regular,
    Directory,
    Symlink,
    Hardlink,
    Char,
    Block,
    Fifo,
}

/// A member with the extensions of PAX and GNU applied.
#[derive(Debug, Clone)]
pub(crate) struct TarEntry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: EntryKind,
    pub(crate) link: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: (i64, u32),
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Logical size of a regular file.
    pub(crate) size: u64,
    /// Data segments `(offset, length)` of a sparse file, in order; `None` when the content is whole.
    pub(crate) sparse: Option<Vec<(u64, u64)>>,
}

pub(super) struct Header<'a>(pub(super) &'a [u8; BLOCK]);

impl<'a> Header<'a> {
    pub(super) fn field(&self, range: std::ops::Range<usize>) -> &'a [u8] {
        let bytes = &self.0[range];
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        &bytes[..end]
    }

    pub(super) fn number(
        &self,
        range: std::ops::Range<usize>,
        what: &'static str,
    ) -> Result<i64, &'static str> {
        number(&self.0[range]).ok_or(what)
    }

    pub(super) fn kind(&self) -> u8 {
        self.0[156]
    }

    pub(super) fn is_gnu(&self) -> bool {
        &self.0[257..265] == b"ustar  \0"
    }

    fn is_ustar(&self) -> bool {
        &self.0[257..263] == b"ustar\0"
    }

    /// Sum of all bytes with the checksum field as spaces. Old writers summed signed bytes.
    pub(super) fn check_sum(&self) -> Result<(), &'static str> {
        let stored = self.number(148..156, "the checksum is not a number")?;
        let (mut unsigned, mut signed) = (0i64, 0i64);
        for (at, byte) in self.0.iter().enumerate() {
            let byte = if (148..156).contains(&at) { b' ' } else { *byte };
            unsigned += i64::from(byte);
            signed += i64::from(byte.cast_signed());
        }
        if stored == unsigned || stored == signed { Ok(()) } else { Err("wrong checksum") }
    }

    pub(super) fn path(&self) -> Vec<u8> {
        let name = self.field(0..100);
        let prefix = if self.is_ustar() { self.field(345..500) } else { b"" };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    pub(super) fn device(&self) -> Result<(u32, u32), &'static str> {
        if !self.is_ustar() && !self.is_gnu() {
            return Ok((0, 0));
        }
        let part = |range| -> Result<u32, &'static str> {
            u32::try_from(self.number(range, "a device number is malformed")?)
                .map_err(|_| "a device number is out of range")
        };
        Ok((part(329..337)?, part(337..345)?))
    }
}

/// Octal with padding, or base 256 when the first bit is set. An empty field is zero, as every reader takes it.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 != 0 {
        // Two's complement over the whole field without its first bit.
        let negative = first & 0x40 != 0;
        let mut value: i128 = if negative { -1 } else { 0 };
        for (at, byte) in field.iter().enumerate() {
            let byte = match (at, negative) {
                (0, true) => *byte | 0x80,
                (0, false) => *byte & 0x7f,
                _ => *byte,
            };
            value = value.checked_mul(256)?.checked_add(i128::from(byte))?;
        }
        return i64::try_from(value).ok();
    }
    let text = std::str::from_utf8(field).ok()?;
    let text = text.trim_matches(|c| c == ' ' || c == '\0');
    if text.is_empty() { Some(0) } else { i64::from_str_radix(text, 8).ok() }
}

pub(super) fn malformed(offset: u64) -> impl Fn(&'static str) -> TarError {
    move |reason| TarError::Header { offset, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   17 \0\0"), Some(0o17));
        assert_eq!(number(b"\0\0\0\0"), Some(0));
        assert_eq!(number(b"\x80\0\0\0\0\0\0\0\0\0\x01\0"), Some(256));
        assert_eq!(number(&[0xff; 12]), Some(-1));
        assert_eq!(number(b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), None, "beyond 64 bits");
        assert_eq!(number(b"12x4"), None);
    }
}
