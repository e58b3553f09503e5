//! `create`, `start` and `run`.

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use husk_cgroup::Cgroup;
use husk_model::{ResolvedUser, SeccompFilter, Stdio, WindowSize};
use husk_node::{Stamp, process};
use husk_runtime::{Child, Identity, Report, StandalonePlan, spawn_standalone};
use husk_sys::pidfd;
use oci_spec::runtime::{Hooks, LinuxSeccomp, Process, Spec};

use crate::{
    Bundle, Container, Error, Record, Result, Status, Store, affinity, delete,
    devices::{self, Devices},
    group,
    hooks::{self, Point},
    listener::Agent,
    namespaces, numa,
    socket::{send_descriptor, write_pid},
};

/// How a container is created, besides what its bundle says.
#[derive(Debug)]
pub struct CreateOptions {
    /// Its name.
    pub id: String,
    /// What its standard streams are, unless the bundle asks for a terminal.
    pub streams: Streams,
    /// How many descriptors from 3 on it gets from the caller.
    pub inherited: u32,
    /// Whether its root is entered by pivot_root(2).
    pub pivot: bool,
    /// Whether it gets a session keyring of its own.
    pub new_keyring: bool,
    /// Gets its terminal.
    pub console_socket: Option<PathBuf>,
    /// Gets a descriptor of its init.
    pub pidfd_socket: Option<PathBuf>,
    /// Gets its init's process id.
    pub pid_file: Option<PathBuf>,
}

/// The ends of standard streams that a process gets.
pub type Streams = husk_model::Streams<OwnedFd>;

/// A container that waits for its start, and the process that is its init.
#[derive(Debug)]
pub struct Created {
    /// The container.
    pub container: Container,
    /// Its init. Dropping it is fine: whoever is its parent reaps it.
    pub child: Child,
    /// Its terminal, if it has one and there was no socket for it.
    pub terminal: Option<OwnedFd>,
    /// What was left out, one sentence each.
    pub warnings: Vec<String>,
}

/// Creates a container of a bundle. What was done is undone if a step fails, and a caller that is killed leaves what
/// [`crate::force_delete`] removes.
///
/// # Errors
/// The step that failed.
pub fn create(store: &Store, bundle: Bundle, options: CreateOptions) -> Result<Created> {
    let (rootfs, root) = bundle.open_rootfs()?;
    let cgroup = group::path(&bundle.spec, &options.id)?;
    let resources = group::resources(&bundle.spec)?;
    store.check_free(&options.id)?;
    group::check_vacant(&cgroup)?;
    let linux = bundle.spec.linux().as_ref();
    let profile = linux.and_then(|linux| linux.seccomp().as_ref());
    let (agent, seccomp) = (Agent::of(profile)?, filter(profile)?);
    let memory = linux.and_then(|linux| linux.memory_policy().as_ref()).map(numa::policy).transpose()?;
    let namespaces = namespaces::of(&bundle.spec)?;
    let own = process::identify(std::process::id()).map_err(Error::io("read", "/proc/self/stat"))?;
    let mut container = store.claim(Record {
        id: options.id.clone(),
        bundle: bundle.path.clone(),
        rootfs,
        created: String::from_utf8_lossy(Stamp::default().now()).into_owned(),
        creator: own,
        init: None,
        cgroup: Some(cgroup.to_string()),
        user: namespaces.user.as_ref().map(|user| user.mappings.clone()),
        config: bundle.spec.clone(),
        resources,
    })?;
    let mut made = Made { group: None, child: None, devices: None };
    let mut warnings = bundle.warnings.clone();
    let build = || -> Result<Option<OwnedFd>> {
        let start = container.make_fifo()?;
        let group = made.group.insert(group::make(&cgroup)?);
        warnings.extend(group.apply(&container.record.resources)?.iter().map(ToString::to_string));
        let plan = StandalonePlan {
            readonly: bundle.spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false),
            root,
            pivot: options.pivot,
            namespaces,
            identity: identity(bundle.spec.process().as_ref()),
            seccomp,
            memory,
            cgroup: group::target(group)?,
            stdio: stdio(bundle.spec.process().as_ref(), options.streams),
            inherited: options.inherited,
            new_keyring: options.new_keyring,
            prepared: hooks::before_root(&bundle.spec) || has_devices(&bundle.spec),
            start,
            create_hooks: hooks::of(&bundle.spec, Hooks::create_container),
            start_hooks: hooks::of(&bundle.spec, Hooks::start_container),
            state: container.record.hook_state(Status::Creating, None),
            spec: bundle.spec,
        };
        // The mask of CPUs is the caller's, who may be bound to some: the container has those of its cgroup.
        affinity::reset();
        let child = made.child.insert(spawn_standalone(plan)?);
        let ready = await_ready(&mut container, child, agent.as_ref(), &mut made.devices)?;
        warnings.extend(ready.warnings);
        let mut terminal = ready.terminal;
        if let (Some(socket), Some(master)) = (&options.console_socket, &terminal) {
            send_descriptor(socket, std::os::fd::AsFd::as_fd(master), "/dev/console")?;
            terminal = None;
        }
        if let Some(socket) = &options.pidfd_socket {
            send_descriptor(socket, std::os::fd::AsFd::as_fd(&child.pidfd), "pidfd")?;
        }
        if let Some(path) = &options.pid_file {
            write_pid(path, child.pid)?;
        }
        child.open_gate().map_err(Error::io("release", "the init"))?;
        Ok(terminal)
    };
    let built = build();
    match (built, made) {
        (Ok(terminal), Made { child: Some(child), devices, .. }) => {
            if let Some(devices) = devices {
                devices.keep();
            }
            Ok(Created { container, child, terminal, warnings })
        }
        (built, made) => {
            if made.group.is_none() {
                // It is somebody else's, and not to be ended with ours.
                container.record.cgroup = None;
            }
            made.undo();
            // What stays is found by its record, and what went wrong first is what is told.
            let _ = delete::destroy(&container);
            Err(built.err().unwrap_or(Error::NotRunning))
        }
    }
}

