//! File access relative to a cgroup's directory descriptor.

use std::{
    ffi::OsString,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
};

use rustix::{
    fs::{self, Mode, OFlags, ResolveFlags},
    io::{Errno, Result},
};

/// Nothing of a request may take the resolution out of the hierarchy, through a link or onto another filesystem.
const CONFINED: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// Opens the directory `relative` below `root`.
pub(crate) fn open_dir(root: impl AsFd, relative: &str) -> Result<OwnedFd> {
    fs::openat2(root, relative, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), CONFINED)
}

/// Opens the file `name` of a group for reading.
pub(crate) fn open_read(dir: impl AsFd, name: &str) -> Result<OwnedFd> {
    fs::openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
}

/// Opens the file `relative` below `root` for reading.
pub(crate) fn open_read_below(root: impl AsFd, relative: &str) -> Result<OwnedFd> {
    fs::openat2(root, relative, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty(), CONFINED)
}

/// Opens the file `name` of a group for writing.
pub(crate) fn open_write(dir: impl AsFd, name: &str) -> Result<OwnedFd> {
    fs::openat(dir, name, OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
}

/// Writes `value` to the file `name` in one write(2), as cgroup files require.
pub(crate) fn write(dir: impl AsFd, name: &str, value: &str) -> Result<()> {
    let file = open_write(dir, name)?;
    loop {
        match rustix::io::write(&file, value.as_bytes()) {
            Ok(n) if n == value.len() => return Ok(()),
            Ok(_) => return Err(Errno::IO),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Reads the whole file `name`.
pub(crate) fn read(dir: impl AsFd, name: &str) -> Result<String> {
    let mut buf = Vec::new();
    read_at_start(open_read(dir, name)?, &mut buf)?;
    into_string(buf)
}

/// Reads a kept descriptor from its start into `buf`, which is cleared first and keeps its capacity.
pub(crate) fn read_at_start(file: impl AsFd, buf: &mut Vec<u8>) -> Result<()> {
    const STEP: usize = 4096;
    buf.clear();
    let mut len = 0;
    loop {
        if buf.len() < len + STEP {
            buf.resize(len + STEP, 0);
        }
        match rustix::io::pread(&file, &mut buf[len..], len as u64) {
            Ok(0) => break,
            Ok(n) => {
                len += n;
                // seq_file ends a call early only when the next record does not fit, and no cgroup file has a record
                // of half a page; so this was the end, and the read that would return 0 is saved.
                if n < STEP / 2 {
                    break;
                }
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    buf.truncate(len);
    Ok(())
}

fn into_string(buf: Vec<u8>) -> Result<String> {
    String::from_utf8(buf).map_err(|_| Errno::ILSEQ)
}

/// Calls `look` with `top` and every directory below it. Names may come from a container, so they are taken as bytes; a
/// directory that vanishes meanwhile is passed over. Neither stack nor descriptors grow with the depth.
pub(crate) fn walk(top: BorrowedFd<'_>, look: &mut dyn FnMut(BorrowedFd<'_>) -> Result<()>) -> Result<()> {
    look(top)?;
    let mut left: Vec<OsString> = subdirs(top)?;
    while let Some(path) = left.pop() {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let group = match fs::openat2(top, &path, flags, Mode::empty(), CONFINED) {
            Ok(group) => group,
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(errno),
        };
        match look(group.as_fd()).and_then(|()| subdirs(&group)) {
            Ok(names) => left.extend(names.into_iter().map(|name| {
                let mut below = path.clone();
                below.push("/");
                below.push(name);
                below
            })),
            Err(Errno::NOENT | Errno::NODEV) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Names of the directories directly below `dir`.
pub(crate) fn subdirs(dir: impl AsFd) -> Result<Vec<OsString>> {
    let open = fs::openat(dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut names = Vec::new();
    for entry in fs::Dir::new(open)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if entry.file_type() == fs::FileType::Directory && name != b"." && name != b".." {
            names.push(OsString::from_vec(name.to_vec()));
        }
    }
    Ok(names)
}
