//! Use of a whole filesystem.

use std::path::Path;

use husk_model::FilesystemStats;
use husk_node::now;
use rustix::fs::statvfs;

use crate::{Error, Result};

/// What is used of the filesystem that holds `path`, from statvfs(3): constant time, whatever it holds.
///
/// # Errors
/// `path` does not exist or its filesystem does not answer.
pub fn filesystem(path: &Path) -> Result<FilesystemStats> {
    let stat = statvfs(path).map_err(|errno| Error::File {
        operation: "statvfs",
        path: path.to_owned(),
        source: errno.into(),
    })?;
    Ok(FilesystemStats {
        timestamp: now(),
        mountpoint: path.to_string_lossy().into_owned(),
        used_bytes: stat.f_blocks.saturating_sub(stat.f_bfree).saturating_mul(stat.f_frsize),
        inodes_used: stat.f_files.saturating_sub(stat.f_ffree),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filesystem_in_use_has_bytes_and_a_missing_path_is_an_error() {
        assert!(filesystem(Path::new("/")).unwrap().used_bytes > 0);
        assert!(filesystem(Path::new("/no/such/path")).is_err());
    }
}
