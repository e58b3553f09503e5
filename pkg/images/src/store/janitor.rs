//! The thread that does what nobody should wait for: deleting directories, bringing files to the disk, collecting
//! images whose last user went away.

use std::{
    fs, io,
    path::PathBuf,
    sync::{Weak, mpsc},
};

use husk_model::ImageId;

use super::Shared;

/// Work for the janitor.
#[derive(Debug)]
pub(crate) enum Job {
    /// Delete files and directories that no record names.
    Delete(Vec<PathBuf>),
    /// Write the filesystem's dirty pages and note that these images are on disk.
    Settle(Vec<ImageId>),
    /// Delete this hidden image if it has no users.
    Collect(ImageId),
    /// Tell the sender when everything before this is done.
    Barrier(tokio::sync::oneshot::Sender<()>),
}

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
        Job::Delete(paths) => paths.iter().for_each(delete),
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

fn delete(path: &PathBuf) {
    let result = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "left on disk until the next start");
        }
        _ => {}
    }
}
