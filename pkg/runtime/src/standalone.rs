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
    cell::Cell,
    convert::Infallible,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use husk_model::{SeccompFilter, Stdio};
use husk_sys::{
    mount,
    mount::{Attr, Change, Propagation},
    procfs::Procfs,
    root::Root,
};
use oci_spec::runtime::{LinuxDevice, Mount, Spec};
use rustix::{
    fs::{self, Mode, OFlags},
    io::Errno,
    process::fchdir,
};

use crate::{
    CgroupTarget, Child, Error, Failure, Hook, Identity, Result, Step, UserNamespace,
    child::{self, Launch, Link, Succession},
    failure::At,
    hook::{Setting, run_hooks},
    interior::{Alone, Interior, Materials, Who},
    process::{self, Confined, Program},
    rootfs::{
        cgroupfs, dev,
        follow::{self, Follower},
        idmap, locked,
        mask::Covers,
        planned::Peers,
        relabel, shelf, sources,
        supplies::{Followed, Supplies},
    },
    scheduling::{MemoryPolicy, Scheduling},
    stdio,
};

mod namespaces;

pub use namespaces::{Offset, StandaloneNamespaces, Whose};

/// A container that stands alone.
#[derive(Debug)]
pub struct StandalonePlan {
    /// Used as in [`crate::ContainerPlan::spec`]; with `process.scheduler`, `process.io_priority` and `linux.personality`. Mounts
    /// may have ids of their own and `tmpcopyup`; /dev/shm is like any other.
    pub spec: Spec,
    /// The directory that becomes the root, with what is mounted below it.
    pub root: OwnedFd,
    /// Whether the root is mounted read-only.
    pub readonly: bool,
    /// Whether the root is entered by pivot_root(2), or moved over that of the node, where the kernel does not do that.
    pub pivot: bool,
    /// Its namespaces.
    pub namespaces: StandaloneNamespaces,
    /// Who to run as.
    pub identity: Identity,
    /// Filter of the container.
    pub seccomp: Option<SeccompFilter>,
    /// Where its memory comes from.
    pub memory: Option<MemoryPolicy>,
    /// Where it lives.
    pub cgroup: CgroupTarget,
    /// Standard streams: the child's ends, or a terminal in the container's devpts.
    pub stdio: Stdio<OwnedFd>,
    /// How many descriptors from 3 on it gets from the caller, as they are.
    pub inherited: u32,
    /// Whether it gets a session keyring of its own; without, it has the caller's.
    pub new_keyring: bool,
    /// Whether it stops before its root is entered ([`crate::Report::Prepared`]).
    pub prepared: bool,
    /// The reading end of a pipe that a byte comes through when it is to start. Its other end may be anybody's: an end without a
    /// byte is no start.
    pub start: OwnedFd,
    /// Run in its namespaces before its root is entered, by paths of the node.
    pub create_hooks: Vec<Hook>,
    /// Run in it after the start, as its user, by paths of its own.
    pub start_hooks: Vec<Hook>,
    /// What these hooks read: a JSON object of at least one field, without `pid`, which is the number that the init has where a hook
    /// runs.
    pub state: Vec<u8>,
}

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
    let scheduling = Scheduling::new(process, personality, plan.memory.as_ref())?;
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
        elsewhere: &mut child::nowhere_else,
        keep,
        tells_ready: true,
        listens: program.listens(),
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
    let Gathered { mut supplies, mut follower, procfs } = gather(plan, maps, &program)?;
    fchdir(&plan.root).at(Step::Rootfs, "")?;
    plan.namespaces.enter(|| shelve(plan, maps, &mut supplies, &mut follower))?;
    if plan.namespaces.user.is_some() {
        locked::take(Path::new("."), &mut supplies, follower.as_ref())?;
    }
    // Its owner must not outlive it ([`Link::hold_only`]).
    drop(follower);
    let late = plan.namespaces.late();
    let steps = Steps { plan, scheduling, procfs: Cell::new(procfs) };
    let inside = |link: &mut Link| inside(&steps, program, link, supplies);
    if plan.namespaces.moves() { link.succeed(late, inside) } else { inside(link) }
}

/// What a container takes along.
struct Gathered {
    supplies: Supplies,
    /// Sees what the copies miss that follow the node, if there are some.
    follower: Option<Follower>,
    /// The node's, by which the labels are asked for that hooks of the node are not to have.
    procfs: Option<Procfs>,
}

