//! /sys/fs/cgroup of a container.
//!
//! v2: a new cgroup2 mount, which shows the cgroup namespace of whoever makes it. Without a namespace of its own the
//! container gets a copy of the node's mount instead: mounting cgroup2 from the initial namespace resets the options of
//! the node's own (`nsdelegate`, `memory_recursiveprot`).
//!
//! v1 and hybrid: a tmpfs with one directory per hierarchy, each a copy of the container's own directory there, so that
//! it sees its own limits with or without a namespace.

use std::{os::fd::OwnedFd, path::Path};

use husk_sys::{
    mount,
    mount::{Attr, Change, Propagation},
    procfs::Procfs,
};
use rustix::fs;

use super::{
    options::Options,
    sources::{self, Source},
};
use crate::{Failure, Step, failure::At};

/// Where the node mounts its hierarchies.
const ROOT: &str = "/sys/fs/cgroup";
/// `f_type` of cgroup2 (CGROUP2_SUPER_MAGIC).
const CGROUP2_MAGIC: u64 = 0x6367_7270;

/// v1 hierarchies by the name of their directory.
#[derive(Debug)]
pub(crate) struct Controllers {
    pub trees: Vec<(String, OwnedFd)>,
    /// `cpu` → `cpu,cpuacct`.
    pub links: Vec<(String, String)>,
}

/// What to mount. The caller has joined its cgroup but still has the node's cgroup namespace.
pub(crate) fn source(options: Options, own_namespace: bool) -> Result<Source, Failure> {
    let statfs = fs::statfs(ROOT).at(Step::Source, ROOT)?;
    if statfs.f_type as u64 == CGROUP2_MAGIC {
        if own_namespace {
            return Ok(Source::New { kind: "cgroup2".to_owned(), name: "cgroup".to_owned(), options });
        }
        return sources::bind(Path::new(ROOT), false, &options);
    }
    let proc = Procfs::host().at(Step::Source, "/proc")?;
    let memberships = proc.read_self("cgroup").at(Step::Source, "/proc/self/cgroup")?;
    let table = proc.read_self("mountinfo").at(Step::Source, "/proc/self/mountinfo")?;
    let mut controllers = Controllers { trees: Vec::new(), links: Vec::new() };
    for (directory, path) in hierarchies(&table, &memberships) {
        let source = format!("{ROOT}/{directory}{path}");
        let tree = mount::clone_path(source.as_str(), false).at(Step::Source, &source)?;
        let attributes = sources::attributes(&options)
            | if options.readonly() { Attr::MOUNT_ATTR_RDONLY } else { Attr::empty() };
        mount::change(&tree, false, Change::propagation(Propagation::Private)).at(Step::Source, &source)?;
        mount::change(&tree, false, Change::set(attributes)).at(Step::Source, &source)?;
        if directory.contains(',') {
            let links = directory.split(',').map(|name| (name.to_owned(), directory.to_owned()));
            controllers.links.extend(links);
        }
        controllers.trees.push((directory.to_owned(), tree));
    }
    Ok(Source::Controllers { controllers, options })
}

/// Directory below [`ROOT`] and our path in it, for each hierarchy mounted there.
fn hierarchies<'text>(table: &'text str, memberships: &'text str) -> Vec<(&'text str, &'text str)> {
    table
        .lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let directory = left.split(' ').nth(4)?.strip_prefix(ROOT)?.strip_prefix('/')?;
            let mut right = right.split(' ');
            let path = match right.next()? {
                "cgroup2" => membership(memberships, |controllers| controllers.is_empty())?,
                "cgroup" => {
                    let options = right.nth(1)?;
                    membership(memberships, |controllers| {
                        !controllers.is_empty()
                            && controllers
                                .split(',')
                                .all(|name| options.split(',').any(|option| option == name))
                    })?
                }
                _ => return None,
            };
            (!directory.contains('/')).then_some((directory, path))
        })
        .collect()
}

/// Our path in the hierarchy whose controllers `is_it` knows: a line is `id:controllers:path` (cgroups(7)).
fn membership(memberships: &str, is_it: impl Fn(&str) -> bool) -> Option<&str> {
    memberships.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        is_it(controllers).then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_hierarchy_is_paired_with_our_path_in_it() {
        let table = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
            32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
            40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let memberships = "3:cpu,cpuacct:/pod/a\n2:name=systemd:/b\n0::/pod/c\n";
        assert_eq!(
            hierarchies(table, memberships),
            [("cpu,cpuacct", "/pod/a"), ("systemd", "/b"), ("unified", "/pod/c")]
        );
    }
}
