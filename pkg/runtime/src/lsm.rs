//! The labels of a program: AppArmor profile and SELinux context, which take effect at its execve.
//!
//! The kernel is told through `/proc/self/attr`. A write that went elsewhere would leave the program unconfined
//! (CVE-2019-16884, CVE-2025-52881), so it goes through the node's procfs, checked, before anything of the container is mounted.

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

    /// Asks the kernel for them. From here on until execve nothing changes but that.
    pub(crate) fn claim(&self) -> std::result::Result<(), Failure> {
        if let Some(profile) = &self.apparmor {
            // The file of its own came with Linux 5.8; before, AppArmor has the common one, unless another module does.
            write(&["attr/apparmor/exec", "attr/exec"], &format!("exec {profile}")).map_err(|failure| {
                let why = if failure.errno == Some(Errno::NOENT) {
                    "the profile is not loaded, or the kernel has no AppArmor"
                } else {
                    "the kernel refused the profile"
                };
                Failure { object: profile.clone(), ..failure }.explain(why)
            })?;
        }
        if let Some(context) = &self.selinux {
            // The second is for its session keyring, which is made by us and shall be the program's.
            for name in ["attr/exec", "attr/keycreate"] {
                write(&[name], context).map_err(|failure| Failure { object: context.clone(), ..failure })?;
            }
        }
        Ok(())
    }
}

/// Writes to the first of the files that there is.
fn write(names: &[&str], text: &str) -> std::result::Result<(), Failure> {
    let step = Step::Label;
    let proc = Procfs::host().at(step, "/proc")?;
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
