//! Directories made for mount sources that did not exist, and what becomes of them when the creation fails.
//!
//! A mount source that does not exist becomes a directory, as with both peers (and Docker before them): pods rely on it. A creation
//! that fails takes back what it made, with rmdir only, so nothing that has content ever goes. Another creation may have come
//! to need the same directory meanwhile, and nothing in the kernel says so before its container mounts it. Hence a table of the
//! creations under way:
//!
//! - one that needs a directory, whoever made it, is in the table before it looks for the last time;
//! - one that succeeds speaks for its directories: nobody under way takes them back any more;
//! - one that fails leaves what others need to them, and removes the rest. Who comes while it does that waits and looks again, and
//!   after a few times holds the next removal up.
//!
//! Directories are known by device and inode, as a path may have several spellings.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use husk_model::ContainerConfig;

use crate::error::{PodsError, Result};

/// How often a directory may vanish under a creation that needs it, before it stops those that take directories back.
const TRIES: usize = 8;

/// Device and inode.
type Id = (u64, u64);

/// The creations under way and the directories that they need and made.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    table: Mutex<Table>,
    removed: Condvar,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    claims: BTreeMap<u64, Claim>,
    /// Being removed by a creation that failed.
    going: Vec<Id>,
    /// How many removals have begun or ended.
    removals: u64,
}

#[derive(Debug, Default)]
struct Claim {
    needs: BTreeSet<Id>,
    /// Parents first.
    made: Vec<(PathBuf, Id)>,
    /// Of creations that succeeded since this one began.
    spoken: BTreeSet<Id>,
}

/// The mount sources of one creation. Dropped without [`Claimed::keep`], which may block, it takes back what it made.
#[derive(Debug)]
pub(crate) struct Claimed {
    sources: Arc<Sources>,
    number: u64,
}

impl Sources {
    /// Makes the sources of a container that are not there. Blocks.
    ///
    /// # Errors
    /// [`PodsError::HostPath`] with the field; nothing that was made is left then.
    pub(crate) fn make(self: &Arc<Self>, config: &ContainerConfig) -> Result<Claimed> {
        let claimed = self.claim();
        for (index, mount) in config.mounts.iter().enumerate() {
            let Some(path) = mount.source.host_path() else { continue };
            claimed.need(Path::new(path)).map_err(|error| PodsError::HostPath {
                field: format!("config.mounts[{index}].host_path"),
                path: path.to_owned(),
                reason: error.to_string(),
            })?;
        }
        Ok(claimed)
    }

