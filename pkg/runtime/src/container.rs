//! A container's init process.

use std::{
    convert::Infallible,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
};

use husk_sys::{mount, namespace, root::Root};
use oci_spec::runtime::{LinuxDevice, Mount};
use rustix::{
    fs::{self, Mode, OFlags},
    thread::{ThreadNameSpaceType, UnshareFlags},
};

use crate::{
    Child, ContainerNamespaces, ContainerPlan, Error, Failure, PidNs, Result, Step,
    child::{self, Launch, Link, Succession},
    failure::At,
    interior::{Interior, Materials, Who},
    process::Program,
    rootfs::{
        cgroupfs, dev, files,
        follow::Follower,
        locked,
        mask::Covers,
        overlay,
        planned::Peers,
        pod, procfs, relabel, sources,
        supplies::{Followed, Supplies},
        volumes,
    },
    stdio, userns,
};

/// Clones the init of a container. Its first report is [`crate::Report::Ready`], after which it waits for
/// [`Child::open_gate`], or [`crate::Report::Failed`].
///
/// # Errors
/// When the plan cannot be carried out whatever the node's state, or no child could be cloned.
pub fn spawn_container(plan: ContainerPlan) -> Result<Child> {
    let process = plan.spec.process().as_ref().ok_or_else(|| Error::InvalidPlan("no process".to_owned()))?;
    let program = Program::new(process, &plan.raw_env, plan.seccomp.clone())?;
    let namespaces = &plan.namespaces;
    check_user_namespace(namespaces)?;
    cgroupfs::prepare();
    let mut keep = stdio::descriptors(&plan.stdio);
    keep.push(namespaces.sandbox.as_raw_fd());
    keep.extend(namespaces.user.as_ref().map(|user| user.fd.as_raw_fd()));
    if let PidNs::Target(init) = &namespaces.pid {
        keep.push(init.as_raw_fd());
    }
    keep.extend(namespaces.ipc_of.as_ref().map(AsRawFd::as_raw_fd));
    let launch = Launch {
        namespaces: match (&namespaces.pid, &namespaces.user) {
            (PidNs::Own, None) => UnshareFlags::NEWPID,
            _ => UnshareFlags::empty(),
        },
        pid_namespace_of: match (&namespaces.pid, &namespaces.user) {
            // A tracer in a user namespace reaches no process of the node's: its memory is not of that namespace.
            (PidNs::Pod, Some(_)) => Some(namespaces.sandbox.as_fd()),
            (PidNs::Target(init), Some(_)) => Some(init.as_fd()),
            _ => None,
        },
        cgroup: &plan.cgroup,
        elsewhere: &mut child::nowhere_else,
        keep,
        tells_ready: true,
        listens: program.listens(),
        succession: match (&namespaces.pid, &namespaces.user) {
            (PidNs::Own, Some(_)) | (PidNs::Pod | PidNs::Target(_), None) => Succession::Once,
            _ => Succession::No,
        },
    };
    child::launch(launch, |link| run(&plan, program, link))
}

fn check_user_namespace(namespaces: &ContainerNamespaces) -> Result<()> {
    let Some(user) = &namespaces.user else { return Ok(()) };
    userns::check(&user.mappings)?;
    if namespaces.host_ipc || namespaces.ipc_of.is_some() || matches!(namespaces.pid, PidNs::Host) {
        let text =
            "a container in a user namespace cannot have another pod's or the node's IPC or PID namespace";
        return Err(Error::InvalidPlan(text.to_owned()));
    }
    Ok(())
}

/// The child, from its birth to execve.
fn run(plan: &ContainerPlan, program: Program, link: &mut Link) -> Result<Infallible, Failure> {
    let (mut supplies, follower) = gather(plan, &program)?;
    let again = |followed| match followed {
        Followed::Mount(number) => sources::again(mounts(plan), number, &owner(plan, &Peers::default())),
        Followed::Root => Err(Failure::because(Step::Rootfs, "overlay", "follows nothing")),
    };
    if plan.namespaces.user.is_none() {
        let procfs = join(plan, &mut supplies)?;
        volumes::place(&mut supplies.mounts, &plan.image_volumes, &supplies.volumes)?;
        follow_node(&mut supplies, follower, &again)?;
        return inside(plan, program, link, supplies, procfs);
    }
    locked::enter(plan, &mut supplies, follower, &again)?;
    match userns::late_namespaces(plan) {
        late if late.is_empty() => inside(plan, program, link, supplies, None),
        late => link.succeed(late, |link| inside(plan, program, link, supplies, None)),
    }
}

/// All that needs the privileges or the mounts of the node; and who sees what those copies miss that follow it, if there are some.
fn gather(plan: &ContainerPlan, program: &Program) -> Result<(Supplies, Option<Follower>), Failure> {
    program.labels.claim()?;
    let warnings = program.claim()?.into_iter().collect();
    let peers = Peers::default();
    let owner = owner(plan, &peers);
    let (user, label) = (owner.user, owner.context.label);
    let follower = Follower::of(sources::followed(mounts(plan)))?;
    let mut mounts = sources::open(mounts(plan), &owner)?;
    if let Some(user) = user {
        stdio::give(&plan.stdio, user.root())?;
        dev::make_on_node(&mut mounts, devices(plan), user)?;
    }
    let shm = match plan.namespaces.host_ipc {
        true => Some(mount::clone_path("/dev/shm", false).at(Step::Source, "/dev/shm")?),
        false => None,
    };
    // These leave the mount namespace of old kernels' monitors: whatever looks at the node's mounts comes before.
    let volumes = volumes::open(&plan.image_volumes, &plan.rootfs, user, label)?;
    let root = overlay::mount(&plan.rootfs, user, label)?;
    Ok((Supplies { mounts, volumes, shm, root, root_follows: false, warnings }, follower))
}

