//! Executes one plugin once (CNI spec 1.1, section 2): parameters in the environment, configuration on stdin, result
//! or error as JSON on stdout. It runs in a process group of its own, which is killed at the time limit together with what
//! else works for the pod.

use std::{
    collections::HashSet,
    ffi::OsString,
    io,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::Command,
};

use super::strays;
use crate::NetworkError;

/// A result is a few KiB; chains with many routes may reach some hundred.
const MAX_STDOUT: u64 = 1 << 20;
/// As much of what it writes to stderr as is kept.
const MAX_STDERR: u64 = 16 << 10;
/// As much of a message as goes into an error.
const MAX_MESSAGE: usize = 2048;

/// A verb of the spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Add,
    Del,
    Status,
    Gc,
}

impl Verb {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Status => "STATUS",
            Self::Gc => "GC",
        }
    }
}

/// Where plugins are and how long each may take.
#[derive(Debug, Clone)]
pub(super) struct Runner {
    pub(super) bin_dirs: Vec<PathBuf>,
    pub(super) limit: Duration,
}

/// What is said about the pod; all absent for STATUS and GC.
#[derive(Debug, Clone, Default)]
pub(super) struct Parameters {
    pub(super) container_id: Option<String>,
    /// May be empty for DEL, when the namespace is gone.
    pub(super) netns: Option<OsString>,
    pub(super) interface: Option<String>,
    pub(super) args: Option<String>,
}

impl Runner {
    /// The executable of a plugin.
    ///
    /// # Errors
    /// [`NetworkError::CniPluginMissing`].
    pub(super) fn find(&self, plugin: &str) -> Result<PathBuf, NetworkError> {
        self.bin_dirs.iter().map(|dir| dir.join(plugin)).find(|path| path.is_file()).ok_or_else(|| {
            let directories = self.bin_dirs.iter().map(|dir| dir.display().to_string());
            NetworkError::CniPluginMissing {
                plugin: plugin.to_owned(),
                directories: directories.collect::<Vec<_>>().join(", "),
            }
        })
    }

    /// Runs a plugin; `None` when it succeeded without printing anything.
    ///
    /// # Errors
    /// Every way in which it can fail has its variant of [`NetworkError`].
    pub(super) async fn run(
        &self,
        plugin: &str,
        verb: Verb,
        parameters: &Parameters,
        config: &Value,
    ) -> Result<Option<Value>, NetworkError> {
        let mut command = Command::new(self.find(plugin)?);
        command.env("CNI_COMMAND", verb.name()).env("CNI_PATH", self.path());
        for (key, value) in [
            ("CNI_CONTAINERID", parameters.container_id.clone().map(OsString::from)),
            ("CNI_NETNS", parameters.netns.clone()),
            ("CNI_IFNAME", parameters.interface.clone().map(OsString::from)),
            ("CNI_ARGS", parameters.args.clone().map(OsString::from)),
        ] {
            match value {
                Some(value) => command.env(key, value),
                // The daemon's own environment must not speak for the pod.
                None => command.env_remove(key),
            };
        }
        let failed =
            |source| NetworkError::CniRun { plugin: plugin.to_owned(), command: verb.name(), source };
        let output = match self.output(command, config.to_string().into_bytes()).await.map_err(failed)? {
            Some(output) => output,
            None => {
                end_children(parameters).await;
                return Err(NetworkError::CniTimeout {
                    plugin: plugin.to_owned(),
                    command: verb.name(),
                    limit: self.limit,
                });
            }
        };
        read(plugin, verb, &output)
    }

    fn path(&self) -> OsString {
        // A directory with a colon in its name cannot be said in CNI_PATH at all; it is left out.
        std::env::join_paths(
            self.bin_dirs.iter().filter(|dir| !dir.as_os_str().as_encoded_bytes().contains(&b':')),
        )
        .unwrap_or_default()
    }

    /// `None` at the time limit.
    async fn output(&self, mut command: Command, config: Vec<u8>) -> io::Result<Option<Output>> {
        let mut child = command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let group = Group(child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())));
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A plugin that does not read its configuration will say so itself.
                let _ = stdin.write_all(&config).await;
            }
        };
        let talk = async {
            let ((), stdout, stderr) =
                tokio::join!(feed, bounded(stdout, MAX_STDOUT), bounded(stderr, MAX_STDERR));
            // Last of all: once it is waited for, the group's number may be another group's.
            let status = child.wait().await?;
            Ok::<_, io::Error>(Output { status, stdout: stdout?, stderr: stderr?.0 })
        };
        let talked = tokio::time::timeout(self.limit, talk).await;
        match talked {
            Ok(output) => {
                group.disarm();
                output.map(Some)
            }
            Err(_) => {
                drop(group);
                child.wait().await?;
                Ok(None)
            }
        }
    }
}

/// Kills the group when dropped: at the time limit, and when the daemon's runtime ends under it.
#[derive(Debug)]
struct Group(Option<Pid>);

