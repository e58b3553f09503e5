//! Programs that have credentials: `docker-credential-<name> get`, the host on standard input, an answer in JSON
//! (docker-credential-helpers).

use std::{
    ffi::OsString,
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Command,
};
use zeroize::Zeroizing;

use crate::{
    json::{self, object},
    registry::credentials::Auth,
};

/// Time for an answer: some ask a service of a cloud.
const TIME: Duration = Duration::from_secs(30);
/// Longest answer, in bytes.
const ANSWER_MAX: u64 = 64 << 10;
/// The user name that stands for an identity token.
const TOKEN: &str = "<token>";
/// What a helper of the environment gets to see: where programs and its settings are, and how to reach a service.
const ENVIRONMENT: [&str; 8] =
    ["PATH", "HOME", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"];

#[derive(Default)]
struct Answer {
    username: String,
    secret: String,
}
object!(Answer { "Username" => username, "Secret" => secret });

/// Asks the helper `name` for the credentials of `server`; `None` when it has none.
///
/// # Errors
/// In words, without what the helper said when it succeeded.
pub(super) async fn ask(name: &str, server: &str, dir: Option<&Path>) -> Result<Option<Auth>, String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || !name.chars().all(is_name) {
        return Err(format!(
            "credential helper {name:?}: letters, digits, dots, dashes and underscores make its name"
        ));
    }
    let program = format!("docker-credential-{name}");
    let path = find(&program, dir).ok_or_else(|| match dir {
        Some(dir) => format!("{program} is not in {} (images.credential_helper_dir)", dir.display()),
        None => format!("{program} is not in the PATH of huskd; set images.credential_helper_dir"),
    })?;
    let failed = |error: io::Error| format!("{}: {error}", path.display());
    let (is_success, answer) = match tokio::time::timeout(TIME, run(&path, server)).await {
        Ok(ran) => ran.map_err(failed)?,
        Err(_) => return Err(format!("{} did not answer within {TIME:?}", path.display())),
    };
    if !is_success {
        // What a helper says of a failure is for people.
        let said = String::from_utf8_lossy(&answer);
        if said.contains("credentials not found") {
            return Ok(None);
        }
        let said: String = said.trim().chars().filter(|c| !c.is_control()).take(200).collect();
        return Err(format!("{} failed: {said}", path.display()));
    }
    let Answer { username, secret } = json::read(&answer)
        .map_err(|_| format!("{} answered something else than credentials", path.display()))?;
    Ok(Some(match username.as_str() {
        TOKEN => Auth { identity_token: secret, ..Auth::default() },
        _ => Auth { username, password: secret, ..Auth::default() },
    }))
}

/// The program in `dir`, else in an absolute directory of `PATH`.
fn find(program: &str, dir: Option<&Path>) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = match dir {
        Some(dir) => vec![dir.to_owned()],
        None => std::env::split_paths(&path).filter(|dir| dir.is_absolute()).collect(),
    };
    let is_program = |path: &PathBuf| {
        path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    dirs.into_iter().map(|dir| dir.join(program)).find(is_program)
}

/// Runs it; whether it succeeded, and what it printed.
async fn run(path: &Path, server: &str) -> io::Result<(bool, Zeroizing<Vec<u8>>)> {
    let environment: Vec<(&str, OsString)> =
        ENVIRONMENT.iter().filter_map(|name| Some((*name, std::env::var_os(name)?))).collect();
    let mut child = Command::new(path)
        .arg("get")
        .env_clear()
        .envs(environment)
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let mut group = Group(child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())));
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let feed = async {
        if let Some(mut stdin) = stdin {
            // One that does not read fails by itself.
            let _ = stdin.write_all(format!("{server}\n").as_bytes()).await;
        }
    };
    let read = async {
        let mut answer = Zeroizing::new(Vec::with_capacity(ANSWER_MAX as usize + 1));
        if let Some(stdout) = stdout {
            stdout.take(ANSWER_MAX + 1).read_to_end(&mut answer).await?;
        }
        Ok::<_, io::Error>(answer)
    };
    let ((), answer) = tokio::join!(feed, read);
    let answer = answer?;
    if answer.len() as u64 > ANSWER_MAX {
        return Err(io::Error::other(format!("it answered more than {ANSWER_MAX} bytes")));
    }
    let status = child.wait().await?;
    // Once it is waited for, the group's number may be another group's.
    group.0 = None;
    Ok((status.success(), answer))
}

/// Kills the group when dropped: at the time limit, and when the pull is given up.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            // The leader has not been waited for, so the number is still the group's.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn helper(dir: &Path, name: &str, script: &str) {
        let path = dir.join(format!("docker-credential-{name}"));
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[tokio::test]
    async fn helpers_answer_fail_and_misbehave() {
        let dir = tempfile::tempdir().unwrap();
        let ask = async |name: &str| super::ask(name, "r.example", Some(dir.path())).await;
        helper(
            dir.path(),
            "good",
            r#"[ "$1" = get ] || exit 9; read -r server; printf '{"ServerURL":"%s","Username":"u-%s","Secret":"s%s"}' "$server" "$server" "$USER""#,
        );
        let found = ask("good").await.unwrap().unwrap();
        assert_eq!((found.username.as_str(), found.password.as_str()), ("u-r.example", "s"));
        helper(dir.path(), "token", r#"echo '{"Username":"<token>","Secret":"t"}'"#);
        assert_eq!(ask("token").await.unwrap().unwrap().identity_token, "t");
        helper(dir.path(), "none", "echo credentials not found in native keychain; exit 1");
        assert_eq!(ask("none").await, Ok(None));
        helper(dir.path(), "fails", "echo the vault is closed; exit 1");
        helper(dir.path(), "noise", r#"echo '{"Username":"u","Secret":"hidden"'"#);
        helper(dir.path(), "endless", "yes hidden");
        for (name, word) in [
            ("fails", "the vault is closed"),
            ("noise", "something else than credentials"),
            ("endless", "more than 65536 bytes"),
            ("absent", "credential_helper_dir"),
            ("../good", "its name"),
            ("", "its name"),
        ] {
            let error = ask(name).await.unwrap_err();
            assert!(error.contains(word) && !error.contains("hidden"), "{name}: {error}");
        }
    }
}