fn mounts(plan: &ContainerPlan) -> &[Mount] {
    plan.spec.mounts().as_deref().unwrap_or_default()
}

fn owner<'plan>(plan: &'plan ContainerPlan, peers: &'plan Peers) -> sources::Owner<'plan> {
    let label = plan.spec.linux().as_ref().and_then(|linux| linux.mount_label().as_deref());
    let label = label.filter(|label| !label.is_empty());
    sources::Owner {
        pod: Some(sources::Pod { files: &plan.pod_files }),
        own_cgroup_namespace: plan.namespaces.cgroup,
        user: plan.namespaces.user.as_ref(),
        maps: &[],
        context: relabel::Context { label, volumes: &plan.relabel },
        peers,
    }
}

/// In the container's own mount namespace: attaches the copies that follow the node, where the root will be.
fn follow_node(
    supplies: &mut Supplies,
    follower: Option<Follower>,
    again: &dyn Fn(Followed) -> Result<OwnedFd, Failure>,
) -> Result<(), Failure> {
    let Some(mut follower) = follower else { return Ok(()) };
    let stage = locked::stage(&Path::new("/").join(pod::ROOT))?;
    follower.settle(&stage, supplies, again)
}

fn devices(plan: &ContainerPlan) -> &[LinuxDevice] {
    plan.spec.linux().as_ref().and_then(|linux| linux.devices().as_deref()).unwrap_or_default()
}

/// In the namespaces of the pod.
fn inside(
    plan: &ContainerPlan,
    program: Program,
    link: &mut Link,
    supplies: Supplies,
    procfs: Option<OwnedFd>,
) -> Result<Infallible, Failure> {
    let Supplies { mut mounts, volumes, shm, root, warnings, .. } = supplies;
    drop(volumes);
    let shm = match shm {
        Some(shm) => shm,
        None => {
            mount::clone_path(Path::new("/").join(pod::SHM).as_path(), false).at(Step::Source, "/dev/shm")?
        }
    };
    files::place(&mut mounts)?;
    let covers = attach_root(&root)?;
    let interior = Interior {
        spec: &plan.spec,
        who: Who::Request(&plan.user),
        mappings: plan.namespaces.user.as_ref().map(|user| &user.mappings),
        stdio: &plan.stdio,
        readonly: plan.rootfs.readonly,
        joins: matches!((&plan.namespaces.pid, &plan.namespaces.user), (PidNs::Pod | PidNs::Target(_), None)),
        alone: None,
    };
    interior.build(
        program,
        link,
        Materials { root: Root::new(root), mounts, shm: Some(shm), procfs, covers, warnings },
    )
}

/// Enters the pod's namespaces and makes the container's own mount (and cgroup) namespace, a copy of pause's. Returns the
/// procfs of a PID namespace that only our successor will be in: others in there are not to see us before we are done.
fn join(plan: &ContainerPlan, supplies: &mut Supplies) -> Result<Option<OwnedFd>, Failure> {
    let namespaces = &plan.namespaces;
    let mut kinds = ThreadNameSpaceType::MOUNT | namespaces.shared();
    kinds.set(ThreadNameSpaceType::PROCESS_ID, matches!(namespaces.pid, PidNs::Pod));
    let of_target = match &namespaces.pid {
        PidNs::Target(init) => Some(procfs::of_target(init)?),
        _ => None,
    };
    if let Some(pause) = &namespaces.ipc_of {
        supplies.shm = Some(join_ipc(pause)?);
    }
    namespace::join(&namespaces.sandbox, kinds).at(Step::Namespaces, "of the pod")?;
    let mut own = UnshareFlags::NEWNS;
    if namespaces.cgroup {
        own |= UnshareFlags::NEWCGROUP;
    }
    namespace::unshare(own).at(Step::Namespaces, "of the container")?;
    match &namespaces.pid {
        PidNs::Pod => procfs::of_pod(),
        _ => Ok(of_target),
    }
}

/// Enters the IPC namespace of another pod, and takes its shared memory from its pause's mounts, which are ours whatever its
/// containers did to their own.
fn join_ipc(pause: &OwnedFd) -> Result<OwnedFd, Failure> {
    let kinds = ThreadNameSpaceType::MOUNT | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION;
    namespace::join(pause, kinds).at(Step::Namespaces, "of the pod whose IPC is shared")?;
    mount::clone_path(Path::new("/").join(pod::SHM).as_path(), false)
        .at(Step::Source, "/dev/shm of the pod whose IPC is shared")
}

/// Attaches the root at its place in the copy of pause's root, and opens what masked paths will show. Nothing else stays open.
fn attach_root(root: &OwnedFd) -> Result<Covers, Failure> {
    let step = Step::Rootfs;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let of_pod = fs::open("/", flags, Mode::empty()).at(step, "pod root")?;
    let place = fs::openat(&of_pod, pod::ROOT, flags, Mode::empty()).at(step, "mount point")?;
    mount::attach(root, &place).at(step, "mount point")?;
    Covers::of(&of_pod)
}
