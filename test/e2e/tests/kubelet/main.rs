//! A kubelet's day: a real kubelet drives the runtime through what it asks for between one node reboot and the next.
//!
//! One suite, two subjects: with `HUSK_E2E_RUNTIME=containerd` the same tests run on containerd and runc, which checks the
//! tests. What moves into the runtime by the kubelet's feature gates is tested with them off and on ([`Gates`]).

mod day;
mod ends;
mod lifecycle;
mod logs;
mod many;
mod network;
mod ordinary;
mod probes;
mod resources;
mod restarts;
mod security;
mod streams;
mod volumes;

use day::{Day, manifest, merge, mounts, shell};
use husk_e2e::Gates;