    fn claim(self: &Arc<Self>) -> Claimed {
        let mut table = self.table();
        let number = table.next;
        table.next += 1;
        table.claims.insert(number, Claim::default());
        Claimed { sources: Arc::clone(self), number }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claimed {
    /// The creation succeeded: its directories stay, whoever made them.
    pub(crate) fn keep(self) {
        let mut table = self.sources.table();
        // What remains to be dropped finds no claim.
        let Some(own) = table.claims.remove(&self.number) else { return };
        for other in table.claims.values_mut() {
            other.spoken.extend(&own.needs);
        }
    }

    fn need(&self, path: &Path) -> io::Result<()> {
        for _ in 0..TRIES {
            let before = self.sources.table().removals;
            match ensure(path, &mut |at, id| self.made(at, id)) {
                Ok(id) if self.register(id, before) => return Ok(()),
                Ok(id) if identity(path).is_ok_and(|again| again == id) => return Ok(()),
                Ok(_) => {}
                // Somebody took a parent back while this was below it.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        self.need_alone(path)
    }

    /// As [`Self::need`], while nobody takes anything back: others that fail, one after the other, could go on for ever. The
    /// table is held over work on a file system, which has answered often enough by now to be no hung one.
    fn need_alone(&self, path: &Path) -> io::Result<()> {
        let table = self.sources.table();
        let alone = self.sources.removed.wait_while(table, |table| !table.going.is_empty());
        let mut table = alone.unwrap_or_else(PoisonError::into_inner);
        let mut made = Vec::new();
        let needed = ensure(path, &mut |at, id| made.push((at.to_owned(), id)));
        if let Some(claim) = table.claims.get_mut(&self.number) {
            claim.made.append(&mut made);
            claim.needs.extend(needed.as_ref().ok());
        }
        needed.map(drop)
    }

    fn made(&self, path: &Path, id: Id) {
        if let Some(claim) = self.sources.table().claims.get_mut(&self.number) {
            claim.made.push((path.to_owned(), id));
        }
    }

    /// Puts a need into the table; says whether nothing was being removed since `before`, so that it is there still.
    fn register(&self, id: Id, before: u64) -> bool {
        let table = self.sources.table();
        let waited = self.sources.removed.wait_while(table, |table| table.going.contains(&id));
        let mut table = waited.unwrap_or_else(PoisonError::into_inner);
        if let Some(claim) = table.claims.get_mut(&self.number) {
            claim.needs.insert(id);
        }
        table.removals == before
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        let going = self.sources.table().withdraw(self.number);
        if going.is_empty() {
            return;
        }
        for (path, id) in &going {
            // One that has content stays, and so does one that somebody put in its place.
            if identity(path).is_ok_and(|found| found == *id) {
                let _in_use = fs::remove_dir(path);
            }
        }
        let mut table = self.sources.table();
        table.going.retain(|id| !going.iter().any(|(_, gone)| gone == id));
        table.removals += 1;
        drop(table);
        self.sources.removed.notify_all();
    }
}

impl Table {
    /// Ends a claim; returns the directories that are to be removed, children first.
    fn withdraw(&mut self, number: u64) -> Vec<(PathBuf, Id)> {
        let Some(own) = self.claims.remove(&number) else { return Vec::new() };
        let mut going = Vec::new();
        let mut left: Vec<(PathBuf, u64)> = Vec::new();
        for (path, id) in own.made.into_iter().rev() {
            if own.spoken.contains(&id) {
                continue;
            }
            let below = left.iter().find(|(child, _)| child.starts_with(&path)).map(|(_, heir)| *heir);
            let heir =
                below.or_else(|| self.claims.iter().find(|(_, c)| c.needs.contains(&id)).map(|(n, _)| *n));
            match heir.and_then(|heir| Some((heir, self.claims.get_mut(&heir)?))) {
                Some((heir, claim)) => {
                    left.push((path.clone(), heir));
                    // Before its own, which may be below.
                    claim.made.insert(0, (path, id));
                }
                None => going.push((path, id)),
            }
        }
        if !going.is_empty() {
            self.going.extend(going.iter().map(|(_, id)| *id));
            self.removals += 1;
        }
        going
    }
}

/// Finds or makes what is at `path`, and tells of each directory that it made.
fn ensure(path: &Path, made: &mut dyn FnMut(&Path, Id)) -> io::Result<Id> {
    let mut missing = Vec::new();
    for at in path.ancestors() {
        match identity(at) {
            Ok(id) if missing.is_empty() => return Ok(id),
            Ok(_) => break,
            Err(error) if error.kind() == ErrorKind::NotFound => missing.push(at),
            Err(error) => return Err(error),
        }
    }
    for at in missing.into_iter().rev() {
        match fs::DirBuilder::new().mode(0o755).create(at) {
            Ok(()) => made(at, identity(at)?),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                // Somebody was faster, and may have taken it back since. A link may lead nowhere.
                let found = fs::symlink_metadata(at)?;
                if !(found.is_dir() || found.is_symlink() && at.is_dir()) {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
    }
    identity(path)
}

fn identity(path: &Path) -> io::Result<Id> {
    fs::metadata(path).map(|found| (found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn claimed(sources: &Arc<Sources>, path: &Path) -> Claimed {
        let claimed = sources.claim();
        claimed.need(path).unwrap();
        claimed
    }

    #[test]
    fn a_failed_creation_takes_back_what_it_made_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let sources = Arc::new(Sources::default());
        fs::create_dir(dir.path().join("there")).unwrap();
        let failed = claimed(&sources, &dir.path().join("there/a/b"));
        failed.need(&dir.path().join("there/a/../c")).unwrap();
        failed.need(&dir.path().join("there")).unwrap();
        drop(failed);
        assert_eq!(fs::read_dir(dir.path().join("there")).unwrap().count(), 0, "empty, and there as it was");
        let failed = claimed(&sources, &dir.path().join("x/y"));
        fs::write(dir.path().join("x/file"), "somebody's").unwrap();
        drop(failed);
        assert!(dir.path().join("x/file").exists() && !dir.path().join("x/y").exists());
        let failed = claimed(&sources, &dir.path().join("z"));
        fs::rename(dir.path().join("z"), dir.path().join("moved")).unwrap();
        fs::create_dir(dir.path().join("z")).unwrap();
        drop(failed);
        assert!(dir.path().join("z").exists(), "somebody else's directory of that name");
        assert!(sources.table().claims.is_empty() && sources.table().going.is_empty());
    }

    #[test]
    fn what_another_creation_needs_is_left_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let sources = Arc::new(Sources::default());
        let path = dir.path().join("a/b");
        let (first, second) = (claimed(&sources, &path), claimed(&sources, &path));
        drop(first);
        assert!(path.is_dir(), "the second needs it");
        drop(second);
        assert!(!dir.path().join("a").exists(), "the last to fail takes it back");
        let (first, second) = (claimed(&sources, &path), claimed(&sources, &dir.path().join("a/./b")));
        drop(first);
        second.keep();
        assert!(path.is_dir());
    }

    #[test]
    fn a_creation_that_holds_removals_up_is_one_like_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let sources = Arc::new(Sources::default());
        let path = dir.path().join("a/b");
        let alone = || {
            let claimed = sources.claim();
            claimed.need_alone(&path).unwrap();
            claimed
        };
        let (first, second) = (alone(), claimed(&sources, &path));
        drop(first);
        let third = alone();
        drop(second);
        assert!(path.is_dir(), "the third needs it");
        drop(third);
        assert!(!dir.path().join("a").exists(), "the last to fail takes it back");
    }

    #[test]
    fn what_a_creation_that_succeeded_needs_stays() {
        let dir = tempfile::tempdir().unwrap();
        let sources = Arc::new(Sources::default());
        let path = dir.path().join("a");
        let first = claimed(&sources, &path);
        claimed(&sources, &path).keep();
        drop(first);
        assert!(path.is_dir());
    }

    #[test]
    fn creations_that_fail_never_take_a_directory_from_one_that_succeeds() {
        let dir = tempfile::tempdir().unwrap();
        let (sources, done) = (Arc::new(Sources::default()), AtomicBool::new(false));
        let path = dir.path().join("a/b/c");
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        drop(claimed(&sources, &path));
                    }
                });
            }
            for round in 0..500 {
                let winner = claimed(&sources, &path);
                let id = identity(&path);
                winner.keep();
                let kept = identity(&path);
                if id.is_err() || id.ok() != kept.ok() {
                    done.store(true, Ordering::Relaxed);
                    panic!("round {round}: the directory went");
                }
                // As an operator would, so that the next round makes it again.
                let _in_use = fs::remove_dir(&path);
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}