/// Starts a created container.
///
/// # Errors
/// [`Error::WrongState`]; a poststart hook that failed, which ends the container.
pub fn start(container: &Container) -> Result<()> {
    match container.status()? {
        Status::Created => {}
        Status::Stopped => return Err(Error::WrongState("cannot start a container that has stopped".into())),
        Status::Running => {
            return Err(Error::WrongState("cannot start an already running container".into()));
        }
        other => {
            let text = format!("cannot start a container in the {} state", other.as_str());
            return Err(Error::WrongState(text));
        }
    }
    container.open_fifo()?;
    hooks::run(Point::Poststart, &container.record, Status::Running).inspect_err(|_| {
        // The hook's failure is what is told.
        let _ = crate::kill(container, 9, true);
    })
}

/// Up to where the init waits at its gate, with the hooks of the node in between.
fn await_ready(
    container: &mut Container,
    child: &mut Child,
    agent: Option<&Agent>,
    devices: &mut Option<Devices>,
) -> Result<husk_runtime::Ready> {
    loop {
        match child.await_report()? {
            Report::Listener(listener) => {
                if let Some(agent) = agent {
                    agent.send(&listener, &container.record, Status::Creating, child.pid)?;
                }
            }
            Report::Ready(ready) => {
                note_init(container, child)?;
                return Ok(ready);
            }
            Report::Prepared => {
                note_init(container, child)?;
                *devices = devices::give(&container.record.config, child.pid)?;
                hooks::run(Point::Prestart, &container.record, Status::Creating)?;
                hooks::run(Point::CreateRuntime, &container.record, Status::Creating)?;
                child.open_gate().map_err(Error::io("release", "the init"))?;
            }
            Report::Failed(failure) => return Err(Error::Process(failure)),
            Report::Executed | Report::Moved { .. } => return Err(Error::NotRunning),
        }
    }
}

fn has_devices(spec: &Spec) -> bool {
    let devices = spec.linux().as_ref().and_then(|linux| linux.net_devices().as_ref());
    devices.is_some_and(|devices| !devices.is_empty())
}

fn note_init(container: &mut Container, child: &Child) -> Result<()> {
    let init = process::identify(child.pid).map_err(Error::io("identify", "the init"))?;
    container.amend(|container| {
        container.record.init = Some(init);
        Ok(())
    })
}

/// What a creation has made so far.
struct Made {
    group: Option<Cgroup>,
    child: Option<Child>,
    devices: Option<Devices>,
}

impl Made {
    /// Ends the child, which is ours to reap. The group goes with the rest.
    fn undo(self) {
        // While their namespace is there.
        drop(self.devices);
        if let Some(child) = self.child {
            let _ = pidfd::signal(&child.pidfd, rustix::process::Signal::KILL);
            let _ = pidfd::reap(&child.pidfd);
        }
        if let Some(group) = self.group {
            let _ = group.kill();
        }
    }
}

// === what exec needs as well ===

/// The filter of a config.
pub(crate) fn filter(profile: Option<&LinuxSeccomp>) -> Result<Option<SeccompFilter>> {
    let Some(profile) = profile else { return Ok(None) };
    let program = husk_seccomp::compile_listening(profile)?;
    Ok(Some(SeccompFilter { program: program.bytes().to_vec(), flags: program.flags() }))
}

/// Exactly the ids that a process names.
pub(crate) fn identity(process: Option<&Process>) -> Identity {
    let user = process.map(Process::user);
    Identity::Ids(ResolvedUser {
        uid: user.map_or(0, |user| user.uid()),
        gid: user.map_or(0, |user| user.gid()),
        groups: user.and_then(|user| user.additional_gids().clone()).unwrap_or_default(),
    })
}

/// A terminal, if a process asks for one.
pub(crate) fn stdio(process: Option<&Process>, streams: Streams) -> Stdio<OwnedFd> {
    if !process.and_then(Process::terminal).unwrap_or(false) {
        return Stdio::Pipes(streams);
    }
    let size = process.and_then(Process::console_size);
    let clamp = |size: u64| u16::try_from(size).unwrap_or(u16::MAX);
    let size = size.filter(|size| size.width() > 0 && size.height() > 0);
    Stdio::Terminal(size.map(|size| WindowSize { columns: clamp(size.width()), rows: clamp(size.height()) }))
}

/// Whether the streams fit together with what the caller asks for (in runc's words).
pub(crate) fn check_terminal(terminal: bool, detached: bool, socket: Option<&Path>) -> Result<()> {
    if detached && terminal && socket.is_none() {
        let text = "cannot allocate tty if runc will detach without setting console socket";
        return Err(Error::Invalid(text.into()));
    }
    if (!detached || !terminal) && socket.is_some() {
        let text = "cannot use console socket if runc will not detach or allocate tty";
        return Err(Error::Invalid(text.into()));
    }
    Ok(())
}

impl CreateOptions {
    /// Checks whether terminal, socket and detaching fit together.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn check(&self, spec: &Spec, detached: bool) -> Result<()> {
        let terminal = spec.process().as_ref().and_then(Process::terminal).unwrap_or(false);
        check_terminal(terminal, detached, self.console_socket.as_deref())
    }
}
