//! Room put aside for removals: on a disk that is full to the last byte, a record of what goes has to be written first.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::FallocateFlags;

/// Bytes kept: a transaction of the database takes some dozen pages, its repair after a kill as many.
const SIZE: u64 = 1 << 20;

/// The room, as a file without content.
#[derive(Debug)]
pub(super) struct Reserve(PathBuf);

impl Reserve {
    /// The one beside the file `path`.
    pub(super) fn beside(path: &Path) -> Self {
        Self(path.with_file_name("reserve"))
    }

    /// Gives the room up.
    pub(super) fn release(&self) {
        match fs::remove_file(&self.0) {
            Ok(()) => {
                tracing::warn!(path = %self.0.display(), "a full disk: took the room that is kept for removals")
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(path = %self.0.display(), %error, "cannot give up the room that is kept for removals")
            }
        }
    }

    /// Puts the room aside if it is not there. It may have to wait for the next removal.
    pub(super) fn refill(&self) {
        let is_whole = |file: fs::Metadata| file.len() == SIZE && file.blocks() * 512 >= SIZE;
        if fs::symlink_metadata(&self.0).is_ok_and(is_whole) {
            return;
        }
        if let Err(error) = self.make() {
            tracing::debug!(path = %self.0.display(), %error, "no room is kept for removals");
            let _there_is_none = fs::remove_file(&self.0);
        }
    }

    fn make(&self) -> io::Result<()> {
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&self.0)?;
        Ok(rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, SIZE)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_kept_given_up_and_kept_again() {
        let dir = tempfile::tempdir().unwrap();
        let reserve = Reserve::beside(&dir.path().join("meta.redb"));
        let file = dir.path().join("reserve");
        for _ in 0..2 {
            reserve.refill();
            assert!(fs::metadata(&file).unwrap().blocks() * 512 >= SIZE);
            reserve.release();
            assert!(!file.exists());
        }
        // What a kill left half done.
        fs::write(&file, "").unwrap();
        reserve.refill();
        assert_eq!(fs::metadata(&file).unwrap().len(), SIZE);
    }
}
