//! End-to-end tests against a real huskd.
//!
//! A test starts its own daemon in a directory of its own ([`Daemon`]), talks to it over gRPC ([`Cri`]), crictl or a
//! kubelet, and ends by proving that nothing is left on the node ([`Node`]). Tests run one at a time, as root.
#![forbid(unsafe_code)]

mod containerd;
mod cri;
mod daemon;
mod docker;
mod images;
mod kubelet;
mod node;
mod requests;
mod small;
mod subject;
mod tools;
mod web;
mod websocket;
mod world;

pub use containerd::Containerd;
pub use cri::Cri;
pub use daemon::{CgroupDriver, Daemon, Options};
pub use docker::{Answer, Docker, Open};
pub use images::{Archive, BUSYBOX, Layer, busybox_archive};
pub use kubelet::{Gates, Kubelet, NODE};
pub use node::{Node, cgroup_of, hierarchies, mounts, processes_of};
pub use requests::{container, pod, with_command};
pub use small::Small;
pub use subject::Subject;
pub use tools::{Output, dist, root, run, tool};
pub use web::{FakeRegistry, Odd, Oddity, metrics};
pub use websocket::{Said, WebSocket};
pub use world::World;

/// The CRI's generated types.
pub use husk_proto::cri::v1;

use std::time::Duration;

/// A limit of a test on this machine: `$HUSK_E2E_PATIENCE` times as long, which hack/test-vm sets for its emulated
/// processors. For limits that a working husk never reaches, not for those that a test measures.
pub fn patience(limit: Duration) -> Duration {
    let factor = std::env::var("HUSK_E2E_PATIENCE")
        .map_or(1, |text| text.parse().expect("HUSK_E2E_PATIENCE is a whole number"));
    limit * factor
}

/// Waits until `condition` yields a value, asking again every few milliseconds, and panics with `what` after `limit`
/// (see [`patience`]). For facts that no event announces to a client: a state seen through List, a file of another process.
pub fn eventually<T>(what: &str, limit: Duration, condition: impl FnMut() -> Option<T>) -> T {
    eventually_every(Duration::from_millis(5), what, limit, condition)
}

/// [`eventually`] for conditions that cost the asked one something.
pub fn eventually_every<T>(
    pause: Duration,
    what: &str,
    limit: Duration,
    condition: impl FnMut() -> Option<T>,
) -> T {
    husk_test_support::eventually_every(pause, what, patience(limit), condition)
}

/// Raises this process's limit of open files as far as it goes: many clients at once do not fit into the usual 1024.
pub fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("the hard limit of open files");
}
