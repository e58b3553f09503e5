//! Requests about images.
//!
//! | module | concern |
//! | --- | --- |
//! | `names` | names as Docker's clients show them |
//! | `auth` | credentials that come with a request |
//! | `summary`, `list` | an image in a list, the list |
//! | `pull` | a pull, with its progress |
//! | `routes` | which answers what |

mod auth;
mod list;
mod names;
mod pull;
mod routes;
mod summary;

pub(crate) use names::familiar;
pub(crate) use routes::route;
pub(crate) use summary::summary;
