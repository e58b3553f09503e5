//! The program of a container or an exec: what of the spec's `process` concerns the process itself.

use std::{
    convert::Infallible,
    ffi::CString,
    path::{Path, PathBuf},
};

use husk_sys::{exec::StringArray, fds, procfs::Procfs};
use oci_spec::runtime::Process;
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

use crate::{
    Error, Failure, ResolvedUser, Result, SeccompFilter, Step, capabilities, capabilities::CapabilityPlan,
    failure::At, lookup, lsm::Labels, rlimits, rlimits::Limit,
};

/// Search path without PATH in the environment, as peers have it.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Everything about a program that can be known before the clone.
#[derive(Debug)]
pub(crate) struct Program {
    arguments: Vec<String>,
    environment: Vec<String>,
    pub(crate) cwd: PathBuf,
    umask: Mode,
    capabilities: CapabilityPlan,
    limits: Vec<Limit>,
    no_new_privileges: bool,
    oom_score_adj: Option<i32>,
    seccomp: Option<SeccompFilter>,
    pub(crate) labels: Labels,
}

impl Program {
    /// Checks a `process` of a spec.
    pub(crate) fn new(process: &Process, seccomp: Option<SeccompFilter>) -> Result<Self> {
        let arguments = process.args().clone().unwrap_or_default();
        if arguments.first().is_none_or(String::is_empty) {
            return Err(Error::InvalidPlan("the process has no command".to_owned()));
        }
        let environment = process.env().clone().unwrap_or_default();
        if let Some(bad) = arguments.iter().chain(&environment).find(|text| text.contains('\0')) {
            return Err(Error::InvalidPlan(format!("{bad:?} contains a NUL byte")));
        }
        let cwd = process.cwd();
        let cwd = if cwd.as_os_str().is_empty() { Path::new("/") } else { cwd };
        if !cwd.is_absolute() {
            return Err(Error::InvalidPlan(format!("working directory {} is not absolute", cwd.display())));
        }
        Ok(Self {
            arguments,
            environment,
            cwd: cwd.to_owned(),
            umask: Mode::from_raw_mode(process.user().umask().unwrap_or(0o022) & 0o777),
            capabilities: CapabilityPlan::new(process.capabilities().as_ref()),
            limits: rlimits::parse(process.rlimits().as_deref().unwrap_or_default())?,
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            oom_score_adj: process.oom_score_adj(),
            seccomp,
            labels: Labels::new(process)?,
        })
    }

    /// OOM score and hard limits: what needs the node's /proc and the privileges that end with a user namespace. Returns
    /// a warning.
    pub(crate) fn claim(&self) -> Result<Option<String>, Failure> {
        rlimits::make_room(&self.limits)?;
        let Some(score) = self.oom_score_adj else { return Ok(None) };
        let file = Procfs::host()
            .and_then(|proc| proc.open_self("oom_score_adj", OFlags::WRONLY))
            .at(Step::OomScore, "/proc/self/oom_score_adj")?;
        match rustix::io::write(&file, score.to_string().as_bytes()) {
            Ok(_) => Ok(None),
            // Lowering needs CAP_SYS_RESOURCE, which nested nodes lack; the score stays as it was inherited.
            Err(Errno::ACCESS | Errno::PERM) => {
                Ok(Some(format!("the OOM score could not be lowered to {score} without CAP_SYS_RESOURCE")))
            }
            Err(errno) => Err(errno).at(Step::OomScore, score),
        }
    }

    /// Resource limits and mode mask, once everything is set up. Returns a warning.
    pub(crate) fn restrict(&self) -> Result<Option<String>, Failure> {
        rlimits::apply(&self.limits)?;
        rustix::process::umask(self.umask);
        self.capabilities.unavailable()
    }

    /// Becomes the program, or says why not. The last steps, in the order that leaves the filter the fewest calls to
    /// allow: loading it needs CAP_SYS_ADMIN or no_new_privs, so without the latter the capability is dropped after it.
    pub(crate) fn execute(mut self, user: &ResolvedUser) -> Result<Infallible, Failure> {
        if !self.environment.iter().any(|entry| entry.starts_with("HOME=")) {
            self.environment.push(format!("HOME={}", user.home));
        }
        fds::cloexec_from(3).at(Step::Prepare, "close-on-exec")?;
        // Before the user changes: root may pass where the user may not. Where root may not (a root-squashed
        // network filesystem), the user may.
        let entered = enter(&self.cwd);
        let held = self.capabilities.take_user(user, self.seccomp.is_some() && !self.no_new_privileges)?;
        match entered {
            Err(failure) if failure.errno == Errno::ACCESS.raw_os_error() => enter(&self.cwd)?,
            other => other?,
        }
        let search = self.environment.iter().rev().find_map(|entry| entry.strip_prefix("PATH="));
        let path = lookup::executable(&self.arguments[0], search.unwrap_or(DEFAULT_PATH))?;
        let strings = |strings: Vec<String>| -> Result<_, Failure> {
            let strings: Result<Vec<_>, _> = strings.into_iter().map(CString::new).collect();
            strings.map(StringArray::new).map_err(|_| Failure::because(Step::Execute, &path, "NUL byte"))
        };
        let (arguments, environment) = (strings(self.arguments)?, strings(self.environment)?);
        let target =
            CString::new(path.as_str()).map_err(|_| Failure::because(Step::Execute, &path, "NUL byte"))?;

        if self.no_new_privileges {
            rustix::thread::set_no_new_privs(true).at(Step::NoNewPrivs, "")?;
            self.capabilities.settle(held)?;
            load(self.seccomp.as_ref())?;
        } else {
            let held = capabilities::raise(held)?;
            load(self.seccomp.as_ref())?;
            self.capabilities.settle(held)?;
        }
        let errno = husk_sys::exec::execve(&target, &arguments, &environment);
        Err(lookup::execve_failure(&path, errno))
    }
}

fn load(seccomp: Option<&SeccompFilter>) -> Result<(), Failure> {
    seccomp
        .map_or(Ok(()), |filter| husk_sys::seccomp::load(&filter.program, filter.flags).at(Step::Seccomp, ""))
}

/// Enters the working directory, and makes sure that it is inside the root: a path through a leaked descriptor
/// (`/proc/self/fd/7`) would lead out (CVE-2024-21626).
fn enter(cwd: &Path) -> Result<(), Failure> {
    rustix::process::chdir(cwd).at(Step::WorkDir, cwd.display())?;
    let actual = rustix::process::getcwd(Vec::new()).at(Step::WorkDir, cwd.display())?;
    // The kernel prefixes what the root does not reach with "(unreachable)".
    if actual.as_bytes().first() != Some(&b'/') {
        return Err(Failure::because(Step::WorkDir, cwd.display(), "it is outside the container's root"));
    }
    Ok(())
}
