//! A name server for one pod: names of the networks that the pod is in are answered here, all others are asked for upstream.
//!
//! Read `message` (what a query is answered with; pure), then `server` (sockets, and what a pod may take), then `forward`. The
//! sockets are made inside the pod's network namespace by the caller ([`Sockets::bind`]); who is called what, and whom to ask
//! upstream, the caller says ([`Names`]).
//!
//! A pod's queries are a stranger's bytes, and so are answers from upstream. What a pod may take is bounded for each pod by itself
//! (`limits`): one that floods its resolver slows its own queries down.
#![forbid(unsafe_code)]

mod forward;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod limits;
mod message;
mod server;

use std::net::{IpAddr, SocketAddr};

pub use server::{Resolver, Sockets};

/// What a pod may find out.
pub trait Names: Send + Sync + 'static {
    /// The addresses behind a name of the pod's networks, of both families, in the order in which they shall be given; `None` for a name
    /// that is none of theirs. `name` is in lower case and without the last dot; what is no letter, digit, `-` or `_` may be escaped.
    fn addresses(&self, name: &str) -> Option<Vec<IpAddr>>;

    /// The name of an address of the pod's networks, without the last dot.
    fn name_of(&self, ip: IpAddr) -> Option<String>;

    /// Whom to ask for all other names.
    fn upstream(&self) -> Upstream;
}

/// Whom to ask.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Upstream {
    /// In this order, three at most. None: whatever is not ours cannot be found.
    pub servers: Vec<Server>,
    /// A name of one word is never asked for: resolv.conf has `ndots`, and the client comes again with a search domain.
    pub keeps_single_words: bool,
}

/// A name server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Server {
    /// Where it is.
    pub address: SocketAddr,
    /// As seen from the pod's network namespace, not from the node's.
    pub inside: bool,
}
