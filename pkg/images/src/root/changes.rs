//! What a writable layer changes of the layers below it.
//!
//! A directory is in the writable layer as soon as anything in it is, so being there says nothing: it is told as changed when something
//! in it is told, or its owner, mode or time is another. What the runtime put there for its mounts is not the container's doing.

use std::{
    collections::HashSet,
    ffi::OsString,
    io,
    ops::ControlFlow,
    os::{fd::OwnedFd, unix::ffi::OsStringExt},
    path::{Path, PathBuf},
    rc::Rc,
};

use husk_model::ImageId;
use husk_sys::tree::{Entry, Step, Walk};
use rustix::{
    fs::{Dir, FileType, Mode, OFlags, Stat, fstat},
    io::Errno,
};

use super::{Mounts, member};
use crate::{
    ImageError, ImageStore, Result, UnpackError,
    compose::roots,
    stop::Stop,
    store::blocking,
    unpack::{
        limits::{Budget, Meter, Resource},
        marks::{is_opaque, is_whiteout, stat},
        merged::{Child, Merged},
        tree::visible,
    },
    walked,
};

/// Names of one directory that is replaced as a whole, which are compared in memory.
const NAMES_MAX: usize = 1 << 20;

/// How a path was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// The image has it, too.
    Modified,
    /// The image does not have it.
    Added,
    /// The image has it, and the container not any more.
    Deleted,
}

/// A change. Nothing is told of what is in a directory that was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Absolute, as the container sees it.
    pub path: PathBuf,
    /// How it was changed.
    pub kind: ChangeKind,
}

impl ImageStore {
    /// Tells `each` what `upper`, the writable layer of a container of `image`, changes, in no certain order but directories before what is in
    /// them, until that breaks off. `mounts` are as with [`CommitRequest`](crate::CommitRequest). Called on a thread that may block.
    ///
    /// # Errors
    /// [`ImageError::NoImage`]; [`ImageError::ArchiveIo`] when something cannot be read; [`ImageError::NewLayer`] when comparing takes more
    /// steps than a layer may.
    pub async fn changes(
        &self,
        image: &ImageId,
        upper: OwnedFd,
        mounts: Vec<PathBuf>,
        each: impl FnMut(Change) -> ControlFlow<()> + Send + 'static,
    ) -> Result<()> {
        let lease = self.acquire(image)?;
        let stack = self.rootfs(image)?;
        let stop = Stop::default();
        let _with_this_task = stop.on_drop();
        blocking("comparing a container with its image", move || {
            let _held = lease;
            let lowers: Vec<PathBuf> = stack.lowers.iter().map(|name| stack.base.join(name)).collect();
            let told = compare(&upper, &lowers, Mounts::of(&mounts), &stop, each);
            told.map_err(|error| match error {
                Failure::Limit(source) => ImageError::NewLayer { source },
                Failure::Io(source) => {
                    ImageError::ArchiveIo { step: "compare a container with its image".into(), source }
                }
            })
        })
        .await
    }
}

#[derive(Debug)]
enum Failure {
    Io(io::Error),
    Limit(UnpackError),
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<UnpackError> for Failure {
    fn from(error: UnpackError) -> Self {
        Self::Limit(error)
    }
}

fn compare(
    upper: &OwnedFd,
    lowers: &[PathBuf],
    mounts: Mounts,
    stop: &Stop,
    each: impl FnMut(Change) -> ControlFlow<()>,
) -> Result<(), Failure> {
    let below = Merged { own: None, lowers: visible(roots(lowers)?) };
    let mut comparison = Comparison {
        below: Below {
            at: Some((Vec::new(), Some(below.clone()))),
            root: below,
            meter: Meter::new(&Budget::default()),
        },
        mounts,
        path: walked::Path::default(),
        open: Vec::new(),
        each,
        is_over: false,
    };
    let mut walk = Walk::new(upper)?;
    while !comparison.is_over {
        stop.check()?;
        if !walk.next(|entry| comparison.visit(entry))? {
            break;
        }
    }
    comparison.leave(0);
    Ok(())
}

struct Comparison<F> {
    below: Below,
    mounts: Mounts,
    path: walked::Path,
    /// The directories that lead to where the walk is.
    open: Vec<Open>,
    each: F,
    is_over: bool,
}

/// A directory that both sides have.
struct Open {
    path: Vec<u8>,
    /// Nothing more is to be said of it.
    is_told: bool,
    /// Its time is another, which counts if nothing else tells why.
    is_touched: bool,
}

impl<F: FnMut(Change) -> ControlFlow<()>> Comparison<F> {
    fn visit(&mut self, entry: &Entry<'_>) -> Result<Step, Failure> {
        self.leave(entry.depth);
        self.path.enter(entry.depth, entry.name.to_bytes());
        let Some(handle) = member::handle(entry.directory, &entry.name)? else { return Ok(Step::Over) };
        let own = fstat(&handle)?;
        let path = self.path.bytes.clone();
        if self.mounts.left(&path, &own) {
            // The directory's time tells of the mount.
            if let Some(directory) = self.open.last_mut() {
                directory.is_touched = false;
            }
            return Ok(Step::Over);
        }
        let parent = self.path.parent().to_vec();
        let lower = self.below.stat(&parent, entry.name.to_bytes())?;
        if is_whiteout(&own) {
            if lower.is_some() {
                self.tell(&path, ChangeKind::Deleted);
            }
            return Ok(Step::Over);
        }
        let kind = if lower.is_some() { ChangeKind::Modified } else { ChangeKind::Added };
        if FileType::from_raw_mode(own.st_mode) != FileType::Directory {
            self.tell(&path, kind);
            return Ok(Step::Over);
        }
        let Some(directory) = entry.open()? else { return Ok(Step::Over) };
        self.directory(&directory, path, &own, lower.as_ref())?;
        Ok(Step::Into(directory))
    }

