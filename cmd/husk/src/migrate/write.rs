//! Planned files onto a disk: all that stands in the way is found before the first is written.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use husk_config::{DEFAULT_PATH, DEFAULT_TOML};
use husk_migrate::PlannedFile;
use husk_node::file::{self, Outlives};

use crate::client::Result;

/// What a file that is replaced is kept as.
const KEPT: &str = "before-migrate";

/// Writes the files below `root`; says in a line each what was done. Without `force`, nothing is written if a file with
/// other contents is there; a husk.toml that an installation put there does not count.
pub(crate) fn write(root: &Path, files: &[PlannedFile], force: bool) -> Result<Vec<String>> {
    fs::create_dir_all(root).map_err(|error| format!("{}: {error}", root.display()))?;
    let mut places = Vec::new();
    let mut taken = Vec::new();
    for file in files {
        let place = place(root, &file.path)?;
        let old = old(&place)?;
        let is_default =
            file.path == Path::new(DEFAULT_PATH) && old.as_deref() == Some(DEFAULT_TOML.as_bytes());
        if old.as_ref().is_some_and(|old| *old != file.contents) && !is_default && !force {
            taken.push(place.display().to_string());
        }
        places.push((place, old, file));
    }
    if !taken.is_empty() {
        let list = taken.join("\n  ");
        return Err(format!(
            "nothing was written, as these are there and differ (--force replaces them):\n  {list}"
        )
        .into());
    }
    let mut done = Vec::new();
    for (place, old, file) in places {
        done.push(one(&place, old, file)?);
    }
    done.extend(drop_ins(root));
    Ok(done)
}

/// Where a file goes. A link in a copy of a node must not lead out of it.
fn place(root: &Path, path: &Path) -> Result<PathBuf> {
    let place = root.join(path.strip_prefix("/").unwrap_or(path));
    let real = |path: &Path| fs::canonicalize(path).map_err(|error| format!("{}: {error}", path.display()));
    let there = place.ancestors().skip(1).find(|parent| fs::symlink_metadata(parent).is_ok());
    if let Some(parent) = there
        && !real(parent)?.starts_with(real(root)?)
    {
        return Err(format!("{}: a link leads out of {}", place.display(), root.display()).into());
    }
    Ok(place)
}

fn old(place: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(place) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{}: {error}", place.display()).into()),
    }
}

fn one(place: &Path, old: Option<Vec<u8>>, file: &PlannedFile) -> Result<String> {
    let wrap = |error: io::Error| format!("{}: {error}", place.display());
    if old.as_ref() == Some(&file.contents) && !file.secret {
        return Ok(format!("unchanged  {}", place.display()));
    }
    if let Some(parent) = place.parent() {
        fs::create_dir_all(parent).map_err(wrap)?;
    }
    let kept = match old {
        Some(old) if old != file.contents => Some(keep(place).map_err(wrap)?),
        _ => None,
    };
    match file.secret {
        true => file::replace_private(place, &file.contents),
        false => file::replace(place, &file.contents, Outlives::PowerCut),
    }
    .map_err(wrap)?;
    let kept = kept.map_or_else(String::new, |kept| format!("  (before: {})", kept.display()));
    Ok(format!("written    {}{kept}", place.display()))
}

/// Gives the old file a second name that nobody has, so that it is never without one.
fn keep(place: &Path) -> io::Result<PathBuf> {
    for number in 0..1000 {
        let mut name = place.as_os_str().to_owned();
        name.push(if number == 0 { format!(".{KEPT}") } else { format!(".{KEPT}-{number}") });
        let name = PathBuf::from(name);
        match fs::hard_link(place, &name) {
            Ok(()) => return Ok(name),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "a thousand former files are kept beside it"))
}

/// Drop-ins that have the last word over what was written.
fn drop_ins(root: &Path) -> Option<String> {
    let dir = root.join(format!("{DEFAULT_PATH}.d").trim_start_matches('/'));
    let mut entries = fs::read_dir(&dir).ok()?;
    entries.next()?.ok()?;
    Some(format!("note: drop-ins in {} have the last word over husk.toml", dir.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn file(path: &str, text: &str, secret: bool) -> PlannedFile {
        PlannedFile { path: path.into(), contents: text.as_bytes().to_vec(), secret }
    }

    fn read(root: &Path, path: &str) -> String {
        fs::read_to_string(root.join(path)).unwrap()
    }

    #[test]
    fn files_are_written_once_and_secrets_are_their_owners() {
        let dir = tempfile::tempdir().unwrap();
        let files = [file("/etc/husk/husk.toml", "a", false), file("/etc/husk/auth.json", "s", true)];
        write(dir.path(), &files, false).unwrap();
        assert_eq!(read(dir.path(), "etc/husk/husk.toml"), "a");
        let mode = fs::metadata(dir.path().join("etc/husk/auth.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = write(dir.path(), &files, false).unwrap();
        assert!(again[0].starts_with("unchanged"), "{again:?}");
    }

    #[test]
    fn what_is_there_is_kept_and_replaced_by_force_alone() {
        let dir = tempfile::tempdir().unwrap();
        let files = |text| {
            [file("/etc/husk/certs.d/a/hosts.toml", text, false), file("/etc/husk/husk.toml", text, false)]
        };
        write(dir.path(), &files("1"), false).unwrap();
        let error = write(dir.path(), &files("2"), false).unwrap_err().to_string();
        assert!(error.contains("nothing was written") && error.contains("hosts.toml"), "{error}");
        assert_eq!(read(dir.path(), "etc/husk/husk.toml"), "1");
        write(dir.path(), &files("2"), true).unwrap();
        write(dir.path(), &files("3"), true).unwrap();
        for (name, text) in [("", "3"), (".before-migrate", "1"), (".before-migrate-1", "2")] {
            assert_eq!(read(dir.path(), &format!("etc/husk/husk.toml{name}")), text);
        }
    }

    #[test]
    fn a_configuration_that_an_installation_left_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &[file(DEFAULT_PATH, DEFAULT_TOML, false)], false).unwrap();
        write(dir.path(), &[file(DEFAULT_PATH, "mine", false)], false).unwrap();
        assert_eq!(read(dir.path(), "etc/husk/husk.toml.before-migrate"), DEFAULT_TOML);
    }

    #[test]
    fn no_link_leads_out_of_the_directory() {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        symlink(elsewhere.path(), dir.path().join("etc")).unwrap();
        let error =
            write(dir.path(), &[file("/etc/husk/husk.toml", "x", false)], false).unwrap_err().to_string();
        assert!(error.contains("leads out of"), "{error}");
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    }
}
