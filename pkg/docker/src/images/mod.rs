//! Requests about images.
//!
//! | module | concern |
//! | --- | --- |
//! | `names` | names as Docker's clients show them |
//! | `find` | an image by what a client calls it |
//! | `auth` | credentials that come with a request |
//! | `summary`, `list`, `inspect` | images in a list, one looked at, its history |
//! | `layers` | what is told of the layers of a pull |
//! | `made_of` | the container that an image was committed from |
//! | `pull`, `push`, `remote` | registries |
//! | `archive` | save and load |
//! | `remove` | names taken away, images removed, prune |
//! | `routes` | which answers what |

mod archive;
mod auth;
pub(crate) mod find;
mod import;
mod inspect;
mod layers;
mod list;
mod made_of;
pub(crate) mod names;
mod pull;
mod push;
mod remote;
mod remove;
mod routes;
mod summary;

pub(crate) use made_of::MadeOf;
pub(crate) use routes::route;
pub(crate) use summary::summary;