    fn directory(
        &mut self,
        directory: &OwnedFd,
        path: Vec<u8>,
        own: &Stat,
        lower: Option<&Stat>,
    ) -> Result<(), Failure> {
        let is_opaque = is_opaque(directory);
        let same = |lower: &Stat| {
            (own.st_mode, own.st_uid, own.st_gid) == (lower.st_mode, lower.st_uid, lower.st_gid)
        };
        let is_told = is_opaque || !lower.is_some_and(same);
        let time = |stat: &Stat| (stat.st_mtime, stat.st_mtime_nsec);
        let is_touched = lower.is_some_and(|lower| time(lower) != time(own));
        if is_told {
            self.tell(&path, if lower.is_some() { ChangeKind::Modified } else { ChangeKind::Added });
        }
        if is_opaque && lower.is_some() {
            for name in self.below.names(&path)? {
                if matches!(stat(directory, &name), Err(Errno::NOENT)) {
                    self.tell(&[&path[..], b"/", &name].concat(), ChangeKind::Deleted);
                }
            }
        }
        self.open.push(Open { path, is_told, is_touched });
        Ok(())
    }

    /// The walk has left all directories but the upper `depth`.
    fn leave(&mut self, depth: usize) {
        while self.open.len() > depth {
            let Some(left) = self.open.pop() else { return };
            if left.is_touched && !left.is_told {
                self.tell(&left.path, ChangeKind::Modified);
            }
        }
    }

    /// Tells a change, and before it that of the directories that it is in.
    fn tell(&mut self, path: &[u8], kind: ChangeKind) {
        let open = self.open.iter_mut();
        let untold: Vec<Vec<u8>> = open
            .filter_map(|directory| {
                (!std::mem::replace(&mut directory.is_told, true)).then(|| directory.path.clone())
            })
            .collect();
        for directory in untold {
            self.say(&directory, ChangeKind::Modified);
        }
        self.say(path, kind);
    }

    fn say(&mut self, path: &[u8], kind: ChangeKind) {
        if self.is_over {
            return;
        }
        let path = Path::new("/").join(OsString::from_vec(path.to_vec()));
        self.is_over = (self.each)(Change { path, kind }).is_break();
    }
}

/// Looks into the layers below.
struct Below {
    root: Merged,
    /// The directory that was looked into last; `None` where the layers have none.
    at: Option<(Vec<u8>, Option<Merged>)>,
    meter: Meter,
}

impl Below {
    /// What the layers have under `name` in the directory `parent`.
    fn stat(&mut self, parent: &[u8], name: &[u8]) -> Result<Option<Stat>, Failure> {
        self.go(parent)?;
        let Some((_, Some(directory))) = &self.at else { return Ok(None) };
        self.meter.spend(Resource::Lookups, 1 + directory.lowers.len() as u64)?;
        Ok(directory.below(name)?.map(|(_, stat)| stat))
    }

    /// The names in the directory `path`.
    fn names(&mut self, path: &[u8]) -> Result<Vec<Vec<u8>>, Failure> {
        self.go(path)?;
        let Some((_, Some(directory))) = &self.at else { return Ok(Vec::new()) };
        let (mut seen, mut names) = (HashSet::new(), Vec::new());
        for lower in &directory.lowers {
            for entry in listing(lower)? {
                let name = entry?.file_name().to_bytes().to_vec();
                if matches!(&name[..], b"." | b"..") || !seen.insert(name.clone()) {
                    continue;
                }
                self.meter.spend(Resource::Lookups, 1)?;
                if seen.len() > NAMES_MAX {
                    return Err(io::Error::other(format!(
                        "a directory of more than {NAMES_MAX} names was replaced"
                    ))
                    .into());
                }
                if !is_whiteout(&stat(lower, &name)?) {
                    names.push(name);
                }
            }
        }
        Ok(names)
    }

    /// Makes `path` the directory that is looked into.
    fn go(&mut self, path: &[u8]) -> Result<(), Failure> {
        if self.at.as_ref().is_some_and(|(at, _)| at == path) {
            return Ok(());
        }
        let mut directory = Some(self.root.clone());
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            let Some(at) = directory else { break };
            self.meter.spend(Resource::Lookups, 1 + at.lowers.len() as u64)?;
            directory = match at.child(name)? {
                Child::Directory(child) => Some(child),
                _ => None,
            };
        }
        self.at = Some((path.to_vec(), directory));
        Ok(())
    }
}

/// What is in a directory of a layer.
fn listing(directory: &Rc<OwnedFd>) -> Result<Dir, Failure> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(Dir::new(rustix::fs::openat(&**directory, c".", flags, Mode::empty())?)?)
}
