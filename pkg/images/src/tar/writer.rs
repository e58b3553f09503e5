//! Headers of members: ustar, with a PAX header before it where ustar's fields are too small.

use super::{BLOCK, EntryKind, TarEntry};

/// Largest number of an octal field of eight bytes.
const ID_MAX: u32 = 0o7_777_777;
/// Bytes of a file from which on a size needs more than an octal field.
const SIZE_MAX: u64 = 1 << 33;

/// What ends an archive.
pub(crate) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// The headers of `entry`, before whose content of `stored` bytes they stand. A directory's path gets its slash here, times are whole
/// seconds. With segments ([`TarEntry::sparse`]) the content begins with what [`sparse_map`] makes of them.
pub(crate) fn header(entry: &TarEntry, stored: u64) -> Vec<u8> {
    let mut path = entry.path.clone();
    if entry.kind == EntryKind::Directory && !path.ends_with(b"/") {
        path.push(b'/');
    }
    let records = records(entry, &path, stored);
    let mut bytes = Vec::with_capacity(BLOCK);
    if !records.is_empty() {
        bytes.extend(block(b"PaxHeaders/member", b'x', &TarEntry::file("", 0), records.len() as u64));
        bytes.extend(&records);
        bytes.resize(bytes.len() + padding(records.len() as u64), 0);
    }
    bytes.extend(block(&path, flag(entry.kind), entry, stored));
    bytes
}

/// Zeros between content of `size` bytes and the next header.
pub(crate) fn padding(size: u64) -> usize {
    (size.wrapping_neg() % BLOCK as u64) as usize
}

/// The map of a sparse file as its content begins with it (GNU's PAX form 1.0), padded.
pub(crate) fn sparse_map(segments: &[(u64, u64)]) -> Vec<u8> {
    let mut map = format!("{}\n", segments.len());
    for (offset, length) in segments {
        map.push_str(&format!("{offset}\n{length}\n"));
    }
    let mut map = map.into_bytes();
    map.resize(map.len() + padding(map.len() as u64), 0);
    map
}

impl TarEntry {
    /// A regular file that anybody may read.
    pub(crate) fn file(path: &str, size: u64) -> Self {
        Self {
            path: path.as_bytes().to_vec(),
            kind: EntryKind::Regular,
            link: Vec::new(),
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: (0, 0),
            device: (0, 0),
            xattrs: Vec::new(),
            size,
            sparse: None,
        }
    }
}

fn flag(kind: EntryKind) -> u8 {
    match kind {
        EntryKind::Regular => b'0',
        EntryKind::Hardlink => b'1',
        EntryKind::Symlink => b'2',
        EntryKind::Char => b'3',
        EntryKind::Block => b'4',
        EntryKind::Directory => b'5',
        EntryKind::Fifo => b'6',
    }
}

/// What the fields of ustar cannot hold.
fn records(entry: &TarEntry, path: &[u8], stored: u64) -> Vec<u8> {
    let mut records = Vec::new();
    let mut add = |key: &[u8], value: &[u8]| records.extend(record(key, value));
    let is_small = |text: &[u8]| text.len() <= 100 && text.is_ascii();
    if let Some(segments) = &entry.sparse {
        debug_assert!(!segments.is_empty(), "a map has an entry at least");
        add(b"GNU.sparse.major", b"1");
        add(b"GNU.sparse.minor", b"0");
        add(b"GNU.sparse.name", path);
        add(b"GNU.sparse.realsize", entry.size.to_string().as_bytes());
    } else if !is_small(path) {
        add(b"path", path);
    }
    if !is_small(&entry.link) {
        add(b"linkpath", &entry.link);
    }
    if stored >= SIZE_MAX {
        add(b"size", stored.to_string().as_bytes());
    }
    for (key, id) in [(&b"uid"[..], entry.uid), (b"gid", entry.gid)] {
        if id > ID_MAX {
            add(key, id.to_string().as_bytes());
        }
    }
    if octal_time(entry.mtime.0).is_none() {
        add(b"mtime", entry.mtime.0.to_string().as_bytes());
    }
    for (name, value) in &entry.xattrs {
        add(&[b"SCHILY.xattr.", name.as_slice()].concat(), value);
    }
    records
}

/// `length key=value\n`, where the length counts itself.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let digits = |number: usize| number.to_string().len();
    let mut length = rest + digits(rest);
    length = rest + digits(length);
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

fn octal_time(seconds: i64) -> Option<u64> {
    u64::try_from(seconds).ok().filter(|seconds| *seconds < SIZE_MAX)
}

