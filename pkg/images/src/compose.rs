//! Gives a layer what it takes from the layers below it, once, when its image is put together:
//!
//! - A directory that the archive uses without describing it (`usr/bin/tool` alone) would show with made-up attributes in
//!   the mount, because overlayfs takes those of the topmost layer: owner, mode, attributes and time are copied up.
//! - Where such a directory is a symbolic link below (`lib/x` above a `lib -> usr/lib`), or a hard link names a file that
//!   only a lower layer has, the names of the archive mean something else than they meant alone: the layer is unpacked once
//!   more, from its own record, with the layers below in view (`layer::unpack_again`).
//!
//! Such a layer belongs to its chain and is not shared with images that have it above other layers.

use std::{
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::PathBuf,
    rc::Rc,
};

use husk_sys::tree::{Step, Walk};
use rustix::fs::{FileType, Mode, OFlags};

use crate::{
    stop::Stop,
    store::Loose,
    unpack::{
        Destination, UnpackError, copy, io_error,
        limits::{Budget, Meter, Resource},
        merged::{Child, Merged},
        tree::visible,
    },
    walked::Path,
};

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Composed {
    /// The layer is complete.
    Done,
    /// It has to be unpacked again.
    Again,
}

/// Completes the layer at `destination`; `lowers` are the layers below it, topmost first.
pub(crate) fn compose(
    destination: &Destination,
    lowers: &[PathBuf],
    loose: &Loose,
    stop: &Stop,
) -> Result<Composed, UnpackError> {
    if loose.unsure {
        return Ok(Composed::Again);
    }
    if lowers.is_empty() || loose.implied.is_empty() {
        return Ok(Composed::Done);
    }
    let own = root(&destination.root)?;
    let whole = Merged { own: Some(Rc::new(root(&destination.root)?)), lowers: visible(roots(lowers)?) };
    // The budget of the image has nothing to do with looking; a layer's own limit bounds it.
    let mut looks = Looks { whole, meter: Meter::new(&Budget::default()) };
    let mut path = Path::default();
    let mut composed = Composed::Done;
    let mut walk = Walk::new(&own)?;
    while composed == Composed::Done
        && walk.next(|entry| {
            if stop.is_set() {
                return Err(UnpackError::Interrupted);
            }
            let Step::Into(directory) = entry.enter()? else { return Ok(Step::Over) };
            path.enter(entry.depth, entry.name.to_bytes());
            if loose.implied.binary_search(&entry.inode).is_err() {
                return Ok(Step::Into(directory));
            }
            match looks.below(&path.bytes)? {
                Below::Directory(lower) => drop(copy::attributes(&lower, &directory, &path.bytes)?),
                Below::Link => composed = Composed::Again,
                Below::Nothing => {}
            }
            Ok(Step::Into(directory))
        })?
    {}
    Ok(composed)
}

/// Opens the roots of layers.
pub(crate) fn roots(paths: &[PathBuf]) -> Result<Vec<OwnedFd>, UnpackError> {
    paths.iter().map(root).collect()
}

fn root(path: &PathBuf) -> Result<OwnedFd, UnpackError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(io_error("open the layer", path.as_os_str().as_bytes()))
}

/// Lookups in the layers below.
struct Looks {
    whole: Merged,
    meter: Meter,
}

/// What is there.
enum Below {
    Directory(Rc<OwnedFd>),
    Link,
    Nothing,
}

impl Looks {
    fn below(&mut self, path: &[u8]) -> Result<Below, UnpackError> {
        let fail = |errno| io_error("look up in the layers below", path)(errno);
        let mut at = self.whole.clone();
        let mut parts = path.split(|byte| *byte == b'/').peekable();
        while let Some(part) = parts.next() {
            self.meter.spend(Resource::Lookups, 1 + at.lowers.len() as u64)?;
            if parts.peek().is_none() {
                let Some((_, stat)) = at.below(part).map_err(fail)? else { break };
                if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
                    return Ok(Below::Link);
                }
            }
            at = match at.child(part).map_err(fail)? {
                Child::Directory(merged) => merged,
                _ => return Ok(Below::Nothing),
            };
        }
        Ok(at.lowers.first().map_or(Below::Nothing, |lower| Below::Directory(Rc::clone(lower))))
    }
}
