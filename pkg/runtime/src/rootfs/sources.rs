//! The mounts of a spec, each brought to where it needs nothing of the node any more.

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use husk_model::IdMapping;
use husk_sys::mount::{self, Propagation};
use oci_spec::runtime::{LinuxIdMapping, Mount};

use super::{
    cgroupfs, files, idmap,
    options::{CONTEXT, Options},
    planned::{Peers, Planned, Source, bind, destination},
    relabel,
};
use crate::{Failure, Step, UserNamespace, failure::At};

/// Whose mounts they are.
pub(crate) struct Owner<'plan> {
    /// The pod that the container belongs to; none for one that stands alone.
    pub(crate) pod: Option<Pod<'plan>>,
    /// Whether it has a cgroup namespace of its own.
    pub(crate) own_cgroup_namespace: bool,
    pub(crate) user: Option<&'plan UserNamespace>,
    /// Of the mounts that have ids of their own, by their number.
    pub(crate) maps: &'plan [Option<OwnedFd>],
    pub(crate) context: relabel::Context<'plan>,
    /// Of the node, as far as somebody has asked.
    pub(crate) peers: &'plan Peers,
}

/// What a pod gives its containers.
#[derive(Clone, Copy)]
pub(crate) struct Pod<'plan> {
    /// Files of the node of which it has copies.
    pub(crate) files: &'plan [PathBuf],
}

/// Opens the sources of all mounts, in the caller's mount namespace. Volumes are relabelled here, before they can be
/// read-only. Those that the pod has copies of are not.
pub(crate) fn open(mounts: &[Mount], owner: &Owner<'_>) -> Result<Vec<Planned>, Failure> {
    let mut planned = Vec::with_capacity(mounts.len() + 1);
    for (number, mount) in mounts.iter().enumerate() {
        let destination = destination(mount.destination())?;
        let map = owner.maps.get(number).and_then(Option::as_ref);
        let mut source =
            source(mount, &destination, owner, map).map_err(|failure| with_object(failure, &destination))?;
        if let Source::Tree { follows, .. } = &mut source {
            *follows = is_followed(mount).then_some(number);
        }
        planned.push(Planned { destination, source });
    }
    if owner.pod.is_some() {
        add_shared_memory(&mut planned);
    }
    Ok(planned)
}

/// The sources of those that take part in what is mounted on the node.
pub(crate) fn followed(mounts: &[Mount]) -> Vec<PathBuf> {
    mounts.iter().filter(|mount| is_followed(mount)).filter_map(|mount| mount.source().clone()).collect()
}

/// Makes the copy of one of those again. It has its label already.
pub(crate) fn again(mounts: &[Mount], number: usize, owner: &Owner<'_>) -> Result<OwnedFd, Failure> {
    let lost = || Failure::because(Step::Source, number, "is no mount of the spec");
    let mount = mounts.get(number).ok_or_else(lost)?;
    let destination = destination(mount.destination())?;
    let map = owner.maps.get(number).and_then(Option::as_ref);
    let unlabelled = Owner { context: relabel::Context { label: None, volumes: &[] }, ..*owner };
    match source(mount, &destination, &unlabelled, map)
        .map_err(|failure| with_object(failure, &destination))?
    {
        Source::Tree { tree, .. } => Ok(tree),
        _ => Err(lost()),
    }
}

fn is_followed(mount: &Mount) -> bool {
    // What cannot be parsed is refused where it is opened.
    let Ok(options) = Options::parse(mount.options().as_deref().unwrap_or_default()) else { return false };
    let takes_part = matches!(options.propagation, Some((Propagation::Shared | Propagation::Slave, _)));
    takes_part && is_bind(mount, &options)
}

fn is_bind(mount: &Mount, options: &Options) -> bool {
    options.bind.is_some()
        || matches!(mount.typ().as_deref().unwrap_or_default(), "bind" | "rbind" | "none" | "")
}

fn source(
    mount: &Mount,
    destination: &Path,
    owner: &Owner<'_>,
    map: Option<&OwnedFd>,
) -> Result<Source, Failure> {
    let Owner { pod, own_cgroup_namespace, user, context, peers, .. } = owner;
    let user = *user;
    let mut options = Options::parse(mount.options().as_deref().unwrap_or_default()).map_err(|option| {
        Failure::because(Step::Mount, destination.display(), format!("unsupported option {option:?}"))
    })?;
    if pod.is_none() && options.sub_path.is_some() {
        return Err(Failure::because(
            Step::Mount,
            destination.display(),
            "husk.subpath is for containers of pods",
        ));
    }
    if pod.is_some() && (options.idmap.is_some() || options.copy_up) {
        let detail = "idmap, ridmap and tmpcopyup are for containers that stand alone";
        return Err(Failure::because(Step::Mount, destination.display(), detail));
    }
    let kind = mount.typ().as_deref().unwrap_or_default();
    let name = mount.source().as_ref().map(|source| source.to_string_lossy().into_owned());
    if is_bind(mount, &options) {
        let recursive = options.bind.unwrap_or(kind == "rbind");
        let source = mount.source().as_deref().unwrap_or(Path::new(""));
        if let Some(name) = pod.as_ref().and_then(|pod| files::name(source, pod.files)) {
            return Ok(Source::PodFile { name, options });
        }
        let label = context.label.filter(|_| context.volumes.iter().any(|volume| volume == source));
        if pod.is_none() {
            options.exact(user.is_some());
        }
        let bound = bind(source, recursive, &options, label, pod.as_ref().map(|_| *peers))?;
        if let Source::Tree { tree, .. } = &bound {
            match pod {
                Some(_) => map_ids(mount, source, tree, recursive, user)?,
                None => idmap::apply(source, tree, map, options.idmap, user)?,
            }
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
            bind(Path::new("/sys"), false, &options, None, Some(peers))?
        }
        "tmpfs" if destination == Path::new("/dev/shm") && pod.is_some() => Source::SharedMemory,
        "image" => {
            let number = name.as_deref().and_then(|name| name.parse().ok());
            let none = || Failure::because(Step::Mount, destination.display(), "names no image volume");
            Source::Image { number: number.ok_or_else(none)?, options }
        }
        "cgroup" | "cgroup2" => cgroupfs::source(options, *own_cgroup_namespace)?,
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
    let same = |asked: &[LinuxIdMapping], pods: &[IdMapping]| idmap::ranges(asked) == pods;
    let is_pods =
        |user: &&UserNamespace| same(asked[0], &user.mappings.uids) && same(asked[1], &user.mappings.gids);
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
