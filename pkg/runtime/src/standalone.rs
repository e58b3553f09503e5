//! A container that stands alone: no pod, no pause process, a directory of the node for its root (`husk-oci`).
//!
//! ```text
//! caller                             child, with all privileges of the node
//!   clone3 ─────────────────────────▶ sources, devices, the root as a copy of its directory
//!                                     joins the namespaces that have a path, makes the others
//!                                     (in a user namespace: all mounts go through a locked copy, `rootfs::locked`)
//!   read_report ◀─ Moved ───────────┤ with a PID namespace that it cannot be born in: clones its successor into it
//!                                     mounts, devices
//!   read_report ◀─ Prepared ────────┤ if the plan asks for it: time for hooks of the node
//!   open_gate ──────────────────────▶ createContainer hooks, masks, pivot_root, user, capabilities, seccomp
//!   read_report ◀─ Ready | Failed ──┤
//!   open_gate ──────────────────────▶ it is on record: from here on it needs no parent
//!                                     waits at the plan's `start`, which whoever starts it writes to
//!   read_report ◀─ EOF | Failed ────┘ startContainer hooks, execve
//! ```

use std::{
    convert::Infallible,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
};

use husk_sys::{
    mount,
    mount::{Attr, Change, Propagation},
    root::Root,
};
use oci_spec::runtime::LinuxDevice;
use rustix::{
    fs::{self, Mode, OFlags},
    process::fchdir,
};

use crate::{
    Child, Error, Failure, Result, StandalonePlan, Step, UserNamespace,
    alone::Alone,
    child::{self, Launch, Link, Succession},
    failure::At,
    interior::{Interior, Materials, Who},
    process::{self, Program},
    rootfs::{cgroupfs, dev, idmap, locked, mask::Covers, relabel, shelf, sources, supplies::Supplies},
    scheduling::Scheduling,
    stdio,
};

/// Clones the init of a container that stands alone. Its reports come as above; each `Prepared` and `Ready` is answered with
/// [`Child::open_gate`]. Once that has answered `Ready`, it outlives the caller.
///
/// # Errors
/// When the plan cannot be carried out whatever the node's state, or no child could be cloned.
pub fn spawn_standalone(plan: StandalonePlan) -> Result<Child> {
    let process = plan.spec.process().as_ref().ok_or_else(|| Error::InvalidPlan("no process".to_owned()))?;
    let mut program = Program::new(process, &[], plan.seccomp.clone())?.by_the_letter(process);
    program.new_keyring = plan.new_keyring;
    let personality = plan.spec.linux().as_ref().and_then(|linux| linux.personality().as_ref());
    let scheduling = Scheduling::new(process, personality)?;
    plan.namespaces.check()?;
    let maps = idmap::namespaces(plan.spec.mounts().as_deref().unwrap_or_default())?;
    cgroupfs::prepare();
    let mut keep = stdio::descriptors(&plan.stdio);
    keep.extend([plan.root.as_raw_fd(), plan.start.as_raw_fd()]);
    keep.extend(plan.namespaces.descriptors());
    keep.extend(process::inherited(plan.inherited));
    keep.extend(maps.iter().flatten().map(AsRawFd::as_raw_fd));
    let launch = Launch {
        namespaces: plan.namespaces.at_birth(),
        pid_namespace_of: None,
        cgroup: &plan.cgroup,
        keep,
        tells_ready: true,
        succession: match plan.namespaces.moves() {
            true => Succession::Once,
            false => Succession::No,
        },
    };
    child::launch(launch, |link| run(&plan, &scheduling, &maps, program, link))
}

/// The child, from its birth to execve.
fn run(
    plan: &StandalonePlan,
    scheduling: &Scheduling,
    maps: &[Option<OwnedFd>],
    program: Program,
    link: &mut Link,
) -> Result<Infallible, Failure> {
    let mut supplies = gather(plan, maps, &program)?;
    fchdir(&plan.root).at(Step::Rootfs, "")?;
    plan.namespaces.enter(|| shelve(plan, &mut supplies))?;
    if plan.namespaces.user.is_some() {
        locked::take(Path::new("."), &mut supplies)?;
    }
    let late = plan.namespaces.late();
    let inside = |link: &mut Link| inside(plan, scheduling, program, link, supplies);
    if plan.namespaces.moves() { link.succeed(late, inside) } else { inside(link) }
}

