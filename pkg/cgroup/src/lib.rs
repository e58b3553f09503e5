//! cgroup v1, hybrid and v2: hierarchy, limits, freezer, kill, OOM and statistics.
//!
//! [`Hierarchy`] is what the node has mounted, [`Cgroup`] is one group in all of its hierarchies, held by directory
//! descriptors. A path that came from a request is a [`CgroupPath`]: it can't leave the hierarchy, and it is resolved
//! with `openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)` from the mount's own descriptor.
//!
//! Three layouts exist in the field:
//! - **v2**: one tree; limits, kill, freezer and events are files of it, devices are an eBPF program.
//! - **hybrid**: v1 controllers carry the limits; a v2 tree without them (`/sys/fs/cgroup/unified`) is used for what v1
//!   can't do well: `cgroup.kill`, `cgroup.events`, freezing and `clone3(CLONE_INTO_CGROUP)`.
//! - **v1**: everything by v1 files; killing is SIGKILL to each process, while forks are refused.
//!
//! husk makes the directories itself. With the systemd driver the topmost ones are units of systemd, of which
//! [`Hierarchy::adopt`] takes over what is delegated.
#![forbid(unsafe_code)]

mod cgroup;
mod controller;
mod devices;
mod dir;
mod error;
mod freeze;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod hierarchy;
mod hurry;
mod kill;
#[cfg(test)]
mod layouts;
mod limits;
mod mark;
mod mountinfo;
mod path;
mod remove;
mod stats;

pub use cgroup::Cgroup;
pub use controller::Controller;
pub use error::Error;
pub use hierarchy::{Facts, Hierarchy, Version};
pub use limits::{Degraded, cpu_weight, io_weight};
pub use mark::Marked;
pub use path::{CgroupPath, InvalidPath};
pub use stats::{
    CgroupStats, CpuStats, HugetlbStats, IoDeviceStats, MemoryStats, PidsStats, Pressure, PressureLine,
    PressureSet, StatsReader,
};

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
