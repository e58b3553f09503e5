//! cgroup v1, hybrid and v2: hierarchy, limits, kill, OOM and statistics.
//!
//! [`Hierarchy`] is what the node has mounted, [`Cgroup`] is one group in all of its hierarchies, held by directory
//! descriptors. A path that came from a request is a [`CgroupPath`]: it can't leave the hierarchy, and it is resolved
//! with `openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)` from the mount's own descriptor. Inside, a `Tree` is one mounted
//! hierarchy, and a `Place` a group's directory in it.
//!
//! Three layouts exist in the field:
//! - **v2**: one tree; limits, kill and events are files of it, devices are an eBPF program.
//! - **hybrid**: v1 controllers carry the limits; a v2 tree without them (`/sys/fs/cgroup/unified`) is used for what v1
//!   can't do well: `cgroup.kill`, `cgroup.events` and `clone3(CLONE_INTO_CGROUP)`.
//! - **v1**: everything by v1 files; killing is a loop of lists and SIGKILLs while forks are refused, and nothing tells when a group is empty.
//!
//! What may take long has two forms: [`Cgroup::kill`], [`Cgroup::wait_empty`] and [`Cgroup::remove`] for callers with a
//! thread to spare; [`Cgroup::begin_kill`], [`Cgroup::watch`] and [`Cgroup::remove_if_empty`] for an event loop.
//!
//! husk makes the directories itself. With the systemd driver the topmost ones are units of systemd, of which
//! [`Hierarchy::adopt`] takes over what is delegated.
#![forbid(unsafe_code)]

mod adopt;
mod cgroup;
mod controller;
mod detect;
mod devices;
mod dir;
mod enable;
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
mod make;
mod mark;
mod path;
mod place;
mod remove;
mod stats;
mod tree;
mod wait;

pub use cgroup::Cgroup;
pub use controller::Controller;
pub use error::{Error, Result};
pub use hierarchy::{Hierarchy, Version};
pub use kill::{Killing, Step};
pub use limits::Degraded;
pub use mark::Marked;
pub use path::{CgroupPath, InvalidPath};
pub use stats::{
    CgroupStats, CpuStats, HugetlbStats, IoDeviceStats, MemoryStats, PidsStats, Pressure, PressureLine,
    PressureSet, StatsReader,
};
pub use wait::Watch;
