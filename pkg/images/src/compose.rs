//! Gives a layer what it takes from the layers below it, once, when its image is put together:
//!
//! - A directory that the archive uses without describing it (`usr/bin/tool` alone) would show with made-up attributes in
//!   the mount, because overlayfs takes those of the topmost layer: owner, mode, attributes and time are copied up.
//! - A directory that the archive uses is a symbolic link below (`lib/x` above a `lib -> usr/lib`): the files belong where the
//!   link points, and are moved there, as unpacking onto the layers below would have put them.
//! - A hard link to a file that only a lower layer has: the file is copied up and linked.
//!
//! Such a layer belongs to its chain and is not shared with images that have it above other layers.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::File,
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    path::PathBuf,
};

use rustix::{
    fs::{AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};

use crate::{
    store::Loose,
    unpack::{
        Destination, UnpackError, record, shown,
        tree::{self, Tree, io_error, split},
    },
};

/// Longest list of attribute names and longest value read, in bytes (XATTR_SIZE_MAX).
const XATTR_MAX: usize = 64 << 10;

/// Symbolic links followed for one path, as the kernel does.
const LINKS_MAX: usize = 40;

/// Completes the layer at `destination`; `lowers` are the layers below it, topmost first.
pub(crate) fn compose(
    destination: &Destination,
    lowers: &[PathBuf],
    loose: &Loose,
) -> Result<(), UnpackError> {
    let lowers: Vec<OwnedFd> = lowers
        .iter()
        .map(|path| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::empty())
                .map_err(io_error("open a lower layer", path.as_os_str().as_bytes()))
        })
        .collect::<Result<_, _>>()?;
    let mut layer = Tree::open(&destination.root, destination.aside.clone())?;
    for (target, link) in &loose.links {
        copy_up_link(&mut layer, &lowers, target, link)?;
    }
    let mut todo: BTreeSet<Vec<u8>> = loose.implicit.iter().cloned().collect();
    todo.append(&mut layer.implicit);
    let mut moves = Vec::new();
    // In order, so that a directory is settled before those in it.
    while let Some(path) = todo.pop_first() {
        // Absent by now when a later member replaced it.
        let Some(directory) = layer.for_attributes(&path) else { continue };
        let step = "look up in the layers below";
        match find(&lowers, &path).map_err(io_error(step, &path))? {
            Some((found, FileType::Directory)) => copy_attributes(&found, &directory, &path)?,
            Some((_, FileType::Symlink)) => {
                let target = follow(&lowers, &path).map_err(io_error(step, &path))?;
                drop(directory);
                relocate(&mut layer, &path, &target)?;
                todo = todo.into_iter().map(|inner| moved(inner, &path, &target)).collect();
                todo.append(&mut layer.implicit);
                moves.push((path, target));
            }
            _ => {}
        }
    }
    record::append_moves(&destination.record, &moves)
}

/// `path` after `from` was moved to `to`.
fn moved(path: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    match path.strip_prefix(from) {
        Some(rest) if rest.first() == Some(&b'/') => [to, rest].concat(),
        _ => path,
    }
}

/// Where `path` leads in the layers below, every link followed, nothing above their root.
fn follow(lowers: &[OwnedFd], path: &[u8]) -> Result<Vec<u8>, Errno> {
    let mut rest: Vec<Vec<u8>> = path.rsplit(|b| *b == b'/').map(<[u8]>::to_vec).collect();
    let mut reached: Vec<Vec<u8>> = Vec::new();
    let mut links = 0;
    while let Some(part) = rest.pop() {
        match part.as_slice() {
            b"" | b"." => continue,
            b".." => drop(reached.pop()),
            _ => {
                reached.push(part);
                let Some((found, FileType::Symlink)) = find(lowers, &reached.join(&b'/'))? else { continue };
                links += 1;
                if links > LINKS_MAX {
                    return Err(Errno::LOOP);
                }
                let target = rustix::fs::readlinkat(&found, "", Vec::new())?.into_bytes();
                reached.pop();
                if target.first() == Some(&b'/') {
                    reached.clear();
                }
                rest.extend(target.rsplit(|b| *b == b'/').map(<[u8]>::to_vec));
            }
        }
    }
    Ok(reached.join(&b'/'))
}

/// Moves what is in the directory `from` of the layer to `to`, joining directories; what is at `to` already stays.
fn relocate(layer: &mut Tree, from: &[u8], to: &[u8]) -> Result<(), UnpackError> {
    if to.is_empty() || to == from || to.starts_with(&[from, b"/"].concat()) {
        let reason = "is used as a directory, but is a link to itself or to the root in a layer below";
        return Err(UnpackError::Member { path: shown(from), reason });
    }
    let target = layer.ensure(to)?;
    let Some(source) = layer.for_attributes(from) else { return Ok(()) };
    let entries = rustix::fs::Dir::read_from(&source).map_err(io_error("list", from))?;
    for entry in entries {
        let name = entry.map_err(io_error("list", from))?.file_name().to_bytes().to_vec();
        if name == b"." || name == b".." {
            continue;
        }
        let inner = [from, b"/", &name].concat();
        let name_text = OsStr::from_bytes(&name);
        let renamed =
            rustix::fs::renameat_with(&source, name_text, &*target, name_text, RenameFlags::NOREPLACE);
        match renamed {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let kind = tree::stat(&source, &name).map_err(io_error("inspect", &inner))?.st_mode;
                if FileType::from_raw_mode(kind) != FileType::Directory {
                    let reason = "is in the archive twice, directly and through a link of a layer below";
                    return Err(UnpackError::Member { path: shown(&inner), reason });
                }
                relocate(layer, &inner, &[to, b"/", &name].concat())?;
            }
            Err(errno) => return Err(io_error("move", &inner)(errno)),
        }
    }
    let (parent_path, name) = split(from);
    layer.forget();
    let parent = layer.ensure(parent_path)?;
    rustix::fs::unlinkat(&*parent, OsStr::from_bytes(name), AtFlags::REMOVEDIR)
        .map_err(io_error("remove", from))
}

