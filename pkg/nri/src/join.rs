//! How a plugin gets in: it registers, is configured, and learns of everything that exists.
//!
//! ```text
//! plugin → RegisterPlugin     who it is (a launched one is who its file says)
//! plugin ← Configure          its configuration; it answers with the events that it wants
//!          -- from here nothing is created and no event is sent until the plugin is in --
//! plugin ← Synchronize …      everything that exists, in as many messages as it takes
//! ```
//! So every pod and container reaches it by Synchronize or by an event of its own, and none by neither.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use husk_proto::nri;
use prost::Message;
use tokio::{net::UnixStream, process::Child, sync::oneshot};
use tracing::{info, warn};

use crate::{
    Eviction, Nri, Update,
    connection::{CallError, Connection, INVALID_ARGUMENT, Service, UNIMPLEMENTED},
    events::ALL,
    frame::MAX_CONTENT,
    plugin::Plugin,
    refuse,
    runtime::{Everything, Late},
};

/// The version of the contract that husk speaks.
const VERSION: &str = "v0.12.5";
/// Room that a Synchronize leaves for what surrounds its objects.
const OVERHEAD: usize = 64 << 10;
/// What surrounds one object: its tag and its length.
const OBJECT_OVERHEAD: usize = 8;

/// Why a plugin did not get in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JoinError {
    #[error("it did not register within {} ms", .0.as_millis())]
    Silent(Duration),
    #[error("it closed its connection before it registered: {0}")]
    Gone(Arc<str>),
    #[error("{step}: {source}")]
    Call { step: &'static str, source: CallError },
    #[error("it subscribed to events that do not exist ({0:#x})")]
    Events(i32),
    #[error("a pod or container is too large for a message")]
    TooLarge,
    #[error("it does not take Synchronize in several messages")]
    Unsplit,
}

/// A plugin's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Two digits.
    pub(crate) index: String,
    /// Letters, digits and `-_.+`.
    pub(crate) base: String,
}

impl Identity {
    pub(crate) fn new(index: &str, base: &str) -> Result<Self, String> {
        if index.len() != 2 || !index.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(format!("plugin index {index:?} is not two digits"));
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte);
        if base.is_empty() || !base.bytes().all(allowed) {
            return Err(format!("plugin name {base:?} is not made of letters, digits and -_.+"));
        }
        Ok(Self { index: index.to_owned(), base: base.to_owned() })
    }

    /// From the name of an executable, `NN-name`.
    pub(crate) fn of_file(name: &str) -> Result<Self, String> {
        let (index, base) =
            name.split_once('-').ok_or_else(|| format!("{name:?} is not of the form NN-name"))?;
        Self::new(index, base)
    }

    pub(crate) fn name(&self) -> String {
        format!("{}-{}", self.index, self.base)
    }
}

/// A plugin that was launched.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) identity: Identity,
    pub(crate) config: String,
    pub(crate) process: Child,
}

/// What a plugin can call.
struct Callbacks {
    /// Taken by the registration.
    registered: Mutex<Option<oneshot::Sender<Identity>>>,
    runtime: Late,
    /// Set for a launched plugin.
    identity: Option<Identity>,
}

#[async_trait]
impl Service for Callbacks {
    async fn call(&self, method: &str, payload: &[u8]) -> Result<Vec<u8>, (i32, String)> {
        let garbage = |error: prost::DecodeError| (INVALID_ARGUMENT, error.to_string());
        match method {
            "RegisterPlugin" => {
                let request = nri::RegisterPluginRequest::decode(payload).map_err(garbage)?;
                self.register(&request).map_err(|message| (INVALID_ARGUMENT, message))?;
                Ok(nri::Empty {}.encode_to_vec())
            }
            "UpdateContainers" => {
                let request = nri::UpdateContainersRequest::decode(payload).map_err(garbage)?;
                Ok(self.update(request).await.encode_to_vec())
            }
            other => Err((UNIMPLEMENTED, format!("method {other}"))),
        }
    }
}

impl Callbacks {
    /// A name that is refused leaves the registration open: the plugin hears why, and its connection ends by its own doing or
    /// at the time limit.
    fn register(&self, request: &nri::RegisterPluginRequest) -> Result<(), String> {
        let identity = match &self.identity {
            Some(identity) => identity.clone(),
            None => Identity::new(&request.plugin_idx, &request.plugin_name)?,
        };
        let waiting = self.registered.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(waiting) = waiting else { return Err("the plugin is registered already".to_owned()) };
        // Nobody waits any more after the registration's time limit.
        let _ = waiting.send(identity);
        Ok(())
    }

