//! Commands in containers: `/containers/{id}/exec` and `/exec/{id}/...`.

use std::{os::fd::OwnedFd, sync::Arc};

use husk_model::{ContainerId, UserRequest, WindowSize};
use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::{
    container::Container,
    execs::{Exec, ExecCreate, ExecStart},
    store::Store,
    streams::{DetachKeys, Ours, Pipe, Typed, Wants, copy_input, copy_output, pipes},
};
use crate::{
    error::{Failure, Result},
    http::{Answer, Call, Frames, Hijacked, MULTIPLEXED, Output, RAW, Version, empty, json},
};

impl Store {
    /// Makes a command, to be started later.
    ///
    /// # Errors
    /// 409 when the container does not run, 400 when there is no command.
    pub(super) fn create_exec(&self, container: &Arc<Container>, wanted: ExecCreate) -> Result<Answer> {
        container.going()?;
        let words = wanted.cmd.as_ref().map(|words| &words.0[..]).unwrap_or_default();
        let texts = words.iter().chain(wanted.env.iter().flatten()).chain([&wanted.working_dir]);
        if words.first().is_none_or(String::is_empty) {
            return Err(Failure::bad("No exec command specified"));
        }
        if texts.into_iter().any(|text| text.contains('\0')) {
            return Err(Failure::bad("a command, its environment or directory contains a NUL"));
        }
        if !wanted.working_dir.is_empty() && !wanted.working_dir.starts_with('/') {
            return Err(Failure::bad("WorkingDir must be an absolute path"));
        }
        if !wanted.user.is_empty() && UserRequest::parse(&wanted.user).is_none() {
            return Err(Failure::bad(format!(
                "User {:?} is no user",
                wanted.user.chars().take(80).collect::<String>()
            )));
        }
        DetachKeys::parse(&wanted.detach_keys).ok_or_else(|| Failure::bad("Invalid detach keys provided"))?;
        let id = ContainerId::generate().to_string();
        let size = wanted.console_size.map(|(rows, columns)| WindowSize { columns, rows });
        let line = words.join(" ");
        self.0.execs.keep(Arc::new(Exec::new(id.clone(), Arc::clone(container), wanted, size)))?;
        self.publish(&container.record(), &format!("exec_create: {line}"), [("execID", id.clone())]);
        json(StatusCode::CREATED, &json!({ "Id": id }))
    }

    /// Starts one.
    ///
    /// # Errors
    /// 409 when it was started or its container does not run.
    pub(super) fn start_exec(&self, id: &str, asked: ExecStart, call: &Call) -> Result<Answer> {
        let exec = self.0.execs.named(id)?;
        let (_, container) = exec.container.going()?;
        {
            let mut state = exec.state();
            if state.started {
                return Err(Failure::conflict(format!("Error: Exec command {} has already run", exec.id)));
            }
            (state.started, state.running) = (true, true);
            if let Some((rows, columns)) = asked.console_size {
                state.size = Some(WindowSize { columns, rows });
            }
        }
        let wanted = &exec.wanted;
        let wants = match asked.detach {
            true => Wants { stdin: false, stdout: false, stderr: false },
            false => Wants {
                stdin: wanted.attach_stdin,
                stdout: wanted.attach_stdout,
                stderr: wanted.attach_stderr && !wanted.tty,
            },
        };
        let unbegun = Unbegun(Arc::clone(&exec));
        if asked.detach {
            unbegun.begin(self, container, wants)?;
            return Ok(empty(StatusCode::OK));
        }
        let keys = DetachKeys::parse(&wanted.detach_keys);
        // As dockerd: the start says how the client reads, the creation what the command has.
        let (tty, framed) = (wanted.tty, !asked.tty);
        let store = self.clone();
        let session = async move |mut io: Hijacked| match unbegun.begin(&store, container, wants) {
            Ok((streams, over)) => session(io, streams, over, wants, keys.filter(|_| tty), framed).await,
            Err(failure) => {
                let mut frames = Frames::new(&mut io.writer, framed);
                let _ = frames.write(Output::Out, format!("{}\r\n", failure.message()).as_bytes()).await;
                let _ = frames.end().await;
            }
        };
        let multiplexed = framed && call.version >= Version::v1(42);
        Ok(call.hijack(if multiplexed { MULTIPLEXED } else { RAW }, session))
    }

    fn run_on_pipes(&self, exec: &Arc<Exec>, id: ContainerId, wants: Wants) -> Result<(Streams, Over)> {
        let (ours, theirs) = pipes(wants).map_err(Failure::io("make pipes for a command"))?;
        let (engine, command) = (Arc::clone(&self.0.shared.engine), exec.plan());
        let ended = async move { engine.exec(id.as_str(), command, theirs).await };
        let (say, over) = oneshot::channel();
        self.follow_exec(exec, say, ended);
        Ok((Streams::Pipes(ours), over))
    }

    fn run_on_terminal(&self, exec: &Arc<Exec>, id: ContainerId) -> Result<(Streams, Over)> {
        let (engine, command, size) = (Arc::clone(&self.0.shared.engine), exec.plan(), exec.state().size);
        let (give, master) = oneshot::channel();
        let own = Arc::clone(exec);
        let on_master = move |master: OwnedFd| {
            let master = Arc::new(master);
            own.set_terminal(Arc::clone(&master));
            let _ = give.send(master);
        };
        let ended = async move { engine.exec_terminal(id.as_str(), command, size, on_master).await };
        let (say, over) = oneshot::channel();
        self.follow_exec(exec, say, ended);
        Ok((Streams::Terminal(master), over))
    }