/// The topmost lower entry at `path` that the layers above it do not hide.
fn find(lowers: &[OwnedFd], path: &[u8]) -> Result<Option<(OwnedFd, FileType)>, Errno> {
    for lower in lowers {
        match find_in(lower, path)? {
            Lookup::Found(found, kind) => return Ok(Some((found, kind))),
            Lookup::Hidden => return Ok(None),
            Lookup::Absent => {}
        }
    }
    Ok(None)
}

enum Lookup {
    Found(OwnedFd, FileType),
    /// Not here, and what is below does not show.
    Hidden,
    /// Not here; look further below.
    Absent,
}

fn find_in(root: &OwnedFd, path: &[u8]) -> Result<Lookup, Errno> {
    let mut directory = root.try_clone().map_err(|_| Errno::MFILE)?;
    let mut parts = path.split(|b| *b == b'/').peekable();
    while let Some(part) = parts.next() {
        let stat = match tree::stat(&directory, part) {
            Ok(stat) => stat,
            Err(Errno::NOENT) if tree::is_opaque(&directory) => return Ok(Lookup::Hidden),
            Err(Errno::NOENT) => return Ok(Lookup::Absent),
            Err(errno) => return Err(errno),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if tree::is_whiteout(&stat) || (parts.peek().is_some() && kind != FileType::Directory) {
            return Ok(Lookup::Hidden);
        }
        let flags = match kind {
            FileType::Directory | FileType::RegularFile => OFlags::RDONLY,
            // Opening a fifo or device has effects; a path descriptor is enough to say that it is there.
            _ => OFlags::PATH,
        };
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let entry = rustix::fs::openat(&directory, OsStr::from_bytes(part), flags, Mode::empty())?;
        if parts.peek().is_none() {
            return Ok(Lookup::Found(entry, kind));
        }
        directory = entry;
    }
    Ok(Lookup::Absent)
}

fn copy_up_link(layer: &mut Tree, lowers: &[OwnedFd], target: &[u8], link: &[u8]) -> Result<(), UnpackError> {
    let (target_parent, target_name) = split(target);
    let parent = layer.ensure(target_parent)?;
    if tree::stat(&parent, target_name).is_err() {
        let found = find(lowers, target).map_err(io_error("look up in the layers below", target))?;
        let Some((source, FileType::RegularFile)) = found else {
            return Err(UnpackError::Member {
                path: shown(link),
                reason: "is a hard link to a file that no layer has",
            });
        };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let copy =
            rustix::fs::openat(&*parent, OsStr::from_bytes(target_name), flags, Mode::from_raw_mode(0o600))
                .map_err(io_error("copy up", target))?;
        let (mut from, mut to) = (File::from(source), File::from(copy));
        io::copy(&mut from, &mut to).map_err(|source| UnpackError::Io {
            step: "copy up",
            path: shown(target),
            source,
        })?;
        copy_attributes(&from.into(), &to.into(), target)?;
    }
    let (link_parent, link_name) = split(link);
    let directory = layer.ensure(link_parent)?;
    let made = rustix::fs::linkat(
        &*parent,
        OsStr::from_bytes(target_name),
        &*directory,
        OsStr::from_bytes(link_name),
        AtFlags::empty(),
    );
    match made {
        // A later member of the same name stands.
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(io_error("link", link)(errno)),
    }
}

/// Makes `to` look like `from`.
fn copy_attributes(from: &OwnedFd, to: &OwnedFd, path: &[u8]) -> Result<(), UnpackError> {
    let fail = |errno| io_error("copy the attributes of", path)(errno);
    let stat = rustix::fs::fstat(from).map_err(fail)?;
    rustix::fs::fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))
        .map_err(fail)?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode)).map_err(fail)?;
    let mut names = vec![0; XATTR_MAX];
    let length = match rustix::fs::flistxattr(from, &mut names) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => 0,
        Err(errno) => return Err(fail(errno)),
    };
    let mut value = vec![0; XATTR_MAX];
    for name in
        names[..length].split(|b| *b == 0).filter(|name| !name.is_empty() && !name.starts_with(b"trusted."))
    {
        let name = OsStr::from_bytes(name);
        let length = rustix::fs::fgetxattr(from, name, &mut value).map_err(fail)?;
        rustix::fs::fsetxattr(to, name, &value[..length], XattrFlags::empty()).map_err(fail)?;
    }
    let time = |sec: i64, nsec: u64| Timespec { tv_sec: sec, tv_nsec: i64::try_from(nsec).unwrap_or(0) };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    };
    rustix::fs::futimens(to, &times).map_err(fail)
}
