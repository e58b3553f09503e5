//! Hooks (OCI runtime-spec, config: POSIX-platform Hooks): programs of whoever made the bundle, run at points of a container's life
//! with its state on standard input.
//!
//! A hook gets what its [`Setting`] says and nothing besides: no descriptor but its standard streams, no blocked signal.

use std::{
    fs::File,
    io::{Seek as _, Write as _},
    os::{
        fd::OwnedFd,
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{MemfdFlags, Mode, OFlags},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal, umask},
};

/// Most of what a hook says that is kept for the error.
const MAX_WORDS: usize = 4096;
/// Most that is read of it before its deadline is looked at again: what a pipe holds (pipe(7)).
const TURN: usize = 64 << 10;

/// One hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// Absolute.
    pub path: PathBuf,
    /// With the name that the program sees of itself; empty is its path alone.
    pub args: Vec<String>,
    /// `NAME=value`; `None` is that of whoever runs it.
    pub env: Option<Vec<String>>,
    /// After which it is killed and has failed.
    pub timeout: Option<Duration>,
}

/// What the hooks of one point find around them.
#[derive(Debug, Clone, Default)]
pub struct Setting {
    /// Working directory; none is the caller's.
    pub dir: Option<PathBuf>,
    /// Mode mask; none is the caller's.
    pub umask: Option<Mode>,
    /// Whether those behind a failing one run all the same (runtime-spec, Lifecycle: of poststop hooks they do).
    pub all: bool,
}

/// Runs the hooks of one point in order, and stops at the first that fails unless its setting says otherwise.
///
/// # Errors
/// `error running NAME hook #N: why`, as runc says it; with [`Setting::all`] of the first that failed.
pub fn run_hooks(name: &str, hooks: &[Hook], state: &[u8], setting: &Setting) -> Result<(), String> {
    let mut first = Ok(());
    for (number, hook) in hooks.iter().enumerate() {
        let ran =
            run(hook, state, setting).map_err(|why| format!("error running {name} hook #{number}: {why}"));
        if ran.is_err() && !setting.all {
            return ran;
        }
        first = first.and(ran);
    }
    first
}

fn run(hook: &Hook, state: &[u8], setting: &Setting) -> Result<(), String> {
    let mut command = Command::new(&hook.path);
    if let Some((own, rest)) = hook.args.split_first() {
        command.arg0(own).args(rest);
    }
    if let Some(env) = &hook.env {
        command.env_clear().envs(env.iter().filter_map(|entry| entry.split_once('=')));
    }
    if let Some(dir) = &setting.dir {
        command.current_dir(dir);
    }
    let stdin = input(state).map_err(|error| format!("its state: {error}"))?;
    command.stdin(stdin).stdout(Stdio::null()).stderr(Stdio::piped());
    // It is the process's, whose only thread we are.
    let own = setting.umask.map(umask);
    let spawned = command.spawn();
    own.map(umask);
    let mut child = spawned.map_err(|error| format!("{}: {error}", hook.path.display()))?;
    let words = child.stderr.take().map(OwnedFd::from);
    let outcome = wait(&mut child, words.as_ref(), hook.timeout);
    if outcome.is_err() {
        // Reaped in any case; it is ours, so its number is nobody else's.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    let words = outcome?;
    if status.success() {
        return Ok(());
    }
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, signal) => killed_by(signal.unwrap_or_default()),
    };
    Err(format!("{how}, stderr: {}", String::from_utf8_lossy(&words).trim()))
}

/// A file, not a pipe: a hook that does not read its state holds nobody up.
fn input(state: &[u8]) -> std::io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create("husk-hook", MemfdFlags::CLOEXEC)?);
    file.write_all(state)?;
    file.rewind()?;
    Ok(file)
}

/// Waits for its end, and returns what it said. What it leaves running may keep the pipe open: that is not waited for.
fn wait(child: &mut Child, words: Option<&OwnedFd>, timeout: Option<Duration>) -> Result<Vec<u8>, String> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or("no such process")?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|errno| errno.to_string())?;
    if let Some(words) = words {
        rustix::fs::fcntl_setfl(words, OFlags::NONBLOCK).map_err(|errno| errno.to_string())?;
    }
    // One that no clock reaches is none.
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let mut said = Vec::new();
    let mut open = words.is_some();
    loop {
        let mut fds = vec![PollFd::new(&pidfd, PollFlags::IN)];
        fds.extend(words.filter(|_| open).map(|words| PollFd::new(words, PollFlags::IN)));
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            let _ = pidfd_send_signal(&pidfd, Signal::KILL);
            return Err(format!("it did not end within {:?}", timeout.unwrap_or_default()));
        }
        let left = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        });
        match poll(&mut fds, left.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.to_string()),
        }
        let ended = !fds[0].revents().is_empty();
        if let Some(words) = words.filter(|_| open) {
            open = listen(words, &mut said);
        }
        if ended {
            return Ok(said);
        }
    }
}

