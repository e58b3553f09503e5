//! Watches the configuration directory, which may not exist yet, go away, and come again.

use std::{io, path::Path};

use futures_util::StreamExt;
use inotify::{EventStream, Inotify, WatchMask};

/// Room for a burst of events with long names; what overflows only costs a re-read.
const BUFFER: usize = 4096;

/// Files of the directory.
const FILES: WatchMask = WatchMask::CLOSE_WRITE
    .union(WatchMask::MOVE)
    .union(WatchMask::CREATE)
    .union(WatchMask::DELETE)
    .union(WatchMask::DELETE_SELF)
    .union(WatchMask::MOVE_SELF);

/// Entries of a parent: only whether the next directory on the way appears or goes.
const PARENT: WatchMask = WatchMask::CREATE
    .union(WatchMask::MOVE)
    .union(WatchMask::DELETE)
    .union(WatchMask::DELETE_SELF)
    .union(WatchMask::MOVE_SELF)
    .union(WatchMask::ONLYDIR);

/// A watch that ends with the first change.
#[derive(Debug)]
pub(super) struct Watch {
    events: EventStream<Vec<u8>>,
}

impl Watch {
    /// Watches `dir` and its parent, or, while it does not exist, the deepest ancestor that does. What is read after
    /// this and changes later is not missed.
    ///
    /// # Errors
    /// When the kernel refuses: `EMFILE` at `fs.inotify.max_user_instances`.
    pub(super) fn new(dir: &Path) -> io::Result<Self> {
        let inotify = Inotify::init()?;
        let mut watches = inotify.watches();
        let mut watch = |path: &Path, mask| match watches.add(path, mask) {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(false)
            }
            Err(error) => Err(error),
        };
        loop {
            let before = existing(dir);
            for path in &before {
                watch(path, if *path == dir { FILES } else { PARENT })?;
            }
            // A directory that appeared meanwhile may have done so before its parent was watched.
            if existing(dir) == before {
                break;
            }
        }
        Ok(Self { events: inotify.into_event_stream(vec![0; BUFFER])? })
    }

    /// Waits for a change of any kind.
    ///
    /// # Errors
    /// Those of reading the descriptor.
    pub(super) async fn changed(&mut self) -> io::Result<()> {
        match self.events.next().await {
            Some(event) => event.map(drop),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// The directory itself and its parent as far as they exist, else the two deepest ancestors that do.
fn existing(dir: &Path) -> Vec<&Path> {
    dir.ancestors().filter(|path| path.is_dir()).take(2).collect()
}
