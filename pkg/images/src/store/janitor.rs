//! The thread that does what nobody should wait for: deleting directories, bringing files to the disk, collecting
//! images whose last user went away.

use std::{
    ffi::CString,
    io,
    os::unix::ffi::OsStrExt,
    path::Path,
    sync::{Weak, mpsc},
};

use husk_sys::tree;
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

use super::{Shared, job::Job};

/// Starts the thread. It ends when the store is dropped.
pub(crate) fn start(shared: Weak<Shared>, jobs: mpsc::Receiver<Job>) -> io::Result<()> {
    std::thread::Builder::new().name("husk-images".into()).spawn(move || {
        while let Ok(job) = jobs.recv() {
            run(&shared, job);
        }
    })?;
    Ok(())
}

fn run(shared: &Weak<Shared>, job: Job) {
    match job {
        Job::Delete(paths) => {
            paths.iter().for_each(|path| delete(path));
            if let Some(shared) = shared.upgrade() {
                shared.db().refill();
            }
        }
        Job::Settle(images) => {
            if let Some(shared) = shared.upgrade()
                && let Err(error) = shared.settle(&images)
            {
                // The images stay marked, so they are dropped after a crash and pulled again: no harm but the warning.
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "images may not survive a power failure"
                );
            }
        }
        Job::Collect(id) => {
            if let Some(shared) = shared.upgrade()
                && let Err(error) = shared.collect(Some(&id))
            {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "unused images stay on disk until the next start"
                );
            }
        }
        Job::Barrier(done) => drop(done.send(())),
    }
}

fn delete(path: &Path) {
    if let Err(errno) = remove(path) {
        tracing::warn!(path = %path.display(), %errno, "left on disk until the next start");
    }
}

/// Layers nest as deep as their publisher likes, and those of an older husk deeper than a path can name.
fn remove(path: &Path) -> Result<(), Errno> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::INVAL) };
    let name = CString::new(name.as_bytes()).map_err(|_| Errno::INVAL)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::open(parent, flags, Mode::empty()) {
        Ok(parent) => tree::remove(parent, &name),
        Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}
