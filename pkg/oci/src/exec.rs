//! `exec`.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use husk_runtime::{Child, ExecPlan, Report, spawn_exec_or};
use husk_sys::pidfd;
use oci_spec::runtime::{Capabilities, LinuxNamespaceType as Kind, Process};

use crate::{
    Container, Error, Result, Status, Streams, affinity, bundle, check,
    create::{check_terminal, filter, identity, stdio},
    group,
    listener::Agent,
    numa,
    socket::{send_descriptor, write_pid},
};

/// How a process joins a container.
#[derive(Debug)]
pub struct ExecOptions {
    /// What it runs, and as whom.
    pub process: Process,
    /// Its standard streams, unless it asks for a terminal.
    pub streams: Streams,
    /// How many descriptors from 3 on it gets from the caller.
    pub inherited: u32,
    /// Whether the caller does not wait for it.
    pub detached: bool,
    /// Whether it may join a container that is stopped for a while; it is stopped with it.
    pub ignore_paused: bool,
    /// Gets its terminal.
    pub console_socket: Option<PathBuf>,
    /// Gets a descriptor of it.
    pub pidfd_socket: Option<PathBuf>,
    /// Gets its process id.
    pub pid_file: Option<PathBuf>,
}

/// A process that runs in a container.
#[derive(Debug)]
pub struct Exec {
    /// The process.
    pub child: Child,
    /// What was left out, one sentence each.
    pub warnings: Vec<String>,
}

/// What a process of `file` is, as of `exec --process`, or without one the container's own.
///
/// # Errors
/// The file cannot be read, or is no process.
pub fn process_of(container: &Container, file: Option<&Path>) -> Result<(Process, Vec<String>)> {
    if let Some(file) = file {
        let (process, warnings) = bundle::read_process(file)?;
        check::process(&process)?;
        return Ok((process, warnings));
    }
    let own = container.record.config.process().clone();
    let mut own = own.ok_or_else(|| Error::Invalid("the container's config has no process".into()))?;
    own.set_terminal(Some(false));
    Ok((own, Vec::new()))
}

