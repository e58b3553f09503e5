//! One connection to systemd: calls, and the ends of the jobs they made.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::StreamExt;
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinHandle,
};
use zbus::{Connection, MatchRule, Message, MessageStream, OwnedObjectPath, connection::Builder};

const SYSTEMD: &str = "org.freedesktop.systemd1";
const OBJECT: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// A way to systemd. (Its own socket, /run/systemd/private, is none: systemd signs its messages there with a name that D-Bus does
/// not allow for a sender, and zbus refuses them.)
#[derive(Debug, Clone)]
pub enum Route {
    /// The system bus.
    System,
    /// A message bus at a D-Bus address (`unix:path=…`).
    Bus(String),
}

impl Route {
    /// What to call it in errors.
    pub(crate) fn name(&self) -> String {
        match self {
            Route::System => "system bus".to_owned(),
            Route::Bus(address) => address.clone(),
        }
    }
}

/// The end of a job, as JobRemoved tells it.
#[derive(Debug)]
pub(crate) struct JobEnd {
    pub(crate) job: OwnedObjectPath,
    /// Who said so: anybody on the bus may send a signal.
    pub(crate) sender: Option<String>,
    pub(crate) result: String,
}

type Watchers = Arc<Mutex<HashMap<String, UnboundedSender<JobEnd>>>>;

/// A connection. Its reader ends with it.
#[derive(Debug)]
pub(crate) struct Link {
    connection: Connection,
    watchers: Watchers,
    reader: JoinHandle<()>,
}

/// Somebody who waits for the jobs of a unit; not any more when dropped.
pub(crate) struct Watch {
    unit: String,
    watchers: Watchers,
    ends: UnboundedReceiver<JobEnd>,
}

impl Watch {
    /// The next end of a job of this unit; `None` when the connection broke.
    pub(crate) async fn next(&mut self) -> Option<JobEnd> {
        self.ends.recv().await
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        lock(&self.watchers).remove(&self.unit);
    }
}

impl Link {
    /// Connects and subscribes to the ends of jobs.
    pub(crate) async fn open(route: &Route) -> zbus::Result<Self> {
        let builder = match route {
            Route::System => Builder::system(),
            Route::Bus(address) => Builder::address(address.as_str()),
        };
        let connection = builder.build().await?;
        let rule = MatchRule::builder()
            .msg_type(zbus::message::Type::Signal)
            .interface(MANAGER)
            .member("JobRemoved")
            .path(OBJECT)
            .build()?;
        let signals = MessageStream::for_match_rule(rule, &connection, None).await?;
        let watchers = Watchers::default();
        let reader = tokio::spawn(deliver(signals, Arc::clone(&watchers)));
        let link = Self { connection, watchers, reader };
        // Without a subscriber systemd sends no signals.
        link.call("Subscribe", &()).await?;
        Ok(link)
    }

    /// Whether it broke.
    pub(crate) fn is_broken(&self) -> bool {
        self.reader.is_finished() || self.connection.is_closed()
    }

    /// Calls a method of the manager.
    pub(crate) async fn call<B>(&self, method: &'static str, body: &B) -> zbus::Result<Message>
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        self.connection.call_method(Some(SYSTEMD), OBJECT, Some(MANAGER), method, body).await
    }

    /// Notes the ends of a unit's jobs from now on. One watch per unit: units are a pod's own.
    pub(crate) fn watch(&self, unit: &str) -> Watch {
        let (sender, ends) = unbounded_channel();
        lock(&self.watchers).insert(unit.to_owned(), sender);
        Watch { unit: unit.to_owned(), watchers: Arc::clone(&self.watchers), ends }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Hands the ends of jobs to those who wait for them, until the connection ends. Never waits for anybody: a stream that is
/// not read holds up the whole connection.
async fn deliver(mut signals: MessageStream, watchers: Watchers) {
    while let Some(Ok(signal)) = signals.next().await {
        let Ok((_, job, unit, result)) =
            signal.body().deserialize::<(u32, OwnedObjectPath, String, String)>()
        else {
            continue;
        };
        if let Some(watcher) = lock(&watchers).get(&unit) {
            // Nobody is there any more when its time ran out.
            let _ = watcher.send(JobEnd { job, sender: sender(&signal), result });
        }
    }
    lock(&watchers).clear();
}

/// The bus's name of whoever sent a message.
pub(crate) fn sender(message: &Message) -> Option<String> {
    message.header().sender().map(ToString::to_string)
}

fn lock(watchers: &Watchers) -> std::sync::MutexGuard<'_, HashMap<String, UnboundedSender<JobEnd>>> {
    watchers.lock().unwrap_or_else(PoisonError::into_inner)
}
