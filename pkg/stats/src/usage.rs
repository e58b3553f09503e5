//! Bytes and inodes below a directory whose content is not trusted.

use std::{collections::HashSet, path::Path};

use husk_sys::tree::{Step, Walk};
use rustix::{
    fs::{self, AtFlags, FileType, Mode, OFlags, Stat},
    io::Errno,
};

use crate::{Error, Result};

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
/// Symlinks are not followed, other filesystems are not entered, entries that vanish meanwhile are skipped, and any depth
/// is counted.
///
/// # Errors
/// `root` can't be opened, or a directory below can't be read.
pub fn disk_usage(root: &Path, mut pace: impl FnMut() -> bool) -> Result<Option<Usage>> {
    let fail =
        |operation, errno: Errno| Error::File { operation, path: root.to_owned(), source: errno.into() };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = fs::open(root, flags, Mode::empty()).map_err(|errno| fail("open", errno))?;
    let stat = fs::fstat(&top).map_err(|errno| fail("stat", errno))?;
    let mut sum = Sum { usage: Usage::default(), linked: HashSet::new() };
    sum.count(&stat);
    let device = stat.st_dev;
    let fail = |errno| fail("read the tree of", errno);
    let mut walk = Walk::new(&top).map_err(fail)?;
    let mut stopped = false;
    while !stopped {
        let more = walk.next(|entry| {
            stopped = !pace();
            if stopped {
                return Ok(Step::Over);
            }
            let stat = match fs::statat(entry.directory, &entry.name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => return Ok(Step::Over),
                Err(errno) => return Err(errno),
            };
            if stat.st_dev != device {
                return Ok(Step::Over);
            }
            sum.count(&stat);
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => entry.enter(),
                _ => Ok(Step::Over),
            }
        });
        if !more.map_err(fail)? {
            return Ok(Some(sum.usage));
        }
    }
    Ok(None)
}

/// Files with several names that are told apart.
const LINKED_MAX: usize = 1 << 20;

struct Sum {
    usage: Usage,
    /// Inodes with several names that were counted already.
    linked: HashSet<u64>,
}

impl Sum {
    fn count(&mut self, stat: &Stat) {
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if !directory && stat.st_nlink > 1 {
            if self.linked.len() >= LINKED_MAX && !self.linked.contains(&stat.st_ino) {
                // More memory than a figure is worth; from here on a file counts once per name.
            } else if !self.linked.insert(stat.st_ino) {
                return;
            }
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
        let directory = OFlags::RDONLY | OFlags::DIRECTORY;
        let mut at = fs::open(dir.path(), directory, Mode::empty()).unwrap();
        for _ in 0..3000 {
            fs::mkdirat(&at, "d", Mode::from(0o755)).unwrap();
            at = fs::openat(&at, "d", directory, Mode::empty()).unwrap();
        }
        assert_eq!(disk_usage(dir.path(), || true).unwrap().unwrap().inodes, 3001);
    }
}
