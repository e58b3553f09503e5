//! Streams on a socket: one task reads frames and hands their payload to the streams, one writes what the session says.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf},
    sync::mpsc,
};
use tracing::debug;

use super::{
    error::SpdyError,
    frame::{self, Decoder, Encoder, Event, ResetReason},
    headers::Headers,
};
use crate::{
    activity::Activity,
    channel::{self, Budget, CHUNK, Feed, Frame, Frames, Gone, Input, Output},
    link::{Farewell, Link},
    peer::Peer,
};

/// Streams of a connection that a client may have open. A port-forward takes two for each connection.
const MAX_STREAMS: usize = 512;
/// Streams that may wait for the session to take them.
const BACKLOG: usize = 32;

/// A stream that the client opened.
#[derive(Debug)]
pub(crate) struct Accepted {
    /// Odd, larger than those before.
    pub(crate) id: u32,
    /// What it is for.
    pub(crate) headers: Headers,
    /// From the client.
    pub(crate) input: Input,
    /// To the client.
    pub(crate) output: Output,
}

/// Serves streams on `io`. They come out of the receiver; when it is dropped, further ones are refused.
pub(crate) fn serve<T>(io: T, peer: Peer, activity: Activity) -> (mpsc::Receiver<Accepted>, Link)
where
    T: AsyncRead + AsyncWrite + Send + 'static,
{
    let (from, to) = tokio::io::split(io);
    let (frames, queue) = channel::frames();
    let (accept, accepted) = mpsc::channel(BACKLOG);
    let reader = Reader {
        decoder: Decoder::new(),
        streams: HashMap::new(),
        last: 0,
        accept,
        frames: frames.clone(),
        budget: Budget::new(),
        peer,
        activity: activity.clone(),
    };
    let reading = Box::pin(async move {
        if let Err(error) = reader.run(from).await {
            debug!(%error, "a SPDY connection was broken off");
        }
    });
    let writing = Box::pin(async move {
        let written = write(to, queue, activity).await;
        if let Err(error) = &written {
            debug!(%error, "a SPDY client is gone");
        }
        written.is_ok()
    });
    (accepted, Link::run(frames, Farewell::Clients, reading, writing))
}

struct Reader {
    decoder: Decoder,
    streams: HashMap<u32, Stream>,
    /// Largest id so far.
    last: u32,
    accept: mpsc::Sender<Accepted>,
    frames: Frames,
    budget: Budget,
    peer: Peer,
    activity: Activity,
}

/// What the reader has of a stream.
struct Stream {
    /// `None` once the client has ended its side.
    feed: Option<Feed>,
    /// Of its [`Output`].
    refused: Arc<AtomicBool>,
}

impl Stream {
    /// Whether the session still has one of its sides.
    fn is_used(&self) -> bool {
        Arc::strong_count(&self.refused) > 1 || self.feed.as_ref().is_some_and(Feed::is_wanted)
    }
}

#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the client is gone")]
    Gone,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the client breaks the protocol: {0}")]
    Protocol(#[from] SpdyError),
}

impl From<Gone> for Broken {
    fn from(Gone: Gone) -> Self {
        Broken::Gone
    }
}

impl Reader {
    async fn run<T: AsyncRead>(mut self, mut io: ReadHalf<T>) -> Result<(), Broken> {
        loop {
            while let Some(event) = self.decoder.next()? {
                self.take(event).await?;
            }
            self.decoder.buffer.reserve(CHUNK);
            if io.read_buf(&mut self.decoder.buffer).await? == 0 {
                return Ok(());
            }
        }
    }

    async fn take(&mut self, event: Event) -> Result<(), Broken> {
        match event {
            Event::Open { id, headers, fin } => self.open(id, headers, fin).await,
            Event::Data { id, bytes, fin } => self.data(id, bytes, fin).await,
            Event::Reset { id } => {
                if let Some(stream) = self.streams.remove(&id) {
                    stream.refused.store(true, Ordering::Relaxed);
                }
                Ok(())
            }
            Event::Ping(number) if number % 2 == 1 => Ok(self.say(Frame::Pong(number)).await?),
            Event::Ping(_) | Event::Other => Ok(()),
        }
    }

