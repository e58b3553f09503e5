//! What all connections share.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::{Containers, places::Places, tls::TlsFiles, token::Tokens};

/// How streams are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamingConfig {
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// Serve HTTPS.
    pub tls: Option<TlsFiles>,
    /// A session on which nothing moved for this long ends.
    pub idle_timeout: Duration,
    /// How long a client may take to open the streams of its session.
    pub creation_timeout: Duration,
    /// Sessions at once, besides the first of each pod. One pod gets at most half of them.
    pub max_sessions: usize,
}

/// What all connections share.
pub(crate) struct Shared {
    pub(crate) containers: Arc<dyn Containers>,
    pub(crate) tokens: Tokens,
    pub(crate) config: StreamingConfig,
    pub(crate) sessions: Arc<Places>,
    /// Becomes true when sessions must end.
    pub(crate) ending: watch::Receiver<bool>,
}
