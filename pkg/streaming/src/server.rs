//! The HTTP server: accepts connections, answers requests, and hands upgraded connections to their sessions.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use husk_lobby::{Guest, Lobby};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tracing::{debug, info, warn};

use crate::{
    Containers, StreamingError,
    error::Result,
    http,
    peer::Peer,
    places::Places,
    request::Request,
    shared::{Shared, StreamingConfig},
    tls::Certificates,
    token::Tokens,
};

/// How long a client may take to say what it wants: TLS and the request together.
const INTRODUCTION: Duration = Duration::from_secs(10);
/// Connections that have not shown a token, besides the sessions. Each costs a descriptor and at most [`MAX_HEAD`] twice;
/// a client that shows its token within milliseconds is never the oldest of so many.
const INTRODUCING: usize = 256;
/// Longest request: a URL, and what proxies add.
const MAX_HEAD: usize = 16 << 10;
/// How long accepting rests when the node has no descriptors or memory for a connection.
const EXHAUSTED: Duration = Duration::from_millis(100);
/// How long sessions that were told of the end may take.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The running server.
pub struct StreamingServer {
    shared: Arc<Shared>,
    /// `http://127.0.0.1:1234`
    base: String,
    ending: watch::Sender<Phase>,
    told: watch::Sender<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    Ending,
}

impl std::fmt::Debug for StreamingServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamingServer").field("base", &self.base).finish_non_exhaustive()
    }
}

impl StreamingServer {
    /// Listens and serves until [`StreamingServer::shutdown`].
    ///
    /// # Errors
    /// When the address cannot be listened on or the TLS files cannot be used.
    pub async fn start(config: StreamingConfig, containers: Arc<dyn Containers>) -> Result<Self> {
        let certificates = config.tls.clone().map(Certificates::load).transpose()?;
        let failed = |source| StreamingError::Listen { address: config.address, source };
        let listener = TcpListener::bind(config.address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let scheme = if certificates.is_some() { "https" } else { "http" };
        let base = format!("{scheme}://{}", reachable(address));
        let (told, ending) = watch::channel(false);
        let (phase, phases) = watch::channel(Phase::Serving);
        let shared = Arc::new(Shared {
            containers,
            tokens: Tokens::default(),
            sessions: Places::new(config.max_sessions),
            config,
            ending,
        });
        info!(base, "streams are served");
        let acceptor =
            Acceptor { listener, certificates: certificates.map(Arc::new), shared: Arc::clone(&shared) };
        tokio::spawn(acceptor.run(phases));
        Ok(Self { shared, base, ending: phase, told })
    }

    /// A URL that serves the request once, within a minute.
    ///
    /// # Errors
    /// [`StreamingError::TooMany`], and [`StreamingError::Ending`] after [`StreamingServer::shutdown`].
    pub fn url(&self, request: Request) -> Result<String> {
        if *self.ending.borrow() == Phase::Ending {
            return Err(StreamingError::Ending);
        }
        let path = request.purpose().path();
        let token = self.shared.tokens.keep(request)?;
        Ok(format!("{}/{path}/{token}", self.base))
    }

    /// Takes no new sessions, gives those in progress `patience` to end by themselves, and then tells them to.
    pub async fn shutdown(&self, patience: Duration) {
        self.ending.send_replace(Phase::Ending);
        if tokio::time::timeout(patience, self.shared.sessions.all_free()).await.is_ok() {
            return;
        }
        self.told.send_replace(true);
        if tokio::time::timeout(LAST_WORDS, self.shared.sessions.all_free()).await.is_err() {
            info!("streaming sessions were cut off at the end");
        }
    }
}

/// The address as a client on this node reaches it.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

// === accepting ===

struct Acceptor {
    listener: TcpListener,
    certificates: Option<Arc<Certificates>>,
    shared: Arc<Shared>,
}

impl Acceptor {
    async fn run(self, mut phases: watch::Receiver<Phase>) {
        let lobby = Lobby::new(INTRODUCING, INTRODUCTION);
        let serve = async {
            loop {
                match self.listener.accept().await {
                    Ok((stream, _)) => self.introduce(stream, Arc::clone(&lobby)),
                    Err(error) => {
                        warn!(%error, "cannot accept a streaming connection");
                        tokio::time::sleep(EXHAUSTED).await;
                    }
                }
            }
        };
        tokio::select! {
            () = serve => {}
            _ = phases.wait_for(|phase| *phase == Phase::Ending) => {}
        }
    }

    fn introduce(&self, stream: TcpStream, lobby: Arc<Lobby>) {
        let peer = match prepare(&stream) {
            Ok(peer) => peer,
            Err(error) => {
                debug!(%error, "a streaming connection was lost at once");
                return;
            }
        };
        let (certificates, shared) = (self.certificates.clone(), Arc::clone(&self.shared));
        tokio::spawn(async move {
            let served = lobby.host(|guest| async move {
                match certificates {
                    None => serve(stream, peer, shared, guest).await,
                    Some(certificates) => match certificates.acceptor().accept(stream).await {
                        Ok(stream) => serve(stream, peer, shared, guest).await,
                        Err(error) => debug!(%error, "a TLS handshake failed"),
                    },
                }
            });
            if let Err(cut) = served.await {
                debug!("a streaming connection was closed: {cut}");
            }
        });
    }
}

/// Small writes go out at once; a client that vanished without a word is found within two minutes.
fn prepare(stream: &TcpStream) -> std::io::Result<Peer> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, Duration::from_secs(60))?;
    sockopt::set_tcp_keepintvl(stream, Duration::from_secs(15))?;
    sockopt::set_tcp_keepcnt(stream, 4)?;
    Peer::watch(stream)
}

/// Answers the one request of a connection. Ends when the connection is upgraded or closed.
async fn serve<T>(stream: T, peer: Peer, shared: Arc<Shared>, guest: Guest)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let answer = http::answer(&shared, &peer, &guest, request);
        async move { Ok::<_, std::convert::Infallible>(answer) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        // The lobby keeps the time of the whole introduction.
        .header_read_timeout(None)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        debug!(%error, "a streaming request failed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_all_interfaces_is_reached_on_the_loopback() {
        for (bound, told) in
            [("0.0.0.0:80", "127.0.0.1:80"), ("[::]:80", "[::1]:80"), ("10.0.0.7:1", "10.0.0.7:1")]
        {
            assert_eq!(reachable(bound.parse().unwrap()).to_string(), told);
        }
    }
}