fn block(path: &[u8], flag: u8, entry: &TarEntry, stored: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    // What does not fit is in the PAX header; a reader that knows none gets something of it.
    let cut = |text: &[u8]| -> Vec<u8> {
        text.iter().take(100).map(|byte| if byte.is_ascii() { *byte } else { b'_' }).collect()
    };
    let id = |id: u32| if id > ID_MAX { 0 } else { id };
    put(0, &cut(path));
    put(100, format!("{:07o}\0", entry.mode & 0o7777).as_bytes());
    put(108, format!("{:07o}\0", id(entry.uid)).as_bytes());
    put(116, format!("{:07o}\0", id(entry.gid)).as_bytes());
    put(124, format!("{:011o}\0", if stored < SIZE_MAX { stored } else { 0 }).as_bytes());
    put(136, format!("{:011o}\0", octal_time(entry.mtime.0).unwrap_or(0)).as_bytes());
    put(148, b"        ");
    put(156, &[flag]);
    put(157, &cut(&entry.link));
    put(257, b"ustar\x0000");
    if matches!(entry.kind, EntryKind::Char | EntryKind::Block) {
        put(329, format!("{:07o}\0", entry.device.0).as_bytes());
        put(337, format!("{:07o}\0", entry.device.1).as_bytes());
    }
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::{super::*, *};

    struct Nothing;

    impl Sink for Nothing {
        fn raw(&mut self, _bytes: &[u8]) -> Result<(), TarError> {
            Ok(())
        }
    }

    fn read_back(entry: &TarEntry, content: &[u8]) -> TarEntry {
        let mut bytes = header(entry, content.len() as u64);
        bytes.extend(content);
        bytes.resize(bytes.len() + padding(content.len() as u64), 0);
        bytes.extend(END);
        let mut reader = TarReader::new(&bytes[..], Nothing);
        let read = reader.next_entry().unwrap().unwrap();
        assert!(reader.next_entry().unwrap().is_none());
        // Others read it too.
        let mut archive = tar::Archive::new(&bytes[..]);
        let members: Vec<_> = archive.entries().unwrap().map(|entry| entry.unwrap()).collect();
        assert_eq!(members.len(), 1);
        read
    }

    #[test]
    fn whatever_a_member_is_a_reader_finds_it_again() {
        let long = "d/".repeat(80) + "é";
        for path in ["a", &"n".repeat(100), &"n".repeat(101), &long, "\u{1F980}"] {
            for (mtime, uid, device) in
                [(0, 0, (0, 0)), (-5, 3_000_000_000, (8, 1)), (1 << 40, 7, (4095, 1 << 20))]
            {
                for kind in [EntryKind::Regular, EntryKind::Directory, EntryKind::Symlink, EntryKind::Block] {
                    let mut entry = TarEntry::file(path, 0);
                    (entry.kind, entry.mtime, entry.uid, entry.gid) = (kind, (mtime, 0), uid, uid);
                    (entry.mode, entry.device) =
                        (0o4751, if kind == EntryKind::Block { device } else { (0, 0) });
                    if kind == EntryKind::Symlink {
                        entry.link = long.clone().into_bytes();
                    }
                    entry.xattrs =
                        vec![(b"user.a".to_vec(), vec![b'\n'; 90]), (b"user.b".to_vec(), vec![0, 255])];
                    let read = read_back(&entry, b"");
                    let name = read.path.strip_suffix(b"/").unwrap_or(&read.path);
                    assert_eq!(name, entry.path.as_slice());
                    assert_eq!((read.kind, read.mtime, read.uid, read.gid), (kind, (mtime, 0), uid, uid));
                    assert_eq!((read.mode, read.device, &read.link), (0o4751, entry.device, &entry.link));
                    assert_eq!(read.xattrs, entry.xattrs);
                }
            }
        }
    }

    #[test]
    fn the_length_of_a_record_counts_its_own_digits() {
        for length in 0..1200 {
            let record = record(b"k", &vec![b'v'; length]);
            let told: usize =
                std::str::from_utf8(&record).unwrap().split(' ').next().unwrap().parse().unwrap();
            assert_eq!(told, record.len());
        }
    }

    #[test]
    fn holes_and_sizes_beyond_octal_are_told_by_records() {
        let mut entry = TarEntry::file("holes", 1 << 40);
        let segments = vec![(4096, 3), (1 << 39, 2), (1 << 40, 0)];
        entry.sparse = Some(segments.clone());
        let content = [&sparse_map(&segments)[..], b"abcde"].concat();
        let read = read_back(&entry, &content);
        assert_eq!((read.path.as_slice(), read.size, read.sparse), (&b"holes"[..], 1 << 40, Some(segments)));
        let large = header(&TarEntry::file("x", SIZE_MAX), SIZE_MAX);
        let mut reader = TarReader::new(&large[..], Nothing);
        assert_eq!(reader.next_entry().unwrap().unwrap().size, SIZE_MAX);
    }
}
