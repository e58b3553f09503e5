//! What sandbox, containers and execs share: the poller, the clients, scratch memory, the table of children.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
};

use husk_cgroup::{Cgroup, CgroupPath, Hierarchy};
use husk_model::Process;
use husk_node::process;
use husk_proto::podmon::{error::Code, event};
use husk_runtime::CgroupTarget;

use crate::{
    clients::{Answer, Caller, Clients},
    fault::{Fault, Outcome, fault, fault_of, os_fault},
    poll::{Key, Poller},
};

/// Whose process a child is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    Sandbox,
    Container(Key),
    Exec(Key),
}

/// Size of a read. Small: the pages stay touched for the pod's life.
const SCRATCH: usize = 16 << 10;

/// Shared facilities.
#[derive(Debug)]
pub struct Core {
    pub poller: Poller,
    pub clients: Clients,
    /// Children that are not reaped yet, by pid: a pid stays ours until then.
    pub children: BTreeMap<u32, Owner>,
    /// For reading.
    pub scratch: Box<[u8]>,
    /// For formatting log lines.
    pub batch: Vec<u8>,
    pub pod_dir: PathBuf,
    hierarchy: Option<Hierarchy>,
    next_key: Key,
}

impl Core {
    pub fn new(pod_dir: PathBuf, hierarchy: Option<Hierarchy>) -> io::Result<Self> {
        Ok(Self {
            poller: Poller::new()?,
            clients: Clients::default(),
            children: BTreeMap::new(),
            scratch: vec![0; SCRATCH].into_boxed_slice(),
            batch: Vec::new(),
            pod_dir,
            hierarchy,
            next_key: 1,
        })
    }

    pub fn new_key(&mut self) -> Key {
        self.next_key += 1;
        self.next_key
    }

    pub fn reply(&mut self, caller: Caller, outcome: Outcome<Answer>) {
        self.clients.reply(&self.poller, caller, outcome);
    }

    pub fn publish(&mut self, event: event::Event) {
        self.clients.publish(&self.poller, event);
    }

    /// The node's cgroups, looked up once.
    pub fn hierarchy(&mut self) -> Outcome<&Hierarchy> {
        if self.hierarchy.is_none() {
            self.hierarchy = Some(Hierarchy::detect().map_err(|error| fault_of(&error))?);
        }
        self.hierarchy.as_ref().ok_or_else(|| fault(Code::Internal, "detect cgroups"))
    }

    /// From here on groups are made in every hierarchy of the node.
    pub fn use_every_hierarchy(&mut self) -> Outcome<()> {
        self.hierarchy = Some(Hierarchy::detect_every().map_err(|error| fault_of(&error))?);
        Ok(())
    }

    pub fn create_cgroup(&mut self, path: &str) -> Outcome<Cgroup> {
        let invalid = |error: &dyn std::error::Error| fault(Code::InvalidArgument, error.to_string());
        let path = CgroupPath::parse(path).map_err(|error| invalid(&error))?;
        if path.is_root() {
            return Err(fault(Code::InvalidArgument, "the root cgroup cannot be a container's"));
        }
        self.hierarchy()?.create(&path).map_err(|error| fault_of(&error))
    }

    /// Enters a fresh child, which nobody has reaped, in the table and finds out its identity.
    pub fn adopt(&mut self, pid: u32, owner: Owner) -> Process {
        self.children.insert(pid, owner);
        // The child is not reaped, so its /proc entry is there; 0 can only mean that procfs is not.
        process::identify(pid).unwrap_or(Process { pid, start_time: 0 })
    }
}

/// What a child needs to join a group: born in the v2 tree, written into the others.
pub fn cgroup_target(cgroup: &Cgroup) -> Outcome<CgroupTarget> {
    let procs = cgroup.legacy_join_fds().map_err(|error| fault_of(&error))?;
    let unified = cgroup.unified_dir().map(dup).transpose()?;
    Ok(CgroupTarget { procs, unified })
}

/// A second descriptor of the same thing.
pub fn dup(fd: impl AsFd) -> Outcome<OwnedFd> {
    rustix::io::fcntl_dupfd_cloexec(fd, 3).map_err(|error| os_fault("copy descriptor", "", &error.into()))
}

/// A pipe whose read end never blocks.
pub fn output_pipe() -> Outcome<(OwnedFd, OwnedFd)> {
    pipe(|read, _| rustix::io::ioctl_fionbio(read, true))
}

/// A pipe whose write end never blocks.
pub fn input_pipe() -> Outcome<(OwnedFd, OwnedFd)> {
    pipe(|_, write| rustix::io::ioctl_fionbio(write, true))
}

fn pipe(prepare: impl Fn(&OwnedFd, &OwnedFd) -> rustix::io::Result<()>) -> Result<(OwnedFd, OwnedFd), Fault> {
    let made = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .and_then(|(read, write)| prepare(&read, &write).map(|()| (read, write)));
    made.map_err(|error| os_fault("make pipe", "", &error.into()))
}
