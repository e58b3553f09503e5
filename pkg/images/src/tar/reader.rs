//! The reader: members one after the other, content as borrowed slices of the input's own buffer.

use std::io::BufRead;

use super::{
    BLOCK, TarError,
    header::{EntryKind, Header, TarEntry, malformed},
    pax::Extensions,
    sparse,
};

/// Longest extended header, in bytes.
const EXTENSION_MAX: u64 = 1 << 20;
/// Extended headers before one member.
const EXTENSIONS_MAX: usize = 16;
/// Longest path or link target accepted (PATH_MAX).
const PATH_MAX: usize = 4096;
/// Largest file accepted, in logical bytes; ext4's own limit.
const FILE_MAX: u64 = 16 << 40;

/// Receives every byte that is not file content.
pub(crate) trait Sink {
    /// The next raw bytes.
    fn raw(&mut self, bytes: &[u8]) -> Result<(), TarError>;
}

/// A member's content that is still to come, and the padding after it.
#[derive(Debug, Default, Clone, Copy)]
struct Pending {
    content: u64,
    padding: u64,
}

/// Reads an archive.
pub(crate) struct TarReader<R, S> {
    input: R,
    pub(crate) sink: S,
    offset: u64,
    pending: Pending,
    ended: bool,
}

impl<R: BufRead, S: Sink> TarReader<R, S> {
    pub(crate) fn new(input: R, sink: S) -> Self {
        Self { input, sink, offset: 0, pending: Pending::default(), ended: false }
    }

    /// The next member; `None` at the end. Content of the previous one that was not read goes to the sink.
    pub(crate) fn next_entry(&mut self) -> Result<Option<TarEntry>, TarError> {
        if self.ended {
            return Ok(None);
        }
        let mut extensions = Extensions::default();
        for _ in 0..=EXTENSIONS_MAX {
            self.skip_pending()?;
            let at = self.offset;
            let Some(block) = self.header_block()? else {
                self.ended = true;
                return Ok(None);
            };
            let header = Header(&block);
            let fail = malformed(at);
            header.check_sum().map_err(&fail)?;
            let size = header.number(124..136, "the size is not a number").map_err(&fail)?;
            let size = u64::try_from(size).map_err(|_| fail("the size is negative"))?;
            match header.kind() {
                b'x' => {
                    let records = self.extension(size, at)?;
                    extensions.add(&records).map_err(&fail)?;
                }
                // Global headers carry comments of the archiver (git archive); readers of images ignore them.
                b'g' => drop(self.extension(size, at)?),
                b'L' => extensions.path = Some(until_nul(self.extension(size, at)?)),
                b'K' => extensions.link = Some(until_nul(self.extension(size, at)?)),
                kind => return self.entry(kind, &header, size, extensions, at).map(Some),
            }
        }
        Err(TarError::Header { offset: self.offset, reason: "too many extended headers before a member" })
    }

    /// The next slice of the current member's content, at most as long as the input has at hand; empty at its end.
    pub(crate) fn content(&mut self) -> Result<&[u8], TarError> {
        let offset = self.offset;
        if self.pending.content == 0 {
            return Ok(&[]);
        }
        let available = self.input.fill_buf().map_err(TarError::Read)?;
        if available.is_empty() {
            return Err(TarError::Truncated { offset });
        }
        let length = available.len().min(usize::try_from(self.pending.content).unwrap_or(usize::MAX));
        Ok(&available[..length])
    }

    /// Marks `length` bytes of the slice given by [`content`](Self::content) as used.
    pub(crate) fn consume(&mut self, length: usize) {
        self.input.consume(length);
        self.offset += length as u64;
        self.pending.content -= length as u64;
    }

    /// Passes whatever follows the end of the archive to the sink, so that a digest over the stream covers it.
    ///
    /// # Errors
    /// [`TarError::Trailing`] when that is more than `limit` bytes.
    pub(crate) fn drain(&mut self, limit: u64) -> Result<(), TarError> {
        let mut left = limit;
        loop {
            let available = self.input.fill_buf().map_err(TarError::Read)?;
            if available.is_empty() {
                return Ok(());
            }
            let length = available.len();
            left = left.checked_sub(length as u64).ok_or(TarError::Trailing { limit })?;
            self.sink.raw(available)?;
            self.input.consume(length);
            self.offset += length as u64;
        }
    }

