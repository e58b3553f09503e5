//! The namespaces of a container that stands alone: the node's, a new one, or one that exists already.
//!
//! Those that exist are joined with the privileges of the node. New ones are made after the user namespace was entered, if there is
//! one, so that they belong to it: root in there may only do something to what its own user namespace owns.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use husk_sys::{
    mount,
    mount::{Change, Propagation},
    namespace,
    procfs::Procfs,
};
use rustix::{
    fs::{self, Mode, OFlags},
    system::{setdomainname, sethostname},
    thread::{LinkNameSpaceType, ThreadNameSpaceType, UnshareFlags},
};

use crate::{Error, Failure, Result, Step, UserNamespace, failure::At, userns};

/// Longest host or domain name (__NEW_UTS_LEN).
const MAX_NAME: usize = 64;

/// Whose namespace a container is in.
#[derive(Debug, Default)]
pub enum Whose {
    /// The caller's.
    #[default]
    Callers,
    /// A new one.
    Own,
    /// This one.
    That(OwnedFd),
}

/// An offset of a time namespace's clock (time_namespaces(7)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offset {
    /// `monotonic` or `boottime`.
    pub clock: String,
    /// Seconds.
    pub seconds: i64,
    /// Nanoseconds, less than a second.
    pub nanoseconds: u32,
}

/// The namespaces of a container that stands alone. Its mount namespace is always new.
#[derive(Debug, Default)]
pub struct StandaloneNamespaces {
    /// Process ids.
    pub pid: Whose,
    /// Network.
    pub net: Whose,
    /// System V IPC and POSIX queues.
    pub ipc: Whose,
    /// Host name.
    pub uts: Whose,
    /// cgroups.
    pub cgroup: Whose,
    /// Clocks.
    pub time: Whose,
    /// Of a new time namespace.
    pub offsets: Vec<Offset>,
    /// User ids.
    pub user: Option<UserNamespace>,
    /// Set in its UTS namespace; empty leaves what is there.
    pub hostname: String,
    /// As [`Self::hostname`].
    pub domainname: String,
    /// Path below /proc/sys and value. That they are parameters of its own namespaces is the caller's to check.
    pub sysctls: Vec<(String, String)>,
}

impl StandaloneNamespaces {
    /// Each that is joined or made in the child, with its kinds.
    fn each(&self) -> [(&Whose, LinkNameSpaceType, UnshareFlags); 4] {
        [
            (&self.net, LinkNameSpaceType::Network, UnshareFlags::NEWNET),
            (&self.ipc, LinkNameSpaceType::InterProcessCommunication, UnshareFlags::NEWIPC),
            (&self.uts, LinkNameSpaceType::HostNameAndNISDomainName, UnshareFlags::NEWUTS),
            (&self.cgroup, LinkNameSpaceType::ControlGroup, UnshareFlags::NEWCGROUP),
        ]
    }

    pub(crate) fn check(&self) -> Result<()> {
        if let Some(user) = &self.user {
            userns::check(&user.mappings)?;
        }
        for name in [&self.hostname, &self.domainname] {
            if name.len() > MAX_NAME {
                return Err(Error::InvalidPlan(format!("host name {name:?} is longer than {MAX_NAME}")));
            }
            if !name.is_empty() && matches!(self.uts, Whose::Callers) {
                let text = "a host name without a UTS namespace of its own would be the node's";
                return Err(Error::InvalidPlan(text.to_owned()));
            }
        }
        Ok(())
    }

    /// Descriptors that the child needs.
    pub(crate) fn descriptors(&self) -> Vec<RawFd> {
        let own = [&self.pid, &self.time].into_iter().chain(self.each().map(|(whose, ..)| whose));
        let fd = |whose: &Whose| match whose {
            Whose::That(fd) => Some(fd.as_raw_fd()),
            _ => None,
        };
        own.filter_map(fd).chain(self.user.as_ref().map(|user| user.fd.as_raw_fd())).collect()
    }

    /// What the child is born in.
    pub(crate) fn at_birth(&self) -> UnshareFlags {
        match (&self.pid, &self.user) {
            (Whose::Own, None) => UnshareFlags::NEWPID,
            _ => UnshareFlags::empty(),
        }
    }

