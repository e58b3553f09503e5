//! Opening log files below the pod's log directory.

use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{self, AtFlags, CWD, Mode, OFlags, ResolveFlags},
    io::Errno,
};

/// The directory comes from the kubelet and is trusted; what lies below it may be reached by a container that has the
/// directory mounted, so nothing there is followed.
const BENEATH: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// Where a log is: a directory and a path below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPath {
    directory: PathBuf,
    relative: PathBuf,
}

impl LogPath {
    /// `None` unless `relative` is a plain path below `directory`.
    pub fn new(directory: &str, relative: &str) -> Option<Self> {
        let (directory, relative) = (PathBuf::from(directory), PathBuf::from(relative));
        let plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
        let named = relative.file_name().is_some();
        (directory.is_absolute() && plain && named).then_some(Self { directory, relative })
    }

    pub fn full(&self) -> PathBuf {
        self.directory.join(&self.relative)
    }

    /// Opens the file for appending, making it and the directories above it (below the log directory) if needed. The
    /// directory is looked up anew each time: it may have been replaced since.
    pub fn open(&self) -> io::Result<File> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = fs::openat(CWD, &self.directory, flags, Mode::empty())?;
        let file = match self.open_below(&directory) {
            Err(Errno::NOENT) => {
                self.make_parents(&directory)?;
                self.open_below(&directory)?
            }
            result => result?,
        };
        if !fs::FileType::from_raw_mode(fs::fstat(&file)?.st_mode).is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(file.into())
    }

    /// Makes room for another file: this one becomes `.1`, that one `.2`, and so on. Of `files`, the new one included, the oldest
    /// goes.
    pub fn rotate(&self, files: u32) -> io::Result<()> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut directory = fs::openat(CWD, &self.directory, flags, Mode::empty())?;
        if let Some(parent) = self.relative.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            directory = fs::openat2(&directory, parent, flags, Mode::empty(), BENEATH)?;
        }
        let name = self.relative.file_name().unwrap_or_default();
        let numbered = |number: u32| {
            let mut numbered = name.to_owned();
            if number > 0 {
                numbered.push(format!(".{number}"));
            }
            numbered
        };
        if files < 2 {
            return Ok(fs::unlinkat(&directory, name, AtFlags::empty())?);
        }
        for number in (0..files - 1).rev() {
            match fs::renameat(&directory, numbered(number), &directory, numbered(number + 1)) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn open_below(&self, directory: &OwnedFd) -> rustix::io::Result<OwnedFd> {
        // NONBLOCK: a planted FIFO must not stop us here; it means nothing for a regular file.
        let flags = OFlags::WRONLY
            | OFlags::APPEND
            | OFlags::CREATE
            | OFlags::NOFOLLOW
            | OFlags::NOCTTY
            | OFlags::NONBLOCK
            | OFlags::CLOEXEC;
        fs::openat2(directory, &self.relative, flags, Mode::from_raw_mode(0o640), BENEATH)
    }

    fn make_parents(&self, directory: &OwnedFd) -> rustix::io::Result<()> {
        let mut above = rustix::io::fcntl_dupfd_cloexec(directory, 3)?;
        for part in self.relative.parent().into_iter().flat_map(Path::components) {
            match fs::mkdirat(&above, part.as_os_str(), Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            above = fs::openat2(&above, part.as_os_str(), flags, Mode::empty(), BENEATH)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write, os::unix::fs::symlink};

    use super::*;

    fn open(dir: &Path, relative: &str) -> io::Result<File> {
        LogPath::new(dir.to_str().unwrap(), relative).ok_or(io::ErrorKind::InvalidInput)?.open()
    }

    #[test]
    fn a_log_is_made_with_its_directories_and_appended_to() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), "app/0.log").unwrap().write_all(b"a").unwrap();
        open(dir.path(), "app/0.log").unwrap().write_all(b"b").unwrap();
        assert_eq!(fs::read(dir.path().join("app/0.log")).unwrap(), b"ab");
    }

    #[test]
    fn of_rotated_files_as_many_are_kept_as_are_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let path = LogPath::new(dir.path().to_str().unwrap(), "app/log").unwrap();
        let write = |text: &str| path.open().unwrap().write_all(text.as_bytes()).unwrap();
        for text in ["1", "2", "3", "4"] {
            write(text);
            path.rotate(3).unwrap();
        }
        let read = |name: &str| fs::read_to_string(dir.path().join("app").join(name)).ok();
        assert_eq!((read("log"), read("log.1"), read("log.2")), (None, Some("4".into()), Some("3".into())));
        assert_eq!(read("log.3"), None);
        write("5");
        path.rotate(1).unwrap();
        assert_eq!(read("log"), None, "of one file nothing is kept");
    }

    #[test]
    fn a_rotation_follows_no_link_out_of_the_directory() {
        let (outside, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(outside.path().join("log"), "theirs").unwrap();
        symlink(outside.path(), dir.path().join("app")).unwrap();
        let path = LogPath::new(dir.path().to_str().unwrap(), "app/log").unwrap();
        assert!(path.rotate(2).is_err() && path.rotate(1).is_err());
        assert_eq!(fs::read_to_string(outside.path().join("log")).unwrap(), "theirs");
    }

    #[test]
    fn paths_and_links_that_leave_the_log_directory_are_refused() {
        let outside = tempfile::tempdir().unwrap();
        let dir = tempfile::tempdir().unwrap();
        symlink(outside.path(), dir.path().join("link")).unwrap();
        symlink(outside.path().join("file"), dir.path().join("file.log")).unwrap();
        for bad in ["../x.log", "/etc/x.log", "", ".", "a/../../x", "link/x.log", "file.log"] {
            assert!(open(dir.path(), bad).is_err(), "{bad:?}");
        }
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_planted_fifo_neither_blocks_nor_becomes_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(CWD, dir.path().join("x.log"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(open(dir.path(), "x.log").is_err());
    }
}
