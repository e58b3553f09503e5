//! User networks: requests below `/networks`.

mod routes;

pub(crate) use routes::route;