    async fn update(&self, request: nri::UpdateContainersRequest) -> nri::UpdateContainersResponse {
        let mut failed = Vec::new();
        let Some(runtime) = self.runtime.get() else {
            return nri::UpdateContainersResponse { failed: request.update };
        };
        for update in request.update {
            let resources = update.linux.as_ref().and_then(|linux| linux.resources.as_ref());
            let refused = resources.map_or(Ok(()), |resources| refuse::resources("", resources));
            let outcome = match refused {
                Ok(()) => runtime.update(&Update::from_plugin(&update)).await,
                Err(error) => Err(error.to_string()),
            };
            if let Err(reason) = outcome {
                warn!(
                    container = update.container_id,
                    reason, "an update that an NRI plugin asked for failed"
                );
                if !update.ignore_failure {
                    failed.push(update);
                }
            }
        }
        for eviction in Eviction::from_plugin("", request.evict) {
            let container = eviction.container.clone();
            if let Err(reason) = runtime.evict(eviction).await {
                warn!(container, reason, "an eviction that an NRI plugin asked for failed");
            }
        }
        nri::UpdateContainersResponse { failed }
    }
}

/// Takes a plugin in.
pub(crate) async fn join(nri: &Arc<Nri>, socket: UnixStream, launched: Option<Launched>) {
    let shown = launched.as_ref().map_or("a plugin".to_owned(), |launched| launched.identity.name());
    let plugin = match register(nri, socket, launched).await {
        Ok(plugin) => plugin,
        Err(error) => return warn!(plugin = shown, %error, "an NRI plugin was not taken in"),
    };
    let name = plugin.name.clone();
    // From here on nobody takes the shortcut that there is nobody to tell.
    nri.present.fetch_add(1, Ordering::SeqCst);
    let alone = nri.turns.write().await;
    let Some(runtime) = nri.runtime.get() else {
        nri.present.fetch_sub(1, Ordering::SeqCst);
        return;
    };
    let everything = runtime.everything().await;
    let (pods, containers) = (everything.pods.len(), everything.containers.len());
    match synchronize(&plugin, everything, nri.config.registration_timeout).await {
        Ok(updates) => {
            nri.add(plugin);
            drop(alone);
            info!(plugin = name, pods, containers, "an NRI plugin is in");
            for update in &updates {
                if let Err(reason) = runtime.update(update).await {
                    warn!(
                        plugin = name,
                        container = update.container,
                        reason,
                        "an update that an NRI plugin asked for failed"
                    );
                }
            }
        }
        Err(error) => {
            nri.present.fetch_sub(1, Ordering::SeqCst);
            warn!(plugin = name, %error, "an NRI plugin was not taken in");
        }
    }
}

async fn register(nri: &Nri, socket: UnixStream, launched: Option<Launched>) -> Result<Plugin, JoinError> {
    let limit = nri.config.registration_timeout;
    let (sender, receiver) = oneshot::channel();
    let (identity, config, process) = match launched {
        Some(Launched { identity, config, process }) => (Some(identity), config, Some(process)),
        None => (None, String::new(), None),
    };
    let callbacks =
        Callbacks { registered: Mutex::new(Some(sender)), runtime: Arc::clone(&nri.runtime), identity };
    let connection = Connection::start(socket, Arc::new(callbacks));
    let identity = tokio::select! {
        identity = receiver => match identity {
            Ok(identity) => identity,
            Err(_) => return Err(JoinError::Gone("it ended".into())),
        },
        reason = connection.closed() => return Err(JoinError::Gone(reason)),
        () = tokio::time::sleep(limit) => return Err(JoinError::Silent(limit)),
    };
    let millis = |limit: Duration| i64::try_from(limit.as_millis()).unwrap_or(i64::MAX);
    let request = nri::ConfigureRequest {
        config,
        runtime_name: nri.config.runtime_name.clone(),
        runtime_version: nri.config.runtime_version.clone(),
        registration_timeout: millis(limit),
        request_timeout: millis(nri.config.request_timeout),
        nri_version: VERSION.to_owned(),
    };
    let answer: nri::ConfigureResponse = connection
        .call("Configure", &request, limit)
        .await
        .map_err(|source| JoinError::Call { step: "Configure", source })?;
    let events = match answer.events {
        0 => ALL,
        events if events & !ALL == 0 => events,
        events => return Err(JoinError::Events(events & !ALL)),
    };
    Ok(Plugin {
        name: identity.name(),
        index: identity.index,
        base: identity.base,
        connection,
        events,
        policy: answer.failure_policy.unwrap_or_default(),
        old: AtomicI32::new(0),
        _process: process,
    })
}

