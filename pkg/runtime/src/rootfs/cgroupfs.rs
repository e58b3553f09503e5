//! /sys/fs/cgroup of a container.
//!
//! v2: a new cgroup2 mount, which shows the cgroup namespace of whoever makes it. Without a namespace of its own the
//! container gets a copy of the node's mount instead: mounting cgroup2 from the initial namespace resets the options of
//! the node's own (`nsdelegate`, `memory_recursiveprot`).
//!
//! v1 and hybrid: a tmpfs with one directory per v1 hierarchy, each a copy of the container's own directory there, so that
//! it sees its own limits with or without a namespace. The v2 tree of a hybrid node is not among them: it has no limits, and programs
//! (Kubernetes' tests among them) take a cgroup2 below /sys/fs/cgroup as the sign of a node that is v2. runc does the same.

use std::{cell::OnceCell, path::Path, sync::OnceLock};

use husk_node::cgroups::{CGROUP_ROOT as ROOT, CgroupMount, CgroupMountKind, cgroup_mounts};
use husk_sys::{
    mount,
    mount::{Attr, Change, Propagation},
    procfs::Procfs,
};
use rustix::io::Errno;

use super::{
    options::Options,
    planned::{self, Controllers, Source},
};
use crate::{Failure, Step, failure::At};

/// How the node mounts its hierarchies. Read once per monitor.
#[derive(Debug, PartialEq, Eq)]
enum Layout {
    /// cgroup2 alone.
    V2,
    /// Hierarchies by directory.
    V1(Vec<Hierarchy>),
}

#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    /// Name of its directory in [`ROOT`].
    directory: String,
    kind: CgroupMountKind,
}

static LAYOUT: OnceLock<Layout> = OnceLock::new();

/// Reads how the node mounts its cgroups, so that children find it read; [`crate::spawn_container`] does it if nobody did. A
/// failure shows again, and is reported, in the child.
pub fn prepare() {
    let _ = layout();
}

fn layout() -> Result<&'static Layout, Failure> {
    if let Some(layout) = LAYOUT.get() {
        return Ok(layout);
    }
    let mounts = cgroup_mounts().at(Step::Source, "the node's cgroups")?;
    let v2 = matches!(mounts.as_slice(), [only] if only.point == Path::new(ROOT) && only.kind == CgroupMountKind::V2);
    let layout = if v2 { Layout::V2 } else { Layout::V1(hierarchies(mounts)) };
    Ok(LAYOUT.get_or_init(|| layout))
}

/// What to mount. The caller has joined its cgroup but still has the node's cgroup namespace.
pub(crate) fn source(options: Options, own_namespace: bool) -> Result<Source, Failure> {
    let hierarchies = match layout()? {
        Layout::V2 if own_namespace => {
            return Ok(Source::New { kind: "cgroup2".to_owned(), name: "cgroup".to_owned(), options });
        }
        Layout::V2 => {
            return planned::bind(Path::new(ROOT), false, &options, None, Some(&planned::Peers::default()));
        }
        Layout::V1(hierarchies) => hierarchies,
    };
    let memberships =
        Procfs::host().and_then(|proc| proc.read_self("cgroup")).at(Step::Source, "/proc/self/cgroup")?;
    let table = OnceCell::new();
    let mut controllers = Controllers { trees: Vec::new(), links: Vec::new() };
    let attributes = planned::attributes(&options)
        | if options.readonly() { Attr::MOUNT_ATTR_RDONLY } else { Attr::empty() };
    let change = Change { propagation: Some(Propagation::Private), ..Change::set(attributes) };
    for hierarchy in hierarchies {
        let directory = &hierarchy.directory;
        let Some(path) = hierarchy.path(&memberships) else { continue };
        let point = format!("{ROOT}/{directory}");
        let mut source = format!("{point}{path}");
        let mut tree = mount::clone_path(source.as_str(), false);
        if tree.as_ref().is_err_and(|error| error.errno() == Errno::NOENT) {
            source = format!("{point}{}", within(&table, &point, path)?);
            tree = mount::clone_path(source.as_str(), false);
        }
        let tree = tree.at(Step::Source, &source)?;
        mount::change(&tree, false, change).at(Step::Source, &source)?;
        if directory.contains(',') {
            let links = directory.split(',').map(|name| (name.to_owned(), directory.clone()));
            controllers.links.extend(links);
        }
        controllers.trees.push((directory.clone(), tree));
    }
    Ok(Source::Controllers { controllers, options })
}

