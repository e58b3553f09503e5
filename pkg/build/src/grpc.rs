//! gRPC over HTTP/2, as much of it as a proxy needs: frames, statuses, and calls of our own.
//!
//! A message is a byte that says whether it is compressed, its length in four bytes, and itself.

use std::convert::Infallible;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use husk_model::chain;
use hyper::{
    HeaderMap, Request, Response,
    body::Incoming,
    client::conn::http2::{self, SendRequest},
    header::{CONTENT_TYPE, HeaderName, HeaderValue, TE},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinHandle,
};
use tracing::debug;

use crate::error::{BuildError, Result};

/// Largest message that is read whole. BuildKit's own limit is 16 MiB.
pub(crate) const MESSAGE_MAX: usize = 16 << 20;
/// Bytes before a message.
const PREFIX: usize = 5;
/// Longest head or trailers that are read. A failed build's have BuildKit's stack traces and the Dockerfile in them.
const HEADERS_MAX: u32 = 1 << 20;
/// How much may be under way on a stream, and on a connection.
pub(crate) const WINDOWS: (u32, u32) = (1 << 20, 4 << 20);

/// The body of a request or an answer that is passed on.
pub(crate) type AnyBody = UnsyncBoxBody<Bytes, BoxError>;
/// Why a body broke off.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// Calls to a server; a copy is the same connection.
pub(crate) type Caller = SendRequest<AnyBody>;

/// Names of the headers that say how a call ended.
pub(crate) const STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// The words to it.
pub(crate) const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// A body as it came.
pub(crate) fn passed(body: Incoming) -> AnyBody {
    body.map_err(BoxError::from).boxed_unsync()
}

/// A whole body.
pub(crate) fn whole(bytes: Bytes) -> AnyBody {
    Full::new(bytes).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// Begins HTTP/2 as a client on a connection, which ends with the last copy of the caller, or when the other side ends it: that the
/// second one tells.
pub(crate) async fn connect(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<(Caller, JoinHandle<()>), hyper::Error> {
    let (caller, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(WINDOWS.0)
        .initial_connection_window_size(WINDOWS.1)
        .max_header_list_size(HEADERS_MAX)
        .handshake(TokioIo::new(io))
        .await?;
    let served = tokio::spawn(async move {
        if let Err(error) = connection.await {
            debug!(%error, "a connection of a build ended");
        }
    });
    Ok((caller, served))
}

/// A message with what stands before it.
pub(crate) fn frame(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(PREFIX + message.len());
    bytes.put_u8(0);
    // Messages of ours are short, and those that are passed on were bounded.
    bytes.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    bytes.put_slice(message);
    bytes.freeze()
}

/// Messages out of the pieces of a body.
#[derive(Debug, Default)]
pub(crate) struct Frames(BytesMut);

impl Frames {
    /// Takes a piece.
    pub(crate) fn push(&mut self, piece: &[u8]) {
        self.0.extend_from_slice(piece);
    }

    /// The next message, if all of it is here.
    ///
    /// # Errors
    /// In words: it is compressed, or too long.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, &'static str> {
        let Some(mut head) = self.0.get(..PREFIX) else { return Ok(None) };
        if head.get_u8() != 0 {
            return Err("a compressed message, which husk does not read");
        }
        let length = head.get_u32() as usize;
        if length > MESSAGE_MAX {
            return Err("a message of more than 16 MiB");
        }
        if self.0.len() < PREFIX + length {
            return Ok(None);
        }
        self.0.advance(PREFIX);
        Ok(Some(self.0.split_to(length).freeze()))
    }

    /// What is left, messages or not.
    pub(crate) fn rest(&mut self) -> Bytes {
        self.0.split().freeze()
    }

    /// Whether a part of a message is left.
    pub(crate) fn is_torn(&self) -> bool {
        !self.0.is_empty()
    }
}

/// The one message of a body, and its trailers.
///
/// # Errors
/// In words, as a client may read them.
pub(crate) async fn only_message(mut body: Incoming) -> Result<(Option<Bytes>, Option<HeaderMap>), String> {
    let (mut frames, mut message, mut trailers) = (Frames::default(), None, None);
    while let Some(frame) = body.frame().await {
        let frame = match frame.map_err(|error| format!("the message broke off: {error}"))?.into_data() {
            Ok(data) => data,
            Err(other) => {
                trailers = other.into_trailers().ok();
                continue;
            }
        };
        frames.push(&frame);
        if message.is_none() {
            message = frames.next().map_err(str::to_owned)?;
        }
        if message.is_some() && frames.is_torn() {
            return Err("more than one message".to_owned());
        }
    }
    if frames.is_torn() { Err("the message broke off".to_owned()) } else { Ok((message, trailers)) }
}

/// An answer that is only a status.
pub(crate) fn status(code: i32, message: &str) -> Response<AnyBody> {
    let mut answer = Response::new(whole(Bytes::new()));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, GRPC);
    headers.insert(STATUS, HeaderValue::from(code));
    headers.insert(MESSAGE, words(message));
    answer
}

/// Words as gRPC writes them in a header.
pub(crate) fn words(message: &str) -> HeaderValue {
    // Printable ASCII but the percent sign stays as it is (gRPC over HTTP2, Status-Message).
    const OTHERS: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS.add(b'%');
    let text = percent_encoding::utf8_percent_encode(message, OTHERS).to_string();
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("failed"))
}

