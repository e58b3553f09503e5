//! systemd over D-Bus: one delegated scope per pod.
//!
//! With the systemd driver a pod's cgroups lie inside a transient scope unit that systemd made for it, below the slice that
//! the kubelet made for the pod. `Delegate=yes` gives all that is below the scope's own cgroup to husk, so a reload of
//! systemd changes none of it:
//!
//! ```text
//! kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid>.slice   the kubelet's, kept by systemd
//! └── husk-<pod id>.scope                                                     systemd's
//!     └── pod                                                                 husk's from here on
//!         ├── pause
//!         ├── <container id>
//!         │   └── exec-<n>
//!         └── …
//! ```
//!
//! Nothing lives in the scope's own cgroup and its limits are never written: what systemd holds true there and what husk
//! holds true below it cannot meet.
//!
//! [`PodUnits`] makes and ends scopes, [`Systemd`] is the connection, [`Slice`] and [`PodScope`] are the names. The scope needs
//! a process to begin with, before the pod has any: see [`anchor`].
#![forbid(unsafe_code)]

pub mod anchor;
mod bus;
mod detect;
mod error;
mod scope;
mod slice;
mod systemd;
mod units;

pub use anchor::Anchor;
pub use bus::Route;
pub use detect::is_init;
pub use error::Error;
pub use scope::PodScope;
pub use slice::{InvalidSlice, Slice};
pub use systemd::Systemd;
pub use units::PodUnits;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
