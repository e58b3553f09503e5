//! The programs that tests run: husk's own from the build, and the real clients pinned in hack/tools.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
};

/// What a program printed and how it ended.
#[derive(Debug)]
pub struct Output {
    command: String,
    status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Whether the program succeeded.
    pub fn is_success(&self) -> bool {
        self.status.success()
    }

    /// How the program ended; none by a signal.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Standard output of a program that must have succeeded.
    pub fn success(self) -> String {
        assert!(
            self.status.success(),
            "{} ended with {}:\n{}{}",
            self.command,
            self.status,
            self.stdout,
            self.stderr
        );
        self.stdout
    }

    /// Both outputs of a program that must have failed.
    pub fn failure(self) -> String {
        assert!(!self.status.success(), "{} succeeded:\n{}", self.command, self.stdout);
        self.stdout + &self.stderr
    }
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Output {
    let text = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{text}: {error}"));
    Output {
        command: text,
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository's root")
}

/// A program of this build, from `target/dist` or `$HUSK_DIST`.
pub fn dist(name: &str) -> PathBuf {
    let path =
        std::env::var_os("HUSK_DIST").map_or_else(|| root().join("target/dist"), PathBuf::from).join(name);
    assert!(path.exists(), "{} is missing: run `make build`", path.display());
    path
}

/// The path of a pinned tool, built by hack/tools when it is not there yet.
pub fn tool(name: &str) -> PathBuf {
    PathBuf::from(run(Command::new(root().join("hack/tools/path")).arg(name)).success().trim())
}
