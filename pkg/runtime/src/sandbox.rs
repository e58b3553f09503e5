//! The pod's pause process: it holds the namespaces that the pod's containers join.
//!
//! Its mount namespace holds a sealed tmpfs of a few entries (`crate::rootfs::pod`), the pod's /dev/shm and its own files
//! (`crate::rootfs::files`) and, where the pod has a PID namespace, its procfs: nothing of the node. That is what every
//! container's mount namespace is copied from.
//!
//! In a user namespace it holds a procfs and a sysfs besides: the kernel lets nobody mount one there who does not see one
//! already, whole (`mount_too_revealing`), and the containers see their copy of these.

use std::{
    convert::Infallible,
    ffi::CString,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use husk_model::{ResolvedUser, SeLinuxContexts};
use husk_sys::{
    exec::StringArray,
    mount,
    mount::{Attr, Change, Filesystem, Propagation},
    namespace, pidfd,
    procfs::Procfs,
};
use rustix::{
    fs::{self, FileType, Mode, OFlags},
    io::Errno,
    mount::{UnmountFlags, unmount},
    process::{Signal, chdir, fchdir, pivot_root},
    system::sethostname,
    thread::{self, CapabilitySet, CapabilitySets, LinkNameSpaceType, UnshareFlags},
};

use crate::{
    Account, Child, Error, Failure, NetNs, Result, SandboxPlan, Step, capabilities,
    child::{self, Launch, Link, Succession},
    failure::At,
    lsm::Labels,
    rootfs::{files, options::CONTEXT, pod, relabel},
    sysctl, userns,
};

/// Longest host name (__NEW_UTS_LEN).
const MAX_HOSTNAME: usize = 64;
/// Size of a pod's /dev/shm unless told otherwise, as everywhere.
const SHM_SIZE: u64 = 64 << 20;
/// Who pause runs as: nobody that a container is likely to be, as in upstream's pause image.
const USER: u32 = 65535;

/// Clones a pod's pause process. The first report is [`crate::Report::Executed`] or [`crate::Report::Failed`]. One that is
/// held, or in a user namespace, waits for [`Child::open_gate`].
///
/// # Errors
/// When the plan cannot be carried out whatever the node's state, or no child could be cloned.
pub fn spawn_sandbox(plan: SandboxPlan) -> Result<Child> {
    let own = &plan.namespaces;
    if let Some(mappings) = &own.user {
        userns::check(&(*mappings).into())?;
        if !own.pid || !own.ipc {
            let text = "a pod in a user namespace needs PID and IPC namespaces of its own";
            return Err(Error::InvalidPlan(text.to_owned()));
        }
    }
    if plan.hostname.len() > MAX_HOSTNAME {
        return Err(Error::InvalidPlan(format!(
            "host name {:?} is longer than {MAX_HOSTNAME}",
            plan.hostname
        )));
    }
    sysctl::check(&plan.sysctls, own)?;
    let mut namespaces = UnshareFlags::NEWNS;
    for (own, namespace) in [
        (own.pid, UnshareFlags::NEWPID),
        (own.ipc, UnshareFlags::NEWIPC),
        (own.uts, UnshareFlags::NEWUTS),
        (own.net == NetNs::New, UnshareFlags::NEWNET),
        (own.user.is_some(), UnshareFlags::NEWUSER),
    ] {
        namespaces.set(namespace, own);
    }
    let launch = Launch {
        namespaces,
        pid_namespace_of: None,
        cgroup: &plan.cgroup,
        elsewhere: &mut child::nowhere_else,
        keep: vec![plan.pause.as_raw_fd()],
        tells_ready: false,
        listens: false,
        succession: Succession::No,
    };
    label_pause(&plan);
    let child = child::launch(launch, |link| run(&plan, link))?;
    if let Some(mappings) = &own.user
        && let Err(error) = userns::furnish(child.pid, &(*mappings).into(), plan.oom_score_adj)
    {
        // It waits at its gate and is nobody's yet.
        let _ = pidfd::signal(&child.pidfd, Signal::KILL);
        let _ = pidfd::reap(&child.pidfd);
        return Err(error);
    }
    Ok(child)
}

fn run(plan: &SandboxPlan, link: &Link) -> Result<Infallible, Failure> {
    let namespaces = &plan.namespaces;
    Labels::context(plan.selinux.as_ref().map(|contexts| contexts.process.as_str())).claim()?;
    let sources = files::find(&plan.files)?;
    let mut contents = None;
    if namespaces.user.is_some() {
        // For the mappings, without which nothing can be done here. Root of the user namespace could not read the files.
        link.wait_gate()?;
        contents = Some(files::read(&sources)?);
        userns::become_root()?;
    } else {
        set_oom_score(plan)?;
    }
    if let NetNs::Path(path) = &namespaces.net {
        let net = fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .at(Step::Namespaces, path.display())?;
        namespace::join_one(net, LinkNameSpaceType::Network).at(Step::Namespaces, path.display())?;
    }
    if namespaces.uts && !plan.hostname.is_empty() {
        sethostname(plan.hostname.as_bytes()).at(Step::Hostname, &plan.hostname)?;
    }
    // The one that the pod will have is as good: making another, and letting go of it, takes a grace period of RCU.
    let shown = visible(plan).map(show).collect::<Result<Vec<_>, _>>()?;
    let root = enter_own_root(plan, &shown)?;
    let contents = match contents {
        Some(contents) => contents,
        None => {
            if plan.held {
                link.wait_gate()?;
            }
            files::read(&sources)?
        }
    };
    drop(sources);
    let procfs = shown.iter().find(|(name, _)| *name == pod::PROC).map(|(_, procfs)| procfs);
    sysctl::apply(&plan.sysctls, procfs)?;
    furnish(plan, &root, &contents)?;
    link.ready(&Account::default(), Vec::new(), None)?;

    capabilities::limit_bounding(CapabilitySet::empty())?;
    let id = namespaces.user.as_ref().map_or(USER, |mappings| mappings.at_most(USER));
    let user = ResolvedUser { uid: id, gid: id, groups: Vec::new() };
    capabilities::change_user(&user)?;
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    thread::set_capabilities(None, none).at(Step::Capabilities, "")?;
    thread::set_no_new_privs(true).at(Step::NoNewPrivs, "")?;
    if let Some(filter) = &plan.seccomp {
        husk_sys::seccomp::load(&filter.program, filter.flags).at(Step::Seccomp, "")?;
    }
    husk_sys::fds::cloexec_from(3).at(Step::Prepare, "close-on-exec")?;
    let name = CString::new("husk-pause").map_err(|_| Failure::because(Step::Execute, "", ""))?;
    let (arguments, environment) = (StringArray::new(vec![name]), StringArray::new(Vec::new()));
    let errno = husk_sys::exec::fexecve(&plan.pause, &arguments, &environment);
    Err(errno).at(Step::Execute, "husk-pause")
}

fn set_oom_score(plan: &SandboxPlan) -> Result<(), Failure> {
    let Some(score) = plan.oom_score_adj else { return Ok(()) };
    let file = Procfs::host()
        .and_then(|proc| proc.open_self("oom_score_adj", OFlags::WRONLY))
        .at(Step::OomScore, "/proc/self/oom_score_adj")?;
    match rustix::io::write(&file, score.to_string().as_bytes()) {
        // Lowering needs CAP_SYS_RESOURCE; the monitor's own score, which is inherited, is the best there is.
        Ok(_) | Err(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => Ok(()),
        Err(errno) => Err(errno).at(Step::OomScore, score),
    }
}

/// The policy lets a confined process begin in a file of its pod. If this kernel takes no label, execve says so.
fn label_pause(plan: &SandboxPlan) {
    if let Some(SeLinuxContexts { mount: label, .. }) = &plan.selinux {
        let flags = fs::XattrFlags::empty();
        let _ = fs::fsetxattr(&plan.pause, relabel::ATTRIBUTE, label.as_bytes(), flags);
    }
}

/// Leaves the node's mounts for the pod's own tiny tree, and returns its root.
fn enter_own_root(plan: &SandboxPlan, shown: &[(&str, OwnedFd)]) -> Result<OwnedFd, Failure> {
    let step = Step::Rootfs;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let node_root = fs::open("/", flags, Mode::empty()).at(step, "/")?;
    // Before anything is attached: what is attached to a shared mount appears on the node.
    mount::change(&node_root, true, Change::propagation(Propagation::Private)).at(step, "/")?;
    let nodes = plan.namespaces.user.is_some().then(|| mount::clone_path("/dev/null", false));
    let root = make_root(plan).at(step, "pod root")?;
    mount::attach(&root, &node_root).at(step, "pod root")?;
    if let Some(null) = nodes {
        lend(&root, pod::NULL, &null.at(step, "/dev/null")?)?;
    }
    for (name, filesystem) in shown {
        lend(&root, name, filesystem)?;
    }
    if plan.namespaces.ipc {
        lend(&root, pod::SHM, &make_shm(plan).at(step, "/dev/shm")?)?;
    }
    fchdir(&root).at(Step::Pivot, "pod root")?;
    pivot_root(".", ".").at(Step::Pivot, "pivot_root")?;
    unmount(".", UnmountFlags::DETACH).at(Step::Pivot, "umount of the node's root")?;
    chdir("/").at(Step::Pivot, "/")?;
    Ok(root)
}

/// Puts the pod's files where its containers find them, and closes its root for good.
fn furnish(plan: &SandboxPlan, root: &OwnedFd, contents: &[files::Content]) -> Result<(), Failure> {
    let step = Step::Rootfs;
    if !contents.is_empty() {
        lend(root, pod::FILES, &files::make(&tmpfs(plan).at(step, "pod files")?, contents)?)?;
    }
    // Read-only as a filesystem, not just as this mount: no copy of it in any container can be written to.
    mount::seal(root).at(step, "pod root")
}

/// What is mounted in pause's root besides: names and kinds. The procfs of a PID namespace of the pod's, which its containers
/// take before they are in there; and in a user namespace what a pod has to see, so that its containers can mount their own.
fn visible(plan: &SandboxPlan) -> impl Iterator<Item = (&'static str, &'static str)> {
    let namespaces = &plan.namespaces;
    let procfs = (namespaces.pid || namespaces.user.is_some()).then_some((pod::PROC, "proc"));
    let sysfs = (namespaces.user.is_some() && namespaces.net == NetNs::New).then_some((pod::SYS, "sysfs"));
    procfs.into_iter().chain(sysfs)
}

/// Makes one of them.
fn show((name, kind): (&'static str, &'static str)) -> Result<(&'static str, OwnedFd), Failure> {
    let attributes = Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NODEV | Attr::MOUNT_ATTR_NOEXEC;
    Ok((name, mount_visible(kind, attributes).at(Step::Rootfs, kind)?))
}

/// Mounts a procfs or sysfs in a user namespace. Where the node's own sysfs is read-only, as it is on a node in a container, the
/// kernel allows none that is not: then it is read-only too.
pub(crate) fn mount_visible(kind: &str, attributes: Attr) -> husk_sys::Result<OwnedFd> {
    let mount = |attributes| Filesystem::new(kind).and_then(|new| new.mount(attributes));
    match mount(attributes) {
        Err(error) if kind == "sysfs" && error.errno() == Errno::PERM => {
            mount(attributes | Attr::MOUNT_ATTR_RDONLY)
        }
        other => other,
    }
}

/// Attaches something at its place in pause's root.
fn lend(root: &OwnedFd, name: &str, mount: &OwnedFd) -> Result<(), Failure> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = fs::openat(root, name, flags, Mode::empty()).at(Step::Rootfs, name)?;
    mount::attach(mount, &place).at(Step::Rootfs, name)
}

fn make_root(plan: &SandboxPlan) -> husk_sys::Result<OwnedFd> {
    let tmpfs = tmpfs(plan)?;
    tmpfs.string("source", "husk")?.string("mode", "755")?.string("size", "64k")?;
    let root = tmpfs.mount(Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NOEXEC)?;
    let named = |call: &'static str, name: &str, result: rustix::io::Result<()>| {
        result.map_err(|errno| husk_sys::Error::new(call, format!("root, {name:?}"), errno))
    };
    let in_user_namespace = plan.namespaces.user.is_some();
    let visible = visible(plan).map(|(name, _)| name);
    for name in [pod::SHM, pod::ROOT, pod::EMPTY, pod::FILES].into_iter().chain(visible) {
        named("mkdirat", name, fs::mkdirat(root.as_fd(), name, Mode::from_raw_mode(0o755)))?;
    }
    // Devices cannot be made in a user namespace: there the node's own will be attached to an empty file.
    let kind = if in_user_namespace { FileType::RegularFile } else { FileType::CharacterDevice };
    let (mode, null) = (Mode::from_raw_mode(0o666), fs::makedev(1, 3));
    named("mknodat", pod::NULL, fs::mknodat(root.as_fd(), pod::NULL, kind, mode, null))?;
    Ok(root)
}

fn tmpfs(plan: &SandboxPlan) -> husk_sys::Result<Filesystem> {
    let tmpfs = Filesystem::new("tmpfs")?;
    if let Some(SeLinuxContexts { mount: label, .. }) = &plan.selinux {
        tmpfs.string(CONTEXT, label.as_str())?;
    }
    Ok(tmpfs)
}

fn make_shm(plan: &SandboxPlan) -> husk_sys::Result<OwnedFd> {
    let (tmpfs, size) = (tmpfs(plan)?, plan.shm_size);
    let size = if size == 0 { SHM_SIZE } else { size };
    tmpfs.string("source", "shm")?.string("mode", "1777")?.string("size", size.to_string().as_str())?;
    tmpfs.mount(Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NODEV | Attr::MOUNT_ATTR_NOEXEC)
}
