//! The pod's own files: /etc/hostname, /etc/hosts and /etc/resolv.conf.
//!
//! Workloads write to them, so they are on no filesystem of the node: pause holds a tmpfs with copies of them, small enough
//! that it does not matter who fills it (CVE-2020-8557: a container that filled the node through its /etc/hosts). All
//! containers of the pod see the same files. They are gone with the pod's last process.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use husk_sys::mount::{Attr, Filesystem};
use rustix::{
    fs::{self, Mode, OFlags},
    io::Errno,
};

use super::{
    planned::{self, Peers, Planned, Source},
    pod,
};
use crate::{Failure, Step, failure::At};

/// What the containers may add to the files, all together. Lists of blocked hosts have been seen with a megabyte.
const ROOM: u64 = 1 << 20;
/// The root, the files, and some for extended attributes: a kilobyte of them counts as an inode (Linux 6.6).
const INODES: &str = "16";
/// Sizes of a tmpfs are in pages; 4 KiB is the smallest, and larger ones only leave more room.
const PAGE: u64 = 4 << 10;

/// A file's name and content.
pub(crate) type Content = (OsString, Vec<u8>);

/// A file of the node, by its directory: found before it is there, and when the node's root is out of reach.
#[derive(Debug)]
pub(crate) struct NodeFile {
    dir: OwnedFd,
    path: PathBuf,
}

/// Finds the node's files, in the mount namespace and with the credentials of the monitor.
pub(crate) fn find(paths: &[PathBuf]) -> Result<Vec<NodeFile>, Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let found = paths.iter().filter_map(|path| {
        let dir = fs::open(path.parent()?, flags, Mode::empty()).at(Step::Source, path.display());
        Some(dir.map(|dir| NodeFile { dir, path: path.clone() }))
    });
    found.collect()
}

/// Reads them. One that is not there is left out.
pub(crate) fn read(files: &[NodeFile]) -> Result<Vec<Content>, Failure> {
    let read = |file: &NodeFile| -> Option<Result<Content, Failure>> {
        let name = file.path.file_name()?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let opened = fs::openat(&file.dir, name, flags, Mode::empty());
        let content = opened.map(File::from).and_then(|mut file| {
            let mut content = Vec::new();
            file.read_to_end(&mut content).map_err(|error| errno(&error))?;
            Ok(content)
        });
        match content {
            Err(Errno::NOENT) => None,
            content => Some(content.at(Step::Source, file.path.display()).map(|c| (name.to_owned(), c))),
        }
    };
    files.iter().filter_map(read).collect()
}

/// Puts the files on `tmpfs`, a new one, which gets its limits here. They belong to whoever calls: the root of the pod's user
/// namespace, if it has one.
pub(crate) fn make(tmpfs: &Filesystem, contents: &[Content]) -> Result<OwnedFd, Failure> {
    let step = Step::Rootfs;
    let taken: u64 = contents.iter().map(|(_, content)| (content.len() as u64).next_multiple_of(PAGE)).sum();
    let size = (taken + ROOM).to_string();
    let mount = || -> husk_sys::Result<OwnedFd> {
        tmpfs.string("source", "husk")?.string("mode", "755")?;
        tmpfs.string("size", size.as_str())?.string("nr_inodes", INODES)?;
        tmpfs.mount(Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NODEV | Attr::MOUNT_ATTR_NOEXEC)
    };
    let mount = mount().at(step, "pod files")?;
    for (name, content) in contents {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let file =
            fs::openat(mount.as_fd(), name, flags, Mode::from_raw_mode(0o644)).at(step, name.display())?;
        File::from(file).write_all(content).map_err(|error| errno(&error)).at(step, name.display())?;
    }
    Ok(mount)
}

/// The name of the pod's copy of `source`, if it has one.
pub(crate) fn name(source: &Path, files: &[PathBuf]) -> Option<OsString> {
    files.iter().find(|file| *file == source)?.file_name().map(ToOwned::to_owned)
}

/// Puts the pod's copies in their places among the mounts. Called in a mount namespace that is a copy of pause's.
pub(crate) fn place(planned: &mut [Planned]) -> Result<(), Failure> {
    for mount in planned {
        if let Source::PodFile { name, options } = &mount.source {
            let path = Path::new("/").join(pod::FILES).join(name);
            mount.source = planned::bind(&path, false, options, None, Some(&Peers::default()))?;
        }
    }
    Ok(())
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