/// All that needs the privileges or the mounts of the node.
fn gather(plan: &StandalonePlan, maps: &[Option<OwnedFd>], program: &Program) -> Result<Supplies, Failure> {
    program.labels.claim()?;
    let warnings = program.claim()?.into_iter().collect();
    let user = plan.namespaces.user.as_ref();
    let linux = plan.spec.linux().as_ref();
    let label = linux.and_then(|linux| linux.mount_label().as_deref()).filter(|label| !label.is_empty());
    let owner = sources::Owner {
        pod: None,
        own_cgroup_namespace: plan.namespaces.has_own_cgroup(),
        user,
        maps,
        context: relabel::Context { label, volumes: &[] },
    };
    let mut mounts = sources::open(plan.spec.mounts().as_deref().unwrap_or_default(), &owner)?;
    if let Some(user) = user {
        stdio::give(&plan.stdio, user.root())?;
        dev::make_on_node(&mut mounts, devices(plan), user)?;
    }
    let root = copy_root(plan, user)?;
    Ok(Supplies { mounts, volumes: Vec::new(), host_shm: None, root, warnings })
}

/// A copy of the root's directory, which takes part in what is mounted there on the node only if it is to be a slave: what the spec
/// calls shared is a peer group of the container's own (config-linux, `rootfsPropagation`).
fn copy_root(plan: &StandalonePlan, user: Option<&UserNamespace>) -> Result<OwnedFd, Failure> {
    let (step, object) = (Step::Rootfs, "copy of its directory");
    let root = mount::clone_fd(&plan.root, true).at(step, object)?;
    let linux = plan.spec.linux().as_ref();
    let wanted = linux.and_then(|linux| linux.rootfs_propagation().as_deref()).unwrap_or_default();
    let propagation = match wanted {
        "" | "slave" | "rslave" => Propagation::Slave,
        _ => Propagation::Private,
    };
    mount::change(&root, true, Change::propagation(propagation)).at(step, object)?;
    if user.is_some() {
        // As on a filesystem of the namespace's own: a device in it gives nothing.
        mount::change(&root, false, Change::set(Attr::MOUNT_ATTR_NODEV)).at(step, "nodev")?;
    }
    Ok(root)
}

fn devices(plan: &StandalonePlan) -> &[LinuxDevice] {
    plan.spec.linux().as_ref().and_then(|linux| linux.devices().as_deref()).unwrap_or_default()
}

/// In a copy of the node's mount namespace, with its privileges: lays the shelf over the root's directory, where we are.
fn shelve(plan: &StandalonePlan, supplies: &mut Supplies) -> Result<(), Failure> {
    let shelf = shelf::make()?;
    let place = here()?;
    mount::attach(&shelf, &place).at(Step::Rootfs, "shelf")?;
    if plan.namespaces.user.is_some() {
        locked::put(&shelf, supplies)?;
    }
    shelf::seal(&shelf)?;
    fchdir(&shelf).at(Step::Rootfs, "shelf")
}

fn here() -> Result<OwnedFd, Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    fs::open(".", flags, Mode::empty()).at(Step::Rootfs, "mount point")
}

/// In its namespaces, with the shelf as working directory.
fn inside(
    plan: &StandalonePlan,
    scheduling: &Scheduling,
    program: Program,
    link: &mut Link,
    supplies: Supplies,
) -> Result<Infallible, Failure> {
    plan.namespaces.settle()?;
    let Supplies { mounts, root, warnings, .. } = supplies;
    let shelf = here()?;
    let covers = Covers::of(&shelf)?;
    mount::attach(&root, &shelf).at(Step::Rootfs, "mount point")?;
    let interior = Interior {
        spec: &plan.spec,
        who: Who::Identity(&plan.identity),
        mappings: plan.namespaces.user.as_ref().map(|user| &user.mappings),
        stdio: &plan.stdio,
        readonly: plan.readonly,
        joins: false,
        alone: Some(Alone { plan, scheduling }),
    };
    drop(shelf);
    let materials = Materials { root: Root::new(root), mounts, shm: None, procfs: None, covers, warnings };
    interior.build(program, link, materials)
}
