//! The handle on systemd's manager: two calls, each with a deadline for every step, on a connection that is made anew
//! whenever it broke.

use std::{sync::Arc, time::Duration};

use husk_model::Process;
use tokio::{sync::Mutex, time::timeout};
use tracing::debug;
use zbus::{OwnedObjectPath, Variant};

use crate::{
    Error, PodScope, Result,
    bus::{Link, Route, Watch, sender},
};

/// How long a connection may take, the answer to the first call included.
const CONNECT: Duration = Duration::from_secs(5);
/// How long systemd may take to answer a call. Under churn of units it has been seen to need ten seconds and more
/// (opencontainers/runc#4853).
const ANSWER: Duration = Duration::from_secs(20);
/// How long a job may take from there. A scope starts at once, and is stopped when its processes are dead.
const JOB: Duration = Duration::from_secs(20);
/// How long systemd waits, when it stops a scope by itself, between SIGTERM and SIGKILL.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// systemd's manager.
#[derive(Debug)]
pub struct Systemd {
    route: Route,
    link: Mutex<Option<Arc<Link>>>,
    answer: Duration,
}

impl Default for Systemd {
    /// By the system bus.
    fn default() -> Self {
        Self::at(Route::System)
    }
}

impl Systemd {
    /// By this bus.
    pub fn at(route: Route) -> Self {
        Self { route, link: Mutex::new(None), answer: ANSWER }
    }

    /// As [`Systemd::at`], with another patience for answers.
    pub fn with_patience(self, answer: Duration) -> Self {
        Self { answer, ..self }
    }

    /// Whether systemd can be reached now.
    ///
    /// # Errors
    /// [`Error::Connect`].
    pub async fn reach(&self) -> Result<()> {
        self.link().await.map(drop)
    }

    /// Makes a scope with the process `first` in it and waits until it runs. systemd is told its number alone, so the caller is
    /// its parent and does not reap it meanwhile.
    ///
    /// # Errors
    /// The step that failed. The unit may exist all the same: end it with [`Systemd::stop_unit`].
    pub async fn start_scope(&self, scope: &PodScope, first: Process) -> Result<()> {
        const CALL: &str = "StartTransientUnit";
        let micros = u64::try_from(STOP_PATIENCE.as_micros()).unwrap_or(u64::MAX);
        let properties: Vec<(&str, Variant<'_>)> = vec![
            ("Description", Variant::from("Kubernetes pod of husk")),
            ("Slice", Variant::from(scope.slice().name())),
            ("PIDs", Variant::from(vec![first.pid])),
            ("Delegate", Variant::from(true)),
            // As of every container runtime: a node's shutdown is the kubelet's to order.
            ("DefaultDependencies", Variant::from(false)),
            // Never stays behind as "failed".
            ("CollectMode", Variant::from("inactive-or-failed")),
            ("CPUAccounting", Variant::from(true)),
            ("MemoryAccounting", Variant::from(true)),
            ("IOAccounting", Variant::from(true)),
            ("TasksAccounting", Variant::from(true)),
            // Otherwise DefaultTasksMax= of the node holds: 15 % of all.
            ("TasksMax", Variant::from(u64::MAX)),
            ("TimeoutStopUSec", Variant::from(micros)),
        ];
        let auxiliary: Vec<(&str, Vec<(&str, Variant<'_>)>)> = Vec::new();
        self.job(CALL, scope.unit(), &(scope.unit(), "fail", properties, auxiliary)).await
    }

    /// Stops a unit and waits until it is gone. One that does not exist is fine.
    ///
    /// # Errors
    /// The step that failed.
    pub async fn stop_unit(&self, unit: &str) -> Result<()> {
        const CALL: &str = "StopUnit";
        match self.job(CALL, unit, &(unit, "replace")).await {
            Err(Error::Call { source, .. }) if is_unknown_unit(&source) => Ok(()),
            outcome => outcome,
        }
    }

    /// Calls a method that makes a job, and waits for the job's end.
    async fn job<B>(&self, call: &'static str, unit: &str, body: &B) -> Result<()>
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        let link = self.link().await?;
        // Before the call: the job may end before its answer is read.
        let mut watch = link.watch(unit);
        let answer = match timeout(self.answer, link.call(call, body)).await {
            Err(_) => return Err(self.late(call, unit, self.answer).await),
            Ok(Err(zbus::Error::InputOutput(_))) if link.is_broken() => {
                return Err(Error::Lost { step: call, unit: unit.to_owned() });
            }
            Ok(answer) => answer.map_err(|source| Error::Call { call, unit: unit.to_owned(), source })?,
        };
        let job: OwnedObjectPath = answer.body().deserialize().map_err(|source| Error::Call {
            call,
            unit: unit.to_owned(),
            source,
        })?;
        match timeout(JOB, end_of(&mut watch, &job, sender(&answer))).await {
            Err(_) => Err(self.late("wait for the job of", unit, JOB).await),
            Ok(None) => Err(Error::Lost { step: "wait for the job of", unit: unit.to_owned() }),
            Ok(Some(result)) if result == "done" => Ok(()),
            Ok(Some(result)) => Err(Error::Job { call, unit: unit.to_owned(), result }),
        }
    }

    /// The connection may be the reason that no answer came: the next call makes a new one.
    async fn late(&self, step: &'static str, unit: &str, after: Duration) -> Error {
        *self.link.lock().await = None;
        Error::Deadline { step, unit: unit.to_owned(), after }
    }

    /// The connection, made if there is none or it broke. Callers wait for one attempt and share it.
    async fn link(&self) -> Result<Arc<Link>> {
        let mut current = self.link.lock().await;
        if let Some(link) = current.as_ref().filter(|link| !link.is_broken()) {
            return Ok(Arc::clone(link));
        }
        *current = None;
        let reason = match timeout(CONNECT, Link::open(&self.route)).await {
            Ok(Ok(link)) => {
                debug!(route = self.route.name(), "connected to systemd");
                return Ok(Arc::clone(current.insert(Arc::new(link))));
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {CONNECT:?}"),
        };
        Err(Error::Connect { bus: self.route.name(), reason })
    }
}

/// The result of `job` as its maker tells it; `None` when the connection broke.
async fn end_of(watch: &mut Watch, job: &OwnedObjectPath, maker: Option<String>) -> Option<String> {
    loop {
        let end = watch.next().await?;
        if end.job == *job && end.sender == maker {
            return Some(end.result);
        }
    }
}

fn is_unknown_unit(error: &zbus::Error) -> bool {
    matches!(error, zbus::Error::MethodError(name, ..) if name.as_str() == "org.freedesktop.systemd1.NoSuchUnit")
}
