//! Reading stat files through descriptors that stay open: half the cost of open, read, close.

use std::{
    borrow::Cow,
    os::fd::{AsFd, OwnedFd},
};

use rustix::io::Errno;

use crate::{
    Cgroup, CgroupPath, Controller, Error, Hierarchy, Result, cgroup::collect_pids, dir, tree::Tree,
};

/// The files of one group, each held open from its first read on.
#[derive(Debug)]
pub(super) struct Files {
    source: Source,
    files: Vec<File>,
    buf: Vec<u8>,
}

/// Where files are opened from.
#[derive(Debug)]
pub(super) enum Source {
    /// The directories of an open group.
    Group(Cgroup),
    /// The roots of the hierarchies: no directory stays open, which counts on a node with a thousand containers.
    Path(Hierarchy, CgroupPath),
}

#[derive(Debug)]
struct File {
    tree: usize,
    name: Cow<'static, str>,
    /// `None`: looked for and not there. Files of a group do not appear later.
    fd: Option<OwnedFd>,
}

impl Files {
    /// Of this group. Nothing is opened yet.
    pub(super) fn new(source: Source) -> Self {
        Self { source, files: Vec::new(), buf: Vec::new() }
    }

    /// The tree that carries `controller`.
    pub(super) fn home(&self, controller: Controller) -> Option<Tree> {
        self.hierarchy().home(controller).cloned()
    }

    /// The v2 tree.
    pub(super) fn unified(&self) -> Option<Tree> {
        self.hierarchy().unified().cloned()
    }

    /// Ids of the processes in the group and below. Of a group that is gone there are none.
    pub(super) fn processes(&self) -> Result<Vec<u32>> {
        let tree = self.hierarchy().tracking();
        let mut pids = Vec::new();
        let collected = match &self.source {
            Source::Group(group) => match group.place(tree) {
                Some(place) => collect_pids(place.dir(), &mut pids),
                None => Ok(()),
            },
            Source::Path(_, path) => tree.open(path).and_then(|dir| collect_pids(dir.as_fd(), &mut pids)),
        };
        match collected {
            Ok(()) | Err(Errno::NOENT | Errno::NODEV) => Ok(pids),
            Err(errno) => Err(self.error(tree, "cgroup.procs", errno)),
        }
    }

    /// A file that holds one number.
    pub(super) fn number(&mut self, tree: &Tree, name: impl Into<Cow<'static, str>>) -> Result<Option<u64>> {
        Ok(self.text(tree, name, |text| text.trim().parse().ok())?.flatten())
    }

    /// What `parse` makes of the file, or `None` when it or the group is not there.
    pub(super) fn text<T>(
        &mut self,
        tree: &Tree,
        name: impl Into<Cow<'static, str>>,
        parse: impl FnOnce(&str) -> T,
    ) -> Result<Option<T>> {
        let name = name.into();
        let known = |file: &File| file.tree == tree.slot() && file.name == name;
        let at = match self.files.iter().position(known) {
            Some(at) => at,
            None => {
                let fd = self.open(tree, &name)?;
                self.files.push(File { tree: tree.slot(), name: name.clone(), fd });
                self.files.len() - 1
            }
        };
        let Some(fd) = &self.files[at].fd else {
            return Ok(None);
        };
        match dir::read_at_start(fd, &mut self.buf) {
            Ok(()) => Ok(Some(parse(&String::from_utf8_lossy(&self.buf)))),
            // The group is gone, or the kernel runs with psi=0.
            Err(Errno::NODEV | Errno::OPNOTSUPP) => Ok(None),
            Err(errno) => Err(self.error(tree, &name, errno)),
        }
    }

    fn hierarchy(&self) -> &Hierarchy {
        match &self.source {
            Source::Group(group) => group.hierarchy(),
            Source::Path(hierarchy, _) => hierarchy,
        }
    }

    fn path(&self) -> &CgroupPath {
        match &self.source {
            Source::Group(group) => group.path(),
            Source::Path(_, path) => path,
        }
    }

    fn open(&self, tree: &Tree, name: &str) -> Result<Option<OwnedFd>> {
        let opened = match &self.source {
            Source::Group(group) => match group.place(tree) {
                Some(place) => dir::open_read(place.dir(), name),
                None => return Ok(None),
            },
            Source::Path(_, path) => dir::open_read_below(tree, &format!("{}/{name}", path.relative())),
        };
        match opened {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP) => Ok(None),
            Err(errno) => Err(self.error(tree, name, errno)),
        }
    }

    fn error(&self, tree: &Tree, name: &str, errno: Errno) -> Error {
        Error::Read { path: tree.name_of(self.path()).join(name), source: errno.into() }
    }
}
