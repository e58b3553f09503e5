//! The pod network: an embedded bridge over netlink, and CNI plugins as soon as a configuration for them appears.
//!
//! Read first: [`Network`], then `embedded` (what husk does itself), `cni` (what it lets plugins do), `user` (networks that
//! somebody made by name) and `record` (what survives a crash). Layout on disk:
//!
//! ```text
//! <root>/network/ipam/<bridge>/…      address reservations, host-local format (ipam.rs)
//! <root>/network/pods/<id>.json       how to undo a pod's network (record.rs)
//! <root>/network/user/…               user networks (user/mod.rs)
//! <root>/network/subnet.json          the subnet that was chosen (free_subnet.rs)
//! <root>/network/pod-cidr.json        the cluster's, which goes before it (pod_cidr.rs)
//! <state>/netns/<id>                  pinned namespaces (husk_sys::netns)
//! ```
#![forbid(unsafe_code)]

mod cni;
mod config;
mod embedded;
mod error;
mod free_subnet;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod holds;
mod ipam;
mod netlink;
mod netns_pool;
mod network;
mod pod_cidr;
mod pod_locks;
mod probe;
mod record;
mod request;
pub mod resolv;
mod sysctl;
mod user;

pub use config::{BridgeConfig, NetworkConfig};
pub use error::NetworkError;
pub use network::Network;
pub use pod_cidr::PodCidr;
pub use probe::{Probe, probe};
pub use request::{Free, GcReport, NetworkStatus, Owners, PodNetwork, PodNetworkRequest, Provider};
pub use user::{
    Attached, NetworkSpec, Options, Overlay, Pool, Subnet, SubnetSpec, UserNetwork, UserNetworks,
};

use std::net::Ipv4Addr;

/// Where names of user networks are served in a pod: Docker's address, which programs and documentation name.
pub const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
