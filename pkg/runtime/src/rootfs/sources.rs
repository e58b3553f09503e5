//! The mounts of a spec, each brought to where it needs nothing of the node any more.

use std::{
    ffi::OsString,
    os::fd::{AsFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

use husk_model::IdMapping;
use husk_sys::{
    mount,
    mount::{Attr, Change, Propagation},
    procfs::Procfs,
};
use oci_spec::runtime::{LinuxIdMapping, Mount};
use rustix::fs::{self, AtFlags, FileType, StatxFlags};

use super::{
    cgroupfs,
    cgroupfs::Controllers,
    files,
    options::{CONTEXT, Options},
    relabel,
};
use crate::{Failure, Step, UserNamespace, failure::At};

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
    Tree { tree: OwnedFd, directory: bool, procfs: bool },
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

/// Opens the sources of all mounts, in the caller's mount namespace. Volumes are relabelled here, before they can be
/// read-only. Those of `pod_files` are not: the pod has copies of them.
pub(crate) fn open(
    mounts: &[Mount],
    pod_files: &[PathBuf],
    own_cgroup_namespace: bool,
    user: Option<&UserNamespace>,
    context: &relabel::Context<'_>,
) -> Result<Vec<Planned>, Failure> {
    let mut planned = Vec::with_capacity(mounts.len() + 1);
    for mount in mounts {
        let destination = destination(mount.destination())?;
        let source = source(mount, pod_files, &destination, own_cgroup_namespace, user, context)
            .map_err(|failure| with_object(failure, &destination))?;
        planned.push(Planned { destination, source });
    }
    add_shared_memory(&mut planned);
    Ok(planned)
}

fn source(
    mount: &Mount,
    pod_files: &[PathBuf],
    destination: &Path,
    own_cgroup_namespace: bool,
    user: Option<&UserNamespace>,
    context: &relabel::Context<'_>,
) -> Result<Source, Failure> {
    let mut options = Options::parse(mount.options().as_deref().unwrap_or_default()).map_err(|option| {
        Failure::because(Step::Mount, destination.display(), format!("unsupported option {option:?}"))
    })?;
    let kind = mount.typ().as_deref().unwrap_or_default();
    let name = mount.source().as_ref().map(|source| source.to_string_lossy().into_owned());
    if options.bind.is_some() || matches!(kind, "bind" | "rbind" | "none" | "") {
        let recursive = options.bind.unwrap_or(kind == "rbind");
        let source = mount.source().as_deref().unwrap_or(Path::new(""));
        if let Some(name) = files::name(source, pod_files) {
            return Ok(Source::PodFile { name, options });
        }
        let label = context.label.filter(|_| context.volumes.iter().any(|volume| volume == source));
        let bound = bind(source, recursive, &options, label)?;
        if let Source::Tree { tree, .. } = &bound {
            map_ids(mount, source, tree, recursive, user)?;
        }
        return Ok(bound);
    }
    // proc, sysfs and cgroup2 are one per node or namespace: the policy knows theirs.
    if let Some(label) = context.label
        && matches!(kind, "tmpfs" | "devpts" | "mqueue" | "cgroup")
        && options.context().is_none()
    {
        options.data.push((CONTEXT.to_owned(), Some(label.to_owned())));
    }
    Ok(match kind {
        // The node's: of its network namespace the pod may mount none.
        "sysfs" if user.is_some_and(|user| !user.owns_network) => {
            bind(Path::new("/sys"), false, &options, None)?
        }
        "tmpfs" if destination == Path::new("/dev/shm") => Source::SharedMemory,
        "image" => {
            let number = name.as_deref().and_then(|name| name.parse().ok());
            let none = || Failure::because(Step::Mount, destination.display(), "names no image volume");
            Source::Image { number: number.ok_or_else(none)?, options }
        }
        "cgroup" | "cgroup2" => cgroupfs::source(options, own_cgroup_namespace)?,
        _ => Source::New { kind: kind.to_owned(), name: name.unwrap_or_else(|| kind.to_owned()), options },
    })
}

/// A copy of what is at `source`, with its attributes. Symlinks are those of the node and are followed. With a label, its
/// files get that.
pub(crate) fn bind(
    source: &Path,
    recursive: bool,
    options: &Options,
    label: Option<&str>,
) -> Result<Source, Failure> {
    let step = Step::Source;
    let tree = mount::clone_path(source, recursive)
        .at(step, source.display())
        .map_err(|failure| failure.explain(String::new()))?;
    if let Some(label) = label {
        relabel::tree(tree.as_fd(), label).map_err(|failure| {
            let detail = format!("{} of volume {}: {}", failure.object, source.display(), failure.detail);
            Failure { object: label.to_owned(), ..failure.explain(detail) }
        })?;
    }
    let (propagation, all) = options.propagation.unwrap_or((Propagation::Private, true));
    check_propagation(source, propagation)?;
    let change = |recursive, change| mount::change(&tree, recursive, change).at(step, source.display());
    change(all, Change::propagation(propagation))?;
    change(true, options.recursive)?;
    change(false, options.top)?;
    let stat = fs::fstat(&tree).at(step, source.display())?;
    let procfs = fs::fstatfs(&tree).at(step, source.display())?.f_type as u64 == husk_sys::procfs::MAGIC;
    let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    Ok(Source::Tree { tree, directory, procfs })
}

/// Gives a volume the ids of the pod's user namespace, where its mount asks for that.
fn map_ids(
    mount: &Mount,
    source: &Path,
    tree: &OwnedFd,
    recursive: bool,
    user: Option<&UserNamespace>,
) -> Result<(), Failure> {
    let asked =
        [mount.uid_mappings(), mount.gid_mappings()].map(|mappings| mappings.as_deref().unwrap_or_default());
    if asked == [[], []] {
        return Ok(());
    }
    let same = |map: &LinuxIdMapping, pods: IdMapping| {
        (map.container_id(), map.host_id(), map.size()) == (pods.container_id, pods.host_id, pods.length)
    };
    let is_pods = |user: &&UserNamespace| match asked {
        [[uids], [gids]] => same(uids, user.mappings.uids) && same(gids, user.mappings.gids),
        _ => false,
    };
    let Some(user) = user.filter(is_pods) else {
        let detail = "its id mappings are not those of the pod's user namespace";
        return Err(Failure::because(Step::Source, source.display(), detail));
    };
    mount::map_ids(tree, recursive, &user.fd).at(Step::Source, source.display()).map_err(|failure| {
        failure.explain("its filesystem, or one mounted below it, cannot be mapped to a user namespace")
    })
}

/// A mount on the node reaches the container only if the source's mount takes part in propagation. Saying so beats a
/// volume that silently never appears.
fn check_propagation(source: &Path, wanted: Propagation) -> Result<(), Failure> {
    if !matches!(wanted, Propagation::Shared | Propagation::Slave) {
        return Ok(());
    }
    let step = Step::Source;
    let file = fs::open(source, fs::OFlags::PATH | fs::OFlags::CLOEXEC, fs::Mode::empty())
        .at(step, source.display())?;
    let id =
        fs::statx(file.as_fd(), "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).at(step, source.display())?;
    let table = Procfs::host().and_then(|proc| proc.read_self("mountinfo")).at(step, "mountinfo")?;
    let Some(mount) = mount_of(&table, id.stx_mnt_id) else { return Ok(()) };
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

struct MountEntry<'table> {
    point: &'table str,
    shared: bool,
    slave: bool,
}

/// Finds a mount in the text of /proc/self/mountinfo (proc_pid_mountinfo(5)).
fn mount_of(table: &str, id: u64) -> Option<MountEntry<'_>> {
    table.lines().find_map(|line| {
        let mut fields = line.split(' ');
        if fields.next()?.parse() != Ok(id) {
            return None;
        }
        let point = fields.nth(3)?;
        let optional: Vec<_> = fields.skip(1).take_while(|field| *field != "-").collect();
        let has = |prefix: &str| optional.iter().any(|field| field.starts_with(prefix));
        Some(MountEntry { point, shared: has("shared:"), slave: has("master:") })
    })
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

/// A spec that mounts a new /dev without saying anything of /dev/shm gets it there.
fn add_shared_memory(planned: &mut Vec<Planned>) {
    let shm = Path::new("/dev/shm");
    if planned.iter().any(|mount| mount.destination == shm) {
        return;
    }
    let dev = planned.iter().position(|mount| {
        mount.destination == Path::new("/dev") && !matches!(mount.source, Source::Tree { .. })
    });
    if let Some(dev) = dev {
        planned.insert(dev + 1, Planned { destination: shm.to_owned(), source: Source::SharedMemory });
    }
}

fn with_object(failure: Failure, destination: &Path) -> Failure {
    if failure.step == Step::Source && failure.detail.is_empty() {
        return failure.explain(format!("for {}", destination.display()));
    }
    failure
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
        let kinds = |id| mount_of(TABLE, id).map(|mount| (mount.shared, mount.slave));
        assert_eq!(kinds(27), Some((false, false)));
        assert_eq!(kinds(30), Some((true, false)));
        assert_eq!(kinds(31), Some((false, true)));
        assert_eq!(kinds(32), None);
    }

    #[test]
    fn destinations_are_absolute_and_do_not_climb() {
        assert_eq!(destination(Path::new("data/./x")).unwrap(), Path::new("/data/x"));
        assert!(destination(Path::new("/data/../proc")).is_err());
        assert!(destination(Path::new("/")).is_err());
    }
}
