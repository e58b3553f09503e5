//! The program of a container or an exec: what of the spec's `process` concerns the process itself.

use std::{
    collections::HashMap,
    convert::Infallible,
    ffi::CString,
    os::{fd::RawFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

use husk_model::SeccompFilter;
use husk_sys::{exec::StringArray, fds, procfs::Procfs};
use oci_spec::runtime::Process;
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    process::DumpableBehavior,
};

use crate::{
    Account, Error, Failure, Result, Step, capabilities,
    capabilities::{CapabilityPlan, Held},
    child::Link,
    failure::At,
    lookup,
    lsm::Labels,
    rlimits,
    rlimits::Limit,
};

/// Search path without PATH in the environment, as peers have it.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Everything about a program that can be known before the clone.
#[derive(Debug)]
pub(crate) struct Program {
    arguments: Vec<String>,
    environment: Vec<Vec<u8>>,
    pub(crate) cwd: PathBuf,
    umask: Mode,
    capabilities: CapabilityPlan,
    limits: Vec<Limit>,
    no_new_privileges: bool,
    oom_score_adj: Option<i32>,
    seccomp: Option<SeccompFilter>,
    pub(crate) labels: Labels,
    /// Whether it gets a session keyring of its own.
    pub(crate) new_keyring: bool,
}

/// The descriptors from 3 on that a process is given.
pub(crate) fn inherited(count: u32) -> impl Iterator<Item = RawFd> {
    (3..3_u32.saturating_add(count)).filter_map(|fd| RawFd::try_from(fd).ok())
}

impl Program {
    /// Checks a `process` of a spec; for `raw_env` see [`crate::ExecPlan::raw_env`].
    pub(crate) fn new(
        process: &Process,
        raw_env: &[Vec<u8>],
        seccomp: Option<SeccompFilter>,
    ) -> Result<Self> {
        let arguments = process.args().clone().unwrap_or_default();
        if arguments.first().is_none_or(String::is_empty) {
            return Err(Error::InvalidPlan("the process has no command".to_owned()));
        }
        let environment = environment(process.env().as_deref().unwrap_or_default(), raw_env);
        let mut all = arguments.iter().map(String::as_bytes).chain(environment.iter().map(Vec::as_slice));
        if let Some(bad) = all.find(|text| text.contains(&0)) {
            let bad = String::from_utf8_lossy(bad);
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
            new_keyring: true,
        })
    }

    /// As whoever wrote the spec says it, where it is not a pod's: see [`CapabilityPlan::by_the_letter`].
    pub(crate) fn by_the_letter(mut self, process: &Process) -> Self {
        self.capabilities = self.capabilities.by_the_letter(process.capabilities().as_ref());
        self
    }

    /// Whether its filter has a listener, which it hands over.
    pub(crate) fn listens(&self) -> bool {
        self.seccomp.as_ref().is_some_and(listens)
    }

    /// A session keyring of its own, OOM score and hard limits: what needs the node's /proc and the privileges that end
    /// with a user namespace. Returns a warning.
    pub(crate) fn claim(&self) -> Result<Option<String>, Failure> {
        if self.new_keyring {
            husk_sys::keyring::join_new_session().at(Step::Prepare, "session keyring")?;
        }
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

    /// Becomes the user with the program's own capabilities and, where it lets us start a program, under its filter: from here
    /// on the process holds nothing that a container would not have, and may be seen by one. Returns a warning as well.
    ///
    /// A filter that forbids something on the way to execve is loaded last. Without no_new_privs that takes CAP_SYS_ADMIN, which
    /// is then held back in the permitted set alone.
    ///
    /// `inherited` descriptors from 3 on are the program's.
    pub(crate) fn confine(
        mut self,
        account: &Account,
        inherited: u32,
    ) -> Result<(Confined, Option<String>), Failure> {
        // An empty one counts as none, as in the peers.
        self.environment.retain(|entry| entry != b"HOME=");
        if !self.environment.iter().any(|entry| entry.starts_with(b"HOME=")) {
            self.environment.push([b"HOME=", account.home.as_slice()].concat());
        }
        let warning = self.capabilities.unavailable()?;
        fds::cloexec_from(3).at(Step::Prepare, "close-on-exec")?;
        // Until here they were no hook's either.
        fds::keep_across_exec(3, inherited).at(Step::Prepare, "descriptors of the program")?;
        // Before the user changes: root may pass where the user may not. Where root may not (a root-squashed
        // network filesystem), the user may.
        let entered = enter(&self.cwd);
        let held =
            self.capabilities.take_user(&account.user, self.seccomp.is_some() && !self.no_new_privileges)?;
        match entered {
            Err(failure) if failure.errno == Some(Errno::ACCESS) => enter(&self.cwd)?,
            other => other?,
        }
        if self.no_new_privileges {
            rustix::thread::set_no_new_privs(true).at(Step::NoNewPrivs, "")?;
        }
        // One with a listener is loaded where it can be handed over ([`Confined::listen`]).
        let permits =
            |filter: &SeccompFilter| !listens(filter) && husk_sys::seccomp::permits_start(&filter.program);
        let early = self.seccomp.as_ref().is_none_or(permits);
        let late = match (early, self.no_new_privileges) {
            (true, _) => {
                install(&self.capabilities, held, self.no_new_privileges, self.seccomp.as_ref())?;
                None
            }
            (false, true) => {
                self.capabilities.settle(held)?;
                self.seccomp.take().map(|filter| (filter, None))
            }
            (false, false) => self.seccomp.take().map(|filter| (filter, Some((self.capabilities, held)))),
        };
        // Another user, or other capabilities, and the kernel made it what fs.suid_dumpable says.
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .at(Step::Prepare, "dumpable")?;
        let Self { arguments, environment, umask, limits, .. } = self;
        Ok((Confined { arguments, environment, umask, limits, late }, warning))
    }
}

/// A process that holds no more than its program will.
#[derive(Debug)]
pub(crate) struct Confined {
    arguments: Vec<String>,
    environment: Vec<Vec<u8>>,
    umask: Mode,
    limits: Vec<Limit>,
    /// A filter still to be loaded, and what that takes.
    late: Option<(SeccompFilter, Option<(CapabilityPlan, Held)>)>,
}

impl Confined {
    /// Resource limits and mode mask.
    pub(crate) fn restrict(&self) -> Result<(), Failure> {
        rlimits::apply(&self.limits)?;
        rustix::process::umask(self.umask);
        Ok(())
    }

    /// Loads a filter with a listener, and hands that over. What the filter leaves to the listener waits from here on for whoever holds
    /// it: all but the call that hands it over (`husk_seccomp::compile_listening`).
    pub(crate) fn listen(&mut self, link: &Link) -> Result<(), Failure> {
        let Some((filter, held)) = self.late.take_if(|(filter, _)| listens(filter)) else { return Ok(()) };
        let load = || -> Result<(), Failure> {
            let listener =
                husk_sys::seccomp::load_listening(&filter.program, filter.flags).at(Step::Seccomp, "")?;
            link.listener(&listener)
        };
        let Some((capabilities, held)) = held else { return load() };
        let held = capabilities::raise(held)?;
        load()?;
        capabilities.settle(held)
    }

    /// The program's environment, HOME included.
    pub(crate) fn environment(&self) -> &[Vec<u8>] {
        &self.environment
    }

    /// Finds the program where it is now.
    pub(crate) fn find(&self) -> Result<PathBuf, Failure> {
        let search = self.environment.iter().rev().find_map(|entry| entry.strip_prefix(b"PATH="));
        lookup::executable(&self.arguments[0], search.unwrap_or(DEFAULT_PATH))
    }

    /// Becomes the program, or says why not.
    pub(crate) fn execute(self) -> Result<Infallible, Failure> {
        let path = self.find()?;
        let string = |bytes: Vec<u8>| {
            CString::new(bytes).map_err(|_| Failure::because(Step::Execute, path.display(), "NUL byte"))
        };
        let arguments = self.arguments.into_iter().map(|argument| string(argument.into_bytes()));
        let arguments = StringArray::new(arguments.collect::<Result<_, _>>()?);
        let environment = self.environment.into_iter().map(string);
        let environment = StringArray::new(environment.collect::<Result<_, _>>()?);
        let target = string(path.as_os_str().as_bytes().to_vec())?;
        match self.late {
            Some((filter, Some((capabilities, held)))) => install(&capabilities, held, false, Some(&filter))?,
            Some((filter, None)) => load(Some(&filter))?,
            None => {}
        }
        let errno = husk_sys::exec::execve(&target, &arguments, &environment);
        Err(lookup::execve_failure(&path, errno))
    }
}

fn listens(filter: &SeccompFilter) -> bool {
    filter.flags & husk_sys::seccomp::NEW_LISTENER != 0
}

/// Filter and capability sets, in the order that leaves the filter the fewest calls to allow: loading it needs
/// CAP_SYS_ADMIN or no_new_privs, so without the latter the capability is dropped after it.
fn install(
    capabilities: &CapabilityPlan,
    held: Held,
    no_new_privileges: bool,
    seccomp: Option<&SeccompFilter>,
) -> Result<(), Failure> {
    if no_new_privileges {
        capabilities.settle(held)?;
        return load(seccomp);
    }
    let held = capabilities::raise(held)?;
    load(seccomp)?;
    capabilities.settle(held)
}

/// The text of a spec, each entry whose bytes it cannot carry in its own form.
fn environment(text: &[String], raw: &[Vec<u8>]) -> Vec<Vec<u8>> {
    // By their texts: an image has as many entries as it likes.
    let by_text: HashMap<_, _> =
        raw.iter().rev().map(|entry| (String::from_utf8_lossy(entry), entry)).collect();
    let own = |entry: &String| {
        by_text.get(entry.as_str()).map_or_else(|| entry.clone().into_bytes(), |raw| raw.to_vec())
    };
    text.iter().map(own).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    /// As many as an image may name: by looking for each among all of them this would not end today.
    #[test]
    fn the_bytes_of_an_environment_are_found_among_very_many() {
        let raw: Vec<Vec<u8>> =
            (0..200_000).map(|number| [b"A\xff", number.to_string().as_bytes()].concat()).collect();
        let text: Vec<String> = raw.iter().map(|raw| String::from_utf8_lossy(raw).into_owned()).collect();
        assert_eq!(environment(&text, &raw), raw);
        assert_eq!(environment(&["B=1".to_owned()], &raw), [b"B=1"]);
        let twice = [b"A\xfe".to_vec(), b"A\xff".to_vec()];
        assert_eq!(environment(&["A\u{fffd}".to_owned()], &twice), [b"A\xfe"], "the first that fits");
    }

    /// CVE-2024-21626 once more: whatever led there, a directory that the root does not reach is not worked in.
    #[test]
    fn a_directory_outside_the_root_is_not_worked_in() {
        if !rustix::process::geteuid().is_root() {
            husk_test_support::skip("root");
            return;
        }
        let root = std::env::temp_dir().join(format!("husk-workdir-{}", std::process::id()));
        std::fs::create_dir_all(root.join("inside")).unwrap();
        let outside = std::fs::File::open("/").unwrap();
        let (outcome, inside) = std::thread::scope(|scope| {
            let work = || {
                // A root and a working directory of this thread's own.
                husk_sys::namespace::unshare(rustix::thread::UnshareFlags::FS).unwrap();
                rustix::process::chroot(&root).unwrap();
                rustix::process::fchdir(&outside).unwrap();
                (enter(Path::new(".")), enter(Path::new("/inside")))
            };
            scope.spawn(work).join().unwrap()
        });
        std::fs::remove_dir_all(&root).unwrap();
        let failure = outcome.unwrap_err();
        assert!(failure.detail.contains("outside the container's root"), "{failure}");
        inside.unwrap();
    }
}
