//! Deleting directories in the background.
//!
//! What is removed leaves by one rename into a trash directory, so no removal is ever seen half done and no RPC waits for a
//! large tree. Trees come from containers, so they are hostile: nothing is resolved by path, symlinks are removed and not
//! followed, and the depth of recursion is bounded. A directory that lies deeper is renamed up to the trash itself and is
//! met again there, so that a tree of a million levels costs neither stack nor descriptors.

use std::{
    ffi::{CStr, CString},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, renameat, unlinkat},
    io::Errno,
};
use tokio::{sync::Notify, task::JoinHandle};
use tracing::{error, warn};

/// Levels that are deleted by recursion.
const MAX_DEPTH: u32 = 64;

/// Names for what is renamed up.
static UPROOTED: AtomicU64 = AtomicU64::new(0);

/// The task that deletes; it ends with this.
#[derive(Debug)]
pub(crate) struct Trash {
    wake: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Trash {
    /// Starts deleting what is in these directories, which exist.
    pub(crate) fn start(dirs: [PathBuf; 2]) -> Self {
        let wake = Arc::new(Notify::new());
        wake.notify_one();
        let woken = Arc::clone(&wake);
        let task = tokio::spawn(async move {
            loop {
                woken.notified().await;
                let dirs = dirs.clone();
                if tokio::task::spawn_blocking(move || dirs.iter().for_each(|dir| empty(dir))).await.is_err()
                {
                    error!("deleting discarded files panicked");
                }
            }
        });
        Self { wake, task }
    }

    /// There is something new.
    pub(crate) fn take_out(&self) {
        self.wake.notify_one();
    }
}

impl Drop for Trash {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn open_dir(at: impl AsFd, name: &CStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty())
}

/// Deletes everything in `dir`. What cannot be deleted is logged and met again by the next call.
pub(crate) fn empty(dir: &Path) {
    let opened = CString::new(dir.as_os_str().as_encoded_bytes())
        .map_err(|_| Errno::INVAL)
        .and_then(|name| open_dir(CWD, &name));
    let trash = match opened {
        Ok(trash) => trash,
        Err(errno) => return warn!(path = %dir.display(), %errno, "cannot open the trash"),
    };
    loop {
        let uprooted = UPROOTED.load(Ordering::Relaxed);
        if let Err(errno) = remove_content(trash.as_fd(), trash.as_fd(), MAX_DEPTH) {
            return warn!(path = %dir.display(), %errno, "cannot delete discarded files; the next removal tries again");
        }
        if UPROOTED.load(Ordering::Relaxed) == uprooted {
            return;
        }
    }
}

/// Removes what is in `dir` as far as it can; the first failure is returned at the end.
fn remove_content(trash: BorrowedFd<'_>, dir: BorrowedFd<'_>, depth: u32) -> rustix::io::Result<()> {
    let mut outcome = Ok(());
    // Removing while reading may skip entries on some filesystems, so names are taken first.
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push((entry.file_name().to_owned(), entry.file_type()));
        }
    }
    for (name, kind) in names {
        let removed = remove(trash, dir, &name, kind, depth);
        if let Err(errno) = removed
            && errno != Errno::NOENT
        {
            outcome = outcome.and(Err(errno));
        }
    }
    outcome
}

fn remove(
    trash: BorrowedFd<'_>,
    dir: BorrowedFd<'_>,
    name: &CStr,
    kind: FileType,
    depth: u32,
) -> rustix::io::Result<()> {
    if !matches!(kind, FileType::Directory | FileType::Unknown) {
        return unlinkat(dir, name, AtFlags::empty());
    }
    match unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        Err(Errno::NOTDIR) => return unlinkat(dir, name, AtFlags::empty()),
        other => return other,
    }
    if depth == 0 {
        let number = UPROOTED.fetch_add(1, Ordering::Relaxed);
        let place = format!("uprooted-{}-{number}-{}", std::process::id(), crate::engine::now());
        return renameat(dir, name, trash, place.as_str());
    }
    remove_content(trash, open_dir(dir, name)?.as_fd(), depth - 1)?;
    unlinkat(dir, name, AtFlags::REMOVEDIR).or_else(|errno| match errno {
        // Something below was renamed up, or is still there and was reported.
        Errno::NOTEMPTY => Ok(()),
        _ => Err(errno),
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn a_tree_deeper_than_the_recursion_goes() {
        let dir = tempfile::tempdir().unwrap();
        let trash = dir.path().join("trash");
        fs::create_dir_all(trash.join("one")).unwrap();
        // Far beyond PATH_MAX, as a container can make it by changing into each directory.
        let mut at = open_dir(CWD, &CString::new(trash.join("one").to_str().unwrap()).unwrap()).unwrap();
        for level in 0..3000 {
            rustix::fs::mkdirat(&at, "a-directory", Mode::RWXU).unwrap();
            if level % 100 == 0 {
                rustix::fs::mkdirat(&at, "sibling", Mode::RWXU).unwrap();
            }
            at = open_dir(&at, c"a-directory").unwrap();
        }
        drop(at);
        empty(&trash);
        assert_eq!(fs::read_dir(&trash).unwrap().count(), 0);
    }

    #[test]
    fn symlinks_are_removed_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (trash, precious) = (dir.path().join("trash"), dir.path().join("precious"));
        fs::create_dir_all(trash.join("one")).unwrap();
        fs::create_dir(&precious).unwrap();
        fs::write(precious.join("file"), "kept").unwrap();
        symlink(&precious, trash.join("one/link")).unwrap();
        symlink(&precious, trash.join("link")).unwrap();
        empty(&trash);
        assert_eq!(fs::read_dir(&trash).unwrap().count(), 0);
        assert_eq!(fs::read_to_string(precious.join("file")).unwrap(), "kept");
    }
}