    async fn open(&mut self, id: u32, headers: Headers, fin: bool) -> Result<(), Broken> {
        self.activity.touch();
        if id.is_multiple_of(2) || id <= self.last {
            return Err(SpdyError::Malformed("a stream's number is even or not larger than the last").into());
        }
        self.last = id;
        if self.streams.len() >= MAX_STREAMS {
            self.streams.retain(|_, stream| stream.is_used());
        }
        if self.streams.len() >= MAX_STREAMS || self.accept.is_closed() {
            return self.refuse(id).await;
        }
        let (feed, input) = channel::input();
        let output = Output::new(id, self.frames.clone());
        let mut stream = Stream { feed: Some(feed), refused: output.refusal() };
        if fin && let Some(feed) = stream.feed.take() {
            feed.end();
        }
        self.streams.insert(id, stream);
        // Before anything that the session may say on it.
        self.say(Frame::Accept { id }).await?;
        let accepted = Accepted { id, headers, input, output };
        tokio::select! {
            sent = self.accept.send(accepted) => match sent {
                Ok(()) => Ok(()),
                Err(_) => self.refuse(id).await,
            },
            () = self.peer.hung_up() => Err(Broken::Gone),
        }
    }

    async fn refuse(&mut self, id: u32) -> Result<(), Broken> {
        self.streams.remove(&id);
        Ok(self.say(Frame::Reset { id, reason: ResetReason::Refused }).await?)
    }

    async fn data(&mut self, id: u32, bytes: Bytes, fin: bool) -> Result<(), Broken> {
        self.activity.touch();
        // Of a stream that was ended, reset or never opened: the client may not know yet.
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        let Some(feed) = &stream.feed else { return Ok(()) };
        feed.data(bytes, &self.budget, &self.peer).await?;
        if fin && let Some(feed) = stream.feed.take() {
            feed.end();
        }
        Ok(())
    }

    async fn say(&self, frame: Frame) -> Result<(), Gone> {
        self.frames.send(frame).await.map_err(|_| Gone)
    }
}

