//! A mount on its way: where it goes, and what is attached there, brought to where it needs nothing of the node any more.

use std::{
    cell::OnceCell,
    collections::HashMap,
    ffi::OsString,
    os::fd::{AsFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

use husk_sys::{
    mount,
    mount::{Attr, Change, Propagation},
    procfs::Procfs,
    root::Root,
};
use rustix::{
    fs::{self, AtFlags, FileType, StatxFlags},
    io::Errno,
};

use super::{options::Options, relabel};
use crate::{Failure, Step, failure::At};

/// One mount, ready to be attached.
#[derive(Debug)]
pub(crate) struct Planned {
    /// Absolute and without `..`, as the container sees it.
    pub destination: PathBuf,
    pub source: Source,
}

/// What to attach.
#[derive(Debug)]
pub(crate) enum Source {
    /// A detached copy of something of the node.
    Tree {
        tree: OwnedFd,
        directory: bool,
        procfs: bool,
        /// Whether it, and all below it, is a peer group of the container's own: a copy that went through a user namespace's is none.
        shared: Option<bool>,
        /// The number of its mount in the spec, if it takes part in what is mounted on the node.
        follows: Option<usize>,
    },
    /// A filesystem still to be made, because it shows the namespaces of whoever makes it.
    New { kind: String, name: String, options: Options },
    /// A tmpfs that had to be made with the privileges of the node.
    Made { tmpfs: OwnedFd, readonly: bool },
    /// cgroup v1: a tmpfs with one directory per hierarchy.
    Controllers { controllers: Controllers, options: Options },
    /// The shared memory of pod or node.
    SharedMemory,
    /// The pod's copy of a file; `super::files` makes a tree of it.
    PodFile { name: OsString, options: Options },
    /// The image volume of this number; `super::volumes` makes a tree of it.
    Image { number: usize, options: Options },
}

/// v1 hierarchies by the name of their directory.
#[derive(Debug)]
pub(crate) struct Controllers {
    pub trees: Vec<(String, OwnedFd)>,
    /// `cpu` → `cpu,cpuacct`.
    pub links: Vec<(String, String)>,
}

/// A copy of what is at `source`, with its attributes. Symlinks are those of the node and are followed, but for those below a source of which
/// only a part is wanted. With a label, its
/// files get that. With `peers`, a mount of the node that cannot propagate as the options ask for is refused.
pub(crate) fn bind(
    source: &Path,
    recursive: bool,
    options: &Options,
    label: Option<&str>,
    peers: Option<&Peers>,
) -> Result<Source, Failure> {
    let step = Step::Source;
    let tree = match &options.sub_path {
        Some(sub_path) => below(source, sub_path, recursive)?,
        None => mount::clone_path(source, recursive)
            .at(step, source.display())
            .map_err(|failure| failure.explain(String::new()))?,
    };
    if let Some(label) = label {
        relabel::tree(tree.as_fd(), label).map_err(|failure| {
            let detail = format!("{} of volume {}: {}", failure.object, source.display(), failure.detail);
            Failure { object: label.to_owned(), ..failure.explain(detail) }
        })?;
    }
    let (propagation, all) = options.propagation.unwrap_or((Propagation::Private, true));
    if let Some(peers) = peers {
        peers.check(source, propagation)?;
    }
    let change = |recursive, change| mount::change(&tree, recursive, change).at(step, source.display());
    change(all, Change::propagation(propagation))?;
    change(true, options.recursive)?;
    let exact = Change { clear: options.top.clear | options.implied, ..options.top };
    match change(false, exact) {
        // Locked on the node as well, which may be a container itself: what nobody named stays.
        Err(failure) if failure.errno == Some(Errno::PERM) && !options.implied.is_empty() => {
            change(false, options.top)?
        }
        changed => changed?,
    }
    let stat = fs::fstat(&tree).at(step, source.display())?;
    let procfs = fs::fstatfs(&tree).at(step, source.display())?.f_type as u64 == husk_sys::procfs::MAGIC;
    let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    // A pod's takes part in what happens on the node, or in nothing.
    let shared = (peers.is_none() && propagation == Propagation::Shared).then_some(all);
    Ok(Source::Tree { tree, directory, procfs, shared, follows: None })
}

/// A copy of what is at `path` below `root`. Whoever writes there may exchange directories for links at any moment, so the kernel looks it up
/// (`RESOLVE_IN_ROOT`), and what it found is what is copied.
fn below(root: &Path, path: &Path, recursive: bool) -> Result<OwnedFd, Failure> {
    let step = Step::Source;
    let flags = fs::OFlags::PATH | fs::OFlags::DIRECTORY | fs::OFlags::CLOEXEC;
    let dir = fs::open(root, flags, fs::Mode::empty()).at(step, root.display())?;
    let found = Root::new(dir).open(path, fs::OFlags::PATH).at(step, path.display());
    let found = found.map_err(|failure| failure.explain(format!("below {}", root.display())))?;
    let kind = FileType::from_raw_mode(fs::fstat(&found).at(step, path.display())?.st_mode);
    if !matches!(kind, FileType::Directory | FileType::RegularFile) {
        let why = format!("below {}: it is neither a directory nor a file", root.display());
        return Err(Failure::because(step, path.display(), why));
    }
    mount::clone_fd(&found, recursive).at(step, path.display())
}

/// What is known of the node's mounts, from when somebody asks: a spec may have very many that take part in propagation.
#[derive(Debug, Default)]
pub(crate) struct Peers(OnceCell<HashMap<u64, Peer>>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Peer {
    point: String,
    shared: bool,
    slave: bool,
}

impl Peers {
    /// A mount on the node reaches the container only if the source's mount takes part in propagation. Saying so beats a
    /// volume that silently never appears.
    fn check(&self, source: &Path, wanted: Propagation) -> Result<(), Failure> {
        if !matches!(wanted, Propagation::Shared | Propagation::Slave) {
            return Ok(());
        }
        let step = Step::Source;
        let file = fs::open(source, fs::OFlags::PATH | fs::OFlags::CLOEXEC, fs::Mode::empty())
            .at(step, source.display())?;
        let id = fs::statx(file.as_fd(), "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)
            .at(step, source.display())?
            .stx_mnt_id;
        let known = self.0.get().map_or_else(|| Self::read().map(|all| self.0.get_or_init(|| all)), Ok)?;
        // One that came since is looked for once more.
        let newer = if known.contains_key(&id) { None } else { Self::read()?.remove(&id) };
        let Some(mount) = newer.as_ref().or_else(|| known.get(&id)) else { return Ok(()) };
        let (fits, wanted) = match wanted {
            Propagation::Shared => (mount.shared, "a shared"),
            _ => (mount.shared || mount.slave, "a shared or slave"),
        };
        if fits {
            return Ok(());
        }
        let detail = format!("path {source:?} is mounted on {:?} but it is not {wanted} mount", mount.point);
        Err(Failure::because(step, source.display(), detail))
    }

    fn read() -> Result<HashMap<u64, Peer>, Failure> {
        let table = Procfs::host().and_then(|proc| proc.read_self("mountinfo"));
        Ok(peers(&table.at(Step::Source, "mountinfo")?))
    }
}

/// The mounts of the text of /proc/self/mountinfo (proc_pid_mountinfo(5)) by their ids.
fn peers(table: &str) -> HashMap<u64, Peer> {
    let peer = |line: &str| {
        let mut fields = line.split(' ');
        let id = fields.next()?.parse().ok()?;
        let point = fields.nth(3)?.to_owned();
        let optional: Vec<_> = fields.skip(1).take_while(|field| *field != "-").collect();
        let has = |prefix: &str| optional.iter().any(|field| field.starts_with(prefix));
        Some((id, Peer { point, shared: has("shared:"), slave: has("master:") }))
    };
    table.lines().filter_map(peer).collect()
}

/// Normal form of a destination. `..` is refused: it would mean something else once symlinks are resolved.
pub(crate) fn destination(path: &Path) -> Result<PathBuf, Failure> {
    let mut normal = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => normal.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(Failure::because(Step::Mount, path.display(), "the destination contains \"..\""));
            }
        }
    }
    if normal == Path::new("/") {
        return Err(Failure::because(Step::Mount, path.display(), "the destination is the root directory"));
    }
    Ok(normal)
}

/// Attributes of a mount that is about to be made.
pub(crate) fn attributes(options: &Options) -> Attr {
    (options.top.set | options.recursive.set) - Attr::MOUNT_ATTR_RDONLY
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
        30 27 0:27 / /a rw,relatime shared:5 - tmpfs tmpfs rw\n\
        31 27 0:27 / /b rw,relatime master:5 propagate_from:2 - tmpfs tmpfs rw\n";

    #[test]
    fn the_mount_table_tells_shared_from_slave_from_private() {
        let all = peers(TABLE);
        let kinds = |id| all.get(&id).map(|mount| (mount.shared, mount.slave));
        assert_eq!(kinds(27), Some((false, false)));
        assert_eq!(kinds(30), Some((true, false)));
        assert_eq!(kinds(31), Some((false, true)));
        assert_eq!(kinds(32), None);
    }

    #[test]
    fn the_mount_table_is_read_once_and_again_for_a_mount_that_it_does_not_have() {
        let fits = |peers: &Peers| peers.check(Path::new("/proc"), Propagation::Shared).is_ok();
        let fresh = Peers::default();
        let shared = fits(&fresh);
        assert!(fresh.0.get().is_some_and(|all| !all.is_empty()), "it is kept");
        assert_eq!(fits(&Peers(OnceCell::from(HashMap::new()))), shared, "it came since");
        let other = fresh.0.into_inner().unwrap().into_iter();
        let other: HashMap<_, _> = other.map(|(id, peer)| (id, Peer { shared: !shared, ..peer })).collect();
        assert_eq!(fits(&Peers(OnceCell::from(other))), !shared, "what is known is not read again");
    }

    #[test]
    fn destinations_are_absolute_and_do_not_climb() {
        assert_eq!(destination(Path::new("data/./x")).unwrap(), Path::new("/data/x"));
        assert!(destination(Path::new("/data/../proc")).is_err());
        assert!(destination(Path::new("/")).is_err());
    }
}
