//! Containers and commands in them.

mod routes;
mod store;

pub(crate) use routes::route;
pub(crate) use store::Store;
