//! One connection to a port of a pod.
//!
//! The socket is made on a thread that enters the pod's network namespace and ends; it belongs to that namespace for good
//! and is connected and used from here. IPv4's localhost is tried first, then IPv6's.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use bytes::BytesMut;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use crate::{
    channel::{CHUNK, Input, Output, Said},
    spdy::ResetReason,
};

/// A port on localhost answers at once or not at all, unless its backlog is full.
const CONNECT: Duration = Duration::from_secs(30);

/// Where a pod's ports are; `None` is the node's network.
pub(super) type Network = Option<Arc<OwnedFd>>;

/// What became of connecting to a port at which somebody listens.
#[derive(Debug)]
pub(super) enum Connection {
    /// It stands.
    Open(TcpStream),
    /// The pod took it and reset it before connect was over.
    Reset,
}

/// Connects to a port on the pod's localhost.
///
/// # Errors
/// What to tell the client: why neither address answers.
pub(super) async fn connect(network: &Network, port: u16) -> Result<Connection, String> {
    let v4 = match connect_to(network, SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await {
        Ok(connection) => return Ok(connection),
        Err(error) => error,
    };
    let v6 = match connect_to(network, SocketAddr::from((Ipv6Addr::LOCALHOST, port))).await {
        Ok(connection) => return Ok(connection),
        Err(error) => error,
    };
    Err(format!("cannot connect to port {port} of the pod: 127.0.0.1: {v4}; [::1]: {v6}"))
}

async fn connect_to(network: &Network, address: SocketAddr) -> io::Result<Connection> {
    let socket = socket(network.clone(), address.ip()).await?;
    let connecting = TcpSocket::from_std_stream(socket.into()).connect(address);
    let connected = tokio::time::timeout(CONNECT, connecting).await.map_err(|_| io::ErrorKind::TimedOut)?;
    match connected {
        Ok(stream) => {
            stream.set_nodelay(true)?;
            Ok(Connection::Open(stream))
        }
        // The handshake was over: a port without a listener refuses. Told as a failure, it would make client-go end the
        // whole session.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(Connection::Reset),
        Err(error) => Err(error),
    }
}

async fn socket(network: Network, ip: IpAddr) -> io::Result<OwnedFd> {
    let make = move || {
        let family = if ip.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        socket_with(family, SocketType::STREAM, flags, None).map_err(io::Error::from)
    };
    let Some(network) = network else { return make() };
    // Waits for the thread in the namespace.
    tokio::task::spawn_blocking(move || husk_sys::netns::with(network.as_fd(), make)?)
        .await
        .map_err(io::Error::other)?
}

/// Whether the client of a stream can end its side and go on listening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HalfClose {
    Yes,
    No,
}

/// Copies both ways until both sides have ended, or one breaks off. A reset of the connection resets the stream and
/// nothing else.
pub(super) async fn copy(stream: TcpStream, input: Input, output: Output, half_close: HalfClose) {
    let (from, to) = stream.into_split();
    let to_pod = send(input, to);
    let from_pod = receive(from, output);
    tokio::pin!(to_pod, from_pod);
    let finished = tokio::select! {
        sent = &mut to_pod => match sent {
            Sent::All => {
                from_pod.await;
                return;
            }
            Sent::Lost => return,
        },
        received = &mut from_pod => matches!(received, Received::All) && half_close == HalfClose::Yes,
    };
    if finished {
        to_pod.await;
    }
}

enum Sent {
    /// The client said all it had, or the pod takes no more.
    All,
    /// The client broke off.
    Lost,
}

async fn send(mut from: Input, mut to: OwnedWriteHalf) -> Sent {
    loop {
        match from.next().await {
            Said::Data(bytes) if to.write_all(&bytes).await.is_ok() => {}
            // Dropping the half shuts its direction down.
            Said::Data(_) | Said::End => return Sent::All,
            Said::Lost => return Sent::Lost,
        }
    }
}

enum Received {
    /// The pod said all it had.
    All,
    /// The pod or the client broke off.
    Lost,
}

async fn receive(mut from: OwnedReadHalf, to: Output) -> Received {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(CHUNK);
        match from.read_buf(&mut buffer).await {
            Ok(0) => {
                to.end().await;
                return Received::All;
            }
            Ok(_) => {}
            Err(_) => {
                to.reset(ResetReason::Cancel).await;
                return Received::Lost;
            }
        }
        while !buffer.is_empty() {
            let length = buffer.len().min(CHUNK);
            if to.send(buffer.split_to(length).freeze()).await.is_err() {
                return Received::Lost;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::net::TcpListener;

    use super::*;
    use crate::{
        channel::{self, Budget, Frame},
        peer::Peer,
    };

    #[tokio::test]
    async fn each_side_can_end_before_the_other() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let Connection::Open(stream) = connect(&None, port).await.unwrap() else { panic!("it was reset") };
        let (mut pod, _) = listener.accept().await.unwrap();
        let (feed, input) = channel::input();
        let (frames, mut queue) = channel::frames();
        tokio::spawn(copy(stream, input, Output::new(1, frames), HalfClose::Yes));
        feed.data(Bytes::from_static(b"question"), &Budget::new(), &Peer::unwatched()).await.unwrap();
        feed.end();
        let mut heard = Vec::new();
        pod.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"question");
        pod.write_all(b"answer").await.unwrap();
        drop(pod);
        assert!(matches!(queue.recv().await, Some(Frame::Data { bytes, .. }) if bytes == "answer"));
        assert!(matches!(queue.recv().await, Some(Frame::End { id: 1 })));
    }

    #[tokio::test]
    async fn a_reset_connection_resets_its_stream() {
        let listener = TcpListener::bind("[::1]:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let Connection::Open(stream) = connect(&None, port).await.unwrap() else { panic!("it was reset") };
        let (pod, _) = listener.accept().await.unwrap();
        let (_feed, input) = channel::input();
        let (frames, mut queue) = channel::frames();
        tokio::spawn(copy(stream, input, Output::new(1, frames), HalfClose::Yes));
        rustix::net::sockopt::set_socket_linger(&pod, Some(Duration::ZERO)).unwrap();
        drop(pod);
        assert!(matches!(queue.recv().await, Some(Frame::Reset { id: 1, .. })));
    }

    #[tokio::test]
    async fn a_closed_port_is_told_with_both_addresses() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let reason = connect(&None, port).await.unwrap_err();
        assert!(reason.contains("127.0.0.1: Connection refused") && reason.contains("[::1]"), "{reason}");
    }
}
