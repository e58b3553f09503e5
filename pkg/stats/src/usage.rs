//! Bytes and inodes below a directory whose content is not trusted.

use std::{
    collections::HashSet,
    ffi::CString,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{self, AtFlags, Dir, FileType, Mode, OFlags, Stat},
    io::Errno,
};

use crate::{Error, Result};

/// Directories deeper than this are counted, but not what they hold: each level costs a descriptor.
const MAX_DEPTH: usize = 256;

/// Disk use of a tree, as du(1) counts it: allocated blocks, a file with several names once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Allocated bytes.
    pub bytes: u64,
    /// Inodes, the directory itself included.
    pub inodes: u64,
}

/// Walks `root`, calling `pace` after each entry; a `false` from it stops the walk, which then has no result.
///
/// Symlinks are not followed, other filesystems are not entered, and entries that vanish meanwhile are skipped.
///
/// # Errors
/// `root` can't be opened, or a directory below can't be read.
pub fn disk_usage(root: &Path, pace: impl FnMut() -> bool) -> Result<Option<Usage>> {
    let fail =
        |operation, errno: Errno| Error::File { operation, path: root.to_owned(), source: errno.into() };
    let top = fs::open(root, DIRECTORY, Mode::empty()).map_err(|errno| fail("open", errno))?;
    let stat = fs::fstat(&top).map_err(|errno| fail("stat", errno))?;
    let mut walk = Walk { usage: Usage::default(), device: stat.st_dev, linked: HashSet::new(), pace };
    walk.count(&stat);
    let finished = walk.directory(top, 0).map_err(|errno| fail("read the tree of", errno))?;
    Ok(finished.then_some(walk.usage))
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOATIME);

struct Walk<P> {
    usage: Usage,
    device: u64,
    /// Inodes with several names that were counted already.
    linked: HashSet<u64>,
    pace: P,
}

impl<P: FnMut() -> bool> Walk<P> {
    /// `false` when `pace` stopped it.
    fn directory(&mut self, directory: OwnedFd, depth: usize) -> rustix::io::Result<bool> {
        let mut entries = Dir::new(directory)?;
        while let Some(entry) = entries.read() {
            let name = match entry {
                Ok(entry) => entry.file_name().to_owned(),
                // Removed while it was read.
                Err(Errno::NOENT) => break,
                Err(errno) => return Err(errno),
            };
            if name.as_bytes() == b"." || name.as_bytes() == b".." {
                continue;
            }
            if !(self.pace)() {
                return Ok(false);
            }
            let below = self.entry(entries.fd()?, &name, depth)?;
            if let Some(below) = below
                && !self.directory(below, depth + 1)?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Counts one entry; returns it opened if it is a directory to go into.
    fn entry(
        &mut self,
        above: BorrowedFd<'_>,
        name: &CString,
        depth: usize,
    ) -> rustix::io::Result<Option<OwnedFd>> {
        let stat = match fs::statat(above, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        if stat.st_dev != self.device {
            return Ok(None);
        }
        self.count(&stat);
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory || depth >= MAX_DEPTH {
            return Ok(None);
        }
        match fs::openat(above.as_fd(), name, DIRECTORY, Mode::empty()) {
            Ok(below) => Ok(Some(below)),
            // Replaced by something else since.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    fn count(&mut self, stat: &Stat) {
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if !directory && stat.st_nlink > 1 && !self.linked.insert(stat.st_ino) {
            return;
        }
        self.usage.inodes += 1;
        // st_blocks counts in 512 bytes, whatever st_blksize says (stat(2)).
        self.usage.bytes += u64::try_from(stat.st_blocks).unwrap_or_default() * 512;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hard_links_count_once_and_symlinks_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tree");
        std::fs::create_dir_all(path.join("a/b")).unwrap();
        std::fs::write(path.join("a/file"), vec![1; 100_000]).unwrap();
        std::fs::hard_link(path.join("a/file"), path.join("a/b/again")).unwrap();
        std::os::unix::fs::symlink("/usr", path.join("usr")).unwrap();
        let usage = disk_usage(&path, || true).unwrap().unwrap();
        assert_eq!(usage.inodes, 5); // tree, a, b, file, usr
        assert!((100_000..200_000).contains(&usage.bytes), "{usage:?}");
    }

    #[test]
    fn a_walk_can_be_stopped_and_a_missing_root_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("x"), "x").unwrap();
        assert_eq!(disk_usage(dir.path(), || false).unwrap(), None);
        assert!(disk_usage(&dir.path().join("nothing"), || true).is_err());
    }

    #[test]
    fn a_very_deep_tree_neither_fails_nor_exhausts_descriptors() {
        let dir = tempfile::tempdir().unwrap();
        let mut at = fs::open(dir.path(), DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..1000 {
            fs::mkdirat(&at, "d", Mode::from(0o755)).unwrap();
            at = fs::openat(&at, "d", DIRECTORY, Mode::empty()).unwrap();
        }
        assert_eq!(disk_usage(dir.path(), || true).unwrap().unwrap().inodes, 2 + MAX_DEPTH as u64);
    }
}
