//! Where spans go, and what can be wrong with that.

use std::path::PathBuf;

/// Where spans go, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracesConfig {
    /// `http://host:port` or `https://host:port` of a collector's gRPC receiver.
    pub endpoint: String,
    /// PEM of the authorities that may have signed the collector's certificate; the node's own if `None`.
    pub ca: Option<PathBuf>,
    /// Of a million calls whose caller sends no trace, how many begin one. Of the others the caller decides.
    pub per_million: u32,
    /// The version that spans say they are of.
    pub version: &'static str,
}

/// Why there can be no traces.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// The endpoint is no address.
    #[error("tracing.endpoint: {endpoint:?} is not the address of a collector")]
    Endpoint {
        /// As configured.
        endpoint: String,
        /// What is wrong with it.
        #[source]
        source: tonic::transport::Error,
    },
    /// The authorities cannot be read.
    #[error("tracing.tls_ca: cannot read {}", path.display())]
    Ca {
        /// As configured.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: std::io::Error,
    },
    /// They can be read, and are none; or the node has none.
    #[error("tracing.endpoint: cannot set up TLS for {endpoint}")]
    Tls {
        /// As configured.
        endpoint: String,
        /// What is wrong with it.
        #[source]
        source: tonic::transport::Error,
    },
}
