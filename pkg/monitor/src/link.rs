//! One connection to a monitor: requests out, answers to their callers, events to whoever listens.
//!
//! Two tasks own the socket. A caller hands its encoded frame to the writer and waits on a oneshot; if it goes away, its
//! entry leaves the table and the late answer is dropped. When the connection ends every entry is dropped, which its
//! caller sees as [`MonitorError::Disconnected`].

use std::{
    collections::HashMap,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use husk_proto::podmon::{self, request::Call};
use tokio::{
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{broadcast, mpsc, oneshot},
};
use tracing::debug;

use crate::{
    Event, Events, MonitorError, Result,
    convert::{self, Answer},
    wire::{self, Frame},
};

/// Events a slow listener may lag behind before it is told [`Event::Missed`]. A pod has few containers.
const EVENT_BACKLOG: usize = 64;

/// Callers in flight by request id; `None` once the connection has ended.
#[derive(Debug)]
struct Table {
    calls: Option<HashMap<u64, oneshot::Sender<Answer>>>,
    next_id: u64,
    /// Ends with the connection, so that [`Events`] end.
    events: Option<broadcast::Sender<Event>>,
}

/// A live connection. Ends when the last handle is dropped.
#[derive(Debug)]
pub(crate) struct Link {
    frames: mpsc::UnboundedSender<Frame>,
    table: Arc<Mutex<Table>>,
}

/// Removes the caller's entry when its future ends, however it ends.
struct InFlight<'a> {
    link: &'a Link,
    id: u64,
    /// The monitor is to stop working on it when the caller goes away.
    cancel: bool,
}

impl Link {
    pub(crate) fn new(socket: UnixStream) -> Self {
        let (read, write) = socket.into_split();
        let (frames, queue) = mpsc::unbounded_channel();
        let (events, _) = broadcast::channel(EVENT_BACKLOG);
        let table = Table { calls: Some(HashMap::new()), next_id: 1, events: Some(events) };
        let table = Arc::new(Mutex::new(table));
        tokio::spawn(write_frames(write, queue));
        tokio::spawn(read_frames(read, table.clone()));
        Self { frames, table }
    }

    /// Events from now on; an ended stream when the connection has ended.
    pub(crate) fn events(&self) -> Events {
        Events(match &lock(&self.table).events {
            Some(events) => events.subscribe(),
            None => broadcast::channel(1).1,
        })
    }

    pub(crate) fn is_connected(&self) -> bool {
        lock(&self.table).calls.is_some()
    }

    /// Sends a request and waits for its answer, at most `deadline`.
    pub(crate) async fn call(
        &self,
        name: &'static str,
        call: Call,
        fds: Vec<OwnedFd>,
        deadline: Option<Duration>,
    ) -> Result<Answer> {
        let cancel = matches!(call, Call::ExecSync(_) | Call::Exec(_) | Call::Attach(_));
        let (id, answer) = self.register(name)?;
        let mut in_flight = InFlight { link: self, id, cancel };
        let frame = wire::encode(&podmon::Request { id, call: Some(call) }, fds);
        if frame.bytes.len() > podmon::MAX_REQUEST {
            in_flight.cancel = false;
            let (size, limit) = (frame.bytes.len(), podmon::MAX_REQUEST);
            return Err(MonitorError::TooLarge { call: name, size, limit });
        }
        let _ = self.frames.send(frame);
        let answer = match deadline {
            None => answer.await,
            Some(after) => tokio::time::timeout(after, answer)
                .await
                .map_err(|_| MonitorError::Deadline { call: name, after })?,
        };
        in_flight.cancel = false;
        answer.map_err(|_| MonitorError::Disconnected { call: name })
    }

    fn register(&self, name: &'static str) -> Result<(u64, oneshot::Receiver<Answer>)> {
        let mut table = lock(&self.table);
        let id = table.next_id;
        table.next_id += 1;
        let (sender, receiver) = oneshot::channel();
        table.calls.as_mut().ok_or(MonitorError::Disconnected { call: name })?.insert(id, sender);
        Ok((id, receiver))
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let mut table = lock(&self.link.table);
        let Some(calls) = &mut table.calls else { return };
        calls.remove(&self.id);
        if self.cancel {
            let id = table.next_id;
            table.next_id += 1;
            let call = Some(Call::Cancel(podmon::Cancel { call_id: self.id }));
            let _ = self.link.frames.send(wire::encode(&podmon::Request { id, call }, Vec::new()));
        }
    }
}

/// Ends when all handles are gone or the socket fails; dropping its half shuts the socket's sending side down, upon
/// which the monitor closes its own and the reader ends too.
async fn write_frames(socket: OwnedWriteHalf, mut queue: mpsc::UnboundedReceiver<Frame>) {
    while let Some(frame) = queue.recv().await {
        if let Err(error) = wire::write(socket.as_ref(), &frame).await {
            debug!(%error, "monitor connection failed while sending");
            return;
        }
    }
}