impl Group {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            // The leader has not been waited for, so the number is still the group's.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

#[derive(Debug)]
struct Output {
    status: ExitStatus,
    /// And whether there was more.
    stdout: (Vec<u8>, bool),
    stderr: Vec<u8>,
}

/// Reads to the end but keeps only `limit` bytes, so that the writer is never blocked and we are never filled.
async fn bounded(pipe: Option<impl AsyncRead + Unpin>, limit: u64) -> io::Result<(Vec<u8>, bool)> {
    let mut kept = Vec::new();
    let Some(mut pipe) = pipe else { return Ok((kept, false)) };
    (&mut pipe).take(limit).read_to_end(&mut kept).await?;
    let more = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await? > 0;
    Ok((kept, more))
}

/// CNI spec, "Error".
#[derive(Debug, Deserialize)]
struct PluginError {
    code: u32,
    #[serde(default)]
    msg: String,
    #[serde(default)]
    details: String,
}

fn read(plugin: &str, verb: Verb, output: &Output) -> Result<Option<Value>, NetworkError> {
    if !output.status.success() {
        return Err(failure(plugin, verb, output));
    }
    let unusable =
        |reason: String| NetworkError::CniResult { plugin: plugin.to_owned(), command: verb.name(), reason };
    if output.stdout.1 {
        return Err(unusable(format!("more than {MAX_STDOUT} bytes")));
    }
    if output.stdout.0.trim_ascii().is_empty() {
        return Ok(None);
    }
    match serde_json::from_slice(&output.stdout.0) {
        Ok(value) => Ok(Some(value)),
        // Only ADD has a result; what others print is noise.
        Err(_) if verb != Verb::Add => Ok(None),
        Err(error) => Err(unusable(error.to_string())),
    }
}

/// The end of a plugin that did not say why.
fn silent_end(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("it was killed by signal {signal}"),
        (None, code) => format!("it ended with code {} and said nothing", code.unwrap_or_default()),
    }
}

/// Of a plugin that hung: children that left its process group would work on for a pod that has given up on them.
async fn end_children(parameters: &Parameters) {
    let Some(id) = parameters.container_id.as_deref().and_then(|id| id.parse().ok()) else { return };
    let pods = HashSet::from([id]);
    // A panic there is no reason to fail otherwise than by the time limit.
    let _ = tokio::task::spawn_blocking(move || strays::kill(&pods)).await;
}

fn failure(plugin: &str, verb: Verb, output: &Output) -> NetworkError {
    let (code, message) = match serde_json::from_slice::<PluginError>(&output.stdout.0) {
        Ok(error) if error.details.is_empty() => (Some(error.code), error.msg),
        Ok(error) => (Some(error.code), format!("{}: {}", error.msg, error.details)),
        Err(_) => {
            let text = if output.stderr.trim_ascii().is_empty() { &output.stdout.0 } else { &output.stderr };
            let text = String::from_utf8_lossy(text).trim().to_owned();
            (None, if text.is_empty() { silent_end(output.status) } else { text })
        }
    };
    let message = message.chars().take(MAX_MESSAGE).map(|c| if c.is_control() { ' ' } else { c }).collect();
    NetworkError::CniFailed { plugin: plugin.to_owned(), command: verb.name(), code, message }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, path::Path};

    use husk_model::PodSandboxId;
    use serde_json::json;

    use super::*;

    fn has_ended(mark: &Path) -> bool {
        let pid = fs::read_to_string(mark).unwrap();
        fs::read_to_string(format!("/proc/{}/stat", pid.trim())).map_or(true, |stat| stat.contains(") Z"))
    }

    #[tokio::test]
    async fn a_plugin_that_hangs_is_killed_with_a_child_that_left_its_group() {
        let dir = tempfile::tempdir().unwrap();
        let (plugin, child) = (dir.path().join("plugin"), dir.path().join("child"));
        let script = format!(
            "#!/bin/sh\nsetsid sh -c 'echo $$ >{}; exec sleep 1000' &\necho $$ >{}\nexec sleep 1000\n",
            child.display(),
            plugin.display(),
        );
        fs::write(dir.path().join("hang"), script).unwrap();
        fs::set_permissions(dir.path().join("hang"), fs::Permissions::from_mode(0o755)).unwrap();
        let parameters =
            Parameters { container_id: Some(PodSandboxId::generate().to_string()), ..Default::default() };
        let mut limit = Duration::from_millis(500);
        // A busy node may need more than the first limit to get to where it hangs.
        while !(fs::exists(&plugin).unwrap() && fs::exists(&child).unwrap()) {
            let runner = Runner { bin_dirs: vec![dir.path().to_owned()], limit };
            let error = runner.run("hang", Verb::Add, &parameters, &json!({})).await.unwrap_err();
            assert!(matches!(error, NetworkError::CniTimeout { .. }), "{error}");
            limit *= 2;
        }
        assert!(has_ended(&plugin) && has_ended(&child));
    }
}
