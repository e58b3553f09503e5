//! Requests about the node.
//!
//! | module | answers |
//! | --- | --- |
//! | `about` | who husk is, and `/version` |
//! | `info` | `/info` |
//! | `follow` | `/events` |
//! | `disk` | `/system/df` |
//! | `login` | `/auth` |
//! | `plugins` | Docker's plugins, of which there are none |
//! | `routes` | which of them |

mod about;
mod disk;
mod follow;
mod info;
mod login;
mod plugins;
mod routes;

pub(crate) use about::ENGINE;
pub(crate) use routes::route;
