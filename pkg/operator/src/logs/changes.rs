//! Tells that files of a directory were written, or appeared.

use std::{io, os::fd::OwnedFd, path::Path};

use rustix::fs::inotify;
use tokio::io::unix::AsyncFd;

/// Changes of one directory.
pub(crate) struct Changes(AsyncFd<OwnedFd>);

impl Changes {
    // Deprecated for descriptors that are no OwnedFd; this one is.
    #[allow(deprecated)]
    pub(crate) fn of(dir: &Path) -> io::Result<Self> {
        let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        let events =
            inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
        inotify::add_watch(&fd, dir, events)?;
        Ok(Self(AsyncFd::new(fd)?))
    }

    /// Something has changed since the last time. Cancel-safe.
    pub(crate) async fn next(&self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            let mut events = [0; 4096];
            match ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut events[..])?)) {
                Ok(read) => return read.map(drop),
                Err(_would_block) => {}
            }
        }
    }
}
