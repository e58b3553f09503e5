//! Doors for test/fuzz: what reads a client's bytes, one function each. Panics are findings.

use bytes::Bytes;
use hyper::{
    HeaderMap,
    header::{HeaderName, HeaderValue},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinSet,
};

use crate::{
    activity::Activity,
    channel::{Input, Said},
    negotiate::{Purpose, negotiate},
    peer::Peer,
    spdy, websocket,
};

/// Serves a SPDY client that says `bytes` and hangs up; returns how much of it reached streams.
pub async fn spdy(bytes: &[u8]) -> usize {
    let (mut client, server) = tokio::io::duplex(64 << 10);
    let (mut accepted, link) = spdy::serve(server, Peer::unwatched(), Activity::new());
    let talk = async {
        let _hung_up = client.write_all(bytes).await;
        let _done = client.shutdown().await;
        let mut answers = [0; 4096];
        while let Ok(1..) = client.read(&mut answers).await {}
    };
    let listen = async {
        // All at once: they share what may wait for them.
        let mut streams = JoinSet::new();
        while let Some(stream) = accepted.recv().await {
            streams.spawn(hear(stream.input));
        }
        drop(link);
        streams.join_all().await.into_iter().sum()
    };
    tokio::join!(talk, listen).1
}

/// The events in `bytes`, given to the decoder in pieces of `piece` bytes, in words.
pub fn spdy_events(bytes: &[u8], piece: usize) -> Vec<String> {
    spdy::events(bytes, piece)
}

/// Serves a WebSocket client likewise, in one of the three formats and as a tunnel.
pub async fn websocket(bytes: &[u8], format: u8) -> usize {
    let (mut client, server) = tokio::io::duplex(64 << 10);
    let socket = websocket::server(server).await;
    let talk = async {
        let _hung_up = client.write_all(bytes).await;
        let _done = client.shutdown().await;
        let mut answers = [0; 4096];
        while let Ok(1..) = client.read(&mut answers).await {}
    };
    let listen = async {
        if format % 4 == 3 {
            let mut tunnel = websocket::Tunnel::new(socket);
            let (mut heard, mut plain) = (0, [0; 4096]);
            while let Ok(read @ 1..) = tunnel.read(&mut plain).await {
                heard += read;
            }
            return heard;
        }
        let format = websocket::Format { base64: format % 4 == 1, closes: format % 4 == 2 };
        let (inputs, _frames, link) =
            websocket::channels(socket, format, &[0, 4], Peer::unwatched(), Activity::new());
        let heard = inputs.into_iter().map(hear).collect::<JoinSet<_>>().join_all().await;
        drop(link);
        heard.into_iter().sum()
    };
    tokio::join!(talk, listen).1
}

async fn hear(mut input: Input) -> usize {
    let mut heard = 0;
    while let Said::Data(bytes) = input.next().await {
        heard += Bytes::len(&bytes);
    }
    heard
}

/// Negotiates by the header lines of a request.
pub fn upgrade(request: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in request.split(|byte| *byte == b'\n') {
        let mut halves = line.splitn(2, |byte| *byte == b':');
        let (Some(name), Some(value)) = (halves.next(), halves.next()) else { continue };
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    for purpose in [Purpose::Exec, Purpose::Attach, Purpose::PortForward] {
        let _refused = negotiate(purpose, &headers);
    }
}
