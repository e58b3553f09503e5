//! Reads a bbolt database: pages of a B+tree in a file, buckets in buckets. Nothing is written.
//!
//! ```text
//! page     id u64, flags u16, count u16, overflow u32, then `count` elements of 16 bytes, then their keys and values
//! branch   pos u32, key size u32, page u64
//! leaf     flags u32, pos u32, key size u32, value size u32     (pos counts from the element's own beginning)
//! bucket   root page u64, sequence u64; root 0: its one leaf page follows inline
//! meta     magic, version, page size, flags u32; root bucket; free list, pages, transaction, checksum u64
//! ```
//!
//! Of the two meta pages, the one of the later transaction counts that has a right checksum (FNV-1a). Numbers are
//! little-endian, as on every machine that husk runs on. A damaged or hostile file ends in an error: pages are looked up within
//! the file, the depth and what is read in all are bounded.

use std::{cell::Cell, fs::File, io, os::unix::fs::FileExt};

const META: u16 = 0x04;
const LEAF: u16 = 0x02;
const BRANCH: u16 = 0x01;
/// Of a leaf's element whose value is a bucket.
const IS_BUCKET: u32 = 0x01;
const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
const HEAD: usize = 16;
const ELEMENT: usize = 16;
/// Bytes of a meta before its checksum.
const META_SIZE: usize = 56;
/// Page sizes are those of kernels.
const PAGE_SIZES: std::ops::RangeInclusive<u64> = 1024..=(64 << 10);
/// Bytes of a page with those that overflow.
const PAGE_MAX: u64 = 16 << 20;
/// Pages above each other.
const DEPTH_MAX: u32 = 32;
/// Bytes read of one database, pages that are read again counted again.
const READ_MAX: u64 = 1 << 30;

/// A database.
pub(super) struct Bolt {
    file: File,
    length: u64,
    page_size: u64,
    root: u64,
    /// Bytes that may still be read.
    left: Cell<u64>,
}

/// A bucket of it.
pub(super) enum Bucket {
    At(u64),
    /// Its only page.
    Inline(Vec<u8>),
}

/// Is told each key of a bucket, with a way to its value; an error ends the walk.
pub(super) type Visit<'a> = &'a mut dyn FnMut(&[u8], &dyn Fn() -> io::Result<Item>) -> io::Result<()>;

/// What a key has.
pub(super) enum Item {
    Value(Vec<u8>),
    Bucket(Bucket),
}

fn damaged(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the database is damaged: {reason}"))
}

fn u16_at(bytes: &[u8], at: usize) -> io::Result<u16> {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk());
    field.map(|field| u16::from_le_bytes(*field)).ok_or_else(|| damaged("a page is too short"))
}

fn u32_at(bytes: &[u8], at: usize) -> io::Result<u32> {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk());
    field.map(|field| u32::from_le_bytes(*field)).ok_or_else(|| damaged("a page is too short"))
}

fn u64_at(bytes: &[u8], at: usize) -> io::Result<u64> {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk());
    field.map(|field| u64::from_le_bytes(*field)).ok_or_else(|| damaged("a page is too short"))
}

fn slice(page: &[u8], at: usize, length: u32) -> io::Result<&[u8]> {
    let end = at.checked_add(length as usize);
    end.and_then(|end| page.get(at..end)).ok_or_else(|| damaged("an element leaves its page"))
}

/// FNV-1a, 64 bits.
fn checksum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

struct Meta {
    page_size: u64,
    root: u64,
    transaction: u64,
}

impl Meta {
    fn parse(page: &[u8]) -> io::Result<Self> {
        let meta = page.get(HEAD..HEAD + META_SIZE + 8).ok_or_else(|| damaged("no meta page"))?;
        if u16_at(page, 8)? != META || u32_at(meta, 0)? != MAGIC {
            return Err(damaged("no bbolt file"));
        }
        if u32_at(meta, 4)? != VERSION {
            return Err(damaged("another version of the format"));
        }
        if checksum(&meta[..META_SIZE]) != u64_at(meta, META_SIZE)? {
            return Err(damaged("a meta page has a wrong checksum"));
        }
        let page_size = u64::from(u32_at(meta, 8)?);
        if !PAGE_SIZES.contains(&page_size) {
            return Err(damaged("an odd size of pages"));
        }
        Ok(Self { page_size, root: u64_at(meta, 16)?, transaction: u64_at(meta, 48)? })
    }
}