    /// Bytes of the archive read so far.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    fn entry(
        &mut self,
        kind: u8,
        header: &Header<'_>,
        header_size: u64,
        mut extensions: Extensions,
        at: u64,
    ) -> Result<TarEntry, TarError> {
        let fail = malformed(at);
        let path = extensions.take_path().unwrap_or_else(|| header.path());
        let link = extensions.link.unwrap_or_else(|| header.field(157..257).to_vec());
        if path.len() > PATH_MAX || link.len() > PATH_MAX {
            return Err(fail("a path is longer than 4096 bytes"));
        }
        let entry_kind = match kind {
            // Before directories had a type of their own, a trailing slash made one.
            0 if path.ends_with(b"/") => EntryKind::Directory,
            0 | b'0' | b'7' | b'S' => EntryKind::Regular,
            b'1' => EntryKind::Hardlink,
            b'2' => EntryKind::Symlink,
            b'3' => EntryKind::Char,
            b'4' => EntryKind::Block,
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            kind => {
                return Err(TarError::Kind {
                    path: String::from_utf8_lossy(&path).into_owned(),
                    kind: char::from(kind),
                });
            }
        };
        // Only regular members have content, whatever the size field of others says (as in Go's archive/tar).
        // A PAX size is authoritative for the stream too: readers that disagree see different members (CVE-2025-62518).
        let stored =
            if entry_kind == EntryKind::Regular { extensions.size.unwrap_or(header_size) } else { 0 };
        if stored > FILE_MAX {
            return Err(fail("a file of more than 16 TiB"));
        }
        self.pending = Pending { content: stored, padding: stored.wrapping_neg() % BLOCK as u64 };
        let (size, sparse) = self.sparse(kind, header, &extensions.sparse, stored, at)?;
        let id = |value: Option<u32>, range| -> Result<u32, TarError> {
            let from_header = || {
                let value = header.number(range, "an owner is not a number").map_err(&fail)?;
                u32::try_from(value).map_err(|_| fail("an owner is out of range"))
            };
            value.map_or_else(from_header, Ok)
        };
        let mode = header.number(100..108, "the mode is not a number").map_err(&fail)?;
        Ok(TarEntry {
            kind: entry_kind,
            link,
            mode: (mode & 0o7777) as u32,
            uid: id(extensions.uid, 108..116)?,
            gid: id(extensions.gid, 116..124)?,
            mtime: match extensions.mtime {
                Some(time) => time,
                None => (header.number(136..148, "the time is not a number").map_err(&fail)?, 0),
            },
            device: match entry_kind {
                EntryKind::Char | EntryKind::Block => header.device().map_err(&fail)?,
                _ => (0, 0),
            },
            xattrs: extensions.xattrs,
            path,
            size,
            sparse,
        })
    }

    /// Logical size and segments.
    fn sparse(
        &mut self,
        kind: u8,
        header: &Header<'_>,
        claims: &sparse::Claims,
        stored: u64,
        at: u64,
    ) -> Result<(u64, Option<sparse::Map>), TarError> {
        let fail = malformed(at);
        let (size, map) = if kind == b'S' {
            let mut map = Vec::new();
            let mut more = sparse::old_header(header, &mut map).map_err(&fail)?;
            while more {
                let block = self.block()?;
                self.sink.raw(&block)?;
                more = sparse::old_extension(&block, &mut map).map_err(&fail)?;
            }
            let size = header.number(483..495, "the size of a sparse file is malformed").map_err(&fail)?;
            (u64::try_from(size).map_err(|_| fail("the size of a sparse file is negative"))?, map)
        } else if claims.map_in_data {
            let mut reader = sparse::MapInData::default();
            loop {
                if self.pending.content < BLOCK as u64 {
                    return Err(fail("the map of a sparse file is longer than its data"));
                }
                let block = self.block()?;
                self.pending.content -= BLOCK as u64;
                self.sink.raw(&block)?;
                if let Some(map) = reader.add(&block).map_err(&fail)? {
                    break (claims.size.ok_or_else(|| fail("a sparse file without its size"))?, map);
                }
            }
        } else if let Some(map) = &claims.map {
            (claims.size.ok_or_else(|| fail("a sparse file without its size"))?, map.clone())
        } else {
            return Ok((stored, None));
        };
        if size > FILE_MAX {
            return Err(fail("a file of more than 16 TiB"));
        }
        sparse::check(&map, size, self.pending.content).map_err(&fail)?;
        Ok((size, Some(map)))
    }

    /// Content of an extended header, with its padding.
    fn extension(&mut self, size: u64, at: u64) -> Result<Vec<u8>, TarError> {
        if size > EXTENSION_MAX {
            return Err(TarError::Header { offset: at, reason: "an extended header of more than 1 MiB" });
        }
        let mut data = Vec::new();
        while (data.len() as u64) < size {
            let block = self.block()?;
            self.sink.raw(&block)?;
            data.extend_from_slice(&block);
        }
        data.truncate(size as usize);
        Ok(data)
    }

    /// The next header; `None` at the end: two zero blocks, one and the end of the stream, or just the end.
    fn header_block(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        for zeros in 0..2 {
            if self.input.fill_buf().map_err(TarError::Read)?.is_empty() {
                return Ok(None);
            }
            let at = self.offset;
            let block = self.block()?;
            self.sink.raw(&block)?;
            if block.iter().any(|b| *b != 0) {
                return match zeros {
                    0 => Ok(Some(block)),
                    _ => Err(TarError::Header { offset: at, reason: "data after a lone zero block" }),
                };
            }
        }
        Ok(None)
    }

    fn block(&mut self) -> Result<[u8; BLOCK], TarError> {
        let mut block = [0; BLOCK];
        let mut have = 0;
        while have < BLOCK {
            let available = self.input.fill_buf().map_err(TarError::Read)?;
            if available.is_empty() {
                return Err(TarError::Truncated { offset: self.offset });
            }
            let length = available.len().min(BLOCK - have);
            block[have..have + length].copy_from_slice(&available[..length]);
            self.input.consume(length);
            self.offset += length as u64;
            have += length;
        }
        Ok(block)
    }

    fn skip_pending(&mut self) -> Result<(), TarError> {
        let mut left = self.pending.content + self.pending.padding;
        let padding = self.pending.padding;
        self.pending = Pending::default();
        while left > 0 {
            let available = self.input.fill_buf().map_err(TarError::Read)?;
            if available.is_empty() {
                // Some archivers do not pad the last member; nothing of it is missing (Go's reader takes this, too).
                if left <= padding {
                    return Ok(());
                }
                return Err(TarError::Truncated { offset: self.offset });
            }
            let length = available.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            self.sink.raw(&available[..length])?;
            self.input.consume(length);
            self.offset += length as u64;
            left -= length as u64;
        }
        Ok(())
    }
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|b| *b == 0) {
        bytes.truncate(end);
    }
    bytes
}
