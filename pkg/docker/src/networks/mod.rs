//! Networks: the user networks of the node, and the three that are always there.
//!
//! | module | concern |
//! | --- | --- |
//! | `which` | what a name means: bridge, host, none, a user network |
//! | `wanted` | a request to make one, checked |
//! | `shown` | one in Docker's spelling |
//! | `routes` | requests below `/networks` |

mod routes;
mod shown;
mod wanted;
pub(crate) mod which;

pub(crate) use routes::route;
