//! Why streams cannot be served.

use std::{io, net::SocketAddr, path::PathBuf};

use husk_model::{Classify, Kind};

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum StreamingError {
    /// The address cannot be listened on.
    #[error("streaming.address: listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of certificates or keys cannot be read.
    #[error("read {}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// The files do not make a TLS server.
    #[error("use the certificate {}", path.display())]
    Tls {
        /// The certificate's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Too many URLs of a pod wait for their clients.
    #[error(
        "{held} streaming requests of the pod wait for their clients already, its share of the node's {limit}; try again in a minute"
    )]
    TooMany {
        /// How many of the pod wait.
        held: usize,
        /// How many of all pods may.
        limit: usize,
    },
    /// The daemon is ending.
    #[error("huskd is shutting down")]
    Ending,
    /// No random bytes.
    #[error("no random bytes for a token: {0}")]
    Random(getrandom::Error),
}

impl Classify for StreamingError {
    fn kind(&self) -> Kind {
        match self {
            StreamingError::TooMany { .. } => Kind::ResourceExhausted,
            StreamingError::Ending => Kind::Unavailable,
            StreamingError::Listen { .. }
            | StreamingError::Pem { .. }
            | StreamingError::Tls { .. }
            | StreamingError::Random(_) => Kind::Internal,
        }
    }
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, StreamingError>;
