//! A plugin's connection: calls in both directions over one socket.
//!
//! One task reads, one writes. A call is a message handed to the writer and an answer awaited under a deadline, so a plugin
//! that does not read, does not answer or answers nonsense costs its caller that time and nothing else.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use husk_proto::ttrpc;
use prost::Message as _;
use tokio::{
    io::AsyncWriteExt,
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, oneshot, watch},
    task::AbortHandle,
};

use crate::frame::{Callee, Kind, MAX_CONTENT, Message, Reader, encode};

/// Full name of the service that plugins have.
const PLUGIN: &str = "nri.pkg.api.v1alpha1.Plugin";
/// Full name of the service that the runtime has.
const RUNTIME: &str = "nri.pkg.api.v1alpha1.Runtime";

/// Messages that may wait for a plugin to read.
const QUEUE: usize = 16;
/// Calls of a plugin that may be worked on at once. A plugin makes one at a time.
const MAX_CALLS: usize = 16;

/// gRPC's codes that matter here.
pub(crate) const INVALID_ARGUMENT: i32 = 3;
pub(crate) const UNIMPLEMENTED: i32 = 12;

/// How a call failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The plugin's own answer.
    #[error("{message}")]
    Refused { code: i32, message: String },
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    #[error("the connection is closed: {0}")]
    Closed(Arc<str>),
    #[error("the answer cannot be decoded")]
    Garbage(#[from] prost::DecodeError),
    #[error("the request has {0} bytes; {MAX_CONTENT} is the most")]
    TooLong(usize),
}

/// What the plugin may call.
#[async_trait]
pub(crate) trait Service: Send + Sync + 'static {
    /// Answers a call; an error is a gRPC code and a message.
    async fn call(&self, method: &str, payload: &[u8]) -> Result<Vec<u8>, (i32, String)>;
}

type Answer = Result<Vec<u8>, CallError>;

/// The runtime's end of a plugin's socket. The socket is closed when it is dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    calls: Arc<Calls>,
    writer: mpsc::Sender<Message>,
    tasks: [AbortHandle; 2],
}

/// Calls that wait for their answers.
#[derive(Debug)]
struct Calls {
    state: Mutex<State>,
    /// Why the connection is closed.
    closed: watch::Sender<Option<Arc<str>>>,
}

#[derive(Debug, Default)]
struct State {
    /// Clients use the odd stream ids.
    streams: u32,
    waiting: HashMap<u32, oneshot::Sender<Answer>>,
}

impl Connection {
    /// Takes over a socket.
    pub(crate) fn start(socket: UnixStream, service: Arc<dyn Service>) -> Self {
        let calls = Arc::new(Calls { state: Mutex::default(), closed: watch::Sender::new(None) });
        let (writer, queue) = mpsc::channel(QUEUE);
        let (read_half, write_half) = socket.into_split();
        let reading = tokio::spawn(read(read_half, Arc::clone(&calls), service, writer.clone()));
        let writing = tokio::spawn(write(write_half, Arc::clone(&calls), queue));
        Self { calls, writer, tasks: [reading.abort_handle(), writing.abort_handle()] }
    }

    /// Calls a method of the plugin.
    pub(crate) async fn call<R: prost::Message + Default>(
        &self,
        method: &'static str,
        argument: &impl prost::Message,
        limit: Duration,
    ) -> Result<R, CallError> {
        let request = ttrpc::Request {
            service: PLUGIN.to_owned(),
            method: method.to_owned(),
            payload: argument.encode_to_vec(),
            timeout_nano: i64::try_from(limit.as_nanos()).unwrap_or(i64::MAX),
        };
        if request.encoded_len() > MAX_CONTENT {
            return Err(CallError::TooLong(request.encoded_len()));
        }
        let (stream, answer) = self.calls.open()?;
        let message =
            Message { callee: Callee::Plugin, stream, kind: Kind::Request, content: request.encode_to_vec() };
        let exchange = async {
            // Fails only when the connection was closed; then the answer says why.
            let _ = self.writer.send(message).await;
            answer.await.unwrap_or_else(|_| Err(CallError::Closed("it ended".into())))
        };
        match tokio::time::timeout(limit, exchange).await {
            Ok(answer) => Ok(R::decode(answer?.as_slice())?),
            Err(_) => {
                self.calls.forget(stream);
                Err(CallError::Timeout(limit))
            }
        }
    }

    /// Ends the connection; calls in progress fail with `reason`.
    pub(crate) fn close(&self, reason: &str) {
        self.calls.close(reason);
        self.tasks.iter().for_each(AbortHandle::abort);
    }

