//! Exec, attach and port-forward over HTTP: SPDY/3.1 and WebSocket.
//!
//! The CRI answers Exec, Attach and PortForward with a URL; what the kubelet or crictl then sends there comes to this server.
//! [`StreamingServer::url`] keeps a checked [`Request`] under a one-use token; a connection that presents it is upgraded and
//! becomes a session. Whatever carries it, a session sees the same streams:
//!
//! ```text
//! TCP ─(TLS)─ HTTP/1.1 upgrade ─┬─ SPDY/3.1 streams ──────────────────┐
//!                               ├─ WebSocket channels ────────────────┼─ Input, Output ─ pipes, terminal, socket
//!                               └─ WebSocket tunnel ─ SPDY streams ───┘
//! ```
//!
//! Data of a command does not pass through its monitor: the command gets pipes whose other ends are here, or a terminal whose
//! master is here. What the crate wants of the rest of husk is [`Containers`].
//!
//! | module | concern |
//! | --- | --- |
//! | `server`, `tls`, `peer` | listening, connections, certificates, clients that hang up |
//! | `http`, `negotiate` | a request and what it is upgraded to |
//! | `request`, `token` | what a URL stands for |
//! | `places` | how many sessions a pod may have |
//! | `channel`, `link`, `activity` | one direction of a stream; a connection; its silence |
//! | `spdy`, `websocket` | the carriers |
//! | `session`, `fd`, `status` | what runs on them |
#![forbid(unsafe_code)]

mod activity;
mod channel;
mod error;
pub mod facilities;
mod fd;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod http;
mod link;
mod negotiate;
mod peer;
mod places;
mod request;
mod server;
mod session;
mod shared;
mod spdy;
mod status;
mod tls;
mod token;
mod websocket;

pub use error::{Result, StreamingError};
pub use facilities::Containers;
pub use request::{Request, Wanted};
pub use server::StreamingServer;
pub use shared::StreamingConfig;
pub use tls::TlsFiles;
