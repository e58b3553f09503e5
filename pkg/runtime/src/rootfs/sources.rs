//! The mounts of a spec, each brought to where it needs nothing of the node any more.

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use husk_model::IdMapping;
use husk_sys::mount;
use oci_spec::runtime::{LinuxIdMapping, Mount};

use super::{
    cgroupfs, files,
    options::{CONTEXT, Options},
    planned::{Planned, Source, bind, destination},
    relabel,
};
use crate::{Failure, Step, UserNamespace, failure::At};

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