/// Reads what is there, up to [`TURN`]; false at the end. What is beyond the limit is read and forgotten, so that a hook never waits
/// for us; and we never for one that says more and more.
fn listen(words: &OwnedFd, said: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 4096];
    for _ in 0..TURN / buffer.len() {
        match rustix::io::read(words, &mut buffer) {
            Ok(0) => return false,
            Ok(count) => {
                let room = MAX_WORDS.saturating_sub(said.len());
                said.extend_from_slice(&buffer[..count.min(room)]);
            }
            Err(Errno::INTR) => {}
            Err(errno) => return errno == Errno::AGAIN,
        }
    }
    true
}

/// By a filter as often as not, which a number says to nobody.
fn killed_by(signal: i32) -> String {
    match signal {
        number if number == rustix::process::Signal::SYS.as_raw() => "signal: bad system call".to_owned(),
        other => format!("signal {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, timeout: Option<Duration>) -> Hook {
        let args = ["sh", "-c", script].map(str::to_owned).to_vec();
        Hook { path: "/bin/sh".into(), args, env: None, timeout }
    }

    #[test]
    fn a_hook_reads_the_state_and_its_words_are_in_the_error() {
        let good = shell("read state; test \"$state\" = '{}'", None);
        let bad = shell("cat >&2; exit 3", None);
        run_hooks("prestart", std::slice::from_ref(&good), b"{}\n", &Setting::default()).unwrap();
        let error = run_hooks("prestart", &[good, bad], b"{}\n", &Setting::default()).unwrap_err();
        assert_eq!(error, "error running prestart hook #1: exit status 3, stderr: {}");
    }

    #[test]
    fn a_hook_that_does_not_end_is_ended_and_one_that_floods_is_not_held_up() {
        let error = run_hooks(
            "poststart",
            &[shell("exec sleep 1000", Some(Duration::from_millis(50)))],
            b"",
            &Setting::default(),
        )
        .unwrap_err();
        assert!(error.contains("did not end within 50ms"), "{error}");
        run_hooks("poststart", &[shell("head -c 1000000 /dev/zero >&2", None)], b"", &Setting::default())
            .unwrap();
    }

    #[test]
    fn what_a_hook_leaves_running_is_not_waited_for() {
        run_hooks("poststop", &[shell("sleep 1000 & echo $! >&2; kill $!", None)], b"", &Setting::default())
            .unwrap();
    }

    #[test]
    fn the_environment_is_the_hooks_own() {
        let env = Some(vec!["ONE=two".to_owned()]);
        let hook = Hook { env, ..shell("test \"$ONE\" = two && test -z \"$CARGO\"", None) };
        run_hooks("prestart", &[hook], b"", &Setting::default()).unwrap();
    }

    /// Its words keep the pipe full, and the deadline is looked at all the same.
    #[test]
    fn a_hook_that_floods_without_end_is_ended() {
        let flood = shell("exec cat /dev/zero >&2", Some(Duration::from_millis(50)));
        let error = run_hooks("poststart", &[flood], b"", &Setting::default()).unwrap_err();
        assert!(error.contains("did not end within 50ms"), "{error}");
    }

    #[test]
    fn a_deadline_that_no_clock_reaches_is_none() {
        for seconds in [i64::MAX as u64, u64::MAX] {
            let hook = shell("true", Some(Duration::from_secs(seconds)));
            run_hooks("prestart", &[hook], b"", &Setting::default()).unwrap();
        }
    }

    #[test]
    fn a_hook_is_where_it_is_told_to_be() {
        let dir = std::env::temp_dir().canonicalize().unwrap();
        let script = format!("test \"$(pwd)\" = {}", dir.display());
        let setting = Setting { dir: Some(dir), ..Setting::default() };
        run_hooks("createContainer", &[shell(&script, None)], b"", &setting).unwrap();
    }

    #[test]
    fn where_all_are_to_run_one_that_fails_is_told_and_stops_none() {
        let file = std::env::temp_dir().join(format!("husk-hook-{}", std::process::id()));
        let hooks =
            [shell("exit 1", None), shell("exit 2", None), shell(&format!("touch {}", file.display()), None)];
        let error =
            run_hooks("poststop", &hooks, b"", &Setting { all: true, ..Setting::default() }).unwrap_err();
        assert!(error.contains("hook #0: exit status 1"), "{error}");
        std::fs::remove_file(&file).unwrap();
    }
}
