//! Sparse members: the old GNU form (type `S`) and GNU's PAX forms 0.0, 0.1 and 1.0.

use super::header::{Header, number};

/// Most data segments of one member.
const SEGMENTS_MAX: usize = 256 << 10;

/// Data segments `(offset, length)`, in order.
pub(super) type Map = Vec<(u64, u64)>;

/// What `GNU.sparse.*` records say about the next member.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// The file's path; that of the member is a stand-in for readers that do not know of holes.
    pub(super) name: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) map: Option<Map>,
    /// Version 1.0: the map is the beginning of the member's data.
    pub(super) map_in_data: bool,
    /// Version 0.0: the offset whose length is the next record.
    offset: Option<u64>,
}

impl Claims {
    /// Whether the member is sparse.
    pub(super) fn is_any(&self) -> bool {
        self.map_in_data || self.map.is_some()
    }

    pub(super) fn set(&mut self, name: &[u8], value: &str) -> Result<(), &'static str> {
        match name {
            b"size" | b"realsize" => {
                self.size = Some(value.parse().map_err(|_| "the size of a sparse file is not a number")?);
            }
            b"major" => self.map_in_data = value == "1",
            b"map" => {
                let numbers: Result<Vec<u64>, _> = value.split(',').map(str::parse).collect();
                let numbers = numbers.map_err(|_| "the map of a sparse file is not a list of numbers")?;
                self.map = Some(pairs(&numbers)?);
            }
            b"offset" | b"numbytes" => self.segment(name == b"offset", value)?,
            _ => {}
        }
        Ok(())
    }

    /// A record of version 0.0, which has one for each offset and one for each length, in turn.
    fn segment(&mut self, is_offset: bool, value: &str) -> Result<(), &'static str> {
        let number = value.parse().map_err(|_| "a sparse segment is not a number")?;
        let map = self.map.get_or_insert_default();
        match (is_offset, self.offset.take()) {
            (true, None) => self.offset = Some(number),
            (false, Some(_)) if map.len() == SEGMENTS_MAX => {
                return Err("a sparse file with too many segments");
            }
            (false, Some(offset)) => map.push((offset, number)),
            _ => return Err("offsets and lengths of a sparse file do not come in turn"),
        }
        Ok(())
    }
}

fn pairs(numbers: &[u64]) -> Result<Map, &'static str> {
    if !numbers.len().is_multiple_of(2) || numbers.len() / 2 > SEGMENTS_MAX {
        return Err("the map of a sparse file is malformed");
    }
    Ok(numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}

/// The four entries of an old GNU header. Returns whether extension blocks follow.
pub(super) fn old_header(header: &Header<'_>, map: &mut Map) -> Result<bool, &'static str> {
    entries(&header.0[386..482], map)?;
    Ok(header.0[482] != 0)
}

/// The 21 entries of an extension block. Returns whether another follows.
pub(super) fn old_extension(block: &[u8; 512], map: &mut Map) -> Result<bool, &'static str> {
    let before = map.len();
    entries(&block[..504], map)?;
    if map.len() == before && block[504] != 0 {
        return Err("an empty block in the map of a sparse file");
    }
    if map.len() > SEGMENTS_MAX {
        return Err("a sparse file with too many segments");
    }
    Ok(block[504] != 0)
}

fn entries(bytes: &[u8], map: &mut Map) -> Result<(), &'static str> {
    for entry in bytes.chunks_exact(24) {
        if entry[0] == 0 {
            return Ok(());
        }
        let part = |field| number(field).and_then(|value| u64::try_from(value).ok());
        map.push((
            part(&entry[..12]).ok_or("a sparse offset is malformed")?,
            part(&entry[12..]).ok_or("a sparse length is malformed")?,
        ));
    }
    Ok(())
}

/// The map at the beginning of the data (version 1.0): decimal lines, a count and then pairs, padded to a block.
#[derive(Debug, Default)]
pub(super) struct MapInData {
    line: String,
    expected: Option<usize>,
    numbers: Vec<u64>,
}

impl MapInData {
    /// Takes one block; returns the map when it is complete.
    pub(super) fn add(&mut self, block: &[u8]) -> Result<Option<Map>, &'static str> {
        for byte in block {
            match byte {
                b'0'..=b'9' if self.line.len() < 20 => self.line.push(char::from(*byte)),
                b'\n' => {
                    let value: u64 =
                        self.line.parse().map_err(|_| "the map of a sparse file is malformed")?;
                    self.line.clear();
                    match self.expected {
                        None if value > SEGMENTS_MAX as u64 => {
                            return Err("a sparse file with too many segments");
                        }
                        None => self.expected = Some(value as usize * 2),
                        Some(_) => self.numbers.push(value),
                    }
                    if self.expected == Some(self.numbers.len()) {
                        return pairs(&self.numbers).map(Some);
                    }
                }
                _ => return Err("the map of a sparse file is malformed"),
            }
        }
        Ok(None)
    }
}

