//! What the commands that are run in a container are given, and what they leave.

use std::{
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use husk_cgroup::Cgroup;
use husk_model::{ALL_CAPABILITIES, Command, IdMaps, SeccompFilter, Stdio};
use husk_runtime::{Account, CgroupTarget, ExecPlan, Identity};
use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, Process};

use crate::{
    core::{Core, dup},
    fault::Outcome,
    group::{next_look, try_remove},
    poll::{Key, Source},
};

/// How seldom the cgroups of background processes that execs left are looked at.
const SWEEP_MAX: Duration = Duration::from_secs(60);

/// All of it.
#[derive(Debug)]
pub struct Execs {
    /// The container's own.
    pub process: Process,
    /// Entries of its environment that are no text.
    pub raw_env: Vec<Vec<u8>>,
    pub seccomp: Option<SeccompFilter>,
    /// Known once the container is built.
    pub account: Account,
    /// Of its user namespace.
    pub user_mappings: Option<IdMaps>,
    /// Sub-cgroups of execs that left background processes.
    pub left: Left,
}

/// Groups that wait for nothing but to be empty.
#[derive(Debug, Default)]
pub struct Left {
    groups: Vec<Cgroup>,
    /// Since the last one came.
    since: Option<Instant>,
}

impl Execs {
    /// What a command is run with.
    pub fn plan(
        &self,
        init: &OwnedFd,
        command: Command,
        stdio: Stdio<OwnedFd>,
        cgroup: CgroupTarget,
    ) -> Outcome<ExecPlan> {
        let mut process = self.process.clone();
        let raw_env = set_env(&mut process, &self.raw_env, &command.env);
        process.set_args(Some(command.argv));
        if let Some(cwd) = command.cwd {
            process.set_cwd(cwd.into());
        }
        if command.privileged {
            process.set_capabilities(Some(every_capability()));
        }
        let terminal = matches!(stdio, Stdio::Terminal(_));
        process.set_terminal(Some(terminal));
        if terminal {
            name_terminal(&mut process);
        }
        Ok(ExecPlan {
            target: dup(init)?,
            process,
            raw_env,
            identity: match command.user {
                Some(request) => Identity::Request(request),
                None => Identity::Account(self.account.clone()),
            },
            seccomp: self.seccomp.clone(),
            user_namespace: self.user_mappings.clone(),
            time_namespace: false,
            personality: None,
            memory: None,
            held: false,
            inherited: 0,
            cgroup,
            stdio,
        })
    }

    /// Keeps the group of a command that left something running.
    pub fn keep(&mut self, core: &mut Core, key: Key, cgroup: Cgroup) {
        self.left.groups.push(cgroup);
        self.left.since = Some(Instant::now());
        core.poller.set_deadline(Source::ExecCgroups(key), Instant::now() + next_look(Duration::ZERO));
    }

    /// Removes those that are empty by now, and looks at the others again, ever more seldom: nothing but a directory waits
    /// for it.
    pub fn sweep(&mut self, core: &mut Core, key: Key) {
        self.left.groups.retain(|cgroup| !try_remove(cgroup));
        if !self.left.groups.is_empty() {
            let waited = self.left.since.map(|since| since.elapsed()).unwrap_or_default();
            let retry = waited.clamp(next_look(Duration::ZERO), SWEEP_MAX);
            core.poller.set_deadline(Source::ExecCgroups(key), Instant::now() + retry);
        }
    }

    /// They went with the container's own.
    pub fn forget(&mut self, core: &mut Core, key: Key) {
        self.left.groups.clear();
        core.poller.clear_deadline(Source::ExecCgroups(key));
    }
}

/// Puts entries in the place of those of the same name. Returns the entries that are no text and stay.
fn set_env(process: &mut Process, raw_env: &[Vec<u8>], entries: &[String]) -> Vec<Vec<u8>> {
    let mut env = process.env().clone().unwrap_or_default();
    let mut raw_env = raw_env.to_vec();
    for entry in entries {
        let name = entry.split_once('=').map_or(entry.as_str(), |(name, _)| name);
        let is_it =
            |other: &[u8]| other.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.starts_with(b"="));
        env.retain(|other| !is_it(other.as_bytes()));
        raw_env.retain(|other| !is_it(other));
        env.push(entry.clone());
    }
    process.set_env(Some(env));
    raw_env
}

/// All that the kernel has, in every set that a privileged container has them in.
fn every_capability() -> LinuxCapabilities {
    let all: Capabilities =
        ALL_CAPABILITIES.iter().filter_map(|name| name.parse::<Capability>().ok()).collect();
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(all.clone())).set_effective(Some(all.clone())).set_permitted(Some(all));
    sets.set_inheritable(None).set_ambient(None);
    sets
}

/// A terminal has a type, as that of a container itself: what the container's environment says, else xterm.
fn name_terminal(process: &mut Process) {
    let mut env = process.env().clone().unwrap_or_default();
    if !env.iter().any(|entry| entry.starts_with("TERM=")) {
        env.push("TERM=xterm".to_owned());
        process.set_env(Some(env));
    }
}