    /// Whether its init is another process than the one that was cloned first: nobody enters a PID namespace himself.
    pub(crate) fn moves(&self) -> bool {
        matches!((&self.pid, &self.user), (Whose::That(_), _) | (Whose::Own, Some(_)))
    }

    /// What that process is born in.
    pub(crate) fn late(&self) -> UnshareFlags {
        match (&self.pid, &self.user) {
            (Whose::Own, Some(_)) => UnshareFlags::NEWPID,
            _ => UnshareFlags::empty(),
        }
    }

    pub(crate) fn has_own_cgroup(&self) -> bool {
        !matches!(self.cgroup, Whose::Callers)
    }

    /// Enters them all but the PID namespace. `shelve` is called in a mount namespace of the container's with all the privileges of
    /// the node.
    pub(crate) fn enter(&self, shelve: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
        let step = Step::Namespaces;
        self.enter_time()?;
        for (whose, kind, _) in self.each() {
            join(whose, kind)?;
        }
        // Of our children.
        join(&self.pid, LinkNameSpaceType::ProcessID)?;
        let mut own = UnshareFlags::empty();
        for (whose, _, flag) in self.each() {
            own.set(flag, matches!(whose, Whose::Own));
        }
        let Some(user) = &self.user else {
            namespace::unshare(own | UnshareFlags::NEWNS).at(step, "of the container")?;
            withdraw()?;
            return shelve();
        };
        namespace::unshare(UnshareFlags::NEWNS).at(step, "of the node")?;
        withdraw()?;
        shelve()?;
        namespace::join(&user.fd, ThreadNameSpaceType::USER).at(step, "user")?;
        userns::become_root()?;
        namespace::unshare(own | UnshareFlags::NEWNS).at(step, "of the container")
    }

    /// Its clocks, set while nobody is in there.
    fn enter_time(&self) -> Result<(), Failure> {
        let (step, object) = (Step::Namespaces, "time");
        let Whose::Own = self.time else { return join(&self.time, LinkNameSpaceType::Time) };
        namespace::unshare(UnshareFlags::NEWTIME).at(step, object)?;
        let proc = Procfs::host().at(step, object)?;
        if !self.offsets.is_empty() {
            let line =
                |offset: &Offset| format!("{} {} {}\n", offset.clock, offset.seconds, offset.nanoseconds);
            let text: String = self.offsets.iter().map(line).collect();
            let file = proc.open_self("timens_offsets", OFlags::WRONLY).at(step, object)?;
            rustix::io::write(&file, text.as_bytes()).at(step, "offsets of its clocks")?;
        }
        // It is our children's so far.
        let made = proc.namespace_of_self("time_for_children").at(step, object)?;
        namespace::join_one(made, LinkNameSpaceType::Time).at(step, object)
    }

    /// Sets what is set in them, once they are all entered.
    pub(crate) fn settle(&self) -> Result<(), Failure> {
        if !self.hostname.is_empty() {
            sethostname(self.hostname.as_bytes()).at(Step::Hostname, &self.hostname)?;
        }
        if !self.domainname.is_empty() {
            setdomainname(self.domainname.as_bytes()).at(Step::Hostname, &self.domainname)?;
        }
        if self.sysctls.is_empty() {
            return Ok(());
        }
        let procfs = Procfs::private().at(Step::Sysctl, "procfs")?;
        self.sysctls
            .iter()
            .try_for_each(|(path, value)| procfs.set_sysctl(path, value).at(Step::Sysctl, path))
    }
}

fn join(whose: &Whose, kind: LinkNameSpaceType) -> Result<(), Failure> {
    let Whose::That(namespace) = whose else { return Ok(()) };
    namespace::join_one(namespace.as_fd(), kind).at(Step::Namespaces, format_args!("{kind:?}"))
}

/// Makes the copy of the node's mounts one that nothing goes back from: what is attached to a shared mount appears on the node.
fn withdraw() -> Result<(), Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = fs::open("/", flags, Mode::empty()).at(Step::Namespaces, "/")?;
    mount::change(&root, true, Change::propagation(Propagation::Slave)).at(Step::Namespaces, "/")
}
