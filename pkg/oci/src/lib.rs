//! Containers from OCI bundles: runc's verbs on husk's own runtime.
//!
//! A bundle ([`Bundle`]) is a directory with a `config.json`. [`create`](create()) makes a container of it: a directory of state
//! ([`state`]), a cgroup, and an init that waits. The other verbs find the container by its [`Record`] and need nothing of whoever
//! created it. The command line in front of it is `cmd/oci`.
//!
//! The caller has one thread: containers are cloned from it (`husk_runtime`).
#![forbid(unsafe_code)]

mod affinity;
mod bundle;
mod check;
mod create;
mod delete;
mod devices;
mod error;
mod example;
mod exec;
mod features;
mod group;
mod hooks;
mod kill;
mod listener;
mod namespaces;
mod numa;
mod pausing;
mod route;
mod socket;
pub mod state;
mod stats;
mod update;

pub use self::{
    bundle::{Bundle, bounded, last_of_each_name},
    create::{CreateOptions, Created, Streams, create, start},
    delete::{delete, force_delete},
    error::{Error, Result},
    example::example,
    exec::{Exec, ExecOptions, add_capabilities, exec, process_of},
    features::features,
    kill::{kill, parse_signal},
    pausing::{Pausing, pids},
    socket::{send_descriptor, write_pid},
    state::{Container, Record, Status, Store},
    stats::{Event, memory_kills, out_of_memory, stats},
    update::{Update, update},
};
