//! Commands: what is asked for, and those that are remembered.

use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use husk_model::{Command, UserRequest, WindowSize};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::sync::watch;

use super::container::Container;
use crate::{
    api::request,
    error::{Failure, Result},
};

/// Commands that are remembered. The oldest that have ended are forgotten first.
const KEPT: usize = 4096;
/// How long a request waits for the terminal of a command.
const PATIENCE: Duration = Duration::from_secs(10);

request! {
    /// `POST /containers/{id}/exec`
    struct ExecCreate {
        /// Input goes in.
        attach_stdin: bool = "AttachStdin",
        /// Output comes out.
        attach_stdout: bool = "AttachStdout",
        /// Errors come out.
        attach_stderr: bool = "AttachStderr",
        /// Keys that let go.
        detach_keys: String = "DetachKeys",
        /// On a terminal.
        tty: bool = "Tty",
        /// `NAME=value`
        env: Option<Vec<String>> = "Env",
        /// Program and arguments.
        cmd: Option<crate::api::container::Words> = "Cmd",
        /// With every capability.
        privileged: bool = "Privileged",
        /// `user:group`
        user: String = "User",
        /// Working directory.
        working_dir: String = "WorkingDir",
        /// Rows and columns that it begins with.
        console_size: Option<(u16, u16)> = "ConsoleSize",
    }

    /// `POST /exec/{id}/start`
    struct ExecStart {
        /// Nobody waits for it.
        detach: bool = "Detach",
        /// Output comes as it is, not in frames.
        tty: bool = "Tty",
        /// Rows and columns that it begins with.
        console_size: Option<(u16, u16)> = "ConsoleSize",
    }
}

/// A command.
#[derive(Debug)]
pub(super) struct Exec {
    pub(super) id: String,
    pub(super) container: Arc<Container>,
    pub(super) wanted: ExecCreate,
    pub(super) state: Mutex<ExecState>,
    /// Whether a terminal, if it was to have one, is there or will not come any more.
    settled: watch::Sender<bool>,
}

/// What became of it.
#[derive(Debug, Default)]
pub(super) struct ExecState {
    pub(super) started: bool,
    pub(super) running: bool,
    /// The engine was asked for it.
    pub(super) begun: bool,
    pub(super) exit_code: Option<i32>,
    pub(super) size: Option<WindowSize>,
    /// Master of its terminal while it runs.
    pub(super) terminal: Option<Arc<OwnedFd>>,
}

/// All of them, oldest first.
#[derive(Debug, Default)]
pub(super) struct Execs(Mutex<(u64, BTreeMap<u64, Arc<Exec>>)>);

impl Execs {
    pub(super) fn keep(&self, exec: Arc<Exec>) -> Result<()> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.1.len() >= KEPT {
            let ended = all.1.iter().find(|(_, exec)| exec.state().exit_code.is_some()).map(|(at, _)| *at);
            let oldest = ended
                .ok_or_else(|| Failure::conflict(format!("{KEPT} commands were made and have not ended")))?;
            all.1.remove(&oldest);
        }
        all.0 += 1;
        let number = all.0;
        all.1.insert(number, exec);
        Ok(())
    }

    pub(super) fn named(&self, id: &str) -> Result<Arc<Exec>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |exec: &&Arc<Exec>| exec.id == id || id.len() >= 12 && exec.id.starts_with(id);
        let found = all.1.values().find(is_it).cloned();
        found.ok_or_else(|| {
            Failure::not_found(format!("No such exec instance: {}", id.chars().take(80).collect::<String>()))
        })
    }

    /// Ids of those of a container.
    pub(super) fn of(&self, container: &Container) -> Vec<String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let runs = |exec: &&Arc<Exec>| exec.container.id == container.id && exec.state().exit_code.is_none();
        all.1.values().filter(runs).map(|exec| exec.id.clone()).collect()
    }

    /// Forgets those of a container that is gone.
    pub(super) fn forget(&self, container: &Container) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.1.retain(|_, exec| exec.container.id != container.id);
    }
}

impl Exec {
    /// A command that is to be started.
    pub(super) fn new(
        id: String,
        container: Arc<Container>,
        wanted: ExecCreate,
        size: Option<WindowSize>,
    ) -> Self {
        let state = Mutex::new(ExecState { size, ..ExecState::default() });
        Self { id, container, wanted, state, settled: watch::Sender::new(false) }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, ExecState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn plan(&self) -> Command {
        let wanted = &self.wanted;
        let user = if wanted.user.is_empty() { None } else { UserRequest::parse(&wanted.user) };
        let mut env = wanted.env.clone().unwrap_or_default();
        if wanted.tty && !env.iter().any(|entry| entry.starts_with("TERM=")) {
            env.push("TERM=xterm".to_owned());
        }
        Command {
            argv: wanted.cmd.clone().unwrap_or_default().0,
            env,
            cwd: (!wanted.working_dir.is_empty()).then(|| wanted.working_dir.clone()),
            user,
            privileged: wanted.privileged,
        }
    }

    /// Sets the size of its terminal. That of a command that was started is awaited, as long as dockerd does it: whoever hears that
    /// the size is set may let the command look at it at once.
    pub(super) async fn set_size(&self, size: WindowSize) -> Result<()> {
        if self.note_size(size) {
            let mut settled = self.settled.subscribe();
            // One that is late has the size all the same once it is there.
            let _ = tokio::time::timeout(PATIENCE, settled.wait_for(|settled| *settled)).await;
        }
        let state = self.state();
        let Some(terminal) = &state.terminal else { return Ok(()) };
        resize(terminal, size)
    }

    /// Keeps a size for the terminal, and says whether that is on its way.
    fn note_size(&self, size: WindowSize) -> bool {
        let mut state = self.state();
        state.size = Some(size);
        self.wanted.tty && state.running && state.terminal.is_none()
    }

    /// It is over, or was never begun.
    pub(super) fn ended(&self, code: i32) {
        let mut state = self.state();
        (state.running, state.exit_code, state.terminal) = (false, Some(code), None);
        self.settled.send_replace(true);
    }

    /// Its terminal is there. A size that was asked for meanwhile (clients before Docker 23 do it by a request of its own) is not lost.
    pub(super) fn set_terminal(&self, terminal: Arc<OwnedFd>) {
        let mut state = self.state();
        if let Some(size) = state.size {
            // It can fail for a command that is over already.
            let _ = resize(&terminal, size);
        }
        state.terminal = Some(terminal);
        self.settled.send_replace(true);
    }
}

fn resize(terminal: &OwnedFd, size: WindowSize) -> Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).map_err(|errno| Failure::io("resize the terminal")(errno.into()))
}