/// All that needs the privileges or the mounts of the node.
fn gather(plan: &StandalonePlan, maps: &[Option<OwnedFd>], program: &Program) -> Result<Gathered, Failure> {
    let later = !plan.create_hooks.is_empty() && !program.labels.is_empty();
    let procfs = later.then(Procfs::host).transpose().at(Step::Label, "/proc")?;
    match &procfs {
        Some(procfs) => program.labels.claim_for_keys(procfs)?,
        None => program.labels.claim()?,
    }
    let warnings = program.claim()?.into_iter().collect();
    let peers = Peers::default();
    let owner = owner(plan, maps, &peers);
    let user = owner.user;
    let root_follows = root_propagation(plan) == Propagation::Slave;
    let mut followed = sources::followed(spec_mounts(plan));
    if root_follows {
        followed.push(root_path(plan)?);
    }
    let follower = Follower::of(followed)?;
    let mut mounts = sources::open(spec_mounts(plan), &owner)?;
    if let Some(user) = user {
        stdio::give(&plan.stdio, user.root())?;
        dev::make_on_node(&mut mounts, devices(plan), user)?;
    }
    let root = copy_root(plan, user)?;
    let supplies = Supplies { mounts, volumes: Vec::new(), shm: None, root, root_follows, warnings };
    Ok(Gathered { supplies, follower, procfs })
}

/// A copy of the root's directory, which takes part in what is mounted there on the node only if it is to be a slave: what the spec
/// calls shared is a peer group of the container's own (config-linux, `rootfsPropagation`).
fn copy_root(plan: &StandalonePlan, user: Option<&UserNamespace>) -> Result<OwnedFd, Failure> {
    let (step, object) = (Step::Rootfs, "copy of its directory");
    let root = mount::clone_fd(&plan.root, true).at(step, object)?;
    mount::change(&root, true, Change::propagation(root_propagation(plan))).at(step, object)?;
    if user.is_some() {
        // As on a filesystem of the namespace's own: a device in it gives nothing.
        mount::change(&root, false, Change::set(Attr::MOUNT_ATTR_NODEV)).at(step, "nodev")?;
    }
    Ok(root)
}

fn root_propagation(plan: &StandalonePlan) -> Propagation {
    let linux = plan.spec.linux().as_ref();
    match linux.and_then(|linux| linux.rootfs_propagation().as_deref()).unwrap_or_default() {
        "" | "slave" | "rslave" => Propagation::Slave,
        _ => Propagation::Private,
    }
}

/// Where the root's directory is on the node, as its mount table calls it.
fn root_path(plan: &StandalonePlan) -> Result<PathBuf, Failure> {
    let (step, before) = (Step::Rootfs, here()?);
    fchdir(&plan.root).at(step, "")?;
    let path = follow::working_directory()?;
    fchdir(&before).at(step, "")?;
    Ok(path)
}

fn spec_mounts(plan: &StandalonePlan) -> &[Mount] {
    plan.spec.mounts().as_deref().unwrap_or_default()
}

fn owner<'plan>(
    plan: &'plan StandalonePlan,
    maps: &'plan [Option<OwnedFd>],
    peers: &'plan Peers,
) -> sources::Owner<'plan> {
    let linux = plan.spec.linux().as_ref();
    let label = linux.and_then(|linux| linux.mount_label().as_deref()).filter(|label| !label.is_empty());
    sources::Owner {
        pod: None,
        own_cgroup_namespace: plan.namespaces.has_own_cgroup(),
        user: plan.namespaces.user.as_ref(),
        maps,
        context: relabel::Context { label, volumes: &[] },
        peers,
    }
}

fn devices(plan: &StandalonePlan) -> &[LinuxDevice] {
    plan.spec.linux().as_ref().and_then(|linux| linux.devices().as_deref()).unwrap_or_default()
}

