//! The pod's pause process: it holds the namespaces that the pod's containers join.
//!
//! Its mount namespace holds a sealed tmpfs of four entries (`crate::rootfs::pod`) and the pod's /dev/shm, nothing of
//! the node. That is what every container's mount namespace is copied from.

use std::{
    convert::Infallible,
    ffi::CString,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use husk_sys::{
    exec::StringArray,
    mount,
    mount::{Attr, Change, Filesystem, Propagation},
    namespace,
    procfs::Procfs,
};
use rustix::{
    fs::{self, FileType, Mode, OFlags},
    mount::{UnmountFlags, unmount},
    process::{chdir, fchdir, pivot_root},
    system::sethostname,
    thread::{self, CapabilitySet, CapabilitySets, LinkNameSpaceType, UnshareFlags},
};

use crate::{
    Child, Error, Failure, NetNs, ResolvedUser, Result, SandboxPlan, Step, capabilities,
    child::{self, Launch, Link},
    failure::At,
    rootfs::pod,
    sysctl,
};

/// Longest host name (__NEW_UTS_LEN).
const MAX_HOSTNAME: usize = 64;
/// Size of a pod's /dev/shm unless told otherwise, as everywhere.
const SHM_SIZE: u64 = 64 << 20;
/// Who pause runs as: nobody that a container is likely to be, as in upstream's pause image.
const USER: u32 = 65535;

/// Clones a pod's pause process. It has no gate: the first report is [`crate::Report::Executed`] or
/// [`crate::Report::Failed`].
///
/// # Errors
/// When the plan cannot be carried out whatever the node's state, or no child could be cloned.
pub fn spawn_sandbox(plan: SandboxPlan) -> Result<Child> {
    let own = &plan.namespaces;
    if own.user.is_some() {
        return Err(Error::InvalidPlan("user namespaces are not supported".to_owned()));
    }
    if plan.hostname.len() > MAX_HOSTNAME {
        return Err(Error::InvalidPlan(format!(
            "host name {:?} is longer than {MAX_HOSTNAME}",
            plan.hostname
        )));
    }
    sysctl::check(&plan.sysctls, own)?;
    let mut namespaces = UnshareFlags::NEWNS;
    for (own, namespace) in
        [(own.pid, UnshareFlags::NEWPID), (own.ipc, UnshareFlags::NEWIPC), (own.uts, UnshareFlags::NEWUTS)]
    {
        namespaces.set(namespace, own);
    }
    let launch = Launch {
        namespaces,
        pid_namespace_of: None,
        cgroup: &plan.cgroup,
        keep: vec![plan.pause.as_raw_fd()],
        tells_ready: false,
    };
    child::launch(launch, |link| run(&plan, link))
}

fn run(plan: &SandboxPlan, link: &Link) -> Result<Infallible, Failure> {
    let namespaces = &plan.namespaces;
    set_oom_score(plan)?;
    if let NetNs::Path(path) = &namespaces.net {
        let net = fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .at(Step::Namespaces, path.display())?;
        namespace::join_one(net, LinkNameSpaceType::Network).at(Step::Namespaces, path.display())?;
    }
    if namespaces.uts && !plan.hostname.is_empty() {
        sethostname(plan.hostname.as_bytes()).at(Step::Hostname, &plan.hostname)?;
    }
    sysctl::apply(&plan.sysctls)?;
    enter_own_root(plan)?;
    link.ready(&ResolvedUser::default(), Vec::new(), None)?;

    capabilities::limit_bounding(CapabilitySet::empty())?;
    let user = ResolvedUser { uid: USER, gid: USER, groups: Vec::new(), home: String::new() };
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

/// Leaves the node's mounts for the pod's own tiny tree.
fn enter_own_root(plan: &SandboxPlan) -> Result<(), Failure> {
    let step = Step::Rootfs;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let node_root = fs::open("/", flags, Mode::empty()).at(step, "/")?;
    // Before anything is attached: what is attached to a shared mount appears on the node.
    mount::change(&node_root, true, Change::propagation(Propagation::Private)).at(step, "/")?;
    let root = make_root().at(step, "pod root")?;
    mount::attach(&root, &node_root).at(step, "pod root")?;
    if plan.namespaces.ipc {
        let shm = make_shm(plan.shm_size).at(step, "/dev/shm")?;
        let place = fs::openat(&root, pod::SHM, flags, Mode::empty()).at(step, "/dev/shm")?;
        mount::attach(&shm, &place).at(step, "/dev/shm")?;
    }
    fchdir(&root).at(Step::Pivot, "pod root")?;
    pivot_root(".", ".").at(Step::Pivot, "pivot_root")?;
    unmount(".", UnmountFlags::DETACH).at(Step::Pivot, "umount of the node's root")?;
    chdir("/").at(Step::Pivot, "/")
}

fn make_root() -> husk_sys::Result<OwnedFd> {
    let tmpfs = Filesystem::new("tmpfs")?;
    tmpfs.string("source", "husk")?.string("mode", "755")?.string("size", "64k")?;
    let root = tmpfs.mount(Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NOEXEC)?;
    let named = |call: &'static str, name: &str, result: rustix::io::Result<()>| {
        result.map_err(|errno| husk_sys::Error::new(call, format!("root, {name:?}"), errno))
    };
    for name in [pod::SHM, pod::ROOT, pod::EMPTY] {
        named("mkdirat", name, fs::mkdirat(root.as_fd(), name, Mode::from_raw_mode(0o755)))?;
    }
    let (mode, null) = (Mode::from_raw_mode(0o666), fs::makedev(1, 3));
    let made = fs::mknodat(root.as_fd(), pod::NULL, FileType::CharacterDevice, mode, null);
    named("mknodat", pod::NULL, made)?;
    // Read-only as a filesystem, not just as this mount: no copy of it in any container can be written to.
    mount::seal(&root)?;
    Ok(root)
}

fn make_shm(size: u64) -> husk_sys::Result<OwnedFd> {
    let tmpfs = Filesystem::new("tmpfs")?;
    let size = if size == 0 { SHM_SIZE } else { size };
    tmpfs.string("source", "shm")?.string("mode", "1777")?.string("size", size.to_string().as_str())?;
    tmpfs.mount(Attr::MOUNT_ATTR_NOSUID | Attr::MOUNT_ATTR_NODEV | Attr::MOUNT_ATTR_NOEXEC)
}
