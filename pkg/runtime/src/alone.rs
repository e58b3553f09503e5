//! What a container that stands alone is, and the steps that those of pods do not have.

use std::os::fd::OwnedFd;

use husk_model::{SeccompFilter, Stdio};
use oci_spec::runtime::Spec;
use rustix::io::Errno;

use crate::{
    CgroupTarget, Failure, Hook, Identity, Step, child::Link, failure::At, namespaces::StandaloneNamespaces,
    process::Confined, run_hooks, scheduling::Scheduling,
};

/// A container that stands alone.
#[derive(Debug)]
pub struct StandalonePlan {
    /// Used as in [`crate::ContainerPlan::spec`]; with `process.scheduler`, `process.io_priority` and `linux.personality`. Mounts
    /// may have ids of their own and `tmpcopyup`; /dev/shm is like any other.
    pub spec: Spec,
    /// The directory that becomes the root, with what is mounted below it.
    pub root: OwnedFd,
    /// Whether the root is mounted read-only.
    pub readonly: bool,
    /// Whether the root is entered by pivot_root(2), or moved over that of the node, where the kernel does not do that.
    pub pivot: bool,
    /// Its namespaces.
    pub namespaces: StandaloneNamespaces,
    /// Who to run as.
    pub identity: Identity,
    /// Filter of the container.
    pub seccomp: Option<SeccompFilter>,
    /// Where it lives.
    pub cgroup: CgroupTarget,
    /// Standard streams: the child's ends, or a terminal in the container's devpts.
    pub stdio: Stdio<OwnedFd>,
    /// How many descriptors from 3 on it gets from the caller, as they are.
    pub inherited: u32,
    /// Whether it gets a session keyring of its own; without, it has the caller's.
    pub new_keyring: bool,
    /// Whether it stops before its root is entered ([`crate::Report::Prepared`]).
    pub prepared: bool,
    /// The reading end of a pipe that a byte comes through when it is to start. Its other end may be anybody's: an end without a
    /// byte is no start.
    pub start: OwnedFd,
    /// Run in its namespaces before its root is entered, by paths of the node.
    pub create_hooks: Vec<Hook>,
    /// Run in it after the start, as its user, by paths of its own.
    pub start_hooks: Vec<Hook>,
    /// What these hooks read.
    pub state: Vec<u8>,
}

/// The steps that a container of a pod does not have.
pub(crate) struct Alone<'plan> {
    pub(crate) plan: &'plan StandalonePlan,
    pub(crate) scheduling: &'plan Scheduling,
}

impl Alone<'_> {
    /// Before the root is entered: hooks of the node, by the caller, and those in its namespaces.
    pub(crate) fn before_root(&self, link: &Link) -> Result<(), Failure> {
        if self.plan.prepared {
            link.prepared()?;
        }
        hooks("createContainer", &self.plan.create_hooks, &self.plan.state)
    }

    /// Before the user changes: what takes the privileges of the node.
    pub(crate) fn schedule(&self) -> Result<(), Failure> {
        self.scheduling.apply()
    }

    /// Waits for the start, and runs the last hooks.
    pub(crate) fn start(&self, link: &mut Link, confined: &Confined) -> Result<(), Failure> {
        link.speak_up();
        let mut byte = [0; 1];
        loop {
            match rustix::io::read(&self.plan.start, &mut byte) {
                Ok(1) => break,
                Ok(_) => return Err(Failure::because(Step::Start, "", "nobody is left who could start it")),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno).at(Step::Start, ""),
            }
        }
        let own = confined.environment().iter().map(|entry| String::from_utf8_lossy(entry).into_owned());
        let own: Vec<String> = own.collect();
        let of_container = |hook: &Hook| Hook { env: hook.env.clone().or(Some(own.clone())), ..hook.clone() };
        let start_hooks: Vec<Hook> = self.plan.start_hooks.iter().map(of_container).collect();
        hooks("startContainer", &start_hooks, &self.plan.state)
    }
}

fn hooks(name: &str, hooks: &[Hook], state: &[u8]) -> Result<(), Failure> {
    if hooks.is_empty() {
        return Ok(());
    }
    // The number that it has where the hook runs.
    let state = String::from_utf8_lossy(state).replace(PID, &std::process::id().to_string());
    run_hooks(name, hooks, state.as_bytes()).map_err(|why| Failure::because(Step::Hook, "", why))
}

/// Stands in [`StandalonePlan::state`] where the process id belongs, as a JSON string would not.
pub const PID: &str = "\"@pid@\"";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_a_hook_has_the_number_that_it_sees() {
        let args = ["sh", "-c", "read state; test \"$state\" = \"{pid:$PPID}\""].map(str::to_owned).to_vec();
        let hook = Hook { path: "/bin/sh".into(), args, env: None, timeout: None };
        hooks("createContainer", &[hook], format!("{{pid:{PID}}}\n").as_bytes()).unwrap();
    }
}
