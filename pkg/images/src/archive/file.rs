//! One file of an archive, without unpacking the others.

use std::io::{BufReader, Read};

use crate::{
    inflate::decoder,
    stop::Stop,
    tar::{EntryKind, Sink, TarError, TarReader},
    unpack::tree::clean,
};

/// Bytes read at once.
const BUFFER: usize = 256 << 10;

/// Bytes around the members are nobody's.
struct Nowhere;

impl Sink for Nowhere {
    fn raw(&mut self, _: &[u8]) -> Result<(), TarError> {
        Ok(())
    }
}

/// The content of the file at `path` of an archive (`a/b`), which may be compressed by gzip or zstd; of several of this name the last, as who unpacks
/// it would have it. `None` without one, and for one of more than `limit` bytes. Reads the archive to its end, so it blocks.
///
/// # Errors
/// When it is no such archive, or cannot be read.
pub fn file_in_archive(archive: impl Read, path: &str, limit: u64) -> Result<Option<Vec<u8>>, TarError> {
    let mut compressed = BufReader::with_capacity(BUFFER, archive);
    let plain = decoder(&mut compressed, &Stop::default()).map_err(TarError::Read)?;
    let mut reader = TarReader::new(BufReader::with_capacity(BUFFER, plain), Nowhere);
    let mut found = None;
    while let Some(entry) = reader.next_entry()? {
        if clean(&entry.path).is_ok_and(|name| name == path.as_bytes()) {
            let is_read = entry.kind == EntryKind::Regular && entry.sparse.is_none() && entry.size <= limit;
            found = is_read.then(|| content(&mut reader)).transpose()?;
        }
    }
    Ok(found)
}

fn content<R: std::io::BufRead>(reader: &mut TarReader<R, Nowhere>) -> Result<Vec<u8>, TarError> {
    let mut content = Vec::new();
    loop {
        let piece = reader.content()?;
        let length = piece.len();
        if length == 0 {
            return Ok(content);
        }
        content.extend_from_slice(piece);
        reader.consume(length);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn archive(files: &[(&str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, content.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn the_last_of_a_name_is_found_however_the_archive_is_packed() {
        let plain = archive(&[("./a", "1"), ("b/a", "no"), ("./a", "22"), ("c", "333")]);
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(&plain).unwrap();
        for packed in [plain.clone(), gzip.finish().unwrap(), zstd::encode_all(&plain[..], 1).unwrap()] {
            assert_eq!(file_in_archive(&packed[..], "a", 2).unwrap().unwrap(), b"22");
            assert_eq!(file_in_archive(&packed[..], "c", 2).unwrap(), None, "too long");
            assert_eq!(file_in_archive(&packed[..], "d", 2).unwrap(), None);
        }
        assert!(file_in_archive(&b"FROM busybox\n"[..], "a", 2).is_err());
        assert!(file_in_archive(&plain[..1100], "a", 2).is_err());
    }
}
