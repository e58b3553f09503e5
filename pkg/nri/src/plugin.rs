//! One plugin: what it subscribed to, and what follows when it does not answer.

use std::{
    sync::atomic::{AtomicI32, Ordering},
    time::Duration,
};

use husk_proto::nri;
use tokio::process::Child;
use tracing::warn;

use crate::{
    Event, NriError,
    connection::{CallError, Connection, UNIMPLEMENTED},
    events::bit,
};

/// A plugin that has registered and was configured.
#[derive(Debug)]
pub(crate) struct Plugin {
    /// Two digits.
    pub(crate) index: String,
    /// Its name without the index.
    pub(crate) base: String,
    /// `index-name`.
    pub(crate) name: String,
    pub(crate) connection: Connection,
    /// Bits of the events that it wants.
    pub(crate) events: i32,
    pub(crate) policy: nri::FailurePolicy,
    /// Bits of the events that it knows by StateChange only.
    pub(crate) old: AtomicI32,
    /// Of a plugin that was launched; it is killed when this is dropped.
    pub(crate) _process: Option<Child>,
}

impl Plugin {
    /// Whether it subscribed to an event and can be asked.
    pub(crate) fn wants(&self, event: nri::Event) -> bool {
        self.events & bit(event) != 0 && !self.connection.is_closed()
    }

    /// Asks it; `None` when it did not subscribe, or did not answer and the request is to go on without it.
    pub(crate) async fn ask<R: prost::Message + Default>(
        &self,
        event: nri::Event,
        method: &'static str,
        request: &impl prost::Message,
        limit: Duration,
    ) -> Result<Option<R>, NriError> {
        if !self.wants(event) {
            return Ok(None);
        }
        match self.connection.call(method, request, limit).await {
            Ok(answer) => Ok(Some(answer)),
            Err(error) => self.failed(method, error).map(|()| None),
        }
    }

    /// Tells it of an event.
    pub(crate) async fn tell(
        &self,
        event: Event,
        pod: &nri::PodSandbox,
        container: Option<&nri::Container>,
        limit: Duration,
    ) -> Result<(), NriError> {
        if !self.wants(event.number()) {
            return Ok(());
        }
        if self.old.load(Ordering::Relaxed) & bit(event.number()) == 0 {
            // The requests of all these events have the same fields.
            let request =
                nri::StartContainerRequest { pod: Some(pod.clone()), container: container.cloned() };
            match self.connection.call::<nri::Empty>(event.method(), &request, limit).await {
                Ok(_) => return Ok(()),
                Err(CallError::Refused { code: UNIMPLEMENTED, .. }) => {
                    self.old.fetch_or(bit(event.number()), Ordering::Relaxed);
                }
                Err(error) => return self.failed(event.method(), error),
            }
        }
        let request = nri::StateChangeEvent {
            event: event.number().into(),
            pod: Some(pod.clone()),
            container: container.cloned(),
        };
        match self.connection.call::<nri::Empty>("StateChange", &request, limit).await {
            Ok(_) => Ok(()),
            Err(error) => self.failed(event.method(), error),
        }
    }

    /// An error that the plugin returned fails the request. Anything else is no answer: by its policy the request goes on or
    /// fails, and the plugin is disconnected or (after a timeout only) kept.
    pub(crate) fn failed(&self, request: &'static str, error: CallError) -> Result<(), NriError> {
        let plugin = self.name.clone();
        let keep = match &error {
            CallError::Refused { message, .. } => {
                return Err(NriError::Refused { plugin, request, message: message.clone() });
            }
            CallError::Timeout(_) => self.policy.keep_connected,
            // Our fault, not the plugin's.
            CallError::TooLong(_) => true,
            CallError::Closed(_) | CallError::Garbage(_) => false,
        };
        let reason = error.to_string();
        if !keep {
            self.connection.close(&format!("{request}: {reason}"));
        }
        if self.policy.fail_request {
            return Err(NriError::NoAnswer { plugin, request, reason });
        }
        warn!(
            plugin,
            request,
            reason,
            kept = keep,
            "an NRI plugin did not answer; the request goes on without it"
        );
        Ok(())
    }
}
