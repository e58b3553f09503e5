//! PAX extended headers: `length key=value\n`, each length counting its own record.

use super::sparse;

/// Extended attributes of one member. Linux lists at most 64 KiB of names, and programs have a handful.
const XATTRS_MAX: usize = 256;

/// What the extended header of a member overrides.
#[derive(Debug, Default)]
pub(super) struct Extensions {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: sparse::Claims,
}

impl Extensions {
    /// Adds the records of one extended header; a later record of a key wins, as in every reader.
    pub(super) fn add(&mut self, mut records: &[u8]) -> Result<(), &'static str> {
        while !records.is_empty() {
            let space = records.iter().position(|b| *b == b' ').ok_or("a PAX record has no length")?;
            let length: usize =
                text(&records[..space])?.parse().map_err(|_| "a PAX length is not a number")?;
            if length <= space + 1 || length > records.len() || records[length - 1] != b'\n' {
                return Err("a PAX record does not end where its length says");
            }
            let (record, rest) = records.split_at(length);
            let body = &record[space + 1..length - 1];
            let equals = body.iter().position(|b| *b == b'=').ok_or("a PAX record has no value")?;
            self.set(&body[..equals], &body[equals + 1..])?;
            records = rest;
        }
        Ok(())
    }

    /// The path that the records give. That of a sparse file is not the one of `path`, whichever comes last: GNU tar writes its stand-in there
    /// (`GNUSparseFile.<n>/<name>`) when the name is long or not ASCII.
    pub(super) fn take_path(&mut self) -> Option<Vec<u8>> {
        let own = if self.sparse.is_any() { self.sparse.name.take() } else { None };
        own.or_else(|| self.path.take())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let no_nul =
            |value: &[u8]| if value.contains(&0) { Err("a NUL in a PAX path") } else { Ok(value.to_vec()) };
        match key {
            b"path" => self.path = Some(no_nul(value)?),
            b"linkpath" => self.link = Some(no_nul(value)?),
            b"size" => self.size = Some(parse(value, "the PAX size is not a number")?),
            b"uid" => self.uid = Some(parse(value, "the PAX uid is not a 32-bit number")?),
            b"gid" => self.gid = Some(parse(value, "the PAX gid is not a 32-bit number")?),
            b"mtime" => self.mtime = Some(time(value).ok_or("the PAX mtime is not a time")?),
            b"GNU.sparse.name" => self.sparse.name = Some(no_nul(value)?),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    if name.is_empty() || name.contains(&0) {
                        return Err("an extended attribute without a proper name");
                    }
                    self.xattrs.retain(|(have, _)| have != name);
                    if self.xattrs.len() >= XATTRS_MAX {
                        return Err("more than 256 extended attributes");
                    }
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                } else if let Some(name) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.set(name, text(value)?)?;
                }
            }
        }
        Ok(())
    }
}

fn text(bytes: &[u8]) -> Result<&str, &'static str> {
    std::str::from_utf8(bytes).map_err(|_| "a PAX number is not text")
}

fn parse<T: std::str::FromStr>(value: &[u8], what: &'static str) -> Result<T, &'static str> {
    text(value)?.parse().map_err(|_| what)
}

/// Seconds with an optional fraction; digits after the ninth are dropped. Negative times round towards the past.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let value = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanos: u32 = digits.parse().ok()?;
    if whole.starts_with('-') && nanos > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos));
    }
    Some((seconds, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_by_their_exact_length() {
        let mut ext = Extensions::default();
        ext.add(b"12 path=abc\n13 size=1234\n").unwrap();
        assert_eq!(ext.path.unwrap(), b"abc");
        assert_eq!(ext.size, Some(1234));
        for bad in
            [&b"5 a=b"[..], b"99 path=a\n", b"0 a=b\n", b"x path=a\n", b"12 path=a\0c\n", b"8 path\n\n"]
        {
            assert!(Extensions::default().add(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn times_before_1970_round_down() {
        assert_eq!(time(b"1.5"), Some((1, 500_000_000)));
        assert_eq!(time(b"-1.5"), Some((-2, 500_000_000)));
        assert_eq!(time(b"1.x"), None);
    }
}