/// How a call ended: `None` while its headers say nothing of it.
pub(crate) fn ended(headers: &HeaderMap) -> Option<Result<(), BuildError>> {
    let code: i32 = headers.get(STATUS)?.to_str().ok()?.parse().ok()?;
    if code == 0 {
        return Some(Ok(()));
    }
    let words = headers.get(MESSAGE).map(HeaderValue::as_bytes).unwrap_or_default();
    let message = percent_encoding::percent_decode(words).decode_utf8_lossy().into_owned();
    Some(Err(BuildError::Refused { code, message }))
}

/// A request for `path` with this body.
pub(crate) fn request(path: &str, body: AnyBody) -> Request<AnyBody> {
    let mut request = Request::new(body);
    *request.method_mut() = hyper::Method::POST;
    // The authority is for the server's log alone.
    *request.uri_mut() = format!("http://buildkit{path}").parse().unwrap_or_default();
    request.headers_mut().insert(CONTENT_TYPE, GRPC);
    request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
    request
}

/// An answer of ours that comes message by message.
pub(crate) struct Answers {
    call: &'static str,
    body: Incoming,
    frames: Frames,
    ended: Option<Result<(), BuildError>>,
}

impl Answers {
    /// The next message; `None` at the end of a call that went well.
    ///
    /// # Errors
    /// As the call ended: [`BuildError::Refused`], [`BuildError::Broken`].
    pub(crate) async fn next<M: Message + Default>(&mut self) -> Result<Option<M>> {
        let call = self.call;
        let broken = |error: prost::DecodeError| BuildError::Broken { call, reason: error.to_string() };
        let message = self.message().await?;
        message.map(|message| M::decode(message).map_err(broken)).transpose()
    }

    /// As [`Self::next`], the message as it is.
    pub(crate) async fn message(&mut self) -> Result<Option<Bytes>> {
        let call = self.call;
        let broken = |reason: String| BuildError::Broken { call, reason };
        loop {
            if let Some(message) = self.frames.next().map_err(|reason| broken(reason.to_owned()))? {
                return Ok(Some(message));
            }
            let Some(frame) = self.body.frame().await else {
                return match self.ended.take() {
                    Some(ended) => ended.map(|()| None),
                    None => Err(broken("it ended without a status".to_owned())),
                };
            };
            match frame.map_err(|error| broken(chain(&error)))?.into_data() {
                Ok(data) => self.frames.push(&data),
                Err(other) => {
                    if let Ok(trailers) = other.into_trailers() {
                        self.ended = ended(&trailers).or(self.ended.take());
                    }
                }
            }
        }
    }
}

/// Calls a method with one message; the answers come one by one.
pub(crate) async fn call(caller: &Caller, call: &'static str, message: &impl Message) -> Result<Answers> {
    let request = request(call, whole(frame(&message.encode_to_vec())));
    let broken = |error: hyper::Error| BuildError::Broken { call, reason: chain(&error) };
    let mut caller = caller.clone();
    caller.ready().await.map_err(broken)?;
    let answer = caller.send_request(request).await.map_err(broken)?;
    let ended = ended(answer.headers());
    Ok(Answers { call, body: answer.into_body(), frames: Frames::default(), ended })
}

/// Calls a method that has one answer.
pub(crate) async fn ask<M: Message + Default>(
    caller: &Caller,
    name: &'static str,
    message: &impl Message,
) -> Result<M> {
    let mut answers = call(caller, name, message).await?;
    let Some(answer) = answers.next().await? else {
        return Err(BuildError::Broken { call: name, reason: "it had no answer".to_owned() });
    };
    // The status comes after the message.
    while answers.next::<M>().await?.is_some() {}
    Ok(answer)
}
