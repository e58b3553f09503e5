//! The sockets of one pod's resolver, and who serves them.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener as StdTcpListener, UdpSocket as StdUdpSocket},
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream, UdpSocket},
    runtime::Handle,
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
    time::timeout,
};

use crate::{
    Names,
    forward::{forward, write},
    limits::{IDLE, MAX_CONNECTIONS, MAX_FORWARDED, MAX_QUERY, Pace},
    message::{self, Reaction, Refusal, Transport},
};

/// How often a port is tried that is free for both UDP and TCP.
const TRIES: usize = 16;
/// After an error of a socket that is no client's: a node without descriptors, say.
const PAUSE: Duration = Duration::from_millis(100);

/// A port for UDP and TCP.
#[derive(Debug)]
pub struct Sockets {
    udp: StdUdpSocket,
    tcp: StdTcpListener,
}

impl Sockets {
    /// Binds `port` of `ip` in the caller's network namespace, or any port that is free for both if it is `None`.
    ///
    /// # Errors
    /// The errno of bind(2), `AddrInUse` for a port that a container has.
    pub fn bind(ip: Ipv4Addr, port: Option<u16>) -> io::Result<Self> {
        let mut tries = 1;
        loop {
            let udp = StdUdpSocket::bind((ip, port.unwrap_or(0)))?;
            match StdTcpListener::bind(udp.local_addr()?) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && port.is_none() && tries < TRIES => {
                    tries += 1;
                }
                Err(error) => return Err(error),
                Ok(tcp) => {
                    udp.set_nonblocking(true)?;
                    tcp.set_nonblocking(true)?;
                    return Ok(Self { udp, tcp });
                }
            }
        }
    }

    /// The port.
    ///
    /// # Errors
    /// The errno of getsockname(2).
    pub fn port(&self) -> io::Result<u16> {
        Ok(self.udp.local_addr()?.port())
    }
}

/// A pod's resolver, as long as this lives. Its sockets hold the pod's network namespace.
#[derive(Debug)]
pub struct Resolver {
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// What both transports share.
struct Shared {
    names: Arc<dyn Names>,
    inside: Arc<OwnedFd>,
    pace: Pace,
    forwarded: Arc<Semaphore>,
    /// Whose turn it is of several addresses.
    turn: AtomicUsize,
}

impl Resolver {
    /// Serves the sockets on `runtime`; `inside` is the namespace that they are in.
    ///
    /// # Errors
    /// When the runtime cannot watch the sockets.
    pub fn start(
        runtime: &Handle,
        sockets: Sockets,
        inside: Arc<OwnedFd>,
        names: Arc<dyn Names>,
    ) -> io::Result<Self> {
        let _context = runtime.enter();
        let (udp, tcp) = (UdpSocket::from_std(sockets.udp)?, TcpListener::from_std(sockets.tcp)?);
        let shared = Arc::new(Shared {
            names,
            inside,
            pace: Pace::new(),
            forwarded: Arc::new(Semaphore::new(MAX_FORWARDED)),
            turn: AtomicUsize::new(0),
        });
        let datagrams = runtime.spawn(serve_datagrams(udp, Arc::clone(&shared)));
        let streams = runtime.spawn(serve_streams(tcp, shared));
        Ok(Self { tasks: [datagrams, streams] })
    }
}

impl Shared {
    fn react(&self, query: &[u8], transport: Transport) -> Reaction {
        message::react(query, transport, &*self.names, self.turn.fetch_add(1, Ordering::Relaxed))
    }
}

async fn serve_datagrams(socket: UdpSocket, shared: Arc<Shared>) {
    let socket = Arc::new(socket);
    // Dropped, and its tasks ended, with this.
    let mut under_way = JoinSet::new();
    // One byte more, to tell a query that is too long.
    let mut buffer = vec![0; MAX_QUERY + 1];
    loop {
        while under_way.try_join_next().is_some() {}
        shared.pace.take().await;
        let (length, from) = match socket.recv_from(&mut buffer).await {
            Ok((length, from)) if length <= MAX_QUERY => (length, from),
            Ok(_) => continue,
            Err(error) => {
                tracing::debug!(%error, "read a query");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        match shared.react(&buffer[..length], Transport::Udp) {
            Reaction::Nothing => {}
            Reaction::Answer(answer) => send(&socket, &answer, from),
            Reaction::Forward(asked) => {
                let Ok(permit) = Arc::clone(&shared.forwarded).try_acquire_owned() else {
                    if let Some(answer) = message::refuse(&asked.query, Refusal::Failed) {
                        send(&socket, &answer, from);
                    }
                    continue;
                };
                let (socket, shared) = (Arc::clone(&socket), Arc::clone(&shared));
                under_way.spawn(async move {
                    let answer = forward(asked, Transport::Udp, &*shared.names, &shared.inside).await;
                    if let Some(answer) = answer {
                        send(&socket, &answer, from);
                    }
                    drop(permit);
                });
            }
        }
    }
}

/// A client that does not read its answers loses them.
fn send(socket: &UdpSocket, answer: &[u8], to: SocketAddr) {
    if let Err(error) = socket.try_send_to(answer, to) {
        tracing::debug!(%error, "answer a query");
    }
}

async fn serve_streams(listener: TcpListener, shared: Arc<Shared>) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut under_way = JoinSet::new();
    loop {
        while under_way.try_join_next().is_some() {}
        // Never closed. Further clients wait in the kernel's queue.
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = Arc::clone(&shared);
                under_way.spawn(async move {
                    if let Err(error) = serve_stream(stream, &shared).await {
                        tracing::debug!(%error, "serve a connection");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "accept a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Queries of one connection, one after the other (RFC 7766 lets a server do so).
async fn serve_stream(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    loop {
        let length = match timeout(IDLE, stream.read_u16()).await {
            Ok(Ok(length)) => usize::from(length),
            // The client is through, or sleeps.
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Ok(()),
        };
        if length > MAX_QUERY {
            return Ok(());
        }
        shared.pace.take().await;
        let mut query = vec![0; length];
        timeout(IDLE, stream.read_exact(&mut query)).await??;
        let answer = match shared.react(&query, Transport::Tcp) {
            Reaction::Nothing => return Ok(()),
            Reaction::Answer(answer) => Some(answer),
            Reaction::Forward(asked) => {
                let Ok(_permit) = shared.forwarded.acquire().await else { return Ok(()) };
                forward(asked, Transport::Tcp, &*shared.names, &shared.inside).await
            }
        };
        if let Some(answer) = answer {
            timeout(IDLE, write(&mut stream, &answer)).await??;
        }
    }
}
