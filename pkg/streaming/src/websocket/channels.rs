//! Channels on a WebSocket: the first byte of a message is the number of the channel that the rest belongs to.

use std::{collections::HashMap, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};
use tracing::debug;

use crate::{
    activity::Activity,
    channel::{self, Budget, Feed, Frame, Frames, Gone, Input},
    link::{Farewell, Link},
    peer::Peer,
};

/// How often the client is pinged, so that nothing between cuts a silent connection.
const PING_EVERY: Duration = Duration::from_secs(30);
/// The channel whose messages end others: `[255, channel]` (v5.channel.k8s.io).
const CLOSE: u8 = 255;

/// How messages are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Format {
    /// Text messages: the channel as a digit, the rest in base64. Otherwise binary ones.
    pub(crate) base64: bool,
    /// The client can end a channel.
    pub(crate) closes: bool,
}

/// Serves channels on `socket`. Of those numbered in `listen` the client's messages come out, in that order; all can be
/// written to with an [`crate::channel::Output`] of the returned queue.
pub(crate) fn channels<T>(
    socket: WebSocketStream<T>,
    format: Format,
    listen: &[u8],
    peer: Peer,
    activity: Activity,
) -> (Vec<Input>, Frames, Link)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (to, from) = socket.split();
    let (frames, queue) = channel::frames();
    let mut feeds = HashMap::new();
    let mut inputs = Vec::new();
    for number in listen {
        let (feed, input) = channel::input();
        feeds.insert(*number, feed);
        inputs.push(input);
    }
    let reader = Reader { feeds, format, budget: Budget::new(), peer, activity: activity.clone() };
    let reading = Box::pin(async move {
        if let Err(error) = reader.run(from).await {
            debug!(%error, "a WebSocket connection was broken off");
        }
    });
    let writing = Box::pin(async move {
        let written = write(to, queue, format, activity).await;
        if let Err(error) = &written {
            debug!(%error, "a WebSocket client is gone");
        }
        written.is_ok()
    });
    (inputs, frames.clone(), Link::run(frames, Farewell::Servers, reading, writing))
}

struct Reader {
    feeds: HashMap<u8, Feed>,
    format: Format,
    budget: Budget,
    peer: Peer,
    activity: Activity,
}

