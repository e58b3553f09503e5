//! Files that are written whole: beside their place first, then renamed into it, so a reader sees the old file or the
//! new one.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// What the name of a file ends with that is not in its place yet.
const UNFINISHED: &str = "new";

/// What a file must outlive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outlives {
    /// This process: the kernel has it. For what is worth nothing after a reboot.
    Process,
    /// A power cut: the disk has it, and its name.
    PowerCut,
}

/// Writes a file in place of an older one. A write that fails leaves the older one, and nothing else: half a file takes
/// space that the next attempt needs.
///
/// # Errors
/// Those of writing and renaming.
pub fn replace(path: &Path, bytes: &[u8], outlives: Outlives) -> io::Result<()> {
    let new = unfinished(path);
    let written = write(&new, bytes).and_then(|file| match outlives {
        Outlives::Process => fs::rename(&new, path),
        Outlives::PowerCut => place(&file, &new, path),
    });
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

/// [`replace`] for a secret: nobody but the owner can read it at any moment. The disk has it at the end.
///
/// # Errors
/// Those of writing and renaming.
pub fn replace_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = unfinished(path);
    // One that is left over may be open to all.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let write = || {
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        place(&file, &new, path)
    };
    let written = write();
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

/// Where a file is written before it is in its place.
pub fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(UNFINISHED);
    name.into()
}

/// Whether a write that died with its process left this; nothing ever reads it.
pub fn is_unfinished(path: &Path) -> bool {
    path.extension() == Some(OsStr::new(UNFINISHED))
}

/// Gives a whole file its name for good: a power cut leaves it there or not at all.
///
/// # Errors
/// Those of syncing and renaming.
pub fn place(file: &File, from: &Path, to: &Path) -> io::Result<()> {
    file.sync_all()?;
    fs::rename(from, to)?;
    File::open(to.parent().unwrap_or(to))?.sync_all()
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut file = File::options().write(true).create(true).truncate(true).open(path)?;
    file.write_all(bytes)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_stays_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pod.json");
        for outlives in [Outlives::Process, Outlives::PowerCut] {
            for text in ["long", "new"] {
                replace(&path, text.as_bytes(), outlives).unwrap();
                assert_eq!(fs::read_to_string(&path).unwrap(), text);
            }
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_secret_is_its_owners_also_where_a_file_for_all_was_left() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        for old in [unfinished(&path), path.clone()] {
            fs::write(&old, "for all").unwrap();
            replace_private(&path, b"secret").unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_write_that_fails_leaves_no_half_a_file() {
        let dir = tempfile::tempdir().unwrap();
        // A directory cannot be replaced by a file.
        let path = dir.path().join("taken");
        fs::create_dir(&path).unwrap();
        assert!(replace(&path, b"text", Outlives::Process).is_err());
        assert!(!unfinished(&path).exists());
        assert!(is_unfinished(&unfinished(&path)) && !is_unfinished(&path));
    }
}
