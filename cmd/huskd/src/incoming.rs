//! Connections of the CRI socket.
//!
//! Those whose clients have said nothing are bounded in number: beyond that the oldest is closed for each new one. Accepting
//! goes on whatever happens.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use futures_util::{Stream, stream};
use husk_cri::Connection;
use tokio::{net::UnixListener, sync::oneshot};
use tracing::warn;

/// Silent connections. A client speaks as soon as it has connected.
const SILENT: usize = 1024;
/// How long accepting rests when the node has no descriptors or memory for a connection.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// The listener's connections, without end.
pub(crate) fn connections(listener: UnixListener) -> impl Stream<Item = Result<Connection, Infallible>> {
    stream::unfold((listener, VecDeque::new()), async |(listener, mut silent)| {
        let stream = loop {
            match listener.accept().await {
                Ok((stream, _)) => break stream,
                Err(error) => {
                    warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(EXHAUSTED).await;
                }
            }
        };
        let (connection, revoke) = Connection::new(stream);
        make_room(&mut silent);
        silent.push_back(revoke);
        Some((Ok(connection), (listener, silent)))
    })
}

/// Closes the oldest silent connection when there are too many.
fn make_room(silent: &mut VecDeque<oneshot::Sender<()>>) {
    if silent.len() < SILENT {
        return;
    }
    silent.retain(|revoke| !revoke.is_closed());
    if silent.len() >= SILENT
        && let Some(revoke) = silent.pop_front()
    {
        // An error is a client that has just spoken or gone.
        let _ = revoke.send(());
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::UnixStream,
    };

    use super::*;

    #[tokio::test]
    async fn the_oldest_silent_connection_makes_room_and_one_that_spoke_stays() {
        let dir = tempfile::tempdir().unwrap();
        let address = dir.path().join("s");
        let mut connections = Box::pin(connections(UnixListener::bind(&address).unwrap()));
        let mut clients = Vec::new();
        let mut servers = Vec::new();
        for _ in 0..=SILENT + 1 {
            clients.push(UnixStream::connect(&address).await.unwrap());
            let Ok(mut server) = connections.next().await.unwrap();
            if clients.len() == 1 {
                clients[0].write_all(b"PRI ").await.unwrap();
                server.read_exact(&mut [0; 4]).await.unwrap();
            }
            servers.push(server);
        }
        clients[0].write_all(b"* HT").await.unwrap();
        servers[0].read_exact(&mut [0; 4]).await.unwrap();
        assert!(servers[1].read(&mut [0; 1]).await.is_err());
        clients[2].write_all(b"P").await.unwrap();
        assert_eq!(servers[2].read(&mut [0; 1]).await.unwrap(), 1);
    }
}
