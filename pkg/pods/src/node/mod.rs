//! What the node has for pods, and what is looked up on it. Here is what may block or hang.
//!
//! | module | concern |
//! | --- | --- |
//! | `cgroups` | where the cgroups of pods are, and who makes what lies above them |
//! | `networks` | the networks of pods |
//! | `security` | AppArmor, SELinux and seccomp |
//! | `lookup` | everything that a creation looks up: `devices`, `seccomp`, `sources` |
//! | `layers` | leased layers of images |
//! | `files` | /etc/hostname, /etc/hosts and /etc/resolv.conf of a pod |
//! | `look` | blocking looks, which end |

mod cgroups;
mod devices;
pub(crate) mod files;
mod layers;
mod look;
mod lookup;
mod networks;
pub(crate) mod seccomp;
mod security;
mod sources;

pub use cgroups::CgroupDriver;
pub(crate) use cgroups::{Cgroups, Place, cgroup_path};
pub(crate) use devices::owner;
pub(crate) use layers::{ImageVolume, Layers};
pub(crate) use look::{look, make_log_directory};
pub(crate) use lookup::{Lookups, NodeFacts};
pub(crate) use networks::{Networks, has_own};
pub(crate) use security::{OfPod, Security};
pub(crate) use sources::{Claimed, Sources};
