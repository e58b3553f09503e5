//! The labels of a program: AppArmor profile and SELinux context, which take effect at its execve.
//!
//! The kernel is told through `/proc/self/attr`. A write that went elsewhere would leave the program unconfined
//! (CVE-2019-16884, CVE-2025-52881), so it goes through the node's procfs, checked and opened before anything of the container is
//! mounted. What is executed in between, a hook of the node's, would have the label: then the write comes after it
//! ([`Labels::claim_for_program`]).

use husk_sys::procfs::Procfs;
use oci_spec::runtime::Process;
use rustix::{fs::OFlags, io::Errno};

use crate::{Error, Failure, Result, Step, failure::At};

/// What is written to which file of `/proc/self/attr`.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    apparmor: Option<String>,
    selinux: Option<String>,
}

impl Labels {
    /// Takes those of a spec's `process`.
    pub(crate) fn new(process: &Process) -> Result<Self> {
        let taken = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
        let labels =
            Self { apparmor: taken(process.apparmor_profile()), selinux: taken(process.selinux_label()) };
        for label in [&labels.apparmor, &labels.selinux].into_iter().flatten() {
            if label.contains('\0') {
                return Err(Error::InvalidPlan(format!("{label:?} contains a NUL byte")));
            }
        }
        Ok(labels)
    }

    /// An SELinux context alone.
    pub(crate) fn context(context: Option<&str>) -> Self {
        Self { apparmor: None, selinux: context.map(str::to_owned) }
    }

    /// Asks the kernel for all of them. From here on until execve nothing changes but that.
    pub(crate) fn claim(&self) -> std::result::Result<(), Failure> {
        if self.is_empty() {
            return Ok(());
        }
        let proc = Procfs::host().at(Step::Label, "/proc")?;
        self.claim_for_keys(&proc)?;
        self.claim_for_program(&proc)
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.apparmor.is_none() && self.selinux.is_none()
    }

    /// That of the session keyring, which is made by us and shall be the program's.
    pub(crate) fn claim_for_keys(&self, proc: &Procfs) -> std::result::Result<(), Failure> {
        self.selinux.as_ref().map_or(Ok(()), |context| {
            write(proc, &["attr/keycreate"], context)
                .map_err(|failure| Failure { object: context.clone(), ..failure })
        })
    }

    /// Those of what is executed next. `proc` is a procfs of the node's.
    pub(crate) fn claim_for_program(&self, proc: &Procfs) -> std::result::Result<(), Failure> {
        if let Some(profile) = &self.apparmor {
            // The file of its own came with Linux 5.8; before, AppArmor has the common one, unless another module does.
            write(proc, &["attr/apparmor/exec", "attr/exec"], &format!("exec {profile}")).map_err(
                |failure| {
                    let why = if failure.errno == Some(Errno::NOENT) {
                        "the profile is not loaded, or the kernel has no AppArmor"
                    } else {
                        "the kernel refused the profile"
                    };
                    Failure { object: profile.clone(), ..failure }.explain(why)
                },
            )?;
        }
        self.selinux.as_ref().map_or(Ok(()), |context| {
            write(proc, &["attr/exec"], context)
                .map_err(|failure| Failure { object: context.clone(), ..failure })
        })
    }
}

/// Writes to the first of the files that there is.
fn write(proc: &Procfs, names: &[&str], text: &str) -> std::result::Result<(), Failure> {
    let step = Step::Label;
    let absent = |errno| matches!(errno, Errno::NOENT | Errno::NOTDIR);
    let mut opened = proc.open_self(names[0], OFlags::WRONLY);
    for name in &names[1..] {
        if opened.as_ref().is_err_and(|error| absent(error.errno())) {
            opened = proc.open_self(name, OFlags::WRONLY);
        }
    }
    let file = opened.at(step, "")?;
    rustix::io::write(&file, text.as_bytes()).at(step, "").map(drop)
}
