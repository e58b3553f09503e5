//! The connections of a port-forward: pairs of SPDY streams, or pairs of WebSocket channels.
//!
//! A pair is a data stream and an error stream. Text on the error stream makes the clients' library give up the whole
//! session, so it is sent only when a port cannot be reached, and not when a connection breaks later (kubernetes#74551).

use std::{collections::HashMap, sync::Arc};

use husk_model::{PodSandboxId, chain};
use tokio::{sync::mpsc, task::JoinSet, time::Instant};
use tracing::debug;

use super::{
    Context, Stop,
    forward::{self, Connection, HalfClose, Network},
};
use crate::{
    channel::{Frames, Input, Output},
    link::Link,
    spdy::{Accepted, ResetReason},
};

/// Connections of a session at once.
const MOST: usize = 256;

// === SPDY ===

/// Serves a port-forward whose client opens a pair of streams for each connection.
pub(crate) async fn forward_streams(
    context: &Context,
    link: Link,
    mut accepted: mpsc::Receiver<Accepted>,
    pod: PodSandboxId,
) {
    let network = match context.containers.network(&pod).await {
        Ok(network) => network.map(Arc::new),
        Err(fault) => {
            debug!(error = chain(fault.as_ref()), "a port-forward ends before it began");
            return link.finish().await;
        }
    };
    let mut pairs = Pairs { waiting: HashMap::new(), context };
    let mut connections = JoinSet::new();
    let serving = async {
        loop {
            let due = pairs.next_due();
            tokio::select! {
                stream = accepted.recv() => {
                    let Some(stream) = stream else { return };
                    if let Some(pair) = pairs.take(stream, connections.len()).await {
                        connections.spawn(pair.serve(network.clone()));
                    }
                }
                Some(_) = connections.join_next() => {}
                () = until(due) => pairs.expire().await,
            }
        }
    };
    let why = tokio::select! {
        () = serving => Stop::Gone,
        why = context.stop(&link) => why,
    };
    debug!(reason = why.reason(), "a port-forward ends");
    connections.shutdown().await;
    if why != Stop::Gone {
        link.finish().await;
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Streams whose partner has not come yet.
struct Pairs<'a> {
    waiting: HashMap<String, Half>,
    context: &'a Context,
}

struct Half {
    stream: Accepted,
    is_data: bool,
    due: Instant,
}

/// The streams of one connection.
struct Pair {
    data: Accepted,
    error: Accepted,
}

impl Pairs<'_> {
    fn next_due(&self) -> Option<Instant> {
        self.waiting.values().map(|half| half.due).min()
    }

    /// Takes a stream; returns the pair that it completes. One that cannot belong to any is refused.
    async fn take(&mut self, stream: Accepted, connections: usize) -> Option<Pair> {
        let is_data = match stream.headers.get("streamtype").map(String::as_str) {
            Some("data") => true,
            Some("error") => false,
            _ => return refuse(stream, "a stream is neither data nor error").await,
        };
        let number = request_id(&stream, is_data);
        match self.waiting.remove(&number) {
            Some(half) if half.is_data == is_data => {
                refuse(stream, "two streams of a kind have the same request id").await;
                self.waiting.insert(number, half);
                None
            }
            Some(half) if is_data => Some(Pair { data: stream, error: half.stream }),
            Some(half) => Some(Pair { data: half.stream, error: stream }),
            None if self.waiting.len() + connections >= MOST => refuse(stream, "too many connections").await,
            None => {
                let due = Instant::now() + self.context.creation_timeout;
                self.waiting.insert(number, Half { stream, is_data, due });
                None
            }
        }
    }

    /// Gives up what has waited too long.
    async fn expire(&mut self) {
        let now = Instant::now();
        for (_, half) in self.waiting.extract_if(|_, half| half.due <= now) {
            refuse(half.stream, "its partner did not come").await;
        }
    }
}

/// What the streams of a pair have in common. Old clients send no number; they open the error stream and next the data
/// stream, whose id is larger by two.
fn request_id(stream: &Accepted, is_data: bool) -> String {
    match stream.headers.get("requestid") {
        Some(number) => number.clone(),
        None if is_data => stream.id.saturating_sub(2).to_string(),
        None => stream.id.to_string(),
    }
}

async fn refuse(stream: Accepted, reason: &str) -> Option<Pair> {
    debug!(reason, "a stream of a port-forward was refused");
    stream.output.reset(ResetReason::Refused).await;
    None
}

impl Pair {
    async fn serve(self, network: Network) {
        let Pair { data, error } = self;
        let port = data.headers.get("port").and_then(|port| port.parse().ok()).filter(|port| *port != 0);
        let connected = match port {
            Some(port) => forward::connect(&network, port).await,
            None => Err("the stream names no port between 1 and 65535".to_owned()),
        };
        match connected {
            Ok(Connection::Open(stream)) => {
                forward::copy(stream, data.input, data.output, HalfClose::Yes).await;
            }
            Ok(Connection::Reset) => data.output.reset(ResetReason::Cancel).await,
            Err(reason) => {
                let _ = error.output.send(reason.into()).await;
                data.output.end().await;
            }
        }
        error.output.end().await;
    }
}

// === WebSocket channels ===

/// The channels on which the client of so many ports sends data.
pub(crate) fn channel_numbers(ports: usize) -> Vec<u8> {
    (0..ports * 2).step_by(2).filter_map(|number| u8::try_from(number).ok()).collect()
}

/// Serves a port-forward whose ports are known beforehand: port n has channel 2n for data and 2n+1 for errors, and the
/// first message on each is the port itself, low byte first. There is one connection to each, made at once.
pub(crate) async fn forward_channels(
    context: &Context,
    link: Link,
    inputs: Vec<Input>,
    frames: Frames,
    pod: PodSandboxId,
    ports: Vec<u16>,
) {
    let network = context.containers.network(&pod).await.map(|network| network.map(Arc::new));
    let network = network.map_err(|fault| chain(fault.as_ref()));
    let mut connections = JoinSet::new();
    for (number, (port, input)) in ports.into_iter().zip(inputs).enumerate() {
        let data = Output::new(2 * number as u32, frames.clone());
        let error = Output::new(2 * number as u32 + 1, frames.clone());
        connections.spawn(serve_channel(network.clone(), port, input, data, error));
    }
    drop(frames);
    let all = async { while connections.join_next().await.is_some() {} };
    let stop = tokio::select! {
        () = all => None,
        stop = context.stop(&link) => Some(stop),
    };
    if stop != Some(Stop::Gone) {
        link.finish().await;
    }
}

async fn serve_channel(
    network: Result<Network, String>,
    port: u16,
    input: Input,
    data: Output,
    error: Output,
) {
    for channel in [&data, &error] {
        if channel.send(port.to_le_bytes().to_vec().into()).await.is_err() {
            return;
        }
    }
    let connected = match &network {
        Ok(network) => forward::connect(network, port).await,
        Err(reason) => Err(reason.clone()),
    };
    match connected {
        Ok(Connection::Open(stream)) => forward::copy(stream, input, data, HalfClose::No).await,
        Ok(Connection::Reset) => data.reset(ResetReason::Cancel).await,
        Err(reason) => drop(error.send(reason.into()).await),
    }
}