/// Our path below a hierarchy's mount. Where husk itself runs in a container of a v1 node, what is mounted is that container's group, while
/// /proc/self/cgroup has the path from the node's root. The mount table is read once, if at all.
fn within<'text>(table: &OnceCell<String>, point: &str, path: &'text str) -> Result<&'text str, Failure> {
    let table = match table.get() {
        Some(table) => table,
        None => {
            let read = Procfs::host().and_then(|proc| proc.read_self("mountinfo"));
            let read = read.at(Step::Source, "/proc/self/mountinfo")?;
            table.get_or_init(|| read)
        }
    };
    Ok(mount_root(table, point).and_then(|root| below(path, &root)).unwrap_or(path))
}

/// The directory of its filesystem that is mounted at `point` (proc_pid_mountinfo(5)).
fn mount_root(table: &str, point: &str) -> Option<String> {
    let fields = table.lines().map(|line| line.split(' ').skip(3));
    let mut at = fields.filter_map(|mut fields| Some((fields.next()?, fields.next()?)));
    at.rfind(|(_, at)| *at == point).map(|(root, _)| root.to_owned())
}

/// What is left of a path below a directory: empty for that itself.
fn below<'text>(path: &'text str, root: &str) -> Option<&'text str> {
    let rest = path.strip_prefix(root.trim_end_matches('/'))?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

/// The hierarchies mounted right below [`ROOT`]; a v2 tree only where there is nothing else.
fn hierarchies(mut mounts: Vec<CgroupMount>) -> Vec<Hierarchy> {
    if mounts.iter().any(|mount| mount.kind != CgroupMountKind::V2) {
        mounts.retain(|mount| mount.kind != CgroupMountKind::V2);
    }
    let hierarchy = |mount: CgroupMount| {
        let directory = mount.point.strip_prefix(ROOT).ok()?.to_str()?.to_owned();
        (!directory.is_empty() && !directory.contains('/'))
            .then_some(Hierarchy { directory, kind: mount.kind })
    };
    mounts.into_iter().filter_map(hierarchy).collect()
}

impl Hierarchy {
    /// Our path in it. A line of /proc/self/cgroup is `id:controllers:path`, with no controllers for v2 (cgroups(7)).
    fn path<'text>(&self, memberships: &'text str) -> Option<&'text str> {
        memberships.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, path) = (fields.next()?, fields.next()?);
            let ours = match &self.kind {
                CgroupMountKind::V2 => controllers.is_empty(),
                CgroupMountKind::V1 { name: Some(name), .. } => {
                    controllers.strip_prefix("name=") == Some(name)
                }
                CgroupMountKind::V1 { controllers: carried, name: None } => {
                    !controllers.is_empty()
                        && controllers.split(',').all(|one| carried.iter().any(|c| c == one))
                }
            };
            ours.then_some(path)
        })
    }
}

#[cfg(test)]
mod tests {
    use husk_node::cgroups::from_mount_table;

    use super::*;

    #[test]
    fn each_v1_hierarchy_is_paired_with_our_path_in_it() {
        let table = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
            32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
            40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let memberships = "3:cpu,cpuacct:/pod/a\n2:name=systemd:/b\n0::/pod/c\n";
        let found = |table| -> Vec<_> {
            hierarchies(from_mount_table(table))
                .iter()
                .map(|hierarchy| format!("{} {:?}", hierarchy.directory, hierarchy.path(memberships)))
                .collect()
        };
        assert_eq!(found(table), ["cpu,cpuacct Some(\"/pod/a\")", "systemd Some(\"/b\")"]);
        let v2_alone = table.lines().last().unwrap();
        assert_eq!(found(v2_alone), ["unified Some(\"/pod/c\")"]);
    }

    #[test]
    fn a_path_is_shortened_by_what_is_mounted() {
        let table = "32 31 0:29 /docker/ab /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
            33 31 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        let within = |point: &str, path| {
            let root = mount_root(table, point)?;
            Some(below(path, &root)?.to_owned())
        };
        assert_eq!(within("/sys/fs/cgroup/pids", "/docker/ab/pod/c").as_deref(), Some("/pod/c"));
        assert_eq!(within("/sys/fs/cgroup/pids", "/docker/ab").as_deref(), Some(""));
        assert_eq!(within("/sys/fs/cgroup/pids", "/docker/abc/pod"), None);
        assert_eq!(within("/sys/fs/cgroup/cpu", "/docker/ab/pod").as_deref(), Some("/docker/ab/pod"));
        assert_eq!(within("/sys/fs/cgroup/memory", "/pod"), None);
    }
}