impl Bolt {
    pub(super) fn open(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        let read = |at: u64| -> io::Result<Meta> {
            let mut page = [0; HEAD + META_SIZE + 8];
            file.read_exact_at(&mut page, at)?;
            Meta::parse(&page)
        };
        // The second is one page on. How large a page is, the first says; if that is the damaged one, sizes are tried.
        let first = read(0);
        let sizes: Vec<u64> = match &first {
            Ok(meta) => vec![meta.page_size],
            Err(_) => (10..=16).map(|power| 1 << power).collect(),
        };
        let second = sizes.into_iter().find_map(|size| read(size).ok().filter(|meta| meta.page_size == size));
        let meta = match (first, second) {
            (Ok(first), Some(second)) if second.transaction > first.transaction => second,
            (Ok(first), _) => first,
            (Err(_), Some(second)) => second,
            (Err(error), None) => return Err(error),
        };
        Ok(Self { file, length, page_size: meta.page_size, root: meta.root, left: Cell::new(READ_MAX) })
    }

    /// The bucket of all others.
    pub(super) fn root(&self) -> Bucket {
        Bucket::At(self.root)
    }

    /// What `key` has in `bucket`.
    pub(super) fn get(&self, bucket: &Bucket, key: &[u8]) -> io::Result<Option<Item>> {
        let mut found = None;
        self.each(bucket, &mut |name, item| {
            if name == key {
                found = Some(item()?);
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// The bucket `key` in `bucket`.
    pub(super) fn bucket(&self, bucket: &Bucket, key: &[u8]) -> io::Result<Option<Bucket>> {
        Ok(match self.get(bucket, key)? {
            Some(Item::Bucket(bucket)) => Some(bucket),
            _ => None,
        })
    }

    /// Every key of a bucket, in order, with a way to its value.
    pub(super) fn each(&self, bucket: &Bucket, visit: Visit<'_>) -> io::Result<()> {
        match bucket {
            Bucket::At(page) => self.walk(*page, 0, visit),
            Bucket::Inline(page) => leaf(page, visit),
        }
    }

    fn walk(&self, number: u64, depth: u32, visit: Visit<'_>) -> io::Result<()> {
        if depth > DEPTH_MAX {
            return Err(damaged("pages lead to each other"));
        }
        let page = self.page(number)?;
        match u16_at(&page, 8)? {
            LEAF => leaf(&page, visit),
            BRANCH => {
                for element in 0..usize::from(u16_at(&page, 10)?) {
                    self.walk(u64_at(&page, HEAD + element * ELEMENT + 8)?, depth + 1, visit)?;
                }
                Ok(())
            }
            _ => Err(damaged("a page is of an odd kind")),
        }
    }

    fn page(&self, number: u64) -> io::Result<Vec<u8>> {
        let at = number.checked_mul(self.page_size).filter(|at| *at < self.length);
        let at = at.ok_or_else(|| damaged("a page is beyond the file"))?;
        let mut head = [0; HEAD];
        self.file.read_exact_at(&mut head, at)?;
        if u64_at(&head, 0)? != number {
            return Err(damaged("a page has another's number"));
        }
        let size = (1 + u64::from(u32_at(&head, 12)?)).saturating_mul(self.page_size);
        if size > PAGE_MAX || size > self.length - at {
            return Err(damaged("a page is longer than the file, or than husk reads"));
        }
        let left = self.left.get().checked_sub(size).ok_or_else(|| damaged("more pages than husk reads"))?;
        self.left.set(left);
        let mut page = vec![0; size as usize];
        self.file.read_exact_at(&mut page, at)?;
        Ok(page)
    }
}

fn leaf(page: &[u8], visit: Visit<'_>) -> io::Result<()> {
    if u16_at(page, 8)? != LEAF {
        return Err(damaged("a page is of an odd kind"));
    }
    for element in 0..usize::from(u16_at(page, 10)?) {
        let at = HEAD + element * ELEMENT;
        let (flags, pos) = (u32_at(page, at)?, u32_at(page, at + 4)?);
        let (key_size, value_size) = (u32_at(page, at + 8)?, u32_at(page, at + 12)?);
        let key_at = at + pos as usize;
        let key = slice(page, key_at, key_size)?;
        let value = slice(page, key_at + key_size as usize, value_size)?;
        let item = || match flags & IS_BUCKET {
            0 => Ok(Item::Value(value.to_vec())),
            _ => match u64_at(value, 0)? {
                0 => Ok(Item::Bucket(Bucket::Inline(value.get(16..).unwrap_or_default().to_vec()))),
                root => Ok(Item::Bucket(Bucket::At(root))),
            },
        };
        visit(key, &item)?;
    }
    Ok(())
}