    /// Runs it to its end, whoever watches.
    fn follow_exec(
        &self,
        exec: &Arc<Exec>,
        say: oneshot::Sender<Option<String>>,
        ended: impl Future<Output = husk_pods::Result<i32>> + Send + 'static,
    ) {
        let (exec, store) = (Arc::clone(exec), self.clone());
        tokio::spawn(async move {
            let (code, failure) = match ended.await {
                Ok(code) => (code, None),
                Err(error) => {
                    let failure = Failure::from(error);
                    (NOT_EXECUTED, Some(failure.message().to_owned()))
                }
            };
            exec.ended(code);
            let _ = say.send(failure);
            let attributes = [("execID", exec.id.clone()), ("exitCode", code.to_string())];
            store.publish(&exec.container.record(), "exec_die", attributes);
        });
    }

    /// `POST /exec/{id}/resize`
    ///
    /// # Errors
    /// 404; 400 without a size.
    pub(super) async fn resize_exec(&self, id: &str, size: WindowSize) -> Result<Answer> {
        self.0.execs.named(id)?.set_size(size).await?;
        Ok(empty(StatusCode::OK))
    }

    /// `GET /exec/{id}/json`
    ///
    /// # Errors
    /// 404.
    pub(super) fn inspect_exec(&self, id: &str) -> Result<Value> {
        let exec = self.0.execs.named(id)?;
        let (wanted, state) = (&exec.wanted, exec.state());
        let words = wanted.cmd.clone().unwrap_or_default().0;
        Ok(json!({
            "CanRemove": false,
            "ContainerID": exec.container.id,
            "DetachKeys": wanted.detach_keys,
            "ExitCode": state.exit_code,
            "ID": exec.id,
            "OpenStderr": wanted.attach_stderr,
            "OpenStdin": wanted.attach_stdin,
            "OpenStdout": wanted.attach_stdout,
            "ProcessConfig": {
                "tty": wanted.tty,
                "entrypoint": words.first(),
                "arguments": words.get(1..).unwrap_or_default(),
                "privileged": wanted.privileged,
                "user": wanted.user,
            },
            "Running": state.running,
            "Pid": 0,
        }))
    }
}

/// A command that is to be begun. One whose client is gone before it could be is over.
struct Unbegun(Arc<Exec>);

impl Unbegun {
    fn begin(self, store: &Store, container: ContainerId, wants: Wants) -> Result<(Streams, Over)> {
        let exec = &self.0;
        store.publish(&exec.container.record(), "exec_start", [("execID", exec.id.clone())]);
        let begun = match exec.wanted.tty {
            true => store.run_on_terminal(exec, container),
            false => store.run_on_pipes(exec, container, wants),
        }?;
        exec.state().begun = true;
        Ok(begun)
    }
}

impl Drop for Unbegun {
    fn drop(&mut self) {
        let begun = self.0.state().begun;
        if !begun {
            self.0.ended(NOT_EXECUTED);
        }
    }
}

/// Exit code of a command that could not be executed, for whatever reason, as dockerd has it.
const NOT_EXECUTED: i32 = 126;

/// Resolves with why it could not be executed, if so, when it is over.
type Over = oneshot::Receiver<Option<String>>;

enum Streams {
    Pipes(Ours),
    Terminal(oneshot::Receiver<Arc<OwnedFd>>),
}

async fn session(
    io: Hijacked,
    streams: Streams,
    over: Over,
    wants: Wants,
    keys: Option<DetachKeys>,
    framed: bool,
) {
    let Hijacked { reader, writer, presence } = io;
    let mut frames = Frames::new(writer, framed);
    let ours = match streams {
        Streams::Pipes(ours) => Some(ours),
        Streams::Terminal(master) => tokio::select! {
            ours = terminal(master, wants) => ours,
            () = presence.gone() => return,
        },
    };
    if let Some(ours) = ours {
        let input = copy_input(reader, ours.stdin, keys, &presence);
        let output = copy_output(ours.stdout, ours.stderr, &mut frames);
        tokio::pin!(input, output);
        tokio::select! {
            typed = &mut input => {
                if typed == Typed::Detached {
                    return;
                }
                // The command goes on all the same.
                tokio::select! {
                    _ = &mut output => {}
                    () = presence.gone() => return,
                }
            }
            _ = &mut output => {}
        }
    }
    let over = tokio::select! {
        over = over => over,
        // The command goes on all the same.
        () = presence.gone() => return,
    };
    // What could not be executed says so where its output would have been.
    if let Ok(Some(failure)) = over {
        let _ = frames.write(Output::Out, format!("{failure}\r\n").as_bytes()).await;
    }
    let _ = frames.end().await;
}

/// Our ends of a terminal, once it is there.
async fn terminal(master: oneshot::Receiver<Arc<OwnedFd>>, wants: Wants) -> Option<Ours> {
    let master = master.await.ok()?;
    let pipe = || Pipe::new(master.try_clone().ok()?).ok();
    Some(Ours {
        stdin: if wants.stdin { pipe() } else { None },
        stdout: if wants.stdout { pipe() } else { None },
        stderr: None,
    })
}
