//! Looking at the node's files, which may hang: a dead NFS server answers nobody.

use std::{fs, path::PathBuf, time::Duration};

use crate::error::{PodsError, Result};

/// How long looking at the node's files may take. Nothing that hangs must hold a pod's gate for ever.
const LOOK: Duration = Duration::from_secs(20);

/// Does something with the node's files on a thread that is left behind when they do not answer: in a task it would hold up
/// everybody.
///
/// # Errors
/// Those of the work, or [`PodsError::Stuck`].
pub(crate) async fn look<T: Send + 'static>(
    step: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::time::timeout(LOOK, tokio::task::spawn_blocking(work)).await {
        Ok(looked) => looked.map_err(|_| PodsError::Lost)?,
        Err(_) => Err(PodsError::Stuck { step, seconds: LOOK.as_secs() }),
    }
}

/// Makes a directory for logs, which may be on whatever filesystem the kubelet likes.
///
/// # Errors
/// As [`look`].
pub(crate) async fn make_log_directory(dir: PathBuf) -> Result<()> {
    let make = move || fs::create_dir_all(&dir).map_err(PodsError::files("create the log directory", &dir));
    look("create the log directory", make).await
}
