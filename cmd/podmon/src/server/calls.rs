//! Requests: each is answered at once, or noted by the object that will answer it.

use std::time::Duration;

use husk_node::process;
use husk_proto::podmon::{self, error::Code, request::Call};

use super::Server;
use crate::{
    attach::Attachment,
    clients::{Answer, Caller, Incoming},
    container::Container,
    core::Core,
    exec::Exec,
    fault::{Fault, Outcome, fault},
    poll::{Key, Source},
    sandbox::{Sandbox, apply_json},
    setup,
};

/// `None`: somebody will answer later.
type Now = Outcome<Option<Answer>>;

fn done() -> Now {
    Ok(Some(Answer::Done(podmon::Done::default())))
}

impl Server {
    /// Serves a request.
    pub(super) fn call(&mut self, incoming: Incoming) {
        let caller = incoming.caller;
        let has_come = matches!(incoming.call, Some(Call::Subscribe(_)));
        match self.serve_call(incoming) {
            Ok(None) => {}
            Ok(Some(answer)) => self.core.reply(caller, Ok(answer)),
            Err(fault) => self.core.reply(caller, Err(fault)),
        }
        if has_come {
            // While the caller is busy with the pod's network and files. A failure shows again when they are needed.
            let _ = self.core.hierarchy();
        }
    }

    fn serve_call(&mut self, Incoming { caller, call, fds }: Incoming) -> Now {
        // A newer client's call has no place in our oneof and arrives as none at all.
        let call = call.ok_or_else(|| fault(Code::Unimplemented, "this monitor does not know the call"))?;
        match call {
            Call::Hello(_) => self.hello(),
            Call::GetState(_) => Ok(Some(Answer::State(self.state()))),
            Call::Subscribe(_) => {
                self.core.clients.subscribe(caller.client);
                Ok(Some(Answer::State(self.state())))
            }
            Call::AdoptPod(_) => Err(fault(Code::FailedPrecondition, "this monitor has its pod")),
            Call::RunSandbox(request) => self.run_sandbox(caller, request),
            Call::ReleaseSandbox(_) => {
                let none = || fault(Code::FailedPrecondition, "there is no sandbox");
                self.sandbox.as_mut().ok_or_else(none)?.release(&mut self.core, caller)?;
                self.check_stopped();
                Ok(None)
            }
            Call::StopSandbox(_) => self.stop_sandbox(caller),
            Call::Shutdown(_) => self.shutdown(),
            Call::CreateContainer(request) => self.create(caller, request),
            Call::StartContainer(r) => {
                let found = self.find(&r.container_id)?.1;
                found.container.start(found.core, caller)?;
                Ok(None)
            }
            Call::Signal(r) => {
                self.find(&r.container_id)?.1.container.signal(r.signal)?;
                done()
            }
            Call::KillContainer(r) => {
                let found = self.find(&r.container_id)?.1;
                found.container.kill(found.core);
                done()
            }
            Call::StopContainer(r) => {
                let found = self.find(&r.container_id)?.1;
                let timeout = Duration::from_millis(r.timeout_ms);
                found.container.stop(found.core, caller, r.signal, timeout);
                Ok(None)
            }
            Call::RemoveContainer(r) => self.remove(caller, &r.container_id),
            Call::ExecSync(r) => {
                let found = self.find(&r.container_id)?.1;
                let exec = Exec::capture(found.core, found.container, caller, r)?;
                self.enter_exec(exec)
            }
            Call::Exec(r) => {
                let found = self.find(&r.container_id)?.1;
                let exec = Exec::stream(found.core, found.container, caller, r, fds)?;
                self.enter_exec(exec)
            }
            Call::Cancel(r) => self.cancel(Caller { client: caller.client, id: r.call_id }),
            Call::Attach(r) => self.attach(caller, &r, fds),
            Call::ResizeTerminal(r) => self.resize(&r),
            Call::ReopenLog(r) => {
                self.find(&r.container_id)?.1.container.reopen_log()?;
                done()
            }
            Call::UpdateResources(r) => self.update(&r),
        }
    }

    fn hello(&self) -> Now {
        let pid = std::process::id();
        let start_time = process::identify(pid).map_or(0, |own| own.start_time);
        let (protocol, version) = (podmon::PROTOCOL, setup::VERSION.to_owned());
        Ok(Some(Answer::Hello(podmon::HelloReply { protocol, version, pid, start_time })))
    }

    fn state(&self) -> podmon::State {
        podmon::State {
            sandbox: self.sandbox.as_ref().filter(|sandbox| !sandbox.is_starting()).map(Sandbox::state),
            containers: self.containers.values().filter(|c| c.is_built()).map(Container::state).collect(),
        }
    }

    fn run_sandbox(&mut self, caller: Caller, request: podmon::RunSandbox) -> Now {
        if self.sandbox.is_some() {
            return Err(fault(Code::AlreadyExists, "the sandbox was made already"));
        }
        self.sandbox = Some(Sandbox::run(&mut self.core, &self.pause, caller, request)?);
        self.trim = true;
        Ok(None)
    }

