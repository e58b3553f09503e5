//! Paths inside a root filesystem, as a process chrooted there would see them, without ever leaving it.
//!
//! The tree is hostile: an image or a container sharing a volume may hold, or swap in at any moment, symlinks that lead
//! elsewhere. Lookups let the kernel confine them (`openat2(RESOLVE_IN_ROOT)`). Creation walks one component at a time on
//! descriptors, never following a symlink in the kernel, so that what was made is what was opened (the class of
//! CVE-2021-30465, CVE-2023-27561, CVE-2024-45310, CVE-2025-62161).

use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    io::Read,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::Path,
};

use rustix::{
    fs::{self, FileType, Mode, OFlags, ResolveFlags},
    io::Errno,
};

use crate::{Error, Result, error::Named};

/// Symlinks followed before a path counts as a loop; the kernel's own limit is 40 too.
const MAX_SYMLINKS: usize = 40;

/// A root filesystem, by descriptor.
#[derive(Debug)]
pub struct Root {
    dir: OwnedFd,
}

/// What to create at the end of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// A directory.
    Directory,
    /// An empty regular file.
    File,
}

impl Root {
    /// Takes the directory as root.
    pub fn new(dir: OwnedFd) -> Self {
        Self { dir }
    }

    /// Opens what is at `path`. Symlinks are resolved inside the root; magic links (those of /proc) are refused.
    ///
    /// # Errors
    /// Those of openat2(2): `ENOENT`, `ELOOP` for a magic link.
    pub fn open(&self, path: impl AsRef<Path>, flags: OFlags) -> Result<OwnedFd> {
        self.open_with(path.as_ref(), flags, ResolveFlags::IN_ROOT)
    }

    /// As [`Self::open`], and no component may be a symlink.
    ///
    /// # Errors
    /// `ELOOP` when one is.
    pub fn open_straight(&self, path: impl AsRef<Path>, flags: OFlags) -> Result<OwnedFd> {
        self.open_with(path.as_ref(), flags, ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS)
    }