/// Runs a process in a container. When it returns, the program is executed. `terminal` gets the process's terminal before that, if
/// there is no socket for it.
///
/// # Errors
/// [`Error::WrongState`]; the step that failed.
pub fn exec(
    container: &Container,
    options: ExecOptions,
    terminal: &mut dyn FnMut(OwnedFd) -> Result<()>,
) -> Result<Exec> {
    match container.status()? {
        Status::Created | Status::Running => {}
        Status::Paused if options.ignore_paused => {}
        Status::Paused => {
            let text = "cannot exec in a paused container (use --ignore-paused to override)";
            return Err(Error::WrongState(text.into()));
        }
        Status::Creating | Status::Stopped => {
            return Err(Error::WrongState("cannot exec in a stopped container".into()));
        }
    }
    let mut process = options.process;
    inherit(&mut process, container);
    check::process(&process)?;
    check_terminal(process.terminal().unwrap_or(false), options.detached, options.console_socket.as_deref())?;
    let cpus = process.exec_cpu_affinity().as_ref();
    let first = affinity::parse(cpus.and_then(|cpus| cpus.initial().as_deref()))?;
    let last = affinity::parse(cpus.and_then(|cpus| cpus.cpu_affinity_final().as_deref()))?;
    let linux = container.record.config.linux().as_ref();
    let spaces = linux.and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
    let group = container.group()?.ok_or(Error::NotRunning)?;
    let profile = linux.and_then(|linux| linux.seccomp().as_ref());
    let agent = Agent::of(profile)?;
    let plan = ExecPlan {
        target: container.init()?,
        identity: identity(Some(&process)),
        stdio: stdio(Some(&process), options.streams),
        process,
        raw_env: Vec::new(),
        seccomp: filter(profile)?,
        memory: linux.and_then(|linux| linux.memory_policy().as_ref()).map(numa::policy).transpose()?,
        user_namespace: container.record.user.clone(),
        time_namespace: spaces.iter().any(|namespace| namespace.typ() == Kind::Time),
        personality: linux.and_then(|linux| linux.personality().clone()),
        held: true,
        inherited: options.inherited,
        cgroup: group::target(&group)?,
    };
    // The first is inherited from us; the last is set when it is in its cgroup, which may change it on the way.
    match &first {
        Some(cpus) => affinity::set(None, cpus)?,
        None => affinity::reset(),
    }
    // As in runc: where the container has handed controllers down, the init has moved to a group below.
    let mut child = spawn_exec_or(plan, &mut || group::of_init(container.record.init?, &group))?;
    let outcome = (|| -> Result<_> {
        let mut warnings = Vec::new();
        loop {
            match child.await_report()? {
                Report::Ready(ready) => {
                    warnings = ready.warnings;
                    match (ready.terminal, &options.console_socket) {
                        (Some(master), Some(socket)) => {
                            send_descriptor(socket, master.as_fd(), "/dev/console")?
                        }
                        (Some(master), None) => terminal(master)?,
                        (None, _) => {}
                    }
                    if let Some(cpus) = &last {
                        affinity::set(Some(child.pid), cpus)?;
                    }
                    if let Some(socket) = &options.pidfd_socket {
                        send_descriptor(socket, child.pidfd.as_fd(), "pidfd")?;
                    }
                    if let Some(path) = &options.pid_file {
                        write_pid(path, child.pid)?;
                    }
                    child.open_gate().map_err(Error::io("release", "the process"))?;
                }
                Report::Listener(listener) => {
                    if let Some(agent) = &agent {
                        agent.send(&listener, &container.record, Status::Running, child.pid)?;
                    }
                }
                Report::Executed => return Ok(warnings),
                Report::Failed(failure) => return Err(Error::Process(failure)),
                Report::Prepared | Report::Moved { .. } => {}
            }
        }
    })();
    match outcome {
        Ok(warnings) => Ok(Exec { child, warnings }),
        Err(error) => {
            let _ = pidfd::signal(&child.pidfd, rustix::process::Signal::KILL);
            let _ = pidfd::reap(&child.pidfd);
            Err(error)
        }
    }
}

/// What a process does not say of itself is the container's.
fn inherit(process: &mut Process, container: &Container) {
    let Some(own) = container.record.config.process() else { return };
    if process.capabilities().is_none() {
        process.set_capabilities(own.capabilities().clone());
    }
    if process.exec_cpu_affinity().is_none() {
        process.set_exec_cpu_affinity(own.exec_cpu_affinity().clone());
    }
    if process.rlimits().is_none() {
        process.set_rlimits(own.rlimits().clone());
    }
    if process.apparmor_profile().as_deref().unwrap_or_default().is_empty() {
        process.set_apparmor_profile(own.apparmor_profile().clone());
    }
    if process.selinux_label().as_deref().unwrap_or_default().is_empty() {
        process.set_selinux_label(own.selinux_label().clone());
    }
    if process.oom_score_adj().is_none() {
        process.set_oom_score_adj(own.oom_score_adj());
    }
    if process.user().umask().is_none() {
        let umask = own.user().umask();
        process.user_mut().set_umask(umask);
    }
}

/// Adds capabilities to those that a process has (`exec --cap`): to the ambient ones only if it has inheritable ones, which they take.
pub fn add_capabilities(process: &mut Process, added: &Capabilities) {
    let mut sets = process.capabilities().clone().unwrap_or_default();
    let with = |set: &Option<Capabilities>| {
        let mut set = set.clone().unwrap_or_default();
        set.extend(added.iter().copied());
        Some(set)
    };
    sets.set_bounding(with(sets.bounding()));
    sets.set_effective(with(sets.effective()));
    sets.set_permitted(with(sets.permitted()));
    if sets.inheritable().is_some() {
        sets.set_ambient(with(sets.ambient()));
    }
    process.set_capabilities(Some(sets));
}
