//! From protocol messages to the domain and back. What comes in is checked here, at the door, and nowhere else.

mod check;
mod container;
mod measured;
mod mount;
mod output;
mod pod;
mod resources;
mod security;
mod signal;

pub(crate) use check::{Invalid, invalid};
#[cfg(feature = "fuzzing")]
pub(crate) use container::ContainerRequest;
pub(crate) use container::container_request;
pub(crate) use measured::{container_stats, filesystem, pod_stats};
pub(crate) use output::{
    container_item, container_state, container_status, image, pod_item, pod_status, unsigned,
};
pub(crate) use pod::pod_config;
pub(crate) use resources::resources;

#[cfg(test)]
mod tests;
