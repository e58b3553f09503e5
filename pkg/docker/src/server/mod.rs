//! Connections, versions and routes.
//!
//! | module | concern |
//! | --- | --- |
//! | `routes` | which part answers what |
//! | `answering` | one request: span, version, headers, log line |
//! | `connection` | one connection: HTTP, and what it becomes when it leaves HTTP |
//! | `listener` | accepting, and the end |

mod answering;
mod connection;
mod listener;
mod routes;