impl Reader {
    /// Reads until the client's close message has been answered, or the connection ends.
    async fn run<T>(mut self, mut from: SplitStream<WebSocketStream<T>>) -> Result<(), Error>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        while let Some(message) = from.next().await {
            let payload: Bytes = match message {
                Ok(Message::Binary(payload)) => payload,
                Ok(Message::Text(text)) => text.into(),
                // Pings are answered by the library.
                Ok(_) => continue,
                Err(Error::ConnectionClosed) => return Ok(()),
                Err(error) => return Err(error),
            };
            self.activity.touch();
            if self.take(payload).await == Err(Gone) {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn take(&mut self, mut payload: Bytes) -> Result<(), Gone> {
        // An empty message is on no channel.
        let Some(&first) = payload.first() else { return Ok(()) };
        let rest = payload.split_off(1);
        if self.format.closes && first == CLOSE {
            if let Some(feed) = rest.first().and_then(|channel| self.feeds.remove(channel)) {
                feed.end();
            }
            return Ok(());
        }
        let channel = if self.format.base64 { first.wrapping_sub(b'0') } else { first };
        let Some(feed) = self.feeds.get(&channel) else { return Ok(()) };
        let bytes = match self.format.base64 {
            true => BASE64_STANDARD.decode(&rest).map(Bytes::from).unwrap_or_default(),
            false => rest,
        };
        feed.data(bytes, &self.budget, &self.peer).await
    }
}

async fn write<T>(
    mut to: SplitSink<WebSocketStream<T>, Message>,
    mut queue: mpsc::Receiver<Frame>,
    format: Format,
    activity: Activity,
) -> Result<(), Error>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut pings = tokio::time::interval(PING_EVERY);
    pings.tick().await;
    loop {
        let frame = tokio::select! {
            frame = queue.recv() => frame,
            _ = pings.tick() => {
                to.send(Message::Ping(Bytes::new())).await?;
                continue;
            }
        };
        match frame {
            Some(Frame::Data { id, bytes }) => {
                activity.touch();
                to.feed(message(format, id as u8, &bytes)).await?;
                if queue.is_empty() {
                    to.flush().await?;
                }
            }
            Some(Frame::Goodbye) | None => {
                let close = CloseFrame { code: CloseCode::Normal, reason: "".into() };
                return to.send(Message::Close(Some(close))).await;
            }
            // A channel's end has no message; the connection's end is the end of all.
            Some(Frame::Accept { .. } | Frame::End { .. } | Frame::Reset { .. } | Frame::Pong(_)) => {}
        }
    }
}

fn message(format: Format, channel: u8, bytes: &[u8]) -> Message {
    if format.base64 {
        let mut text = String::with_capacity(1 + bytes.len().div_ceil(3) * 4);
        text.push(char::from(b'0'.wrapping_add(channel)));
        BASE64_STANDARD.encode_string(bytes, &mut text);
        return Message::text(text);
    }
    let mut payload = Vec::with_capacity(1 + bytes.len());
    payload.push(channel);
    payload.extend_from_slice(bytes);
    Message::binary(payload)
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;
    use crate::channel::{Output, Said};

    const BINARY: Format = Format { base64: false, closes: true };
    const BASE64: Format = Format { base64: true, closes: false };

    async fn client(format: Format) -> (WebSocketStream<DuplexStream>, Vec<Input>, Frames, Link) {
        let (io, server) = tokio::io::duplex(1 << 20);
        let client = WebSocketStream::from_raw_socket(io, Role::Client, None).await;
        let socket = crate::websocket::server(server).await;
        let (inputs, frames, link) = channels(socket, format, &[0, 4], Peer::unwatched(), Activity::new());
        (client, inputs, frames, link)
    }

    #[tokio::test]
    async fn a_message_goes_to_the_channel_of_its_first_byte() {
        let (mut client, mut inputs, frames, _link) = client(BINARY).await;
        for message in [&b"\x04size"[..], b"", b"\x09nobody", b"\x00hello", b"\xff\x00"] {
            client.send(Message::binary(message.to_vec())).await.unwrap();
        }
        assert_eq!(inputs[0].next().await, Said::Data(Bytes::from_static(b"hello")));
        assert_eq!(inputs[0].next().await, Said::End);
        assert_eq!(inputs[1].next().await, Said::Data(Bytes::from_static(b"size")));
        Output::new(1, frames).send(Bytes::from_static(b"out")).await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Message::binary(&b"\x01out"[..]));
    }

    #[tokio::test]
    async fn base64_channels_are_digits_before_the_text() {
        let (mut client, mut inputs, frames, _link) = client(BASE64).await;
        for message in ["0aGVsbG8=", "0not base64!", "", "\u{e9}", "0d29ybGQ="] {
            client.send(Message::text(message)).await.unwrap();
        }
        assert_eq!(inputs[0].next().await, Said::Data(Bytes::from_static(b"hello")));
        assert_eq!(inputs[0].next().await, Said::Data(Bytes::from_static(b"world")));
        Output::new(3, frames).send(Bytes::from_static(b"out")).await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Message::text("3b3V0"));
    }

    #[tokio::test]
    async fn the_goodbye_is_a_normal_close_after_everything_else() {
        let (mut client, _inputs, frames, link) = client(BINARY).await;
        Output::new(1, frames).send(Bytes::from_static(b"last")).await.unwrap();
        let client = async {
            assert_eq!(client.next().await.unwrap().unwrap(), Message::binary(&b"\x01last"[..]));
            let Message::Close(Some(close)) = client.next().await.unwrap().unwrap() else { panic!() };
            assert_eq!(close.code, CloseCode::Normal);
            while client.next().await.is_some() {}
        };
        tokio::time::timeout(Duration::from_secs(4), async { tokio::join!(link.finish(), client) })
            .await
            .unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_is_pinged() {
        let (mut client, _inputs, _frames, _link) = client(BINARY).await;
        assert_eq!(client.next().await.unwrap().unwrap(), Message::Ping(Bytes::new()));
    }

    #[tokio::test]
    async fn a_message_beyond_the_limit_ends_the_connection() {
        let (mut client, mut inputs, _frames, link) = client(BINARY).await;
        let flood = vec![0; crate::websocket::MAX_MESSAGE + 1];
        let (_, said) = tokio::join!(client.send(Message::binary(flood)), inputs[0].next());
        assert_eq!(said, Said::Lost);
        link.closed().await;
    }
}
