//! The plugins of the node, and asking them one after the other.

use std::{
    path::PathBuf,
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use husk_model::Resources;
use husk_proto::nri::{self, Event as Number};
use tokio::sync::{Mutex, OwnedRwLockReadGuard};
use tracing::{info, warn};

use crate::{
    Adjusted, ContainerFacts, Event, Eviction, Limits, NriError, PodFacts, Update, facts, limits,
    merge::Merge, owners::Owners, plugin::Plugin, runtime::Late, updates::Updates,
};

/// How plugins are found and how long they may take.
#[derive(Debug, Clone)]
pub struct NriConfig {
    /// Name of the runtime, told to plugins.
    pub runtime_name: String,
    /// Its version.
    pub runtime_version: String,
    /// Executables to launch, `NN-name`.
    pub plugin_dir: PathBuf,
    /// Their configurations, `NN-name.conf` or `name.conf`.
    pub plugin_config_dir: PathBuf,
    /// Time for each step of getting in: registering, being configured, being synchronized.
    pub registration_timeout: Duration,
    /// Time for the answer to anything else.
    pub request_timeout: Duration,
}

/// Held by whoever makes or changes something, from telling the plugins until it is visible: meanwhile no plugin gets in,
/// because it might be told of it neither way.
#[derive(Debug, Default)]
#[must_use = "a plugin that gets in meanwhile would miss what is being done"]
pub struct Turn(#[allow(dead_code, reason = "held for its lock")] Option<OwnedRwLockReadGuard<()>>);

/// What plugins made of a change of limits.
#[derive(Debug)]
pub struct Updated {
    /// The change of the container itself.
    pub limits: Limits,
    /// Changes to other containers.
    pub updates: Vec<Update>,
    /// Containers to end.
    pub evictions: Vec<Eviction>,
}

/// All plugins of this node.
pub struct Nri {
    pub(crate) config: NriConfig,
    pub(crate) runtime: Late,
    /// Creations share it, a plugin that gets in has it for itself.
    pub(crate) turns: Arc<tokio::sync::RwLock<()>>,
    /// Plugins that are in or about to be.
    pub(crate) present: AtomicUsize,
    plugins: RwLock<Vec<Arc<Plugin>>>,
    /// Plugins are asked about one thing at a time, as they are elsewhere: many rely on it.
    line: Mutex<()>,
    /// For the tasks that watch over connections.
    me: std::sync::Weak<Self>,
}

impl std::fmt::Debug for Nri {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nri").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Nri {
    /// No plugin yet.
    pub fn new(config: NriConfig) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            config,
            runtime: Arc::new(OnceLock::new()),
            turns: Arc::default(),
            present: AtomicUsize::new(0),
            plugins: RwLock::default(),
            line: Mutex::new(()),
            me: me.clone(),
        })
    }

    /// Whether there may be anybody to tell.
    pub fn active(&self) -> bool {
        self.present.load(Ordering::SeqCst) != 0
    }

    /// Waits while a plugin is getting in.
    pub async fn enter(&self) -> Turn {
        Turn(Some(Arc::clone(&self.turns).read_owned().await))
    }

    /// Takes in a plugin that is synchronized, and takes it out when its connection ends.
    pub(crate) fn add(&self, plugin: Plugin) {
        let plugin = Arc::new(plugin);
        {
            let mut plugins = self.plugins.write().unwrap_or_else(PoisonError::into_inner);
            plugins.push(Arc::clone(&plugin));
            plugins.sort_by(|a, b| a.index.cmp(&b.index));
        }
        let closed = plugin.connection.closed();
        let (name, plugin, nri) = (plugin.name.clone(), Arc::downgrade(&plugin), self.me.clone());
        tokio::spawn(async move {
            let reason = closed.await;
            let Some(nri) = nri.upgrade() else { return };
            let mut plugins = nri.plugins.write().unwrap_or_else(PoisonError::into_inner);
            plugins.retain(|other| !std::ptr::eq(Arc::as_ptr(other), plugin.as_ptr()));
            drop(plugins);
            nri.present.fetch_sub(1, Ordering::SeqCst);
            info!(plugin = name, %reason, "an NRI plugin is gone");
        });
    }

    fn plugins(&self) -> Vec<Arc<Plugin>> {
        self.plugins.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The plugins, if one of them wants to hear of this.
    fn interested(&self, event: Number) -> Option<Vec<Arc<Plugin>>> {
        if !self.active() {
            return None;
        }
        let plugins = self.plugins();
        plugins.iter().any(|plugin| plugin.wants(event)).then_some(plugins)
    }

    /// Tells all plugins of an event, in their order. The first error ends it; for an event of something new those that had
    /// agreed are told that it is gone.
    ///
    /// # Errors
    /// A plugin's own, or its missing answer if it wants that to count.
    pub async fn tell(
        &self,
        event: Event,
        pod: &PodFacts,
        container: Option<&ContainerFacts>,
    ) -> Result<(), NriError> {
        let Some(plugins) = self.interested(event.number()) else { return Ok(()) };
        let _line = self.line.lock().await;
        let (pod, container) = (facts::pod(pod), container.map(facts::container));
        let limit = self.config.request_timeout;
        for (index, plugin) in plugins.iter().enumerate() {
            if let Err(error) = plugin.tell(event, &pod, container.as_ref(), limit).await {
                if event == Event::RunPodSandbox {
                    take_back(&plugins[..index], Event::RemovePodSandbox, &pod, None, limit).await;
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Asks all plugins about a container that is to be created; `None` when none of them cares. When one refuses, those that
    /// had agreed are told that it is gone.
    ///
    /// # Errors
    /// A refusal, a conflict, or something that cannot be applied.
    pub async fn create_container(
        &self,
        pod: &PodFacts,
        container: &ContainerFacts,
    ) -> Result<Option<Adjusted>, NriError> {
        let Some(spec) = &container.spec else { return Ok(None) };
        let Some(plugins) = self.interested(Number::CreateContainer) else { return Ok(None) };
        let _line = self.line.lock().await;
        let shown_pod = facts::pod(pod);
        let mut merge = Merge::new(container.status.id.as_str(), spec.as_ref().clone());
        let limit = self.config.request_timeout;
        for (index, plugin) in plugins.iter().enumerate() {
            let shown = facts::new_container(&container.status, merge.spec());
            let outcome = async {
                let request = nri::CreateContainerRequest {
                    pod: Some(shown_pod.clone()),
                    container: Some(shown.clone()),
                };
                let answer: Option<nri::CreateContainerResponse> =
                    plugin.ask(Number::CreateContainer, "CreateContainer", &request, limit).await?;
                answer.map_or(Ok(()), |answer| merge.apply(&plugin.name, answer))
            };
            if let Err(error) = outcome.await {
                // A plugin whose answer cannot be used had agreed, too.
                let agreed = match error {
                    NriError::Refused { .. } | NriError::NoAnswer { .. } => index,
                    _ => index + 1,
                };
                take_back(&plugins[..agreed], Event::RemoveContainer, &shown_pod, Some(&shown), limit).await;
                return Err(error);
            }
        }
        let pristine = facts::new_container(&container.status, spec);
        if let Err(error) = validate(&plugins, &merge, &shown_pod, &pristine, limit).await {
            take_back(&plugins, Event::RemoveContainer, &shown_pod, Some(&pristine), limit).await;
            return Err(error);
        }
        Ok(Some(merge.finish()))
    }

    /// Asks all plugins about a change of a container's limits; `None` when none of them cares.
    ///
    /// # Errors
    /// As [`Self::create_container`].
    pub async fn update_container(
        &self,
        pod: &PodFacts,
        container: &ContainerFacts,
        change: &Resources,
    ) -> Result<Option<Updated>, NriError> {
        let Some(plugins) = self.interested(Number::UpdateContainer) else { return Ok(None) };
        let _line = self.line.lock().await;
        let id = container.status.id.as_str();
        let (pod, shown) = (facts::pod(pod), facts::container(container));
        let (mut updates, mut owners, mut evictions) = (Updates::default(), Owners::default(), Vec::new());
        for plugin in &plugins {
            let mut wanted = limits::to_plugin(change);
            if let Some(merged) = updates.get(id) {
                limits::overlay(&mut wanted, merged);
            }
            let request = nri::UpdateContainerRequest {
                pod: Some(pod.clone()),
                container: Some(shown.clone()),
                linux_resources: Some(wanted),
            };
            let limit = self.config.request_timeout;
            let answer: Option<nri::UpdateContainerResponse> =
                plugin.ask(Number::UpdateContainer, "UpdateContainer", &request, limit).await?;
            if let Some(answer) = answer {
                updates.add(&mut owners, &plugin.name, answer.update)?;
                evictions.extend(Eviction::from_plugin(&plugin.name, answer.evict));
            }
        }
        let mut wanted = limits::to_plugin(change);
        if let Some(merged) = updates.take(id) {
            limits::overlay(&mut wanted, &merged);
        }
        Ok(Some(Updated { limits: limits::from_plugin(&wanted), updates: updates.into_updates(), evictions }))
    }

    /// Tells all plugins that a container has ended; they may change others. What fails is logged: the container has ended.
    pub async fn stop_container(&self, pod: &PodFacts, container: &ContainerFacts) -> Vec<Update> {
        let Some(plugins) = self.interested(Number::StopContainer) else { return Vec::new() };
        let _line = self.line.lock().await;
        let request = nri::StopContainerRequest {
            pod: Some(facts::pod(pod)),
            container: Some(facts::container(container)),
        };
        let (mut updates, mut owners) = (Updates::default(), Owners::default());
        for plugin in &plugins {
            let limit = self.config.request_timeout;
            let answer = plugin.ask(Number::StopContainer, "StopContainer", &request, limit).await;
            let added = answer.and_then(|answer: Option<nri::StopContainerResponse>| {
                updates.add(&mut owners, &plugin.name, answer.unwrap_or_default().update)
            });
            if let Err(error) = added {
                warn!(container = %container.status.id, %error, "an NRI plugin failed at the end of a container");
            }
        }
        updates.into_updates()
    }

    /// Asks all plugins about new limits of a pod.
    ///
    /// # Errors
    /// A refusal.
    pub async fn update_pod(
        &self,
        pod: &PodFacts,
        overhead: Option<&Resources>,
        resources: Option<&Resources>,
    ) -> Result<(), NriError> {
        let Some(plugins) = self.interested(Number::UpdatePodSandbox) else { return Ok(()) };
        let _line = self.line.lock().await;
        let request = nri::UpdatePodSandboxRequest {
            pod: Some(facts::pod(pod)),
            overhead_linux_resources: overhead.map(limits::to_plugin),
            linux_resources: resources.map(limits::to_plugin),
        };
        for plugin in &plugins {
            let limit = self.config.request_timeout;
            let _: Option<nri::Empty> =
                plugin.ask(Number::UpdatePodSandbox, "UpdatePodSandbox", &request, limit).await?;
        }
        Ok(())
    }
}

/// Tells plugins that had agreed to something new that it will not come.
async fn take_back(
    plugins: &[Arc<Plugin>],
    event: Event,
    pod: &nri::PodSandbox,
    container: Option<&nri::Container>,
    limit: Duration,
) {
    for plugin in plugins {
        if let Err(error) = plugin.tell(event, pod, container, limit).await {
            warn!(%error, "an NRI plugin failed when something was taken back");
        }
    }
}

/// Asks the plugins that validate.
async fn validate(
    plugins: &[Arc<Plugin>],
    merge: &Merge,
    pod: &nri::PodSandbox,
    pristine: &nri::Container,
    limit: Duration,
) -> Result<(), NriError> {
    let event = Number::ValidateContainerAdjustment;
    if !plugins.iter().any(|plugin| plugin.wants(event)) {
        return Ok(());
    }
    let instance =
        |plugin: &Arc<Plugin>| nri::PluginInstance { name: plugin.base.clone(), index: plugin.index.clone() };
    let request = nri::ValidateContainerAdjustmentRequest {
        pod: Some(pod.clone()),
        container: Some(pristine.clone()),
        plugins: plugins.iter().map(instance).collect(),
        ..merge.validation()
    };
    for plugin in plugins {
        if !plugin.wants(event) {
            continue;
        }
        let method = "ValidateContainerAdjustment";
        let answer =
            plugin.connection.call::<nri::ValidateContainerAdjustmentResponse>(method, &request, limit).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let reason = error.to_string();
                // A validator that cannot be heard must not be got around, whatever its policy.
                plugin.failed(method, error)?;
                return Err(NriError::NoAnswer { plugin: plugin.name.clone(), request: method, reason });
            }
        };
        if answer.reject {
            return Err(NriError::Rejected {
                plugin: plugin.name.clone(),
                container: pristine.id.clone(),
                reason: answer.reason,
            });
        }
    }
    Ok(())
}