    fn stop_sandbox(&mut self, caller: Caller) -> Now {
        let Some(sandbox) = &mut self.sandbox else { return done() };
        // Containers first: one may have been put into a cgroup outside of the pod's.
        for container in self.containers.values_mut().filter(|container| container.is_alive()) {
            container.kill(&mut self.core);
        }
        sandbox.stop(&mut self.core, caller);
        self.check_stopped();
        Ok(None)
    }

    fn shutdown(&mut self) -> Now {
        if self.sandbox.as_ref().is_some_and(|sandbox| !sandbox.is_over()) {
            return Err(fault(Code::FailedPrecondition, "the sandbox is not stopped"));
        }
        self.over = true;
        done()
    }

    fn create(&mut self, caller: Caller, request: podmon::CreateContainer) -> Now {
        if self.containers.values().any(|container| container.id() == request.container_id) {
            return Err(fault(Code::AlreadyExists, "the container was made already"));
        }
        let sandbox = self
            .sandbox
            .as_ref()
            .ok_or_else(|| fault(Code::FailedPrecondition, "the sandbox is not running"))?;
        let target = self.containers.values().find(|container| container.id() == request.target_container);
        let container = Container::create(&mut self.core, sandbox, target, caller, request)?;
        self.containers.insert(container.key(), container);
        // The parsed spec was far larger than what is kept of it.
        self.trim = true;
        Ok(None)
    }

    fn remove(&mut self, caller: Caller, id: &str) -> Now {
        let Ok((key, _)) = self.find(id) else { return done() };
        self.with_container(key, |container, core| container.remove(core, caller));
        Ok(None)
    }

    fn enter_exec(&mut self, exec: Exec) -> Now {
        self.execs.insert(exec.key, exec);
        Ok(None)
    }

    fn cancel(&mut self, call: Caller) -> Now {
        if let Some(exec) = self.execs.values_mut().find(|exec| exec.caller == call) {
            exec.kill(&mut self.core, false);
        }
        for container in self.containers.values_mut() {
            container.detach(&self.core, call);
        }
        done()
    }

    fn update(&mut self, request: &podmon::UpdateResources) -> Now {
        let cgroup = if request.container_id.is_empty() {
            self.sandbox.as_ref().and_then(Sandbox::cgroup)
        } else {
            self.find(&request.container_id)?.1.container.cgroup()
        };
        let cgroup = cgroup.ok_or_else(|| fault(Code::FailedPrecondition, "its cgroup is gone"))?;
        let degraded = apply_json(cgroup, &request.resources_json)?;
        Ok(Some(Answer::Done(podmon::Done { degraded })))
    }

    fn find(&mut self, id: &str) -> Outcome<(Key, Found<'_>)> {
        let container =
            self.containers.values_mut().find(|container| container.id() == id && container.is_built());
        match container {
            Some(container) => Ok((container.key(), Found { container, core: &mut self.core })),
            None => Err(Fault { object: id.into(), ..fault(Code::NotFound, "no such container") }),
        }
    }
}

/// A container with what its methods need.
struct Found<'a> {
    container: &'a mut Container,
    core: &'a mut Core,
}

// === attach ===

impl Server {
    fn attach(&mut self, caller: Caller, request: &podmon::Attach, fds: Vec<std::os::fd::OwnedFd>) -> Now {
        let (_, found) = self.find(&request.container_id)?;
        let Found { container, core } = found;
        if request.awaited {
            container.require_alive()?;
        } else {
            container.require_running()?;
        }
        let mut fds = fds.into_iter();
        let mut next = |wanted: bool| if wanted { fds.next() } else { None };
        let (stdin, stdout, stderr) = (next(request.stdin), next(request.stdout), next(request.stderr));
        let failed = |error: &std::io::Error| crate::fault::os_fault("attach", "", error);
        let key = core.new_key();
        let attachment = Attachment::new(key, caller, stdin, stdout, stderr, request.awaited)
            .map_err(|error| failed(&error.into()))?;
        container.attach(core, attachment).map_err(|error| failed(&error))?;
        Ok(None)
    }

    /// Something happened to an attached client, or a stdin has room again.
    pub(super) fn on_attach(&mut self, source: Source) {
        let core = &mut self.core;
        match source {
            Source::AttachOutput(key) => {
                if let Some(container) = self.containers.values_mut().find(|c| c.has_client(key)) {
                    container.on_client_room(core, key);
                }
            }
            Source::AttachInput(key) => {
                if let Some(container) = self.containers.values_mut().find(|c| c.has_client(key)) {
                    container.on_input(core, key);
                }
            }
            Source::InitStdin(key) => {
                if let Some(container) = self.containers.get_mut(&key) {
                    container.on_stdin_room(core);
                }
            }
            _ => {}
        }
    }

    fn resize(&mut self, request: &podmon::ResizeTerminal) -> Now {
        let (_, found) = self.find(&request.container_id)?;
        found.container.resize(request.rows, request.columns)?;
        done()
    }
}
