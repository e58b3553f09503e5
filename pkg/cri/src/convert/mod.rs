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
pub(crate) use container::container_config;
pub(crate) use measured::{container_stats, filesystem, pod_stats};
pub(crate) use output::{
    container_item, container_state, container_status, image, pod_item, pod_status, unsigned,
};
pub(crate) use pod::pod_config;
pub(crate) use resources::resources;
pub(crate) use security::{asked_user_namespace, check_shared_namespaces, check_user_namespace};

#[cfg(test)]
mod tests;
