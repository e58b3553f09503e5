//! What to run: the inputs of the three spawn functions. Plans own their descriptors; spawning closes them.

use std::{os::fd::OwnedFd, path::PathBuf};

use husk_model::{
    IdMappings, IdMaps, ImageVolume, ResolvedUser, Rootfs, SeLinuxContexts, SeccompFilter, Stdio, Sysctl,
    UserRequest,
};
use oci_spec::runtime::{LinuxPersonality, Process, Spec};
use rustix::thread::ThreadNameSpaceType;

use crate::{Account, scheduling::MemoryPolicy};

/// The cgroup a child is put into before it does anything else.
#[derive(Debug, Default)]
pub struct CgroupTarget {
    /// `tasks` (v1) or `cgroup.procs` of every hierarchy that the child has to write `0` into, open for writing.
    pub procs: Vec<OwnedFd>,
    /// Directory in the v2 tree for `CLONE_INTO_CGROUP`: the child is born there.
    pub unified: Option<OwnedFd>,
}

/// Network namespace of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetNs {
    /// The node's.
    Host,
    /// A pinned one: path of the bind mount.
    Path(PathBuf),
    /// A new one of pause's own, which belongs to the pod's user namespace.
    New,
}

/// Which namespaces a pod has for itself; the others are the node's.
#[derive(Debug, Clone)]
pub struct SandboxNamespaces {
    /// Network.
    pub net: NetNs,
    /// PIDs: pause becomes PID 1 and reaps.
    pub pid: bool,
    /// System V IPC, POSIX queues and /dev/shm.
    pub ipc: bool,
    /// Host name.
    pub uts: bool,
    /// User ids. All of the pod's other own namespaces then belong to this one, and pause waits for
    /// [`crate::Child::open_gate`], so that its network can be set up.
    pub user: Option<IdMappings>,
}

/// A pod sandbox.
#[derive(Debug)]
pub struct SandboxPlan {
    /// Host name of the pod's own UTS namespace; empty leaves the inherited one. At most 64 bytes.
    pub hostname: String,
    /// Name and value, set in the pod's namespaces.
    pub sysctls: Vec<(Sysctl, String)>,
    /// Which namespaces are made.
    pub namespaces: SandboxNamespaces,
    /// Where pause lives.
    pub cgroup: CgroupTarget,
    /// The pause executable, open for reading (a sealed memfd or a file).
    pub pause: OwnedFd,
    /// Bytes of the pod's /dev/shm; 0 is 64 MiB.
    pub shm_size: u64,
    /// Pause prepares what it can and waits for [`crate::Child::open_gate`]: what it needs of the node's network and files is
    /// being made meanwhile. In a user namespace it waits in any case, before it does anything.
    pub held: bool,
    /// Files of the node of which the pod gets copies of its own, on a tmpfs of bounded size. One that is not there when
    /// pause goes on is left out. See [`ContainerPlan::pod_files`].
    pub files: Vec<PathBuf>,
    /// `oom_score_adj` of pause, -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// Filter for pause.
    pub seccomp: Option<SeccompFilter>,
    /// SELinux contexts of pause and of the pod's own files: /dev/shm and what masked paths show; none on a node without it.
    pub selinux: Option<SeLinuxContexts>,
}

/// PID namespace of a container.
#[derive(Debug)]
pub enum PidNs {
    /// That of the pod's pause process (the node's, if the pod has none of its own).
    Pod,
    /// A new one: the container's init is PID 1.
    Own,
    /// The caller's.
    Host,
    /// That of another container's init, by pidfd.
    Target(OwnedFd),
}

/// A user namespace that exists already: that of a running pod, for its containers, or one that a container which stands alone
/// is to live in.
#[derive(Debug)]
pub struct UserNamespace {
    /// The namespace: [`crate::Child::user_namespace`] of pause, or [`crate::make_user_namespace`].
    pub fd: OwnedFd,
    /// As it was given them. Id 0 is among them.
    pub mappings: IdMaps,
    /// Whether the pod's network namespace belongs to it. Without, the node's /sys is shown: only the owner of a network
    /// namespace may mount a sysfs that shows it.
    pub owns_network: bool,
}

/// The namespaces a container joins. Its mount namespace is always new.
#[derive(Debug)]
pub struct ContainerNamespaces {
    /// pidfd of the pod's pause process. Its network, IPC and UTS namespaces are joined, and its mount namespace is
    /// where the container's own one is made from.
    pub sandbox: OwnedFd,
    /// PID namespace.
    pub pid: PidNs,
    /// Stay in the caller's network namespace instead of joining the pod's.
    pub host_net: bool,
    /// Stay in the caller's IPC namespace and see the node's /dev/shm.
    pub host_ipc: bool,
    /// pidfd of the pause process of another pod, whose IPC namespace and /dev/shm are joined instead of the pod's. That pod
    /// has them for itself, and neither has a user namespace.
    pub ipc_of: Option<OwnedFd>,
    /// A cgroup namespace of its own (peers: unless privileged, on v2).
    pub cgroup: bool,
    /// The pod's user namespace, if it has one. `host_ipc` and [`PidNs::Host`] are then impossible: the namespaces of the
    /// node give nothing to whoever is root in another.
    pub user: Option<UserNamespace>,
}

