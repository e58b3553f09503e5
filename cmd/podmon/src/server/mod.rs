//! The loop: what happened goes to the object it belongs to, and requests to [`calls`].

mod calls;

use std::{
    collections::BTreeMap,
    io,
    os::fd::OwnedFd,
    path::PathBuf,
    time::{Duration, Instant},
};

use husk_cgroup::Hierarchy;
use nix::sys::signalfd::SignalFd;
use rustix::{
    io::Errno,
    net::SocketFlags,
    process::{WaitOptions, WaitStatus},
};

use crate::{
    container::Container,
    core::{Core, Owner},
    exec::Exec,
    journal::journal,
    log::Stream,
    poll::{Interest, Key, Source},
    sandbox::Sandbox,
};

/// Everything there is.
#[derive(Debug)]
pub struct Server {
    core: Core,
    pause: PathBuf,
    listener: OwnedFd,
    signals: SignalFd,
    sandbox: Option<Sandbox>,
    containers: BTreeMap<Key, Container>,
    execs: BTreeMap<Key, Exec>,
    /// Shutdown was called.
    over: bool,
    /// Memory was used and may be given back.
    trim: bool,
}

impl Server {
    pub fn new(
        pod_dir: PathBuf,
        pause: PathBuf,
        listener: OwnedFd,
        signals: SignalFd,
        hierarchy: Option<Hierarchy>,
    ) -> io::Result<Self> {
        let core = Core::new(pod_dir, hierarchy)?;
        core.poller.add(&listener, Source::Listener(0), Interest::Read)?;
        core.poller.add(&signals, Source::Signals(0), Interest::Read)?;
        let (containers, execs) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self {
            core,
            pause,
            listener,
            signals,
            sandbox: None,
            containers,
            execs,
            over: false,
            trim: false,
        })
    }

    /// Serves until Shutdown.
    pub fn run(mut self) -> io::Result<()> {
        while !self.over {
            for source in self.core.poller.wait()? {
                self.dispatch(source);
            }
            if self.trim {
                self.trim = false;
                husk_sys::memory::trim();
            }
        }
        Ok(())
    }

    fn dispatch(&mut self, source: Source) {
        match source {
            Source::Listener(_) => self.accept(),
            Source::Signals(_) => self.reap(),
            Source::Connection(key) => self.serve(key),
            Source::PauseReport(_) => {
                self.with_sandbox(Sandbox::on_report);
                // The pod's caller is answered, and its first container comes in a while.
                husk_runtime::prepare();
            }
            Source::PauseCgroup(_) => {
                let core = &mut self.core;
                if !self.sandbox.as_mut().is_some_and(|sandbox| sandbox.kill_on(core)) {
                    self.check_stopped();
                }
            }
            Source::InitReport(key) => self.with_container(key, Container::on_report),
            Source::InitStdout(key) => self.with_container(key, |c, core| c.on_output(core, Stream::Stdout)),
            Source::InitStderr(key) => self.with_container(key, |c, core| c.on_output(core, Stream::Stderr)),
            Source::InitGrace(key) => self.with_container(key, Container::on_grace_deadline),
            Source::InitDrain(key) => self.with_container(key, Container::on_drain_deadline),
            Source::InitCgroup(key) => self.with_container(key, Container::on_cgroup),
            Source::InitRecord(key) => self.with_container(key, |c, core| c.write_record(core)),
            Source::PauseRecord(_) => {
                if let Some(sandbox) = &self.sandbox {
                    sandbox.write_record(&mut self.core);
                }
            }
            Source::ExecCgroups(key) => self.with_container(key, Container::sweep_exec_cgroups),
            Source::ExecReport(key) => self.with_exec(key, false, Exec::on_report),
            Source::ExecStdout(key) => {
                self.with_exec(key, false, |e, core| e.on_output(core, Stream::Stdout))
            }
            Source::ExecStderr(key) => {
                self.with_exec(key, false, |e, core| e.on_output(core, Stream::Stderr))
            }
            Source::ExecTimeout(key) => self.with_exec(key, false, |e, core| e.kill(core, true)),
            Source::ExecCgroup(key) => {
                let core = &mut self.core;
                if !self.execs.get_mut(&key).is_some_and(|exec| exec.kill_on(core)) {
                    self.with_exec(key, false, |_, _| ());
                }
            }
            Source::ExecDrain(key) => self.with_exec(key, true, |_, _| ()),
            Source::InitStdin(_) | Source::AttachInput(_) | Source::AttachOutput(_) => self.on_attach(source),
        }
    }

    fn accept(&mut self) {
        // After a pause for lack of descriptors it has to be watched again.
        let _ = self.core.poller.add(&self.listener, Source::Listener(0), Interest::Read);
        loop {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            match rustix::net::accept_with(&self.listener, flags) {
                Ok(socket) => {
                    let key = self.core.new_key();
                    if let Err(error) = self.core.clients.admit(&self.core.poller, key, socket) {
                        journal!("connection refused: {error}");
                    }
                }
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::AGAIN) => return,
                Err(error) => {
                    journal!("accept: {error}");
                    // Out of descriptors, most likely. The socket stays readable; do not spin on it.
                    self.core.poller.remove(&self.listener);
                    self.core
                        .poller
                        .set_deadline(Source::Listener(0), Instant::now() + Duration::from_secs(1));
                    return;
                }
            }
        }
    }

    fn serve(&mut self, key: Key) {
        let incoming = self.core.clients.ready(&self.core.poller, key, &mut self.core.scratch);
        for request in incoming {
            self.call(request);
        }
    }

    /// Collects every child that has ended: our own, and those that a container orphaned (we are the subreaper).
    fn reap(&mut self) {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => self.on_reaped(pid.as_raw_nonzero().get().unsigned_abs(), status),
                Err(Errno::INTR) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }

    fn on_reaped(&mut self, pid: u32, status: WaitStatus) {
        match self.core.children.remove(&pid) {
            None => {}
            Some(Owner::Sandbox) => {
                self.with_sandbox(|sandbox, core| sandbox.on_reaped(core, status));
            }
            Some(Owner::Container(key)) => self.with_container(key, |c, core| c.on_reaped(core, pid, status)),
            Some(Owner::Exec(key)) => self.with_exec(key, false, |e, core| e.on_reaped(core, pid, status)),
        }
    }

    /// Lets a container handle something, then sees what follows from it.
    fn with_container(&mut self, key: Key, handle: impl FnOnce(&mut Container, &mut Core)) {
        let Some(container) = self.containers.get_mut(&key) else { return };
        let was_alive = container.is_alive();
        handle(container, &mut self.core);
        if container.is_gone() {
            // A cgroup that could not be removed is kept in hand by the pod's.
            self.containers.remove(&key);
            self.trim = true;
        } else if was_alive && !container.is_alive() {
            self.trim = true;
        }
        self.check_stopped();
    }

    fn with_exec(&mut self, key: Key, late: bool, handle: impl FnOnce(&mut Exec, &mut Core)) {
        let Some(exec) = self.execs.get_mut(&key) else { return };
        handle(exec, &mut self.core);
        if exec.try_finish(&mut self.core, late) {
            self.finish_exec(key);
        }
    }

    fn finish_exec(&mut self, key: Key) {
        let Some(exec) = self.execs.remove(&key) else { return };
        let container = self.containers.get_mut(&exec.container);
        if let (Some(cgroup), Some(container)) = (exec.into_lingering(&self.core), container) {
            container.keep_exec_cgroup(&mut self.core, cgroup);
        }
        self.trim = true;
    }

    /// Lets the sandbox handle something, then sees what follows from it.
    fn with_sandbox(&mut self, handle: impl FnOnce(&mut Sandbox, &mut Core)) {
        if let Some(sandbox) = &mut self.sandbox {
            handle(sandbox, &mut self.core);
        }
        self.check_stopped();
    }

    /// Goes on with a stop of the sandbox as far as it can.
    fn check_stopped(&mut self) {
        let alive = self.containers.values().any(Container::is_alive_or_ending);
        if let Some(sandbox) = self.sandbox.as_mut().filter(|_| !alive) {
            sandbox.on_alone(&mut self.core);
        }
        if self.sandbox.as_ref().is_some_and(Sandbox::is_gone) {
            self.sandbox = None;
        }
    }
}
