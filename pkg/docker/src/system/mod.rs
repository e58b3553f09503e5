//! Requests about the node.
//!
//! | module | answers |
//! | --- | --- |
//! | `about` | who husk is, and `/version` |
//! | `info` | `/info` |
//! | `follow` | `/events` |
//! | `disk` | `/system/df` |
//! | `login` | `/auth` |
//! | `swarm` | what dockerd has and husk has not: swarm, plugins |
//! | `routes` | which of them |

mod about;
mod disk;
mod follow;
mod info;
mod login;
mod routes;
mod swarm;

pub(crate) use routes::route;
