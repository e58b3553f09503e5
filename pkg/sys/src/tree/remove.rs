//! Deleting a tree.

use std::{
    ffi::{CStr, CString},
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{
        AtFlags, Dir, FileType, IFlags, Mode, OFlags, ioctl_getflags, ioctl_setflags, openat, renameat_with,
        statat, unlinkat,
    },
    io::Errno,
};

use super::{HELD, is_dots, open_directory};

/// Names for what is moved up.
static MOVED: AtomicU64 = AtomicU64::new(0);

/// Deletes `name` in `parent`, whatever it is and however much it holds. What is not there is a success.
///
/// A directory that lies deeper than a few dozen levels is moved up to the top of the tree and met again there, so a tree
/// of a million levels costs neither stack nor descriptors. Immutable and append-only files (chattr(1)) lose those flags
/// when the caller may clear them.
///
/// # Errors
/// The first failure; everything that could be deleted is deleted all the same. `EXDEV` for a mount inside.
pub fn remove(parent: impl AsFd, name: &CStr) -> rustix::io::Result<()> {
    let parent = parent.as_fd();
    match unlink(parent, name, FileType::Unknown) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        Err(Errno::NOENT) => return Ok(()),
        other => return other,
    }
    empty(&open_directory(parent, name)?)?;
    unlink(parent, name, FileType::Directory)
}

/// Deletes everything in `top`, which stays.
///
/// # Errors
/// As [`remove`].
pub fn empty(top: impl AsFd) -> rustix::io::Result<()> {
    let top = top.as_fd();
    let mut stack = vec![Level::open(open_directory(top, c".")?, None)?];
    let mut outcome = Ok(());
    while let (depth, Some(level)) = (stack.len(), stack.last_mut()) {
        match level.next() {
            Some(Ok((name, kind))) => match level.clear(top, name, kind, depth) {
                Ok(Some(below)) => stack.push(below),
                Ok(None) => {}
                Err(errno) => outcome = outcome.and(Err(errno)),
            },
            Some(Err(errno)) => {
                outcome = outcome.and(Err(errno));
                drop(stack.pop());
            }
            None if level.again() => {}
            None => {
                let Some(Level { name: Some(name), .. }) = stack.pop() else { continue };
                let Some(above) = stack.last_mut() else { continue };
                match above.entries.fd().and_then(|above| unlink(above, &name, FileType::Directory)) {
                    Ok(()) => above.progress = true,
                    // What is in it could not be deleted and was reported.
                    Err(Errno::NOENT | Errno::NOTEMPTY) => {}
                    Err(errno) => outcome = outcome.and(Err(errno)),
                }
            }
        }
    }
    outcome
}

/// A directory that is being emptied.
struct Level {
    entries: Dir,
    /// Its name in the level above.
    name: Option<CString>,
    /// Something was deleted since the last look from the beginning.
    progress: bool,
}

impl Level {
    fn open(directory: OwnedFd, name: Option<CString>) -> rustix::io::Result<Self> {
        Ok(Self { entries: Dir::new(directory)?, name, progress: false })
    }

    fn next(&mut self) -> Option<rustix::io::Result<(CString, FileType)>> {
        loop {
            match self.entries.read()? {
                Ok(entry) if is_dots(entry.file_name()) => {}
                Ok(entry) => return Some(Ok((entry.file_name().to_owned(), entry.file_type()))),
                Err(errno) => return Some(Err(errno)),
            }
        }
    }

    /// Starts from the beginning if that may show more: some filesystems skip entries while others are deleted.
    fn again(&mut self) -> bool {
        self.entries.rewind();
        std::mem::take(&mut self.progress)
    }

    /// Deletes an entry, or opens it to be emptied first, or moves it up when it is too deep for that.
    fn clear(
        &mut self,
        top: BorrowedFd<'_>,
        name: CString,
        kind: FileType,
        depth: usize,
    ) -> rustix::io::Result<Option<Level>> {
        let directory = self.entries.fd()?;
        match unlink(directory, &name, kind) {
            Ok(()) | Err(Errno::NOENT) => self.progress = true,
            Err(Errno::NOTEMPTY | Errno::EXIST) if depth >= HELD => {
                move_up(directory, &name, top)?;
                self.progress = true;
            }
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                return Level::open(open_directory(directory, &name)?, Some(name)).map(Some);
            }
            Err(errno) => return Err(errno),
        }
        Ok(None)
    }
}

fn move_up(from: BorrowedFd<'_>, name: &CStr, top: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let moved = || loop {
        let number = MOVED.fetch_add(1, Ordering::Relaxed);
        let place = format!(".husk-moved-up-{}-{number}", std::process::id());
        match renameat_with(from, name, top, place, rustix::fs::RenameFlags::NOREPLACE) {
            // Of an earlier process with the same id, or made to be in the way.
            Err(Errno::EXIST) => {}
            other => return other,
        }
    };
    match moved() {
        Err(Errno::PERM | Errno::ACCESS) => {
            make_mutable(from, name)?;
            moved()
        }
        other => other,
    }
}

/// Unlinks a file or an empty directory.
fn unlink(directory: BorrowedFd<'_>, name: &CStr, kind: FileType) -> rustix::io::Result<()> {
    let attempt = || {
        if matches!(kind, FileType::Directory | FileType::Unknown) {
            match unlinkat(directory, name, AtFlags::REMOVEDIR) {
                Err(Errno::NOTDIR) => {}
                other => return other,
            }
        }
        match unlinkat(directory, name, AtFlags::empty()) {
            // Listed as something else than it is by now.
            Err(Errno::ISDIR) => unlinkat(directory, name, AtFlags::REMOVEDIR),
            other => other,
        }
    };
    match attempt() {
        Err(Errno::PERM) => {
            make_mutable(directory, name)?;
            attempt()
        }
        other => other,
    }
}

/// Clears what keeps `name` from being deleted: flags of its own and of its directory.
fn make_mutable(directory: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<()> {
    clear_flags(directory)?;
    // Opening a device or a FIFO would have effects.
    let kind = FileType::from_raw_mode(statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode);
    if !matches!(kind, FileType::Directory | FileType::RegularFile) {
        return Ok(());
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    clear_flags(openat(directory, name, flags, Mode::empty())?.as_fd())
}

fn clear_flags(file: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let stubborn = IFlags::IMMUTABLE | IFlags::APPEND;
    match ioctl_getflags(file) {
        Ok(flags) if flags.intersects(stubborn) => ioctl_setflags(file, flags.difference(stubborn)),
        // Filesystems without such flags say so in several ways.
        _ => Ok(()),
    }
}
