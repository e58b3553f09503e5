//! Deleting directories in the background.
//!
//! What is removed leaves by one rename into a trash directory, so no removal is ever seen half done and no RPC waits for a
//! large tree. Trees come from containers, so they are hostile; `husk_sys::tree` deletes them, however deep they are.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use husk_sys::tree;
use rustix::fs::{CWD, Mode, OFlags, openat};
use tokio::{sync::Notify, task::JoinHandle};
use tracing::{error, warn};

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

/// Deletes everything in `dir`. What cannot be deleted is logged and met again by the next call.
pub(crate) fn empty(dir: &Path) {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(CWD, dir, flags, Mode::empty()) {
        Err(errno) => warn!(path = %dir.display(), %errno, "cannot open the trash"),
        Ok(trash) => {
            if let Err(errno) = tree::empty(trash) {
                warn!(path = %dir.display(), %errno, "cannot delete discarded files; the next removal tries again");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    fn open(path: &Path) -> std::os::fd::OwnedFd {
        openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap()
    }

    #[test]
    fn a_tree_deeper_than_the_recursion_goes() {
        let dir = tempfile::tempdir().unwrap();
        let trash = dir.path().join("trash");
        fs::create_dir_all(trash.join("one")).unwrap();
        // Far beyond PATH_MAX, as a container can make it by changing into each directory.
        let mut at = open(&trash.join("one"));
        for level in 0..3000 {
            rustix::fs::mkdirat(&at, "a-directory", Mode::RWXU).unwrap();
            if level % 100 == 0 {
                rustix::fs::mkdirat(&at, "sibling", Mode::RWXU).unwrap();
            }
            at = openat(&at, "a-directory", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
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
