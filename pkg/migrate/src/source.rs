//! A node's files, read within bounds.
//!
//! Every path is resolved below the root of the node (`openat2(RESOLVE_IN_ROOT)`), so that a copy of a node can be read: its
//! absolute links stay inside. Nothing is opened that could block, and there is an end to sizes, numbers and depths.

use std::{
    io::{self, Read as _},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{self, Dir, FileType, Mode, OFlags, ResolveFlags},
    io::Errno,
};

use crate::error::{MigrateError, Result};

/// Bytes of one file. containerd's own default configuration has some 10 KiB.
pub(crate) const FILE_MAX: u64 = 1 << 20;
/// Files and directories altogether: a certs.d may have one for each of hundreds of registries.
const OBJECTS_MAX: u64 = 4096;
/// Bytes of all files.
const BYTES_MAX: u64 = 32 << 20;

/// A node, or a copy of its files.
pub(crate) struct Node {
    root: OwnedFd,
    objects: u64,
    bytes: u64,
}

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    File,
    Directory,
    Other,
}

impl Node {
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = fs::open(root, flags, Mode::empty())
            .map_err(|errno| MigrateError::Root { path: root.to_owned(), source: errno.into() })?;
        Ok(Self { root, objects: 0, bytes: 0 })
    }

    /// What is there; `None` for nothing.
    pub(crate) fn what(&self, path: &Path) -> Result<Option<What>> {
        let Some(file) = self.open_at(path, OFlags::PATH)? else { return Ok(None) };
        kind(&file).map(Some).map_err(|errno| read_error(path, errno))
    }

    /// The bytes of a file; `None` if there is none.
    pub(crate) fn read(&mut self, path: &Path) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK)? else { return Ok(None) };
        if kind(&file).map_err(|errno| read_error(path, errno))? != What::File {
            return Err(MigrateError::NotAFile { path: path.to_owned() });
        }
        self.count(path)?;
        let mut bytes = Vec::new();
        std::fs::File::from(file)
            .take(FILE_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| MigrateError::Read { path: path.to_owned(), source })?;
        if bytes.len() as u64 > FILE_MAX {
            return Err(MigrateError::TooLarge { path: path.to_owned(), limit: FILE_MAX });
        }
        self.bytes += bytes.len() as u64;
        if self.bytes > BYTES_MAX {
            return Err(MigrateError::TooMany { path: path.to_owned(), limit: BYTES_MAX, what: "bytes" });
        }
        Ok(Some(bytes))
    }

    /// The text of a file; `None` if there is none.
    pub(crate) fn text(&mut self, path: &Path) -> Result<Option<String>> {
        let Some(bytes) = self.read(path)? else { return Ok(None) };
        String::from_utf8(bytes).map(Some).map_err(|error| MigrateError::NotText {
            path: path.to_owned(),
            at: error.utf8_error().valid_up_to(),
        })
    }

    /// The names in a directory, sorted; none if there is no directory. Names that are no UTF-8 are an error: they could not
    /// be named in a finding.
    pub(crate) fn list(&mut self, path: &Path) -> Result<Vec<String>> {
        let Some(file) = self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY)? else {
            return Ok(Vec::new());
        };
        let wrap = |errno: Errno| read_error(path, errno);
        let mut names = Vec::new();
        for entry in Dir::new(file).map_err(wrap)? {
            let entry = entry.map_err(wrap)?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            self.count(path)?;
            let name = std::str::from_utf8(name)
                .map_err(|error| MigrateError::NotText { path: path.to_owned(), at: error.valid_up_to() })?;
            names.push(name.to_owned());
        }
        names.sort();
        Ok(names)
    }

    /// The files below a directory in the order of their paths, at most `depth` directories down.
    pub(crate) fn walk(&mut self, path: &Path, depth: usize) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for name in self.list(path)? {
            let below = path.join(name);
            match self.what(&below)? {
                Some(What::Directory) if depth > 0 => files.extend(self.walk(&below, depth - 1)?),
                Some(What::File) => files.push(below),
                _ => {}
            }
        }
        Ok(files)
    }

    fn count(&mut self, path: &Path) -> Result<()> {
        self.objects += 1;
        if self.objects > OBJECTS_MAX {
            let (path, limit) = (path.to_owned(), OBJECTS_MAX);
            return Err(MigrateError::TooMany { path, limit, what: "files and directories" });
        }
        Ok(())
    }

    fn open_at(&self, path: &Path, flags: OFlags) -> Result<Option<OwnedFd>> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let relative = path.strip_prefix("/").unwrap_or(path);
        let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
        match fs::openat2(&self.root, relative, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Ok(file) => Ok(Some(file)),
            Err(Errno::NOENT) => Ok(None),
            // A socket cannot be opened.
            Err(Errno::NXIO) => Err(MigrateError::NotAFile { path: path.to_owned() }),
            Err(errno) => Err(read_error(path, errno)),
        }
    }
}

fn kind(file: &OwnedFd) -> rustix::io::Result<What> {
    Ok(match FileType::from_raw_mode(fs::fstat(file)?.st_mode) {
        FileType::RegularFile => What::File,
        FileType::Directory => What::Directory,
        _ => What::Other,
    })
}

fn read_error(path: &Path, errno: Errno) -> MigrateError {
    MigrateError::Read { path: path.to_owned(), source: io::Error::from(errno) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn node(make: impl FnOnce(&Path)) -> (tempfile::TempDir, Node) {
        let dir = tempfile::tempdir().unwrap();
        make(dir.path());
        let node = Node::open(dir.path()).unwrap();
        (dir, node)
    }

    #[test]
    fn absolute_links_stay_inside_the_root() {
        let (_dir, mut node) = node(|root| {
            std::fs::create_dir(root.join("etc")).unwrap();
            std::fs::write(root.join("etc/passwd"), "inside").unwrap();
            symlink("/etc/passwd", root.join("link")).unwrap();
            symlink("../../../../etc/passwd", root.join("up")).unwrap();
        });
        for name in ["/link", "/up", "/../../etc/passwd"] {
            assert_eq!(node.text(Path::new(name)).unwrap().as_deref(), Some("inside"), "{name}");
        }
    }

    #[test]
    fn what_is_no_ordinary_file_is_refused_in_words() {
        let (_dir, mut node) = node(|root| {
            std::fs::write(root.join("large"), vec![b'#'; FILE_MAX as usize + 1]).unwrap();
            std::fs::write(root.join("binary"), b"a = \xff").unwrap();
            symlink("/loop", root.join("loop")).unwrap();
            std::fs::create_dir(root.join("directory")).unwrap();
            fs::mknodat(fs::CWD, root.join("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        });
        for (name, words) in [
            ("/large", "larger than 1048576 bytes"),
            ("/binary", "not UTF-8 at byte 4"),
            ("/loop", "cannot be read"),
            ("/directory", "not a regular file"),
            ("/fifo", "not a regular file"),
        ] {
            let error = node.text(Path::new(name)).unwrap_err().to_string();
            assert!(error.starts_with(name) && error.contains(words), "{error}");
        }
        assert_eq!(node.text(Path::new("/nothing")).unwrap(), None);
    }

    #[test]
    fn a_directory_that_leads_back_to_itself_has_an_end() {
        let (_dir, mut node) = node(|root| {
            for name in ["a", "b", "c", "d", "e", "f"] {
                symlink(".", root.join(name)).unwrap();
            }
        });
        let error = node.walk(Path::new("/"), 8).unwrap_err().to_string();
        assert!(error.contains("beyond 4096 files and directories"), "{error}");
    }
}
