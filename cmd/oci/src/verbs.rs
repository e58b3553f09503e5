//! Each command, from its options to its exit code.

use std::{
    fs::File,
    io,
    os::fd::{BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use husk_oci::{
    Bundle, CreateOptions, Created, Error, ExecOptions, Pausing, Result, Store, Streams, add_capabilities,
    create, delete, example, exec, features, force_delete, kill, last_of_each_name, parse_signal, process_of,
    start,
};
use husk_runtime::Report;
use oci_spec::runtime::{Capabilities, Capability, Process};

use crate::{
    cli::{self, Cli, Command, Handover},
    foreground::{self, Screen},
    log::{Level, Log},
    show, update,
};

/// Where containers are kept unless told otherwise.
const ROOT: &str = "/run/husk-oci";

/// Runs the command.
///
/// # Errors
/// Whatever failed.
pub(crate) fn run(cli: Cli, log: &Log, name: &str, given: u32) -> Result<u8> {
    check(&cli)?;
    let store = Store::new(std::path::absolute(&cli.root).map_err(|error| invalid(error.to_string()))?);
    let Some(command) = cli.command else {
        return Err(invalid(format!("no command: see {name} --help")));
    };
    log.say(Level::Debug, &format!("{command:?}"));
    match command {
        Command::Create(options) => {
            let created = make(&store, options, true, log, given)?;
            drop(created);
        }
        Command::Run(options) => return run_container(&store, options, log, given),
        Command::Exec(options) => return run_exec(&store, options, log, given),
        Command::Start(options) => start(&store.open(&options.id)?)?,
        Command::State(options) => show::state(&store.open(&options.id)?)?,
        Command::Kill(options) => {
            let container = store.open(&options.id.id)?;
            kill(&container, parse_signal(&options.signal)?, options.all)?;
        }
        Command::Delete(options) if options.force => force_delete(&store, &options.id.id)?,
        Command::Delete(options) => delete(&store, &options.id.id)?,
        Command::Ps(options) => show::ps(&store.open(&options.words[0])?, &options)?,
        Command::List(options) => show::list(&store, &options, cli.root == Path::new(ROOT))?,
        Command::Pause(options) => Pausing::Pause.apply(&store.open(&options.id)?)?,
        Command::Resume(options) => Pausing::Resume.apply(&store.open(&options.id)?)?,
        Command::Events(options) => show::events(&store.open(&options.id.id)?, &options)?,
        Command::Update(options) => {
            let wanted = update::wanted(&options)?;
            warn(log, &husk_oci::update(&mut store.open(&options.id.id)?, &wanted)?);
        }
        Command::Features => show::print(&(show::pretty(&features())? + "\n"))?,
        Command::Spec(options) => write_spec(&options)?,
        Command::Checkpoint(_) | Command::Restore(_) => {
            return Err(invalid("husk does not checkpoint or restore containers"));
        }
    }
    Ok(0)
}

fn invalid(text: impl Into<String>) -> Error {
    Error::Invalid(text.into())
}

/// What cannot be done at all.
fn check(cli: &Cli) -> Result<()> {
    if cli.systemd_cgroup {
        return Err(invalid(
            "--systemd-cgroup is not supported: husk makes cgroups itself; tell the caller to use cgroupfs \
             (containerd: SystemdCgroup = false, Podman: --cgroup-manager cgroupfs, Docker: native.cgroupdriver=cgroupfs)",
        ));
    }
    match cli.rootless.as_str() {
        "auto" | "false" => Ok(()),
        "true" => Err(invalid("--rootless is not supported: only root can run containers with husk-oci")),
        other => Err(invalid(format!("--rootless {other:?}: true, false or auto"))),
    }
}

fn warn(log: &Log, warnings: &[String]) {
    warnings.iter().for_each(|warning| log.say(Level::Warning, warning));
}

fn make(store: &Store, options: cli::Create, detached: bool, log: &Log, given: u32) -> Result<Created> {
    let inherited = inherited(&options.handover, given)?;
    let mut bundle = Bundle::load(&options.bundle)?;
    activate(&inherited, bundle.spec.process_mut().as_mut());
    let options = CreateOptions {
        id: options.id.id,
        streams: streams()?,
        inherited: inherited.count(),
        pivot: !options.no_pivot,
        new_keyring: !options.no_new_keyring,
        console_socket: options.handover.console_socket,
        pidfd_socket: options.handover.pidfd_socket,
        pid_file: options.handover.pid_file,
    };
    options.check(&bundle.spec, detached)?;
    let created = create(store, bundle, options)?;
    warn(log, &created.warnings);
    Ok(created)
}

fn run_container(store: &Store, options: cli::Run, log: &Log, given: u32) -> Result<u8> {
    let signals = foreground::signals().map_err(|error| invalid(format!("signals: {error}")))?;
    let mut created = make(store, options.create, options.detach, log, given)?;
    let screen = created.terminal.take().map(show_terminal).transpose();
    let outcome = screen.and_then(|mut screen| {
        start(&created.container)?;
        match created.child.await_report()? {
            Report::Failed(failure) => Err(Error::Process(failure)),
            _ if options.detach => Ok(0),
            _ => foreground::wait(&created.child, screen.as_mut(), &signals)
                .map_err(|error| invalid(format!("wait for the container: {error}"))),
        }
    });
    let keeps = options.keep || (options.detach && outcome.is_ok());
    if !keeps {
        let deleted = force_delete(store, &created.container.record.id);
        return outcome.and_then(|code| deleted.map(|()| code));
    }
    outcome
}

fn run_exec(store: &Store, options: cli::Exec, log: &Log, given: u32) -> Result<u8> {
    let signals = foreground::signals().map_err(|error| invalid(format!("signals: {error}")))?;
    if options.cgroup.iter().any(|group| group != "/") {
        return Err(invalid("exec --cgroup is not supported but for /"));
    }
    let inherited = inherited(&options.handover, given)?;
    let container = store.open(&options.words[0])?;
    let (mut process, warnings) = process_of(&container, options.process.as_deref())?;
    warn(log, &warnings);
    if options.process.is_none() {
        change(&mut process, &options)?;
    }
    activate(&inherited, Some(&mut process));
    let detached = options.detach;
    let options = ExecOptions {
        process,
        streams: streams()?,
        inherited: inherited.count(),
        detached,
        ignore_paused: options.ignore_paused,
        console_socket: options.handover.console_socket,
        pidfd_socket: options.handover.pidfd_socket,
        pid_file: options.handover.pid_file,
    };
    let mut screen = None;
    let exec = exec(&container, options, &mut |master| {
        screen = Some(show_terminal(master)?);
        Ok(())
    })?;
    warn(log, &exec.warnings);
    if detached {
        return Ok(0);
    }
    foreground::wait(&exec.child, screen.as_mut(), &signals)
        .map_err(|error| invalid(format!("wait for the process: {error}")))
}

fn show_terminal(master: OwnedFd) -> Result<Screen> {
    Screen::new(master).map_err(|error| invalid(format!("show the container's terminal: {error}")))
}

/// What the flags of `exec` change of the container's own process.
fn change(process: &mut Process, options: &cli::Exec) -> Result<()> {
    let command = options.words[1..].to_vec();
    if command.is_empty() {
        return Err(invalid("exec args cannot be empty"));
    }
    process.set_args(Some(command)).set_terminal(Some(options.tty));
    if let Some(cwd) = &options.cwd {
        process.set_cwd(cwd.clone());
    }
    let mut env = process.env().clone().unwrap_or_default();
    env.extend(options.env.iter().cloned());
    process.set_env(Some(last_of_each_name(env, |entry| entry)));
    if options.no_new_privs {
        process.set_no_new_privileges(Some(true));
    }
    if options.apparmor.is_some() {
        process.set_apparmor_profile(options.apparmor.clone());
    }
    if options.process_label.is_some() {
        process.set_selinux_label(options.process_label.clone());
    }
    let mut added = Capabilities::new();
    for name in &options.cap {
        let known = serde_json::from_value::<Capability>(name.to_ascii_uppercase().into());
        added.insert(known.map_err(|_| invalid(format!("unknown capability {name:?}")))?);
    }
    if !added.is_empty() {
        add_capabilities(process, &added);
    }
    let user = process.user_mut();
    if let Some(ids) = &options.user {
        let (uid, gid) = ids.split_once(':').map_or((ids.as_str(), None), |(uid, gid)| (uid, Some(gid)));
        let number = |what, text: &str| text.parse().map_err(|_| invalid(format!("bad {what}: {text:?}")));
        user.set_uid(number("uid", uid)?);
        if let Some(gid) = gid {
            user.set_gid(number("gid", gid)?);
        }
    }
    if !options.additional_gids.is_empty() {
        let mut groups = user.additional_gids().clone().unwrap_or_default();
        groups.extend(&options.additional_gids);
        user.set_additional_gids(Some(groups));
    }
    Ok(())
}

/// Descriptors from 3 on that are the container's: those of socket activation (sd_listen_fds(3)), and those the caller counts.
struct Inherited {
    activated: u32,
    preserved: u32,
}

impl Inherited {
    fn count(&self) -> u32 {
        self.activated + self.preserved
    }
}

/// Most descriptors that a container is given: far above what anybody passes, and below where our own program lies.
const MOST: u32 = 128;

/// How many descriptors from 3 on the caller has given us. To be asked before any is opened.
pub(crate) fn given() -> u32 {
    (0..MOST).take_while(|number| husk_sys::fds::is_open(3 + number.cast_signed())).count() as u32
}

fn inherited(handover: &Handover, given: u32) -> Result<Inherited> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    let ours = number("LISTEN_PID") == Some(std::process::id());
    let activated = number("LISTEN_FDS").filter(|_| ours).unwrap_or(0);
    let preserved = handover.preserve_fds;
    if activated.saturating_add(preserved) > given {
        return Err(invalid(format!("unable to stat preserved-fd {given} (of {preserved}): it is not open")));
    }
    let inherited = Inherited { activated, preserved };
    // No hook gets what is not its own.
    husk_sys::fds::cloexec_from(3).map_err(|error| invalid(error.to_string()))?;
    Ok(inherited)
}

/// Tells a program of the sockets that it was activated for.
fn activate(inherited: &Inherited, process: Option<&mut Process>) {
    let Some(process) = process.filter(|_| inherited.activated > 0) else { return };
    let mut env = process.env().clone().unwrap_or_default();
    env.extend([format!("LISTEN_FDS={}", inherited.activated), "LISTEN_PID=1".to_owned()]);
    process.set_env(Some(env));
}

/// Our own, for the container. One that is closed is as /dev/null.
fn streams() -> Result<Streams> {
    let copy = |fd: BorrowedFd<'static>| -> io::Result<Option<OwnedFd>> {
        match rustix::io::fcntl_dupfd_cloexec(fd, 3) {
            Err(rustix::io::Errno::BADF) => Ok(None),
            copied => Ok(Some(copied?)),
        }
    };
    let all = || -> io::Result<Streams> {
        Ok(Streams {
            stdin: copy(rustix::stdio::stdin())?,
            stdout: copy(rustix::stdio::stdout())?,
            stderr: copy(rustix::stdio::stderr())?,
        })
    };
    all().map_err(|error| invalid(format!("standard streams: {error}")))
}

fn write_spec(options: &cli::Spec) -> Result<()> {
    let path: PathBuf = options.bundle.join("config.json");
    let text = show::pretty(&example(options.rootless))? + "\n";
    let write = || {
        let mut file = File::options().write(true).create_new(true).open(&path)?;
        io::Write::write_all(&mut file, text.as_bytes())
    };
    write().map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => invalid("File config.json exists. Remove it first"),
        _ => invalid(format!("write {}: {error}", path.display())),
    })
}
