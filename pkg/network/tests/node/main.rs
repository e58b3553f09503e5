//! The network in a real kernel: each test has a node of its own (common.rs) and needs root.
#![forbid(unsafe_code)]

mod cni;
mod common;
mod crash;
mod embedded;
mod names;
mod reference_plugins;
mod user;
