//! Asking upstream: servers one after the other, over what the client came by.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdUdpSocket},
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream, UdpSocket},
    time::timeout,
};

use crate::{
    Names, Server,
    limits::{MAX_DATAGRAM, MAX_SERVERS, PATIENCE},
    message::{self, Asked, Refusal, Transport},
};

/// Asks whom `names` says, and returns what the client is answered with.
pub(crate) async fn forward(
    asked: Asked,
    transport: Transport,
    names: &dyn Names,
    inside: &Arc<OwnedFd>,
) -> Option<Vec<u8>> {
    let upstream = names.upstream();
    if asked.single_word && upstream.keeps_single_words {
        return message::refuse(&asked.query, Refusal::Empty);
    }
    let mut refused = None;
    for server in upstream.servers.into_iter().take(MAX_SERVERS) {
        match timeout(PATIENCE, exchange(&asked, transport, server, inside)).await {
            Ok(Ok(reply)) if message::is_refused(&reply) => refused = Some(reply),
            Ok(Ok(reply)) => return fit(&asked, reply),
            Ok(Err(error)) => tracing::debug!(server = %server.address, %error, "ask a name server"),
            Err(_) => tracing::debug!(server = %server.address, "a name server does not answer"),
        }
    }
    match refused {
        Some(reply) => fit(&asked, reply),
        None => message::refuse(&asked.query, Refusal::Failed),
    }
}

/// What does not fit is asked for again over TCP.
fn fit(asked: &Asked, reply: Vec<u8>) -> Option<Vec<u8>> {
    if reply.len() <= asked.limit { Some(reply) } else { message::refuse(&asked.query, Refusal::Truncated) }
}

/// One question to one server. It is sent under a random id, and nothing but an answer to it is taken: whoever is not on the way
/// cannot answer in the server's stead.
async fn exchange(
    asked: &Asked,
    transport: Transport,
    server: Server,
    inside: &Arc<OwnedFd>,
) -> io::Result<Vec<u8>> {
    let mut query = asked.query.clone();
    let own = [query[0], query[1]];
    let mut random = [0; 2];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    query[..2].copy_from_slice(&random);
    let id = u16::from_be_bytes(random);
    let mut reply = match transport {
        Transport::Udp => over_udp(&query, id, server, inside).await?,
        Transport::Tcp => over_tcp(&query, id, server, inside).await?,
    };
    reply[..2].copy_from_slice(&own);
    Ok(reply)
}

async fn over_udp(query: &[u8], id: u16, server: Server, inside: &Arc<OwnedFd>) -> io::Result<Vec<u8>> {
    let any = any(server.address);
    let made = at(server, inside, move || {
        let socket = StdUdpSocket::bind(any)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    });
    let socket = UdpSocket::from_std(made.await?)?;
    socket.connect(server.address).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; MAX_DATAGRAM + 1];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if message::answers(&buffer[..length], query, id) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn over_tcp(query: &[u8], id: u16, server: Server, inside: &Arc<OwnedFd>) -> io::Result<Vec<u8>> {
    let ipv4 = server.address.is_ipv4();
    let socket = at(server, inside, move || if ipv4 { TcpSocket::new_v4() } else { TcpSocket::new_v6() });
    let mut stream = socket.await?.connect(server.address).await?;
    write(&mut stream, query).await?;
    let length = usize::from(stream.read_u16().await?);
    let mut reply = vec![0; length];
    stream.read_exact(&mut reply).await?;
    if message::answers(&reply, query, id) {
        Ok(reply)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, "an answer to something else"))
    }
}

/// A message with its length before it (RFC 1035, 4.2.2), in one segment.
pub(crate) async fn write(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    let mut framed = Vec::with_capacity(message.len() + 2);
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(message);
    stream.write_all(&framed).await
}

/// Makes a socket where the server is seen from.
async fn at<T: Send + 'static>(
    server: Server,
    inside: &Arc<OwnedFd>,
    make: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    if !server.inside {
        return make();
    }
    let inside = Arc::clone(inside);
    let made = tokio::task::spawn_blocking(move || husk_sys::netns::with(inside.as_fd(), make));
    made.await.map_err(io::Error::other)??
}

fn any(server: SocketAddr) -> SocketAddr {
    if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() }
}
