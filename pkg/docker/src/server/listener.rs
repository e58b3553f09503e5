//! Accepting, and the end.

use std::{sync::Arc, time::Duration};

use husk_lobby::Lobby;
use tokio::{net::UnixListener, sync::Semaphore, task::JoinSet};
use tracing::{debug, info, warn};

use super::connection;
use crate::door::Door;

/// How long a client may take to make its first request.
const INTRODUCTION: Duration = Duration::from_secs(10);
/// Connections that have made no request yet; the oldest makes room.
const INTRODUCING: usize = 256;
/// Connections at once. Each follows at most one request, so this bounds those as well.
const CONNECTIONS: usize = 4096;
/// How long accepting rests when the node has no descriptors or memory for a connection.
const EXHAUSTED: Duration = Duration::from_millis(100);
/// How long the requests in progress may take when the door closes.
const LAST_CALLS: Duration = Duration::from_secs(5);

impl Door {
    /// Serves until `shutdown`, then lets the requests in progress end for a moment.
    pub async fn serve(&self, listener: UnixListener, shutdown: impl Future<Output = ()>) {
        let lobby = Lobby::new(INTRODUCING, INTRODUCTION);
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let mut connections = JoinSet::new();
        tokio::pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut shutdown => break,
                // What has ended is forgotten as it ends.
                Some(_) = connections.join_next() => continue,
                accepted = listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!(%error, "cannot accept a connection of a Docker client");
                    tokio::time::sleep(EXHAUSTED).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                warn!(most = CONNECTIONS, "a Docker client was turned away: too many connections");
                continue;
            };
            let (door, lobby) = (Arc::clone(&self.0), Arc::clone(&lobby));
            connections.spawn(async move {
                let _place = place;
                let served = lobby.host(|guest| connection::serve(stream, door, guest));
                if let Err(cut) = served.await {
                    debug!("a Docker client's connection was closed: {cut}");
                }
            });
        }
        drop(listener);
        self.0.close.send_replace(true);
        let ended = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST_CALLS, ended).await.is_err() {
            info!("requests of Docker clients were still in progress at the end");
        }
        self.0.builder.close().await;
    }
}
