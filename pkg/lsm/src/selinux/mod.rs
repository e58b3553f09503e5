//! SELinux: whether the node has it, and the contexts of pods and containers.
//!
//! A container's processes get one context, its files another, with the same level. The policy lets a process of type
//! `container_t` use files of type `container_file_t` of its own level only; each pod has a level of its own ([`Hold`]), so
//! a process that broke out of one pod finds nothing that it may touch of another, nor of the node.

mod context;
mod levels;

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use husk_model::{SeLinuxContexts, SeLinuxLabel as Wish};
use tracing::warn;

pub use context::Context;
pub use levels::Hold;

use crate::LsmError;
use levels::Levels;

/// selinuxfs: `1` when the policy is enforced, `0` when it is only logged.
const ENFORCE: &str = "sys/fs/selinux/enforce";
/// selinuxfs: takes a context and refuses what the policy does not know.
const CHECK: &str = "sys/fs/selinux/context";
/// `kernel` before a policy is loaded.
const CURRENT: &str = "proc/self/attr/current";
/// Names the policy.
const CONFIG: &str = "etc/selinux/config";
/// What distributions install when the configuration does not say.
const DEFAULT_POLICY: &str = "targeted";
/// The type of processes that are not confined: privileged containers.
const PRIVILEGED: &str = "spc_t";

/// What the node can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No policy is loaded, or it is not ours to use (selinuxfs is missing or read-only).
    Absent,
    /// A policy is loaded; what it forbids is only logged.
    Permissive,
    /// A policy is loaded and enforced.
    Enforcing,
}

impl State {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Absent => "absent",
            State::Permissive => "permissive",
            State::Enforcing => "enforcing",
        }
    }
}

/// What containers get unless they ask for something else.
#[derive(Debug)]
struct Defaults {
    process: Context,
    file: Context,
}

/// The node's SELinux.
#[derive(Debug)]
pub struct SeLinux {
    root: PathBuf,
    levels: Levels,
}

impl Default for SeLinux {
    fn default() -> Self {
        Self::below(Path::new("/"))
    }
}

impl SeLinux {
    /// That of a node whose files are below `root`.
    pub fn below(root: &Path) -> Self {
        Self { root: root.to_owned(), levels: Levels::default() }
    }

    /// What the node can do now.
    pub fn state(&self) -> State {
        let Ok(enforce) = fs::read_to_string(self.root.join(ENFORCE)) else { return State::Absent };
        let current = fs::read_to_string(self.root.join(CURRENT)).unwrap_or_default();
        let loaded = !matches!(current.trim_end_matches(['\0', '\n']), "" | "kernel");
        let usable = OpenOptions::new().write(true).open(self.root.join(CHECK)).is_ok();
        match enforce.trim() {
            _ if !loaded || !usable => State::Absent,
            "0" => State::Permissive,
            _ => State::Enforcing,
        }
    }

    /// The level of a new pod: the one asked for, else one that no other pod has. `None` on a node without SELinux or
    /// without levels in its policy.
    ///
    /// # Errors
    /// [`LsmError::Option`] for a malformed level; [`LsmError::NoLevel`] when all are taken.
    pub fn pod_level(&self, wish: Option<&Wish>) -> Result<Option<Hold>, LsmError> {
        if self.state() == State::Absent {
            return Ok(None);
        }
        let Some(default) = self.defaults()?.process.level else { return Ok(None) };
        if let Some(level) = wish.map(|wish| wish.level.as_str()).filter(|level| !level.is_empty()) {
            check("level", level, context::check_level)?;
            return Ok(Some(self.levels.hold(level)));
        }
        let sensitivity = default.split([':', '-']).next().unwrap_or(&default);
        self.levels.choose(sensitivity, || getrandom::u32().ok()).map(Some).ok_or(LsmError::NoLevel)
    }

    /// Takes the level of a pod that a former daemon made.
    pub fn recovered(&self, level: &str) -> Hold {
        self.levels.hold(level)
    }