    /// Resolves when the connection has ended, with the reason.
    pub(crate) fn closed(&self) -> impl Future<Output = Arc<str>> + Send + use<> {
        let mut closed = self.calls.closed.subscribe();
        async move {
            match closed.wait_for(Option::is_some).await {
                Ok(reason) => reason.clone().unwrap_or_else(|| "it ended".into()),
                Err(_) => "it ended".into(),
            }
        }
    }

    /// Whether the connection has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.calls.closed.borrow().is_some()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.close("the runtime let go of the plugin");
    }
}

impl Calls {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Result<(u32, oneshot::Receiver<Answer>), CallError> {
        let mut state = self.state();
        // Under the lock: a call that is opened after the close would never be answered.
        if let Some(reason) = self.closed.borrow().clone() {
            return Err(CallError::Closed(reason));
        }
        let (sender, receiver) = oneshot::channel();
        let stream = state.streams.wrapping_mul(2).wrapping_add(1);
        state.streams = state.streams.wrapping_add(1) % (u32::MAX / 2);
        state.waiting.insert(stream, sender);
        Ok((stream, receiver))
    }

    fn forget(&self, stream: u32) {
        self.state().waiting.remove(&stream);
    }

    /// An answer that nobody waits for came too late.
    fn answer(&self, stream: u32, answer: Answer) {
        if let Some(waiting) = self.state().waiting.remove(&stream) {
            // The caller may just have given up.
            let _ = waiting.send(answer);
        }
    }

    fn close(&self, reason: &str) {
        let mut state = self.state();
        let mut first: Arc<str> = reason.into();
        self.closed.send_if_modified(|closed| match closed {
            Some(reason) => {
                first = Arc::clone(reason);
                false
            }
            None => {
                *closed = Some(Arc::clone(&first));
                true
            }
        });
        for (_, waiting) in state.waiting.drain() {
            let _ = waiting.send(Err(CallError::Closed(Arc::clone(&first))));
        }
    }
}

async fn write(mut socket: OwnedWriteHalf, calls: Arc<Calls>, mut queue: mpsc::Receiver<Message>) {
    while let Some(message) = queue.recv().await {
        if let Err(error) = socket.write_all(&encode(&message)).await {
            return calls.close(&format!("writing to it failed: {error}"));
        }
    }
}

async fn read(
    socket: OwnedReadHalf,
    calls: Arc<Calls>,
    service: Arc<dyn Service>,
    writer: mpsc::Sender<Message>,
) {
    let mut reader = Reader::new(tokio::io::BufReader::new(socket));
    let permits = Arc::new(tokio::sync::Semaphore::new(MAX_CALLS));
    loop {
        let message = match reader.next().await {
            Ok(Some(message)) => message,
            Ok(None) => return calls.close("the plugin closed it"),
            Err(error) => return calls.close(&format!("the plugin broke the protocol: {error}")),
        };
        match (message.callee, message.kind) {
            (Callee::Plugin, Kind::Response) => {
                calls.answer(message.stream, response(&message.content));
            }
            (Callee::Runtime, Kind::Request) => {
                // Waiting here would keep answers from their callers.
                let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
                    return calls.close("the plugin made too many calls at once");
                };
                let (service, writer) = (Arc::clone(&service), writer.clone());
                tokio::spawn(async move {
                    let content = serve(service.as_ref(), &message.content).await;
                    let answer = Message { kind: Kind::Response, content, ..message };
                    // A plugin that is gone does not hear of it.
                    let _ = writer.send(answer).await;
                    drop(permit);
                });
            }
            _ => return calls.close("the plugin broke the protocol: a message on the wrong connection"),
        }
    }
}

fn response(content: &[u8]) -> Answer {
    let response = ttrpc::Response::decode(content)?;
    match response.status {
        Some(status) if status.code != 0 => {
            Err(CallError::Refused { code: status.code, message: status.message })
        }
        _ => Ok(response.payload),
    }
}

async fn serve(service: &dyn Service, content: &[u8]) -> Vec<u8> {
    let outcome = match ttrpc::Request::decode(content) {
        Ok(request) if request.service == RUNTIME => service.call(&request.method, &request.payload).await,
        Ok(request) => Err((UNIMPLEMENTED, format!("service {}", request.service))),
        Err(error) => Err((INVALID_ARGUMENT, error.to_string())),
    };
    let response = match outcome {
        Ok(payload) => ttrpc::Response { status: None, payload },
        Err((code, message)) => {
            ttrpc::Response { status: Some(ttrpc::Status { code, message }), payload: Vec::new() }
        }
    };
    response.encode_to_vec()
}
