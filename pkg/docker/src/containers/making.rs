//! The directory of a container, from its beginning to its record.
//!
//! The record comes last: a directory without one was being made when huskd ended, and is undone by the next start, with the volumes
//! whose names were made up for it.

use std::{fs, io, os::unix::fs::DirBuilderExt, path::Path};

use husk_node::file::{self, Outlives};

use super::{
    plan,
    record::{self, Record},
};

/// Names of the volumes that are made up for it, until its record has them.
const MAKING: &str = "making.json";

/// Begins the directory; `volumes` are the names of those that will be made up.
///
/// # Errors
/// Those of the disk.
pub(super) fn begin(dir: &Path, volumes: &[String]) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o710).create(dir)?;
    match volumes {
        [] => Ok(()),
        volumes => file::replace(&dir.join(MAKING), &serde_json::to_vec(volumes)?, Outlives::Process),
    }
}

/// The volumes that [`begin`] was told of. None where that cannot be read: what a power cut took is in nobody's way.
pub(super) fn volumes(dir: &Path) -> Vec<String> {
    let bytes = fs::read(dir.join(MAKING)).ok();
    bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// Makes what is in it, but for the record.
///
/// # Errors
/// Those of the disk.
pub(super) fn build(dir: &Path, record: &Record) -> io::Result<()> {
    let layer = record::layer(dir);
    fs::DirBuilder::new().mode(0o700).create(&layer)?;
    // The container's root: everybody in it may enter it.
    let upper = layer.join("upper");
    fs::DirBuilder::new().create(&upper)?;
    fs::set_permissions(&upper, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    fs::DirBuilder::new().mode(0o700).create(layer.join("work"))?;
    match plan::profile(&record.host) {
        Some(profile) => file::replace(&plan::profile_path(dir), profile.as_bytes(), Outlives::PowerCut),
        None => Ok(()),
    }
}

/// Writes the record: from here on it is made.
///
/// # Errors
/// Those of the disk.
pub(super) fn finish(dir: &Path, record: &Record) -> io::Result<()> {
    record.write(dir)?;
    // Beside a record it says nothing.
    let _ = fs::remove_file(dir.join(MAKING));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_was_begun_says_which_volumes_were_made_up_for_it() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("a");
        begin(&dir, &["one".to_owned(), "two".to_owned()]).unwrap();
        assert_eq!(volumes(&dir), ["one", "two"]);
        assert!(Record::read(&dir).unwrap().is_none());
        let plain = parent.path().join("b");
        begin(&plain, &[]).unwrap();
        assert!(volumes(&plain).is_empty());
        fs::write(plain.join(MAKING), "[\"half").unwrap();
        assert!(volumes(&plain).is_empty());
    }
}
