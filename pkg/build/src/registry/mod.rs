//! A small registry that only husk's own builder can reach: what builds start from comes out of husk's image store by it, and what they make
//! goes in.
//!
//! ```text
//! http://127.0.0.1:PORT/v2/<token>/n/docker.io/library/busybox/manifests/latest      what a build starts from
//!                         /v2/<token>/out/...                                       what it makes
//!                         /context/<token>                                          its files, where a client sent an archive
//! ```
//!
//! It listens in the builder's network namespace, which steps of builds share: whoever does not know a build's token, which nobody can guess, gets
//! nothing. A token is good for one build and ends with it.
//!
//! | module | concern |
//! | --- | --- |
//! | `ticket` | one build: its token, what it asked for, what it has made |
//! | `answers` | answers without a body, refusals |
//! | `names` | names of images as paths here, and the rules by which the builder finds them |
//! | `pull` | manifests and blobs of what builds start from |
//! | `push` | blobs and manifests of what builds make |
//! | `server` | connections and routes |

mod answers;
mod names;
mod pull;
mod push;
mod server;
mod ticket;

pub(crate) use names::{rules, shown};
pub(crate) use server::Registry;
pub(crate) use ticket::{Credentials, Order, Ticket};
