//! Where large files have no content. A container makes a file of terabytes with one call and not a block behind it; a layer
//! of it shall not take terabytes either.

use std::os::fd::AsFd;

use rustix::{
    fs::{SeekFrom, Stat, seek},
    io::Errno,
};

/// Files below this are archived whole.
const LEAST: u64 = 1 << 20;
/// Most segments told of a file; one with more is archived whole.
const SEGMENTS_MAX: usize = 8192;

/// The segments `(offset, length)` of `file` that have content, at least one (empty at the end, if there is none); `None` for
/// a file that is best archived whole: most of it has blocks, or its filesystem does not tell.
pub(super) fn segments(file: impl AsFd, stat: &Stat) -> Option<Vec<(u64, u64)>> {
    let size = u64::try_from(stat.st_size).ok()?;
    let blocks = u64::try_from(stat.st_blocks).ok()?.saturating_mul(512);
    if size < LEAST || blocks > size / 2 {
        return None;
    }
    let mut segments: Vec<(u64, u64)> = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match seek(&file, SeekFrom::Data(at)) {
            Ok(start) => start.min(size),
            // Nothing but a hole until the end.
            Err(Errno::NXIO) => break,
            Err(_) => return None,
        };
        let end = seek(&file, SeekFrom::Hole(start)).ok()?.min(size);
        // A file that changes meanwhile may answer anything.
        if start < at || end < start || segments.len() >= SEGMENTS_MAX {
            return None;
        }
        if end == start {
            break;
        }
        segments.push((start, end - start));
        at = end;
    }
    if segments.last().is_none_or(|(offset, length)| offset + length < size) {
        segments.push((size, 0));
    }
    Some(segments)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::fs::FileExt};

    use super::*;

    fn of(file: &File) -> Option<Vec<(u64, u64)>> {
        segments(file, &rustix::fs::fstat(file).unwrap())
    }

    #[test]
    fn only_what_has_content_is_told_of_a_file_of_holes() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 40).unwrap();
        assert_eq!(of(&file), Some(vec![(1 << 40, 0)]));
        file.write_all_at(b"x", 1 << 30).unwrap();
        let found = of(&file).unwrap();
        let last = found.last().unwrap();
        assert_eq!((found.len(), *last), (2, (1 << 40, 0)));
        assert!(
            found[0].0 <= 1 << 30 && found[0].0 + found[0].1 > 1 << 30 && found[0].1 < LEAST,
            "{found:?}"
        );
        let whole = tempfile::tempfile().unwrap();
        whole.write_all_at(&vec![1; 2 << 20], 0).unwrap();
        assert_eq!(of(&whole), None, "it has blocks");
        let small = tempfile::tempfile().unwrap();
        small.set_len(1000).unwrap();
        assert_eq!(of(&small), None);
    }
}
