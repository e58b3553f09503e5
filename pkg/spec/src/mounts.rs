//! What is mounted where: the kernel's filesystems, the pod's files, then the request's mounts.

use std::path::{Component, Path, PathBuf};

use husk_model::{IdMapping, IdMappings, Mount as Request, MountSource, Propagation};
use oci_spec::runtime::{LinuxIdMappingBuilder, Mount, MountBuilder};

use crate::{SpecError, SpecInput};

/// Type of a mount whose content is an image.
const IMAGE: &str = "image";
/// Option of a bind mount: only what is at this path below the source is mounted, and no link leads out of that.
const SUB_PATH: &str = "husk.subpath=";

fn mount(
    destination: impl AsRef<Path>,
    kind: &str,
    source: &Path,
    options: &[&str],
) -> Result<Mount, SpecError> {
    Ok(MountBuilder::default()
        .destination(destination.as_ref())
        .typ(kind)
        .source(source)
        .options(options.iter().map(ToString::to_string).collect::<Vec<_>>())
        .build()?)
}

/// Gives a bind mount the ids of a user namespace.
fn mapped(mut mount: Mount, mapping: Option<IdMappings>) -> Result<Mount, SpecError> {
    let Some(IdMappings { uids, gids }) = mapping else { return Ok(mount) };
    let lines = |map: IdMapping| {
        let line = LinuxIdMappingBuilder::default()
            .container_id(map.container_id)
            .host_id(map.host_id)
            .size(map.length)
            .build()?;
        Ok::<_, SpecError>(vec![line])
    };
    mount.set_uid_mappings(Some(lines(uids)?)).set_gid_mappings(Some(lines(gids)?));
    Ok(mount)
}

/// All mounts in the order in which they are made: outer ones first, whatever the request's order, because a later mount
/// hides what is below it; equal depths keep ours before the request's (the peers do the same).
pub(crate) fn mounts(input: &SpecInput<'_>) -> Result<Vec<Mount>, SpecError> {
    let user = input.pod.namespaces().user;
    let mut result = kernel_filesystems(input.container.security.privileged, input.cgroup_v2, user)?;
    let requested =
        |path: &Path| input.container.mounts.iter().any(|mount| destination(&mount.container_path) == path);
    let writable = if input.container.security.readonly_rootfs { "ro" } else { "rw" };
    for (destination, source) in [
        ("/etc/hostname", &input.files.hostname),
        ("/etc/hosts", &input.files.hosts),
        ("/etc/resolv.conf", &input.files.resolv_conf),
    ] {
        result.push(mount(destination, "bind", source, &["rbind", "rprivate", writable])?);
    }
    // A request's mount in the place of one of ours replaces it; a /dev of its own brings its own terminals and queues.
    // Only the pod's shared memory stays below, for the containers that still see it.
    let own_dev = requested(Path::new("/dev"));
    result.retain(|mount| {
        let destination = mount.destination();
        destination == Path::new("/dev/shm")
            || !(requested(destination) || own_dev && destination.starts_with("/dev"))
    });
    let mut images = 0;
    for request in &input.container.mounts {
        result.push(request_mount(request, &mut images)?);
    }
    result.sort_by_key(|mount| mount.destination().components().count());
    Ok(result)
}

/// Where a mount goes: below the root, `..` taken by its letters before any symlink is seen, as runc takes it. The status
/// answers what was asked for.
fn destination(path: &str) -> PathBuf {
    let mut destination = PathBuf::from("/");
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => destination.push(name),
            Component::ParentDir => {
                destination.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    destination
}

/// Group of terminals, `tty` of every distribution.
const TTY: u32 = 5;

fn kernel_filesystems(
    privileged: bool,
    cgroup_v2: bool,
    user: Option<IdMappings>,
) -> Result<Vec<Mount>, SpecError> {
    let tty = format!("gid={TTY}");
    let mut terminals = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    // A group that a small user namespace does not map cannot own anything in it.
    if user.is_none_or(|user| user.gids.maps(TTY)) {
        terminals.push(&tty);
    }
    let access = if privileged { "rw" } else { "ro" };
    let cgroup = if cgroup_v2 { "cgroup2" } else { "cgroup" };
    Ok(vec![
        mount("/proc", "proc", Path::new("proc"), &["nosuid", "noexec", "nodev"])?,
        mount("/dev", "tmpfs", Path::new("tmpfs"), &["nosuid", "strictatime", "mode=755", "size=65536k"])?,
        mount("/dev/pts", "devpts", Path::new("devpts"), &terminals)?,
        mount("/dev/mqueue", "mqueue", Path::new("mqueue"), &["nosuid", "noexec", "nodev"])?,
        mount("/sys", "sysfs", Path::new("sysfs"), &["nosuid", "noexec", "nodev", access])?,
        mount(
            "/sys/fs/cgroup",
            cgroup,
            Path::new("cgroup"),
            &["nosuid", "noexec", "nodev", "relatime", access],
        )?,
        // The runtime puts the pod's shared memory here.
        mount("/dev/shm", "tmpfs", Path::new("shm"), &["nosuid", "noexec", "nodev", "mode=1777"])?,
    ])
}

/// An image volume's source is its number among the request's image volumes, in order: the runtime gets their layers in a
/// list of its own. No path of the image store is in the spec, because the layers are put together in the container only.
fn request_mount(request: &Request, images: &mut usize) -> Result<Mount, SpecError> {
    let below;
    let (kind, source, mut options) = match &request.source {
        MountSource::HostPath(path) => ("bind", path.clone(), vec!["rbind"]),
        MountSource::Below { root, sub_path } => {
            below = format!("{SUB_PATH}{sub_path}");
            ("bind", root.clone(), vec!["rbind", below.as_str()])
        }
        MountSource::Image { .. } => {
            let number = *images;
            *images += 1;
            (IMAGE, number.to_string(), Vec::new())
        }
        MountSource::Tmpfs { options } => {
            ("tmpfs", "tmpfs".to_owned(), options.iter().map(String::as_str).collect())
        }
    };
    options.push(propagation(request.propagation));
    options.push(match (request.readonly, request.recursive_readonly) {
        (_, true) => "rro",
        (true, false) => "ro",
        (false, false) => "rw",
    });
    options.extend(request.options.iter().map(String::as_str));
    mapped(
        mount(destination(&request.container_path), kind, Path::new(&source), &options)?,
        request.id_mapping,
    )
}

fn propagation(propagation: Propagation) -> &'static str {
    match propagation {
        Propagation::Private => "rprivate",
        Propagation::HostToContainer => "rslave",
        Propagation::Bidirectional => "rshared",
    }
}

/// The root must be at least as shared as the most shared mount in it, or the kernel would not let that one through.
pub(crate) fn rootfs_propagation(requests: &[Request]) -> &'static str {
    let any = |wanted: Propagation| requests.iter().any(|request| request.propagation == wanted);
    if any(Propagation::Bidirectional) {
        "rshared"
    } else if any(Propagation::HostToContainer) {
        "rslave"
    } else {
        "rprivate"
    }
}
