//! Filling a volume with what an image has at its place.
//!
//! ```text
//! <volume>/_filling/   what is being copied
//! <volume>/_filled/    all of it, on its way into the volume's files
//! ```
//!
//! A copy that does not come to its end leaves nothing: what is in `_filling` is deleted by the next start, or the next who fills. With its new
//! name the copy is whole, and goes on into the volume whatever happens, entry by entry: the volume's own directory stays the same, because
//! containers may have it mounted.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use tokio::sync::OwnedMutexGuard;

use super::record::Volume;
use crate::removal::delete;

const FILLING: &str = "_filling";
const FILLED: &str = "_filled";

/// A volume that is being filled. Dropped before the end, nothing is left of it.
#[derive(Debug)]
pub(crate) struct Filling {
    volume: Arc<Volume>,
    _turn: OwnedMutexGuard<()>,
}

impl Filling {
    /// Begins to fill a volume, in turn. `None` when it has something, which it keeps.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn begin(volume: &Arc<Volume>, turn: OwnedMutexGuard<()>) -> io::Result<Option<Self>> {
        go_on(volume)?;
        if fs::read_dir(volume.data())?.next().is_some() {
            return Ok(None);
        }
        let filling = Self { volume: Arc::clone(volume), _turn: turn };
        fs::DirBuilder::new().mode(0o700).create(filling.dir())?;
        Ok(Some(filling))
    }

    /// Where the files go, with the owner and the mode that the volume itself shall have.
    pub(crate) fn dir(&self) -> PathBuf {
        self.volume.dir.join(FILLING)
    }

    /// Everything is there.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn finish(self) -> io::Result<()> {
        fs::rename(self.dir(), self.volume.dir.join(FILLED))?;
        go_on(&self.volume)
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        // What cannot be deleted now is when somebody fills it again.
        let _ = gone(&self.dir());
    }
}

/// Goes on with what was begun: a whole copy goes into the volume, half a copy is deleted.
///
/// # Errors
/// Those of the disk.
pub(super) fn go_on(volume: &Volume) -> io::Result<()> {
    gone(&volume.dir.join(FILLING))?;
    let filled = volume.dir.join(FILLED);
    let top = match fs::symlink_metadata(&filled) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        top => top?,
    };
    let data = volume.data();
    move_in(&filled, &data)?;
    chown(&data, Some(top.uid()), Some(top.gid()))?;
    fs::set_permissions(&data, fs::Permissions::from_mode(top.mode() & 0o7777))?;
    gone(&filled)
}

/// Moves what is in a directory into another. What that has already stays as it is.
fn move_in(from: &Path, to: &Path) -> io::Result<()> {
    // Again from the beginning after every move: an order of entries is not kept while they go.
    while let Some(entry) = fs::read_dir(from)?.next() {
        let name = entry?.file_name();
        match renameat_with(CWD, from.join(&name), CWD, to.join(&name), RenameFlags::NOREPLACE) {
            Err(rustix::io::Errno::EXIST) => gone(&from.join(&name))?,
            moved => moved?,
        }
    }
    Ok(())
}

fn gone(path: &Path) -> io::Result<()> {
    match delete(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        deleted => deleted,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    async fn turn() -> OwnedMutexGuard<()> {
        Arc::<tokio::sync::Mutex<()>>::default().lock_owned().await
    }

    fn volume(dir: &Path) -> Arc<Volume> {
        fs::create_dir(dir.join("_data")).unwrap();
        Arc::new(Volume {
            name: "data".to_owned(),
            created: 0,
            labels: BTreeMap::new(),
            options: BTreeMap::new(),
            anonymous: false,
            dir: dir.to_owned(),
        })
    }

    fn names(dir: &Path) -> Vec<String> {
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(name).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn a_volume_has_all_of_a_copy_or_nothing_wherever_it_was_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let volume = volume(dir.path());
        let filling = Filling::begin(&volume, turn().await).unwrap().unwrap();
        fs::write(filling.dir().join("a"), "half").unwrap();
        // A kill: no destructor runs.
        std::mem::forget(filling);
        go_on(&volume).unwrap();
        assert_eq!((names(dir.path()), names(&volume.data())), (vec!["_data".to_owned()], vec![]));
        let filling = Filling::begin(&volume, turn().await).unwrap().expect("half a copy does not count");
        for name in ["a", "b", "c"] {
            fs::write(filling.dir().join(name), name).unwrap();
        }
        std::os::unix::fs::symlink("/etc/passwd", filling.dir().join("link")).unwrap();
        fs::set_permissions(filling.dir(), fs::Permissions::from_mode(0o1750)).unwrap();
        // Cut off in the middle of the way in.
        fs::rename(filling.dir(), dir.path().join(FILLED)).unwrap();
        fs::rename(dir.path().join(FILLED).join("a"), volume.data().join("a")).unwrap();
        std::mem::forget(filling);
        go_on(&volume).unwrap();
        assert_eq!(names(&volume.data()), ["a", "b", "c", "link"]);
        assert_eq!(fs::metadata(volume.data()).unwrap().mode() & 0o7777, 0o1750);
        assert_eq!(names(dir.path()), ["_data"]);
        assert!(Filling::begin(&volume, turn().await).unwrap().is_none(), "it keeps what it has");
    }

    #[tokio::test]
    async fn what_a_container_wrote_meanwhile_stays_and_its_directory_is_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let volume = volume(dir.path());
        let mounted = fs::metadata(volume.data()).unwrap().ino();
        let filling = Filling::begin(&volume, turn().await).unwrap().unwrap();
        fs::create_dir(filling.dir().join("a")).unwrap();
        fs::write(filling.dir().join("a/deep"), "of the image").unwrap();
        fs::write(volume.data().join("a"), "of a container").unwrap();
        filling.finish().unwrap();
        assert_eq!(fs::read_to_string(volume.data().join("a")).unwrap(), "of a container");
        assert_eq!(fs::metadata(volume.data()).unwrap().ino(), mounted);
        assert_eq!(names(dir.path()), ["_data"]);
    }

    #[tokio::test]
    async fn a_copy_that_failed_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let volume = volume(dir.path());
        let filling = Filling::begin(&volume, turn().await).unwrap().unwrap();
        fs::write(filling.dir().join("a"), "half").unwrap();
        drop(filling);
        assert_eq!(names(dir.path()), ["_data"]);
    }
}