async fn synchronize(
    plugin: &Plugin,
    everything: Everything,
    limit: Duration,
) -> Result<Vec<Update>, JoinError> {
    let messages = split(
        everything.pods.iter().map(crate::facts::pod).collect(),
        everything.containers.iter().map(crate::facts::container).collect(),
        MAX_CONTENT - OVERHEAD,
    )?;
    let mut updates = Vec::new();
    for request in messages {
        let answer: nri::SynchronizeResponse =
            plugin
                .connection
                .call("Synchronize", &request, limit)
                .await
                .map_err(|source| JoinError::Call { step: "Synchronize", source })?;
        if request.more && (!answer.more || !answer.update.is_empty()) {
            return Err(JoinError::Unsplit);
        }
        updates = answer.update;
    }
    let supported = |update: &nri::ContainerUpdate| {
        let resources = update.linux.as_ref().and_then(|linux| linux.resources.as_ref());
        match resources.map_or(Ok(()), |resources| refuse::resources(&plugin.name, resources)) {
            Ok(()) => true,
            Err(error) => {
                warn!(container = update.container_id, %error, "an update that an NRI plugin asked for failed");
                false
            }
        }
    };
    Ok(updates.iter().filter(|update| supported(update)).map(Update::from_plugin).collect())
}

/// Messages of at most `room` bytes, at least one.
fn split(
    pods: Vec<nri::PodSandbox>,
    containers: Vec<nri::Container>,
    room: usize,
) -> Result<Vec<nri::SynchronizeRequest>, JoinError> {
    let mut messages = vec![nri::SynchronizeRequest::default()];
    let mut used = 0;
    let mut place = |messages: &mut Vec<nri::SynchronizeRequest>, length: usize| {
        let length = length + OBJECT_OVERHEAD;
        if length > room {
            return Err(JoinError::TooLarge);
        }
        if used + length > room {
            if let Some(full) = messages.last_mut() {
                full.more = true;
            }
            messages.push(nri::SynchronizeRequest::default());
            used = 0;
        }
        used += length;
        Ok(messages.len() - 1)
    };
    for pod in pods {
        let at = place(&mut messages, pod.encoded_len())?;
        messages[at].pods.push(pod);
    }
    for container in containers {
        let at = place(&mut messages, container.encoded_len())?;
        messages[at].containers.push(container);
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_into_one_message_goes_into_several() {
        let pod = |id: usize| nri::PodSandbox { id: format!("{id:064}"), ..Default::default() };
        let container = |id: usize| nri::Container { id: format!("{id:064}"), ..Default::default() };
        let (pods, containers): (Vec<_>, Vec<_>) =
            ((0..10).map(pod).collect(), (0..10).map(container).collect());
        let messages = split(pods.clone(), containers.clone(), 300).unwrap();
        assert!(messages.len() >= 5 && messages.iter().all(|message| message.encoded_len() <= 300));
        let (last, others) = messages.split_last().unwrap();
        assert!(!last.more && others.iter().all(|message| message.more));
        let all: Vec<_> = messages.iter().flat_map(|message| message.pods.clone()).collect();
        assert_eq!(all, pods);
        let all: Vec<_> = messages.iter().flat_map(|message| message.containers.clone()).collect();
        assert_eq!(all, containers);
        assert_eq!(split(Vec::new(), Vec::new(), 300).unwrap().len(), 1);
        assert!(matches!(split(pods, containers, 50), Err(JoinError::TooLarge)));
    }

    #[test]
    fn names_that_could_be_paths_are_refused() {
        assert_eq!(Identity::of_file("10-topology-aware").unwrap().base, "topology-aware");
        for name in ["plugin", "1-plugin", "ab-plugin", "10-", "10-../x", "10-a b"] {
            assert!(Identity::of_file(name).is_err(), "{name}");
        }
    }
}