impl UserNamespace {
    /// Who on the node is root inside.
    pub(crate) fn root(&self) -> (u32, u32) {
        // Nobody, of whom nothing is given away: `userns::check` has seen that there is one.
        self.mappings.root().unwrap_or((65_534, 65_534))
    }
}

impl ContainerNamespaces {
    /// Those of the pod that may be the node's as well.
    pub(crate) fn shared(&self) -> ThreadNameSpaceType {
        let mut kinds = ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME;
        if !self.host_net {
            kinds |= ThreadNameSpaceType::NETWORK;
        }
        if !self.host_ipc && self.ipc_of.is_none() {
            kinds |= ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION;
        }
        kinds
    }
}

/// A container.
#[derive(Debug)]
pub struct ContainerPlan {
    /// Used: `process` (args, env, cwd, capabilities, rlimits, no_new_privileges, oom_score_adj, user.umask, labels),
    /// `mounts`, `linux` (devices, masked_paths, readonly_paths, rootfs_propagation, sysctl, mount_label). Namespaces, root and user come from
    /// the fields below. A tmpfs at /dev/shm is replaced by the pod's (or node's) shared memory; a bind there wins.
    pub spec: Spec,
    /// Root filesystem.
    pub rootfs: Rootfs,
    /// What the mounts of type `image` show: their source is an index in here.
    pub image_volumes: Vec<ImageVolume>,
    /// Those of [`SandboxPlan::files`]: a bind mount with one of them as its source shows the pod's copy of it, so that what
    /// the container writes there is not on a filesystem of the node (CVE-2020-8557 was such a file).
    pub pod_files: Vec<PathBuf>,
    /// Sources of bind mounts whose files get the context of `linux.mount_label`, for good.
    pub relabel: Vec<PathBuf>,
    /// Who to run as.
    pub user: UserRequest,
    /// Entries of the environment that are no UTF-8; see [`ExecPlan::raw_env`].
    pub raw_env: Vec<Vec<u8>>,
    /// Filter of the container.
    pub seccomp: Option<SeccompFilter>,
    /// Namespaces to join.
    pub namespaces: ContainerNamespaces,
    /// Where the container lives.
    pub cgroup: CgroupTarget,
    /// Standard streams: the child's ends. A terminal is made in the container's devpts; its master comes back in
    /// [`crate::Ready::terminal`].
    pub stdio: Stdio<OwnedFd>,
}

/// Who a process is to run as.
#[derive(Debug, Clone)]
pub enum Identity {
    /// What was found for the container itself ([`crate::Ready::account`]), or would have been.
    Account(Account),
    /// Somebody who is looked up in the container's own files, as they are now.
    Request(UserRequest),
    /// Exactly these ids, as the OCI's `process.user` has them: nothing is added from the container's group file, and its
    /// passwd file is asked for the home directory alone.
    Ids(ResolvedUser),
}

/// A process in a running container.
#[derive(Debug)]
pub struct ExecPlan {
    /// pidfd of the container's init, whose namespaces and root are joined.
    pub target: OwnedFd,
    /// Used as in [`ContainerPlan::spec`], without `user`.
    pub process: Process,
    /// `NAME=value` entries of the environment that are no UTF-8, which the text of a spec cannot carry. Each stands for
    /// the entry of `process` that is its lossy form.
    pub raw_env: Vec<Vec<u8>>,
    /// Who to run as: the container's own account, unless somebody else is wanted.
    pub identity: Identity,
    /// The container's filter.
    pub seccomp: Option<SeccompFilter>,
    /// The mappings of the container's user namespace, if it has one.
    pub user_namespace: Option<IdMaps>,
    /// Whether the container has a time namespace, of its own or another's. A kernel without them refuses to enter one.
    pub time_namespace: bool,
    /// Of the container.
    pub personality: Option<LinuxPersonality>,
    /// Of the container.
    pub memory: Option<MemoryPolicy>,
    /// Whether it waits at a gate when it is ready ([`crate::Child::open_gate`]).
    pub held: bool,
    /// How many descriptors from 3 on the process gets from the caller, as they are.
    pub inherited: u32,
    /// A sub-cgroup of the container's, or the container's own.
    pub cgroup: CgroupTarget,
    /// Standard streams: the child's ends. A terminal is made in the container's devpts; its master comes back in
    /// [`crate::Ready::terminal`].
    pub stdio: Stdio<OwnedFd>,
}
