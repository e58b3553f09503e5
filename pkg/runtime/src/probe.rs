//! Whether this node can give pods user namespaces: it is tried, once, because no version number tells.

use std::{convert::Infallible, path::Path};

use husk_model::{IdMapping, IdMappings, chain};
use husk_node::KernelVersion;
use husk_sys::{clone, mount, pidfd};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::Signal,
    thread::UnshareFlags,
};

use crate::{
    Account, CgroupTarget, Child, Failure, Report, Step,
    child::{self, Launch, Link, Succession},
    failure::At,
    rootfs::pod,
    sandbox::mount_visible,
    userns,
};

/// overlayfs takes mapped layers since Linux 5.19, and nothing but using it tells.
const OVERLAY_SINCE: KernelVersion = KernelVersion::new(5, 19);
/// How long the kernel may take for a few namespaces.
const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// Makes a user namespace with all the others in it, mounts in it what a pod needs, and maps a mount of `dir`, where
/// the images are. The caller has one thread.
///
/// # Errors
/// Why pods cannot have user namespaces here, for the operator.
pub fn probe_user_namespaces(dir: &Path) -> Result<(), String> {
    if KernelVersion::running() < OVERLAY_SINCE {
        let release = husk_node::kernel_release();
        return Err(format!("Linux {release} cannot map the layers of an overlay; {OVERLAY_SINCE} can"));
    }
    let cgroup = CgroupTarget::default();
    let launch = Launch {
        namespaces: UnshareFlags::NEWUSER
            | UnshareFlags::NEWNS
            | UnshareFlags::NEWPID
            | UnshareFlags::NEWNET
            | UnshareFlags::NEWIPC,
        pid_namespace_of: None,
        cgroup: &cgroup,
        elsewhere: &mut child::nowhere_else,
        keep: Vec::new(),
        tells_ready: true,
        listens: false,
        succession: Succession::No,
    };
    let mut child = child::launch(launch, inside).map_err(|error| chain(&error))?;
    let outcome = try_with(&mut child, dir);
    let _ = pidfd::signal(&child.pidfd, Signal::KILL);
    let _ = pidfd::reap(&child.pidfd);
    outcome
}

fn try_with(child: &mut Child, dir: &Path) -> Result<(), String> {
    // Ids that exist on every node; nothing is written with them.
    let map = IdMapping { container_id: 0, host_id: 65_536, length: 65_536 };
    let mappings = IdMappings { uids: map, gids: map };
    userns::furnish(child.pid, &mappings.into(), None).map_err(|error| chain(&error))?;
    let user = child.user_namespace().map_err(|error| chain(&error))?;
    let mapped = mount::clone_path(dir, false).and_then(|copy| mount::map_ids(&copy, false, &user));
    mapped.map_err(|error| format!("{} cannot be mapped to a user namespace: {error}", dir.display()))?;
    child.open_gate().map_err(|error| error.to_string())?;
    let ready = poll(&mut [PollFd::new(&child.report_fd(), PollFlags::IN)], Some(&PATIENCE));
    match ready.map(|_| child.read_report()) {
        Ok(Ok(Some(Report::Ready(_)))) => Ok(()),
        Ok(Ok(Some(Report::Failed(failure)))) => Err(failure.to_string()),
        other => Err(format!("no answer from inside a user namespace: {other:?}")),
    }
}

/// As pause does it.
fn inside(link: &mut Link) -> Result<Infallible, Failure> {
    link.wait_gate()?;
    userns::become_root()?;
    for (name, kind) in [(pod::PROC, "proc"), (pod::SYS, "sysfs")] {
        mount_visible(kind, mount::Attr::empty())
            .at(Step::Rootfs, name)
            .map_err(|failure| failure.explain("the node's own is covered in places"))?;
    }
    link.ready(&Account::default(), Vec::new(), None)?;
    clone::exit(0)
}