/// Segments must be in order, within the file, and add up to the bytes that are there.
pub(super) fn check(map: &[(u64, u64)], size: u64, stored: u64) -> Result<(), &'static str> {
    let (mut end, mut sum) = (0u64, 0u64);
    for (offset, length) in map {
        if *offset < end {
            return Err("the segments of a sparse file overlap");
        }
        end = offset.checked_add(*length).ok_or("a sparse segment is out of range")?;
        sum = sum.checked_add(*length).ok_or("a sparse segment is out of range")?;
    }
    if end > size {
        return Err("a sparse segment ends after its file");
    }
    if sum != stored { Err("the segments of a sparse file are not the data that is there") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Seek, SeekFrom, Write},
        path::Path,
        process::Command,
    };

    use super::super::{Sink, TarEntry, TarError, TarReader};

    struct Nothing;

    impl Sink for Nothing {
        fn raw(&mut self, _bytes: &[u8]) -> Result<(), TarError> {
            Ok(())
        }
    }

    /// Members with their whole content, holes filled with zeros.
    fn read(archive: &[u8]) -> Result<Vec<(TarEntry, Vec<u8>)>, TarError> {
        let mut reader = TarReader::new(archive, Nothing);
        let mut members = Vec::new();
        while let Some(entry) = reader.next_entry()? {
            let mut stored = Vec::new();
            loop {
                let chunk = reader.content()?.to_vec();
                if chunk.is_empty() {
                    break;
                }
                reader.consume(chunk.len());
                stored.extend(chunk);
            }
            let mut content = vec![0; entry.size as usize];
            let mut from = stored.as_slice();
            for (offset, length) in entry.sparse.clone().unwrap_or_else(|| vec![(0, entry.size)]) {
                let (segment, rest) = from.split_at(length as usize);
                content[offset as usize..][..segment.len()].copy_from_slice(segment);
                from = rest;
            }
            members.push((entry, content));
        }
        Ok(members)
    }

    /// A file with data at some offsets, and a hole at its end.
    fn sparse_file(path: &Path, segments: u64) -> Vec<u8> {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut file = File::create(path).unwrap();
        for at in 0..segments {
            file.seek(SeekFrom::Start((at * 2 + 1) * 4096)).unwrap();
            file.write_all(format!("segment {at}").as_bytes()).unwrap();
        }
        file.set_len((segments * 2 + 3) * 4096).unwrap();
        std::fs::read(path).unwrap()
    }

    #[test]
    fn what_gnu_tar_writes_of_sparse_files_has_its_name_and_content_in_every_version() {
        let dir = tempfile::tempdir().unwrap();
        let long = format!("{}/{}", "d".repeat(90), "f".repeat(90));
        let names = ["plain", "d\u{e4}tei", "\u{1F980}/k\u{f6}nig", &long, &format!("{long}\u{e9}")];
        // More segments than a header, and than a block of the map has room for.
        let files: Vec<_> = names.iter().zip([1, 30, 5, 200, 3]).collect();
        let contents: Vec<_> =
            files.iter().map(|(name, segments)| sparse_file(&dir.path().join(name), *segments)).collect();
        for format in [
            &["--format=gnu"][..],
            &["--format=oldgnu"],
            &["--format=posix", "--sparse-version=0.0"],
            &["--format=posix", "--sparse-version=0.1"],
            &["--format=posix", "--sparse-version=1.0"],
        ] {
            let mut tar = Command::new("tar");
            tar.args(format)
                .args(["--sparse", "--hole-detection=raw", "-cf", "-", "-C"])
                .arg(dir.path())
                .args(names);
            let output = match tar.output() {
                Ok(output) => output,
                Err(_) => return husk_test_support::skip("GNU tar"),
            };
            assert!(output.status.success(), "{format:?}: {}", String::from_utf8_lossy(&output.stderr));
            let members = read(&output.stdout).unwrap_or_else(|error| panic!("{format:?}: {error}"));
            let found: Vec<_> =
                members.iter().map(|(entry, _)| String::from_utf8_lossy(&entry.path)).collect();
            assert_eq!(found, names, "{format:?}");
            for ((entry, content), wanted) in members.iter().zip(&contents) {
                assert!(entry.sparse.is_some() && content == wanted, "{format:?} {:?}", entry.path);
            }
        }
    }

    fn record(key: &str, value: &str) -> Vec<u8> {
        let rest = format!(" {key}={value}\n");
        let length = (rest.len()..).find(|length| length.to_string().len() + rest.len() == *length).unwrap();
        format!("{length}{rest}").into_bytes()
    }

    /// A member of `stored` bytes after such records.
    fn member(records: &[(&str, &str)], stored: &[u8]) -> Vec<u8> {
        let records: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
        let mut archive = Vec::new();
        for (kind, content) in
            [(tar::EntryType::XHeader, records.as_slice()), (tar::EntryType::Regular, stored)]
        {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(kind);
            header.set_path("standin").unwrap();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            archive.extend_from_slice(header.as_bytes());
            archive.extend_from_slice(content);
            archive.resize(archive.len().next_multiple_of(512), 0);
        }
        archive
    }

    #[test]
    fn the_name_of_a_sparse_file_counts_wherever_it_stands_and_only_there() {
        let (name, path) = (("GNU.sparse.name", "real"), ("path", "standin"));
        let (map, size) = (("GNU.sparse.map", "0,1,8,1"), ("GNU.sparse.size", "9"));
        for records in [[name, path, map, size], [path, name, size, map], [map, size, name, path]] {
            let [(entry, content)] = &read(&member(&records, b"ab")).unwrap()[..] else { panic!() };
            assert_eq!((entry.path.as_slice(), content.as_slice()), (&b"real"[..], &b"a\0\0\0\0\0\0\0b"[..]));
        }
        let [(entry, _)] = &read(&member(&[name], b"ab")).unwrap()[..] else { panic!() };
        assert_eq!(entry.path, b"standin", "a name alone makes no sparse file");
    }

    #[test]
    fn hostile_maps_are_refused() {
        let huge = u64::MAX.to_string();
        let beyond = format!("0,1,{huge},1");
        for (map, size, stored) in [
            ("0,2,1,1", "9", &b"abc"[..]),
            ("8,1,0,1", "9", b"ab"),
            ("0,1,9,1", "9", b"ab"),
            (&beyond, "9", b"ab"),
            ("0,1,8,1", &huge, b"ab"),
            ("0,1,8,1", "-9", b"ab"),
            ("0,-1", "9", b""),
            ("-1,1", "9", b"a"),
            ("0,1,8", "9", b"ab"),
            ("0,1", "9", b"ab"),
            ("0,3", "9", b"ab"),
            ("", "9", b""),
        ] {
            let records = [("GNU.sparse.map", map), ("GNU.sparse.size", size), ("GNU.sparse.name", "x")];
            assert!(read(&member(&records, stored)).is_err(), "{map} {size}");
        }
        let (offset, length) = (("GNU.sparse.offset", "0"), ("GNU.sparse.numbytes", "1"));
        let size = ("GNU.sparse.size", "9");
        assert!(read(&member(&[size, offset, length], b"a")).is_ok());
        for records in
            [&[size, length][..], &[size, offset, offset, length], &[offset, length], &[size, offset]]
        {
            assert!(read(&member(records, b"a")).is_err(), "{records:?}");
        }
        let in_data = |text: &str, more: usize| {
            let mut stored = text.as_bytes().to_vec();
            stored.resize(stored.len().next_multiple_of(512) + more, 0);
            let records =
                [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "9")];
            read(&member(&records, &stored))
        };
        assert!(in_data("1\n0\n1\n", 1).is_ok());
        for text in [
            "1\n0\n2\n",
            "2\n0\n1\n",
            "99999999\n0\n1\n",
            "18446744073709551616\n",
            "-1\n",
            "\n",
            "1\n9\n1\n",
            "",
        ] {
            assert!(in_data(text, 1).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_old_map_does_not_go_on_without_entries() {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::GNUSparse);
        header.set_path("x").unwrap();
        header.set_size(0);
        header.set_mode(0o644);
        header.as_gnu_mut().unwrap().isextended = [1];
        header.set_cksum();
        let mut archive = header.as_bytes().to_vec();
        for _ in 0..1000 {
            archive.resize(archive.len() + 504, 0);
            archive.extend([1; 8]);
        }
        let error = read(&archive).unwrap_err().to_string();
        assert!(error.contains("empty block"), "{error}");
    }
}
