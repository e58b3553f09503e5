//! The Docker Engine API on a unix socket, beside the CRI and on the same engine, image store and network.
//!
//! Whoever may open the socket is root on the node, as with dockerd's. The door is closed unless it is configured, and then nothing
//! of this crate runs. Requests are allegations: bodies are bounded and decoded into types of our own, names are checked before
//! they become paths.
//!
//! Each of these knows only those above it:
//!
//! | module | concern |
//! | --- | --- |
//! | `error` | a failed request: its status and message; the one place where a kind becomes a status |
//! | `when` | times as Docker writes and reads them |
//! | `http` | a request as handlers see it, its query and body; answers, streams of them, hijacked connections |
//! | `api` | the types of requests and answers, in Docker's spelling |
//! | `filters` | `filters={"label":["a=b"]}`, in both encodings |
//! | `instructions` | `changes` of a commit or an import |
//! | `progress` | answers that are a sequence of JSON documents |
//! | `events` | what happened, for those who follow it; the last of it is kept |
//! | `facilities` | what the other parts ask of containers |
//! | `removal`, `threads` | deleting trees that containers wrote; long work on files |
//! | `volumes`, `networks` | volumes and user networks: records, and what containers need of them |
//! | `shared` | what all parts stand on |
//! | `containers` | containers and commands in them |
//! | `swarm` | Docker's swarm of one node |
//! | `door` | everything in one; opening it |
//! | `builds` | images from Dockerfiles |
//! | `images`, `system` | requests about images and about the node |
//! | `server` | connections, versions, routes |
#![forbid(unsafe_code)]
// `/info` has more fields than the macro that writes JSON is deep.
#![recursion_limit = "256"]

mod api;
mod builds;
mod containers;
mod door;
mod error;
mod events;
mod facilities;
mod filters;
mod http;
mod images;
mod instructions;
mod networks;
mod progress;
mod removal;
mod server;
mod shared;
mod swarm;
mod system;
mod threads;
mod volumes;
mod when;

pub use door::{Door, DoorParts};
pub use error::OpenError;
pub use http::{MAX_API, MIN_API};
