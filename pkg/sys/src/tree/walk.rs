//! Visiting a tree.

use std::ffi::{CStr, CString};

use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{Dir, FileType, Stat, fstat},
    io::Errno,
};

use super::{HELD, is_dots, open_directory};

/// A walk over a tree, directories before what they hold. Give it each entry's [`Step`] and it goes on.
///
/// Directories of the upper levels stay open. A deeper one is closed when the walk leaves it downwards, and reached again
/// through the `..` of the directory below, which must lead to the same inode as before. When it does not, because the
/// tree was changed meanwhile, the walk goes on at the deepest level that is still open and [`is_torn`](Self::is_torn)
/// says so from then on.
#[derive(Debug)]
pub struct Walk {
    stack: Vec<Level>,
    torn: bool,
}

/// What the walk has come to.
#[derive(Debug)]
pub struct Entry<'walk> {
    /// The directory that holds it.
    pub directory: BorrowedFd<'walk>,
    /// Its name there.
    pub name: CString,
    /// What the listing says it is; `Unknown` on filesystems that do not say.
    pub kind: FileType,
    /// Its inode, as the listing has it: for a mount point, that below the mount.
    pub inode: u64,
    /// Directories between the root of the walk and this: 0 for what is in the root itself.
    pub depth: usize,
}

/// How a walk goes on.
#[derive(Debug)]
pub enum Step {
    /// To the next entry, not into this one.
    Over,
    /// Into this directory, of which a descriptor of any kind is enough.
    Into(OwnedFd),
}

#[derive(Debug)]
struct Level {
    /// Closed in the deep.
    open: Option<Dir>,
    /// Device and inode.
    identity: (u64, u64),
    /// Where in the listing the walk is.
    position: i64,
}

impl Entry<'_> {
    /// Opens the entry if it is a directory on the same mount, neither a link nor gone.
    ///
    /// # Errors
    /// Those of openat2(2) but for these cases.
    pub fn open(&self) -> rustix::io::Result<Option<OwnedFd>> {
        match open_directory(self.directory, &self.name) {
            Ok(directory) => Ok(Some(directory)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// What to do to see what is in it, if it is a directory.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn enter(&self) -> rustix::io::Result<Step> {
        if !matches!(self.kind, FileType::Directory | FileType::Unknown) {
            return Ok(Step::Over);
        }
        Ok(self.open()?.map_or(Step::Over, Step::Into))
    }
}

impl Walk {
    /// Starts in `root`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn new(root: impl AsFd) -> rustix::io::Result<Self> {
        Ok(Self { stack: vec![Level::open(root.as_fd())?], torn: false })
    }

    /// Visits the next entry; `false` at the end.
    ///
    /// # Errors
    /// What `visit` fails with, and what keeps a directory from being read. The walk can go on after either.
    pub fn next<E: From<Errno>>(
        &mut self,
        visit: impl FnOnce(&Entry<'_>) -> Result<Step, E>,
    ) -> Result<bool, E> {
        loop {
            let depth = self.stack.len().saturating_sub(1);
            let Some(level) = self.stack.last_mut() else { return Ok(false) };
            let Some(entries) = &mut level.open else {
                // Left by `tear`; nothing leads back into it.
                self.stack.pop();
                continue;
            };
            match entries.read() {
                None => self.leave()?,
                // Removed while it was read.
                Some(Err(Errno::NOENT)) => self.leave()?,
                Some(Err(errno)) => {
                    self.leave()?;
                    return Err(errno.into());
                }
                Some(Ok(entry)) => {
                    level.position = entry.offset();
                    if is_dots(entry.file_name()) {
                        continue;
                    }
                    let (name, kind, inode) = (entry.file_name().to_owned(), entry.file_type(), entry.ino());
                    let entry = Entry { directory: entries.fd()?, name, kind, inode, depth };
                    if let Step::Into(below) = visit(&entry)? {
                        self.descend(&below)?;
                    }
                    return Ok(true);
                }
            }
        }
    }

    /// Visits everything.
    ///
    /// # Errors
    /// The first failure; see [`Self::next`].
    pub fn all<E: From<Errno>>(
        &mut self,
        mut visit: impl FnMut(&Entry<'_>) -> Result<Step, E>,
    ) -> Result<(), E> {
        while self.next(&mut visit)? {}
        Ok(())
    }

    /// Whether directories were moved so that parts of the tree were not seen.
    pub fn is_torn(&self) -> bool {
        self.torn
    }

    fn descend(&mut self, below: &OwnedFd) -> rustix::io::Result<()> {
        let level = match Level::open(below.as_fd()) {
            Ok(level) => level,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(errno),
        };
        if self.stack.len() > HELD
            && let Some(above) = self.stack.last_mut()
        {
            above.open = None;
        }
        self.stack.push(level);
        Ok(())
    }

    /// Goes back to the directory above.
    fn leave(&mut self) -> rustix::io::Result<()> {
        let Some(left) = self.stack.pop() else { return Ok(()) };
        let Some(above) = self.stack.last_mut() else { return Ok(()) };
        if above.open.is_some() {
            return Ok(());
        }
        let found = left.open.as_ref().map(|entries| above.reopen(entries.fd()?));
        match found {
            Some(Ok(true)) => Ok(()),
            Some(Ok(false) | Err(Errno::NOENT)) | None => {
                self.tear();
                Ok(())
            }
            Some(Err(errno)) => {
                self.tear();
                Err(errno)
            }
        }
    }

    fn tear(&mut self) {
        self.torn = true;
        while self.stack.last().is_some_and(|level| level.open.is_none()) {
            self.stack.pop();
        }
    }
}

impl Level {
    fn open(directory: BorrowedFd<'_>) -> rustix::io::Result<Self> {
        let directory = open_directory(directory, c".")?;
        let identity = identity(&fstat(&directory)?);
        Ok(Self { open: Some(Dir::new(directory)?), identity, position: 0 })
    }

    /// Opens it again as the parent of `below`; `false` when that is another directory now.
    fn reopen(&mut self, below: BorrowedFd<'_>) -> rustix::io::Result<bool> {
        let parent: &CStr = c"..";
        let directory = open_directory(below, parent)?;
        if identity(&fstat(&directory)?) != self.identity {
            return Ok(false);
        }
        let mut entries = Dir::new(directory)?;
        entries.seek(self.position)?;
        self.open = Some(entries);
        Ok(true)
    }
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}