/// Writes frames until the goodbye or until nobody has any.
async fn write<T>(
    mut io: WriteHalf<T>,
    mut queue: mpsc::Receiver<Frame>,
    activity: Activity,
) -> Result<(), Broken>
where
    T: AsyncRead + AsyncWrite,
{
    let mut encoder = Encoder::new();
    let mut last = 0;
    while let Some(frame) = queue.recv().await {
        match frame {
            Frame::Accept { id } => {
                last = id;
                io.write_all(&encoder.reply(id)?).await?;
            }
            Frame::Data { id, bytes } => {
                activity.touch();
                let header = frame::data_header(id, bytes.len(), false);
                io.write_all_buf(&mut Buf::chain(&header[..], bytes)).await?;
            }
            Frame::End { id } => io.write_all(&frame::data_header(id, 0, true)).await?,
            Frame::Reset { id, reason } => io.write_all(&frame::reset(id, reason)).await?,
            Frame::Pong(number) => io.write_all(&frame::ping(number)).await?,
            Frame::Goodbye => {
                io.write_all(&frame::go_away(last)).await?;
                break;
            }
        }
        if queue.is_empty() {
            io.flush().await?;
        }
    }
    Ok(io.shutdown().await?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::DuplexStream;

    use super::*;
    use crate::channel::Said;

    struct Client {
        io: DuplexStream,
        encoder: Encoder,
        accepted: mpsc::Receiver<Accepted>,
        link: Link,
    }

    fn client() -> Client {
        let (io, server) = tokio::io::duplex(1 << 20);
        let (accepted, link) = serve(server, Peer::unwatched(), Activity::new());
        Client { io, encoder: Encoder::new(), accepted, link }
    }

    impl Client {
        async fn open(&mut self, id: u32, fin: bool) {
            let frame = self.encoder.open(id, &Headers::new(), fin);
            self.io.write_all(&frame).await.unwrap();
        }

        async fn data(&mut self, id: u32, bytes: &[u8], fin: bool) {
            self.io.write_all(&frame::data_header(id, bytes.len(), fin)).await.unwrap();
            self.io.write_all(bytes).await.unwrap();
        }

        /// Bytes of the next frame.
        async fn frame(&mut self) -> Vec<u8> {
            let mut frame = vec![0; 8];
            self.io.read_exact(&mut frame).await.unwrap();
            let length = u32::from_be_bytes([0, frame[5], frame[6], frame[7]]) as usize;
            frame.resize(8 + length, 0);
            self.io.read_exact(&mut frame[8..]).await.unwrap();
            frame
        }
    }

    #[tokio::test]
    async fn a_stream_carries_bytes_both_ways_and_its_ends() {
        let mut client = client();
        client.open(1, false).await;
        let mut stream = client.accepted.recv().await.unwrap();
        assert_eq!(client.frame().await[..4], [0x80, 3, 0, 2], "SYN_REPLY");
        client.data(1, b"ping", true).await;
        assert_eq!(stream.input.next().await, Said::Data(Bytes::from_static(b"ping")));
        assert_eq!(stream.input.next().await, Said::End);
        stream.output.send(Bytes::from_static(b"pong")).await.unwrap();
        assert_eq!(client.frame().await, [&[0, 0, 0, 1, 0, 0, 0, 4], &b"pong"[..]].concat());
        stream.output.end().await;
        assert_eq!(client.frame().await, [0, 0, 0, 1, 1, 0, 0, 0]);
    }

    #[tokio::test]
    async fn a_reset_stream_is_lost_and_takes_nothing_more() {
        let mut client = client();
        client.open(1, true).await;
        let mut stream = client.accepted.recv().await.unwrap();
        assert_eq!(stream.input.next().await, Said::End);
        client.io.write_all(&frame::reset(1, ResetReason::Cancel)).await.unwrap();
        client.open(3, false).await;
        client.accepted.recv().await.unwrap();
        assert_eq!(stream.output.send(Bytes::from_static(b"x")).await, Err(Gone));
    }

    #[tokio::test]
    async fn pings_are_echoed_and_streams_beyond_the_limit_refused() {
        let mut client = client();
        client.io.write_all(&frame::ping(7)).await.unwrap();
        assert_eq!(client.frame().await, frame::ping(7).to_vec());
        let mut streams = Vec::new();
        for number in 0..MAX_STREAMS as u32 {
            client.open(2 * number + 1, false).await;
            streams.push(client.accepted.recv().await.unwrap());
            client.frame().await;
        }
        let next = 2 * MAX_STREAMS as u32 + 1;
        client.open(next, false).await;
        assert_eq!(client.frame().await, frame::reset(next, ResetReason::Refused).to_vec());
        drop(streams);
        client.open(next + 2, false).await;
        assert!(client.accepted.recv().await.is_some(), "those that are over make room");
    }

    #[tokio::test]
    async fn a_client_that_breaks_the_protocol_loses_its_connection() {
        for id in [0, 2] {
            let mut client = client();
            client.open(id, false).await;
            tokio::time::timeout(Duration::from_secs(10), client.link.closed()).await.unwrap();
        }
        let mut client = client();
        client.open(3, false).await;
        client.open(3, false).await;
        tokio::time::timeout(Duration::from_secs(10), client.link.closed()).await.unwrap();
    }

    #[tokio::test]
    async fn a_client_that_hangs_up_ends_the_link_and_its_streams() {
        let mut client = client();
        client.open(1, false).await;
        let mut stream = client.accepted.recv().await.unwrap();
        drop(client.io);
        assert_eq!(stream.input.next().await, Said::Lost);
        client.link.closed().await;
    }
    #[tokio::test(start_paused = true)]
    async fn a_client_that_has_closed_is_not_waited_for() {
        let mut client = client();
        client.open(1, false).await;
        let stream = client.accepted.recv().await.unwrap();
        stream.output.end().await;
        // It has got all that there is.
        assert_eq!(client.frame().await[..4], [0x80, 3, 0, 2], "SYN_REPLY");
        assert_eq!(client.frame().await, [0, 0, 0, 1, 1, 0, 0, 0]);
        drop(client.io);
        // The clock stands still but for those who wait for it.
        let began = tokio::time::Instant::now();
        client.link.finish().await;
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