    /// The contexts of something of a pod with this level. Parts that are not asked for are those of the node's
    /// containers, and the pod's level. `None` on a node without SELinux, and, with a warning, where nothing was asked for
    /// and the policy has no types for containers.
    ///
    /// # Errors
    /// [`LsmError::Option`] for a malformed part, [`LsmError::Context`] for what the policy does not know.
    pub fn labels(
        &self,
        level: Option<&str>,
        wish: Option<&Wish>,
        privileged: bool,
    ) -> Result<Option<SeLinuxContexts>, LsmError> {
        if self.state() == State::Absent {
            return Ok(None);
        }
        let asked = wish.filter(|wish| **wish != Wish::default());
        let (process, mount) = compose(self.defaults()?, level, asked, privileged)?;
        let labels = SeLinuxContexts { process: process.to_string(), mount: mount.to_string() };
        match self.check(&labels.process).and_then(|()| self.check(&labels.mount)) {
            Ok(()) => Ok(Some(labels)),
            Err(LsmError::Context { context }) if asked.is_none() => {
                warn!(context, "SELinux: the policy has no such context; a container runs without labels");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Asks the kernel whether the policy knows a context.
    fn check(&self, context: &str) -> Result<(), LsmError> {
        let written = OpenOptions::new()
            .write(true)
            .open(self.root.join(CHECK))
            .and_then(|mut file| file.write_all(context.as_bytes()));
        written.map_err(|source| match source.kind() {
            io::ErrorKind::InvalidInput => LsmError::Context { context: context.to_owned() },
            _ => LsmError::SeLinux { what: format!("check {context}"), source },
        })
    }

    /// The policy's contexts for containers (selinux-policy: `contexts/lxc_contexts`), else those of container-selinux.
    fn defaults(&self) -> Result<Defaults, LsmError> {
        let config = fs::read_to_string(self.root.join(CONFIG)).unwrap_or_default();
        let policy = setting(&config, "SELINUXTYPE").unwrap_or(DEFAULT_POLICY);
        let path = self.root.join("etc/selinux").join(policy).join("contexts/lxc_contexts");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(source) => {
                return Err(LsmError::SeLinux { what: format!("read {}", path.display()), source });
            }
        };
        let context = |key: &str, default: &str| {
            let text = setting(&text, key).unwrap_or(default);
            let what = || format!("read {key} in {}", path.display());
            Context::parse(text)
                .map_err(|why| LsmError::SeLinux { what: what(), source: io::Error::other(why) })
        };
        Ok(Defaults {
            process: context("process", "system_u:system_r:container_t:s0")?,
            file: context("file", "system_u:object_r:container_file_t:s0")?,
        })
    }
}

/// The contexts of process and files.
fn compose(
    defaults: Defaults,
    level: Option<&str>,
    wish: Option<&Wish>,
    privileged: bool,
) -> Result<(Context, Context), LsmError> {
    let Defaults { mut process, file: mut mount } = defaults;
    mount.level = level.map(str::to_owned).or(mount.level);
    if privileged {
        // Kept apart from nothing, whatever its pod's level is.
        PRIVILEGED.clone_into(&mut process.kind);
    } else {
        process.level = level.map(str::to_owned).or(process.level);
    }
    let Some(wish) = wish else { return Ok((process, mount)) };
    for (part, text) in [("user", &wish.user), ("role", &wish.role), ("type", &wish.kind)] {
        if text.is_empty() {
            continue;
        }
        check(part, text, context::check_name)?;
        match part {
            "user" => (process.user, mount.user) = (text.clone(), text.clone()),
            "role" => process.role.clone_from(text),
            _ => process.kind.clone_from(text),
        }
    }
    if !wish.level.is_empty() {
        check("level", &wish.level, context::check_level)?;
        (process.level, mount.level) = (Some(wish.level.clone()), Some(wish.level.clone()));
    }
    Ok((process, mount))
}

fn check(
    option: &'static str,
    text: &str,
    check: impl Fn(&str) -> Result<(), String>,
) -> Result<(), LsmError> {
    check(text).map_err(|reason| LsmError::Option { option, reason })
}

/// The value of `key = value`, without its quotes.
fn setting<'text>(text: &'text str, key: &str) -> Option<&'text str> {
    text.lines().filter(|line| !line.trim_start().starts_with(['#', ';'])).find_map(|line| {
        let (found, value) = line.split_once('=')?;
        (found.trim() == key).then(|| value.trim().trim_matches('"')).filter(|value| !value.is_empty())
    })
}

#[cfg(test)]
mod tests;