/// In a copy of the node's mount namespace, with its privileges: lays the shelf over the root's directory, where we are.
fn shelve(
    plan: &StandalonePlan,
    maps: &[Option<OwnedFd>],
    supplies: &mut Supplies,
    follower: &mut Option<Follower>,
) -> Result<(), Failure> {
    let shelf = shelf::make()?;
    let place = here()?;
    mount::attach(&shelf, &place).at(Step::Rootfs, "shelf")?;
    let again = |followed| match followed {
        Followed::Mount(number) => {
            sources::again(spec_mounts(plan), number, &owner(plan, maps, &Peers::default()))
        }
        Followed::Root => copy_root(plan, plan.namespaces.user.as_ref()),
    };
    match (follower, plan.namespaces.user.is_some()) {
        (follower, true) => {
            locked::put(&shelf, supplies)?;
            if let Some(follower) = follower {
                follower.keep_up(&shelf, supplies, &again)?;
            }
        }
        (Some(follower), false) => follower.settle(&shelf, supplies, &again)?,
        (None, false) => {}
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
    steps: &Steps<'_>,
    program: Program,
    link: &mut Link,
    supplies: Supplies,
) -> Result<Infallible, Failure> {
    let plan = steps.plan;
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
        alone: Some(steps),
    };
    drop(shelf);
    let materials = Materials { root: Root::new(root), mounts, shm: None, procfs: None, covers, warnings };
    interior.build(program, link, materials)
}

/// The steps that a container of a pod does not have.
struct Steps<'plan> {
    plan: &'plan StandalonePlan,
    scheduling: &'plan Scheduling,
    /// Of the node, until the labels are asked for that hooks are not to have.
    procfs: Cell<Option<Procfs>>,
}

impl Alone for Steps<'_> {
    fn before_root(&self, link: &Link, root: &Root, program: &Program) -> Result<(), Failure> {
        if self.plan.prepared {
            link.prepared()?;
        }
        if self.plan.create_hooks.is_empty() {
            return Ok(());
        }
        // As in runc: in the root, though what it finds by its paths is the node's.
        fchdir(root).at(Step::Rootfs, "")?;
        let setting = Setting { umask: Some(link.parents_umask()), ..Setting::default() };
        hooks("createContainer", &self.plan.create_hooks, &self.plan.state, &setting)?;
        self.procfs.take().map_or(Ok(()), |procfs| program.labels.claim_for_program(&procfs))
    }

    fn schedule(&self) -> Result<(), Failure> {
        self.scheduling.apply()
    }

    fn start(&self, link: &mut Link, confined: &Confined) -> Result<(), Failure> {
        link.speak_up();
        let mut byte = [0; 1];
        loop {
            match rustix::io::read(&self.plan.start, &mut byte) {
                Ok(1) => break,
                Ok(_) => return Err(Failure::because(Step::Start, "", "nobody is left who could start it")),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno).at(Step::Start, ""),
            }
        }
        let own = confined.environment().iter().map(|entry| String::from_utf8_lossy(entry).into_owned());
        let own: Vec<String> = own.collect();
        let of_container = |hook: &Hook| Hook { env: hook.env.clone().or(Some(own.clone())), ..hook.clone() };
        let start_hooks: Vec<Hook> = self.plan.start_hooks.iter().map(of_container).collect();
        hooks("startContainer", &start_hooks, &self.plan.state, &Setting::default())
    }

    fn inherited(&self) -> u32 {
        self.plan.inherited
    }

    fn waits_at(&self) -> BorrowedFd<'_> {
        self.plan.start.as_fd()
    }

    fn pivots(&self) -> bool {
        self.plan.pivot
    }
}

fn hooks(name: &str, hooks: &[Hook], state: &[u8], setting: &Setting) -> Result<(), Failure> {
    if hooks.is_empty() {
        return Ok(());
    }
    run_hooks(name, hooks, &with_pid(state), setting).map_err(|why| Failure::because(Step::Hook, "", why))
}

/// A state with the process id that we have where the hook runs.
fn with_pid(state: &[u8]) -> Vec<u8> {
    let rest = state.strip_prefix(b"{").unwrap_or(state);
    [format!("{{\"pid\":{},", std::process::id()).as_bytes(), rest].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_a_hook_has_the_number_that_it_sees() {
        let script = r#"read -r state; test "$state" = "{\"pid\":$PPID,\"id\":\"c1\"}""#;
        let args = ["sh", "-c", script].map(str::to_owned).to_vec();
        let hook = Hook { path: "/bin/sh".into(), args, env: None, timeout: None };
        hooks("createContainer", &[hook], b"{\"id\":\"c1\"}\n", &Setting::default()).unwrap();
    }
}
