//! A process that joins a running container.

use std::{
    convert::Infallible,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use husk_model::Stdio;
use husk_sys::{namespace, root::Root};
use rustix::{
    fs::{self, Mode, OFlags},
    thread::{ThreadNameSpaceType, UnshareFlags},
};

use crate::{
    Child, ExecPlan, Failure, Identity, Result, Step,
    child::{self, Launch, Link, Succession},
    failure::At,
    process::{self, Program},
    scheduling::Scheduling,
    stdio, terminal, user, userns,
};

/// Clones a process into a running container. [`crate::Report::Ready`] brings the terminal, if any. Unless it is held, `Executed`
/// follows by itself.
///
/// # Errors
/// When the plan cannot be carried out whatever the node's state, or no child could be cloned: `ESRCH` when the container
/// has ended.
pub fn spawn_exec(plan: ExecPlan) -> Result<Child> {
    spawn_exec_or(plan, &mut child::nowhere_else)
}

/// As [`spawn_exec`], into the v2 group that `elsewhere` opens when that of the plan takes no processes: one that hands controllers
/// down (cgroups(7), the "no internal processes" rule). It is asked a few times at most.
///
/// # Errors
/// As [`spawn_exec`]; `EBUSY` when no group takes a process.
pub fn spawn_exec_or(plan: ExecPlan, elsewhere: &mut dyn FnMut() -> Option<OwnedFd>) -> Result<Child> {
    let mut program = Program::new(&plan.process, &plan.raw_env, plan.seccomp.clone())?;
    let scheduling = Scheduling::new(&plan.process, plan.personality.as_ref(), plan.memory.as_ref())?;
    if matches!(plan.identity, Identity::Ids(_)) {
        program = program.by_the_letter(&plan.process);
    }
    let mut keep = stdio::descriptors(&plan.stdio);
    keep.push(plan.target.as_raw_fd());
    keep.extend(process::inherited(plan.inherited));
    let launch = Launch {
        namespaces: UnshareFlags::empty(),
        pid_namespace_of: None,
        cgroup: &plan.cgroup,
        elsewhere,
        keep,
        tells_ready: true,
        listens: program.listens(),
        succession: Succession::Once,
    };
    child::launch(launch, |link| run(&plan, &scheduling, program, link))
}

/// All of it happens in the monitor's PID namespace, where the container sees nothing of it: a tracer in there would find the
/// node's root and the monitor's privileges. What appears in the container's is a process with nothing but what its own
/// processes have, which waits for its parent to know of it.
fn run(
    plan: &ExecPlan,
    scheduling: &Scheduling,
    program: Program,
    link: &mut Link,
) -> Result<Infallible, Failure> {
    if let Some(mappings) = &plan.user_namespace {
        stdio::give(&plan.stdio, mappings.root().unwrap_or_default())?;
    }
    program.labels.claim()?;
    let mut warnings: Vec<String> = program.claim()?.into_iter().collect();
    let mut kinds = ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME
        | ThreadNameSpaceType::CONTROL_GROUP
        | ThreadNameSpaceType::PROCESS_ID;
    kinds.set(ThreadNameSpaceType::TIME, plan.time_namespace);
    kinds.set(ThreadNameSpaceType::USER, plan.user_namespace.is_some());
    // Joining a mount namespace also moves root and working directory to its root: the container's, which its init
    // pivoted to. A PID namespace is joined by the children.
    namespace::join(&plan.target, kinds).at(Step::Namespaces, "of the container")?;
    if plan.user_namespace.is_some() {
        userns::become_root()?;
    }
    let root = fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map(Root::new)
        .at(Step::Namespaces, "/")?;
    let terminal = match &plan.stdio {
        Stdio::Terminal(size) => Some(terminal::open(&root, *size)?),
        Stdio::Pipes(_) => None,
    };
    let account = user::identify(&root, &plan.identity)?;
    if let Some(mappings) = &plan.user_namespace {
        userns::check_user(mappings, &account.user)?;
    }
    match &terminal {
        Some(terminal) => terminal.install(account.user.uid)?,
        None => stdio::install(&plan.stdio, &root, &account.user)?,
    }
    scheduling.apply()?;
    let (mut confined, warning) = program.confine(&account, plan.inherited)?;
    warnings.extend(warning);
    let mut shown: Vec<_> =
        terminal.iter().flat_map(terminal::Terminal::descriptors).map(|fd| fd.as_raw_fd()).collect();
    shown.extend(process::inherited(plan.inherited));
    link.appear(shown, |link| {
        if let Some(terminal) = &terminal {
            terminal.control()?;
        }
        confined.restrict()?;
        confined.listen(link)?;
        link.ready(&account, warnings, terminal.as_ref().map(|terminal| terminal.master.as_fd()))?;
        if plan.held {
            link.wait_gate()?;
        }
        confined.execute()
    })
}
