//! The internal OCI runtime: namespaces, rootfs, cgroup, capabilities, seccomp, exec.
//!
//! A single-threaded caller (the pod's monitor) hands over a plan and gets a [`Child`]: one process, cloned straight
//! into its cgroup, that sets itself up, reports each failure by [`Step`], and stops at a gate just before `execve`.
//!
//! ```text
//! monitor                          child
//!   clone3 ───────────────────────▶ join cgroup, open sources, join namespaces, mount, pivot_root, resolve the user
//!   read_report ◀── Ready | Failed ─┤            (container and exec; pause has no gate)
//!   open_gate ─────────────────────▶ user, capabilities, seccomp
//!   read_report ◀── EOF | Failed ───┘ execve closes the socket: EOF is success
//! ```
//!
//! A container that belongs to no pod is [`spawn_standalone`]'s: `husk-oci` runs those.
//!
//! Nothing is ever mounted in the caller's mount namespace, and no path inside a rootfs is resolved by string.
#![forbid(unsafe_code)]

mod accounts;
mod capabilities;
mod channel;
mod child;
mod container;
mod error;
mod exec;
mod failure;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod hook;
mod interior;
mod lookup;
mod lsm;
mod nsfd;
mod plan;
mod probe;
mod process;
mod report;
mod rlimits;
mod rootfs;
mod sandbox;
mod scheduling;
mod standalone;
mod stdio;
mod sysctl;
mod terminal;
mod user;
mod userns;

pub use self::{
    child::Child,
    container::spawn_container,
    error::{Error, Result},
    exec::{spawn_exec, spawn_exec_or},
    failure::blame,
    hook::{Hook, Setting, run_hooks},
    plan::{
        CgroupTarget, ContainerNamespaces, ContainerPlan, ExecPlan, Identity, NetNs, PidNs,
        SandboxNamespaces, SandboxPlan, UserNamespace,
    },
    probe::probe_user_namespaces,
    report::{Account, Failure, Ready, Report, Step},
    rootfs::{cgroupfs::prepare, stopped::stopped_root},
    sandbox::spawn_sandbox,
    scheduling::MemoryPolicy,
    standalone::{Offset, StandaloneNamespaces, StandalonePlan, Whose, spawn_standalone},
    userns::{make_user_namespace, user_namespace_mappings},
};