    fn open_with(&self, path: &Path, flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd> {
        let resolve = resolve | ResolveFlags::NO_MAGICLINKS;
        loop {
            match fs::openat2(&self.dir, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                // A rename or mount somewhere raced with "..": the kernel asks to try again.
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other.named("openat2", || format!("root, {path:?}, {resolve:?}")),
            }
        }
    }

    /// Reads a regular file of at most `limit` bytes; `None` when there is none.
    ///
    /// # Errors
    /// `EFBIG` above the limit, `EINVAL` for anything but a regular file, else those of openat2(2) and read(2).
    pub fn read(&self, path: impl AsRef<Path>, limit: u64) -> Result<Option<Vec<u8>>> {
        let path = path.as_ref();
        // NONBLOCK: opening a FIFO planted there must not wait for a writer.
        let file = match self.open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY) {
            Ok(file) => file,
            Err(error) if matches!(error.errno(), Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(error),
        };
        let refuse = |errno| Error::new("read", format!("root, {path:?}, limit {limit}"), errno);
        let stat = fs::fstat(&file).named("fstat", || format!("{path:?}"))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(refuse(Errno::INVAL));
        }
        let mut content = Vec::new();
        std::fs::File::from(file)
            .take(limit + 1)
            .read_to_end(&mut content)
            .map_err(|error| refuse(Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
        if content.len() as u64 > limit {
            return Err(refuse(Errno::FBIG));
        }
        Ok(Some(content))
    }

    /// Opens (`O_PATH`) what is at `path`, making it and its parents where they are missing. Directories get `mode`,
    /// files 0644. What exists already is returned whatever it is.
    ///
    /// # Errors
    /// `ELOOP` for too many symlinks, `ENOTDIR` for a file in the middle, `EROFS` and the like of the filesystem.
    pub fn ensure(&self, path: impl AsRef<Path>, node: Node, mode: Mode) -> Result<OwnedFd> {
        let path = path.as_ref();
        match self.open(path, OFlags::PATH) {
            Err(error) if error.errno() == Errno::NOENT => {}
            other => return other,
        }
        Walk::new(self.dir.as_fd(), path)?.create(node, mode)
    }

    /// The directory that holds `path`, made if missing, and the last component.
    ///
    /// # Errors
    /// As [`Self::ensure`]; `EINVAL` for a path without a name at its end.
    pub fn ensure_parent<'path>(&self, path: &'path Path) -> Result<(OwnedFd, &'path OsStr)> {
        let invalid = || Error::new("openat2", format!("root, parent of {path:?}"), Errno::INVAL);
        let name = path.file_name().ok_or_else(invalid)?;
        let parent =
            self.ensure(path.parent().ok_or_else(invalid)?, Node::Directory, Mode::from_raw_mode(0o755))?;
        Ok((parent, name))
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

// === impl Walk ===

/// A walk down a path, symlinks resolved in user space against a stack of open directories.
struct Walk<'path> {
    /// Open directories from the root to where we are. Never empty. `..` pops, so it cannot leave the root even while
    /// directories are being moved.
    stack: Vec<OwnedFd>,
    todo: VecDeque<OsString>,
    links: usize,
    path: &'path Path,
}

impl<'path> Walk<'path> {
    fn new(root: BorrowedFd<'_>, path: &'path Path) -> Result<Self> {
        let root = fs::openat(root, c".", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .named("openat", || "root, \".\"".into())?;
        Ok(Self { stack: vec![root], todo: components(path.as_os_str()).collect(), links: 0, path })
    }

    fn create(mut self, node: Node, mode: Mode) -> Result<OwnedFd> {
        while let Some(name) = self.todo.pop_front() {
            if name == ".." {
                if self.stack.len() > 1 {
                    self.stack.pop();
                }
                continue;
            }
            let fd = self.open_or_make(&name, node, mode)?;
            let stat = fs::fstat(&fd).named("fstat", || format!("{name:?}"))?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Symlink => self.follow(fd)?,
                // Whatever lies on top of a mount point: O_PATH|O_NOFOLLOW of a name gives the mounted root already.
                FileType::Directory => self.stack.push(fd),
                _ if self.todo.is_empty() => return Ok(fd),
                _ => return Err(self.error(Errno::NOTDIR)),
            }
        }
        self.stack.pop().ok_or_else(|| Error::new("openat", String::new(), Errno::INVAL))
    }

    fn open_or_make(&self, name: &OsStr, node: Node, mode: Mode) -> Result<OwnedFd> {
        let here = self.stack.last().ok_or_else(|| self.error(Errno::INVAL))?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match fs::openat(here, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => {}
            other => return other.map_err(|errno| self.error(errno)),
        }
        let made = if self.todo.is_empty() && node == Node::File {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            fs::openat(here, name, flags, Mode::from_raw_mode(0o644)).map(drop)
        } else {
            fs::mkdirat(here, name, mode)
        };
        match made {
            // Somebody was faster; what they made is looked at like anything else that exists.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(self.error(errno)),
        }
        fs::openat(here, name, flags, Mode::empty()).map_err(|errno| self.error(errno))
    }

    fn follow(&mut self, link: OwnedFd) -> Result<()> {
        self.links += 1;
        if self.links > MAX_SYMLINKS {
            return Err(self.error(Errno::LOOP));
        }
        let target = fs::readlinkat(&link, c"", Vec::new()).map_err(|errno| self.error(errno))?;
        let target = OsString::from_vec(target.into_bytes());
        if target.as_bytes().first() == Some(&b'/') {
            self.stack.truncate(1);
        }
        for name in components(&target).collect::<Vec<_>>().into_iter().rev() {
            self.todo.push_front(name);
        }
        Ok(())
    }

    fn error(&self, errno: Errno) -> Error {
        Error::new("openat", format!("root, {:?}, creating", self.path), errno)
    }
}

fn components(path: &OsStr) -> impl Iterator<Item = OsString> {
    path.as_bytes()
        .split(|&byte| byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
        .map(|name| OsStr::from_bytes(name).to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn fixture(name: &str) -> (std::path::PathBuf, Root) {
        let dir = std::env::temp_dir().join(format!("husk-root-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join("rootfs")).unwrap();
        let fd = fs::open(dir.join("rootfs"), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        (dir, Root::new(fd))
    }

    fn mode() -> Mode {
        Mode::from_raw_mode(0o755)
    }

    #[test]
    fn a_missing_path_is_made_below_the_root() {
        let (dir, root) = fixture("missing");
        root.ensure("/a/b/c", Node::Directory, mode()).unwrap();
        root.ensure("/a/b/file", Node::File, mode()).unwrap();
        assert!(dir.join("rootfs/a/b/c").is_dir());
        assert!(dir.join("rootfs/a/b/file").is_file());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_dangling_symlink_is_made_where_a_chrooted_process_would_see_it() {
        let (dir, root) = fixture("dangling");
        std::fs::create_dir(dir.join("rootfs/var")).unwrap();
        symlink("/run", dir.join("rootfs/var/run")).unwrap();
        root.ensure("/var/run/secrets/token", Node::File, mode()).unwrap();
        assert!(dir.join("rootfs/run/secrets/token").is_file());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn neither_dots_nor_symlinks_lead_out_of_the_root() {
        let (dir, root) = fixture("escape");
        std::fs::create_dir(dir.join("outside")).unwrap();
        symlink("../../../../outside", dir.join("rootfs/up")).unwrap();
        symlink(dir.join("outside"), dir.join("rootfs/absolute")).unwrap();
        root.ensure("/up/x", Node::Directory, mode()).unwrap();
        root.ensure("/absolute/y", Node::Directory, mode()).unwrap();
        root.ensure("../../z", Node::File, mode()).unwrap();
        assert_eq!(std::fs::read_dir(dir.join("outside")).unwrap().count(), 0);
        assert!(!dir.join("z").exists());
        assert!(dir.join("rootfs/z").is_file());
        assert!(dir.join("rootfs/outside/x").is_dir());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_symlink_loop_ends() {
        let (dir, root) = fixture("loop");
        symlink("b", dir.join("rootfs/a")).unwrap();
        symlink("a", dir.join("rootfs/b")).unwrap();
        let error = root.ensure("/a/x", Node::Directory, mode()).unwrap_err();
        assert_eq!(error.errno(), Errno::LOOP);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_file_in_the_middle_is_an_error() {
        let (dir, root) = fixture("middle");
        std::fs::write(dir.join("rootfs/file"), "").unwrap();
        let error = root.ensure("/file/x", Node::Directory, mode()).unwrap_err();
        assert_eq!(error.errno(), Errno::NOTDIR);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn reading_is_bounded_and_takes_regular_files_only() {
        let (dir, root) = fixture("read");
        std::fs::write(dir.join("rootfs/file"), "12345").unwrap();
        symlink("/dev/zero", dir.join("rootfs/zero")).unwrap();
        assert_eq!(root.read("file", 5).unwrap().unwrap(), b"12345");
        assert_eq!(root.read("file", 4).unwrap_err().errno(), Errno::FBIG);
        assert_eq!(root.read("absent", 4).unwrap(), None);
        assert_eq!(
            root.read("zero", 4).unwrap(),
            None,
            "the link points at the root's own /dev, which is empty"
        );
        assert_eq!(root.read("/", 4).unwrap_err().errno(), Errno::INVAL);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
