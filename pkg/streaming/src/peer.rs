//! Whether a client has hung up, while nobody reads from its connection.
//!
//! A connection's end is normally found by reading. When reading has stopped because a program does not take its input, it
//! would not be found, and the command of a client that is gone would live on. The kernel reports it all the same
//! (EPOLLRDHUP) on a second descriptor of the same socket.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use tokio::io::{Interest, unix::AsyncFd};

/// A client's side of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Peer(Option<Arc<AsyncFd<OwnedFd>>>);

impl Peer {
    /// Watches a socket.
    ///
    /// # Errors
    /// When the descriptor cannot be duplicated or watched.
    // Deprecated because a type's `as_raw_fd` may lie; an OwnedFd's does not. The new name is an unsafe function.
    #[allow(deprecated)]
    pub(crate) fn watch(socket: &impl AsFd) -> io::Result<Self> {
        let fd = socket.as_fd().try_clone_to_owned()?;
        Ok(Self(Some(Arc::new(AsyncFd::with_interest(fd, Interest::READABLE)?))))
    }

    /// One that never hangs up.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn unwatched() -> Self {
        Self(None)
    }

    /// Resolves when the client has closed its side.
    pub(crate) async fn hung_up(&self) {
        let Some(socket) = &self.0 else { return std::future::pending().await };
        loop {
            let Ok(mut guard) = socket.readable().await else { return };
            if guard.ready().is_read_closed() || guard.ready().is_error() {
                return;
            }
            // Bytes that wait to be read: the next event is awaited.
            guard.clear_ready();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::AsyncWriteExt,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    #[tokio::test]
    async fn an_end_behind_unread_bytes_is_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let peer = Peer::watch(&server).unwrap();
        client.write_all(b"unread").await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(20), peer.hung_up()).await.is_err());
        drop(client);
        tokio::time::timeout(Duration::from_secs(10), peer.hung_up()).await.unwrap();
    }
}
