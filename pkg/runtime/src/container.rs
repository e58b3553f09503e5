//! A container's init process.

use std::{
    convert::Infallible,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
};

use husk_sys::{
    mount,
    mount::{Attr, Change},
    namespace,
    root::{Node, Root},
};
use rustix::{
    fs::{self, Mode, OFlags},
    thread::{ThreadNameSpaceType, UnshareFlags},
};

use crate::{
    Child, ContainerPlan, Error, Failure, PidNs, Result, Stdio, Step,
    child::{self, Launch, Link},
    failure::At,
    process::Program,
    rootfs::{attach, cgroupfs, dev, mask, overlay, pivot, pod, sources, volumes},
    stdio, terminal, user,
};

/// Clones the init of a container. Its first report is [`crate::Report::Ready`], after which it waits for
/// [`Child::open_gate`], or [`crate::Report::Failed`].
///
/// # Errors
/// When the plan cannot be carried out whatever the node's state, or no child could be cloned.
pub fn spawn_container(plan: ContainerPlan) -> Result<Child> {
    let process = plan.spec.process().as_ref().ok_or_else(|| Error::InvalidPlan("no process".to_owned()))?;
    let program = Program::new(process, plan.seccomp.clone())?;
    if let Some(linux) = plan.spec.linux()
        && (linux.uid_mappings().as_ref().is_some_and(|mappings| !mappings.is_empty())
            || linux.gid_mappings().as_ref().is_some_and(|mappings| !mappings.is_empty()))
    {
        return Err(Error::InvalidPlan("user namespaces are not supported".to_owned()));
    }
    cgroupfs::prepare();
    let namespaces = &plan.namespaces;
    let mut keep = stdio::descriptors(&plan.stdio);
    keep.push(namespaces.sandbox.as_raw_fd());
    let launch = Launch {
        namespaces: match namespaces.pid {
            PidNs::Own => UnshareFlags::NEWPID,
            _ => UnshareFlags::empty(),
        },
        pid_namespace_of: match &namespaces.pid {
            PidNs::Pod => Some(namespaces.sandbox.as_fd()),
            PidNs::Target(init) => Some(init.as_fd()),
            PidNs::Own | PidNs::Host => None,
        },
        cgroup: &plan.cgroup,
        keep,
        tells_ready: true,
    };
    child::launch(launch, |link| run(&plan, program, link))
}

/// The child, from its birth to execve.
fn run(plan: &ContainerPlan, program: Program, link: &Link) -> Result<Infallible, Failure> {
    let linux = plan.spec.linux().as_ref();
    let oom_score = program.open_oom_score()?;
    program.labels.claim()?;
    let mounts = plan.spec.mounts().as_deref().unwrap_or_default();
    let mut mounts = sources::open(mounts, plan.namespaces.cgroup)?;
    let host_shm = match plan.namespaces.host_ipc {
        true => Some(mount::clone_path("/dev/shm", false).at(Step::Source, "/dev/shm")?),
        false => None,
    };
    // These leave the mount namespace of old kernels' monitors: whatever looks at the node's mounts comes before.
    let volumes = volumes::open(&plan.image_volumes)?;
    let overlay = overlay::mount(&plan.rootfs)?;

    join(plan)?;
    let shm = match host_shm {
        Some(shm) => shm,
        None => {
            mount::clone_path(Path::new("/").join(pod::SHM).as_path(), false).at(Step::Source, "/dev/shm")?
        }
    };
    volumes::place(&mut mounts, &plan.image_volumes, &volumes)?;
    drop(volumes);
    let root = attach_root(overlay)?;

    let own_dev = dev::is_own(&mounts);
    let readonly_later = attach::all(&root, mounts, shm)?;
    if own_dev {
        dev::furnish(&root, linux.and_then(|linux| linux.devices().as_deref()).unwrap_or_default())?;
    }
    let user = user::resolve(&root, &plan.user)?;
    let terminal = match &plan.stdio {
        Stdio::Terminal { rows, columns } => {
            let terminal = terminal::open(&root, *rows, *columns)?;
            if own_dev {
                dev::console(&root, terminal.slave.as_fd())?;
            }
            Some(terminal)
        }
        Stdio::Pipes { .. } => None,
    };
    root.ensure(&program.cwd, Node::Directory, Mode::from_raw_mode(0o755))
        .at(Step::WorkDir, program.cwd.display())?;
    attach::finish(readonly_later)?;
    if let Some(linux) = linux {
        mask::readonly(&root, linux.readonly_paths().as_deref().unwrap_or_default())?;
        mask::hide(&root, linux.masked_paths().as_deref().unwrap_or_default())?;
    }
    pivot::enter(&root)?;
    if plan.rootfs.readonly {
        mount::change(&root, false, Change::set(Attr::MOUNT_ATTR_RDONLY)).at(Step::Readonly, "/")?;
    }
    pivot::propagate(
        &root,
        linux.and_then(|linux| linux.rootfs_propagation().as_deref()).unwrap_or_default(),
    )?;

    match &terminal {
        Some(terminal) => terminal.install(user.uid)?,
        None => stdio::install(&plan.stdio, &root)?,
    }
    let warnings = program.restrict(oom_score)?;
    link.ready(&user, warnings, terminal.as_ref().map(|terminal| terminal.master.as_fd()))?;
    drop((terminal, root));
    link.wait_gate()?;
    program.execute(&user)
}

/// Enters the pod's namespaces and makes the container's own mount (and cgroup) namespace, a copy of pause's.
fn join(plan: &ContainerPlan) -> Result<(), Failure> {
    let namespaces = &plan.namespaces;
    let mut kinds = ThreadNameSpaceType::MOUNT | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME;
    if !namespaces.host_net {
        kinds |= ThreadNameSpaceType::NETWORK;
    }
    if !namespaces.host_ipc {
        kinds |= ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION;
    }
    namespace::join(&namespaces.sandbox, kinds).at(Step::Namespaces, "of the pod")?;
    let mut own = UnshareFlags::NEWNS;
    if namespaces.cgroup {
        own |= UnshareFlags::NEWCGROUP;
    }
    namespace::unshare(own).at(Step::Namespaces, "of the container")
}

/// Attaches the overlay at its place in the copy of pause's root.
fn attach_root(overlay: OwnedFd) -> Result<Root, Failure> {
    let step = Step::Rootfs;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = fs::open(Path::new("/").join(pod::ROOT), flags, Mode::empty()).at(step, "mount point")?;
    mount::attach(&overlay, &place).at(step, "mount point")?;
    Ok(Root::new(overlay))
}