async fn read_frames(mut socket: OwnedReadHalf, table: Arc<Mutex<Table>>) {
    loop {
        match wire::read(&mut socket).await {
            Ok(Some(frame)) => deliver(&table, frame),
            Ok(None) => break,
            Err(error) => {
                debug!(%error, "monitor connection failed while receiving");
                break;
            }
        }
    }
    let mut table = lock(&table);
    table.calls = None;
    if let Some(events) = table.events.take() {
        let _ = events.send(Event::Disconnected);
    }
}

fn deliver(table: &Mutex<Table>, frame: podmon::ServerFrame) {
    use podmon::server_frame::Frame as F;
    let mut table = lock(table);
    match frame.frame {
        Some(F::Response(podmon::Response { id, result: Some(answer) })) => {
            if let Some(caller) = table.calls.as_mut().and_then(|calls| calls.remove(&id)) {
                let _ = caller.send(answer);
            }
        }
        Some(F::Event(event)) => {
            if let (Some(event), Some(events)) = (convert::event(event), &table.events) {
                let _ = events.send(event);
            }
        }
        // Of a newer monitor; the caller, if any, meets its deadline.
        Some(F::Response(podmon::Response { result: None, .. })) | None => {}
    }
}

/// The table is consistent after every statement, so a panic elsewhere does not make it unusable.
fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn hello() -> Call {
        Call::Hello(podmon::Hello::default())
    }

    fn link() -> (Link, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Link::new(ours), theirs)
    }

    async fn next_request(monitor: &mut UnixStream) -> podmon::Request {
        let length = monitor.read_u32_le().await.unwrap();
        let mut bytes = vec![0; length as usize];
        monitor.read_exact(&mut bytes).await.unwrap();
        podmon::Request::decode(bytes.as_slice()).unwrap()
    }

    async fn answer(monitor: &mut UnixStream, id: u64, version: &str) {
        let reply = podmon::HelloReply { version: version.into(), ..Default::default() };
        let response = podmon::Response { id, result: Some(Answer::Hello(reply)) };
        let frame = podmon::ServerFrame { frame: Some(podmon::server_frame::Frame::Response(response)) };
        let body = frame.encode_to_vec();
        monitor.write_u32_le(body.len() as u32).await.unwrap();
        monitor.write_all(&body).await.unwrap();
    }

    fn version(answer: Result<Answer>) -> String {
        match answer.unwrap() {
            Answer::Hello(reply) => reply.version,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn answers_reach_their_callers_in_whatever_order_they_come() {
        let (link, mut monitor) = link();
        let calls = async {
            tokio::join!(link.call("a", hello(), vec![], None), link.call("b", hello(), vec![], None))
        };
        let serve = async {
            let (first, second) = (next_request(&mut monitor).await, next_request(&mut monitor).await);
            answer(&mut monitor, second.id, "second").await;
            answer(&mut monitor, first.id, "first").await;
        };
        let ((first, second), ()) = tokio::join!(calls, serve);
        assert_eq!((version(first), version(second)), ("first".into(), "second".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_answer_is_dropped_and_the_next_call_works() {
        let (link, mut monitor) = link();
        let late = link.call("late", hello(), vec![], Some(Duration::from_secs(1))).await;
        assert!(matches!(late, Err(MonitorError::Deadline { call: "late", .. })));
        let serve = async {
            let late = next_request(&mut monitor).await;
            answer(&mut monitor, late.id, "late").await;
            let next = next_request(&mut monitor).await;
            answer(&mut monitor, next.id, "next").await;
        };
        let (next, ()) = tokio::join!(link.call("next", hello(), vec![], None), serve);
        assert_eq!(version(next), "next");
    }

    #[tokio::test]
    async fn a_dropped_exec_is_cancelled_and_other_dropped_calls_are_not() {
        let (link, mut monitor) = link();
        let exec = Call::ExecSync(podmon::ExecSync::default());
        let stop = Call::StopContainer(podmon::StopContainer::default());
        for call in [stop, exec] {
            let call = link.call("x", call, vec![], None);
            assert!(tokio::time::timeout(Duration::from_millis(10), call).await.is_err());
        }
        next_request(&mut monitor).await;
        let exec = next_request(&mut monitor).await;
        let cancel = next_request(&mut monitor).await;
        assert_eq!(cancel.call, Some(Call::Cancel(podmon::Cancel { call_id: exec.id })));
    }

    #[tokio::test]
    async fn a_lost_connection_fails_callers_ends_events_and_refuses_new_calls() {
        let (link, mut monitor) = link();
        let mut events = link.events();
        let (pending, ()) = tokio::join!(link.call("a", hello(), vec![], None), async {
            next_request(&mut monitor).await;
            drop(monitor);
        });
        assert!(matches!(pending, Err(MonitorError::Disconnected { call: "a" })));
        assert_eq!(events.next().await, Some(Event::Disconnected));
        assert_eq!(events.next().await, None);
        assert!(!link.is_connected());
        assert_eq!(link.events().next().await, None);
        assert!(link.call("b", hello(), vec![], None).await.is_err());
    }
}
