//! CNI: everything husk does not do itself is done by plugins, executed per the CNI spec 1.1.
//!
//! A configuration in the directory wins over the embedded network. What a pod was set up with is kept in its record,
//! configuration and result both, so that DEL is what ADD was, whatever has changed since.

pub(crate) mod config;
mod exec;
mod result;
mod runtime;
mod strays;
mod watch;

use std::{
    collections::HashSet,
    ffi::OsString,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use husk_model::chain;
use husk_telemetry::phases::phase;
use serde_json::{Value, json};
use tokio::{
    sync::{Notify, watch as channel},
    task::AbortHandle,
};

use self::{
    config::{Found, NetworkList},
    exec::{Parameters, Runner, Verb},
    watch::Watch,
};
use crate::{
    NetworkConfig, NetworkError, PodNetwork, PodNetworkRequest, Provider,
    record::{Attachment, CniAttachment, Record, Records},
    request::INTERFACE,
};

/// How old the answer to STATUS may be before the next question asks for a new one. The kubelet asks every 5 to 10 s.
const STATUS_AGE: Duration = Duration::from_secs(5);
/// STATUS answers a question; it has nothing to wait for.
const STATUS_LIMIT: Duration = Duration::from_secs(10);
#[cfg(feature = "fuzzing")]
pub(crate) use self::{config::executables_of, result::addresses as addresses_of};

/// Pause after a failure to watch the directory (too many inotify instances on the node).
const WATCH_RETRY: Duration = Duration::from_secs(5);

/// Who provides the network of the next pod.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Choice {
    /// No CNI configuration.
    Embedded,
    /// These plugins.
    Cni(Arc<NetworkList>),
    /// Nobody: there are configurations, none is valid, and guessing that the embedded network is wanted instead
    /// could connect pods that a policy was to keep apart.
    Broken(String),
}

/// The plugins of one node.
#[derive(Debug)]
pub(crate) struct Cni {
    runner: Runner,
    choice: channel::Sender<Choice>,
    health: Mutex<Health>,
    /// Wakes the task that asks STATUS.
    ask: Notify,
    tasks: Mutex<Vec<AbortHandle>>,
}

#[derive(Debug, Default)]
struct Health {
    trouble: Option<String>,
    asked: Option<Instant>,
}

impl Cni {
    /// Reads the directory and begins to watch it.
    pub(crate) async fn start(config: &NetworkConfig) -> Arc<Self> {
        let dir = config.cni_conf_dir.clone();
        let runner = Runner { bin_dirs: config.cni_bin_dirs.clone(), limit: config.cni_timeout };
        let cni = Arc::new(Self {
            runner,
            choice: channel::Sender::new(Choice::Embedded),
            health: Mutex::default(),
            ask: Notify::new(),
            tasks: Mutex::default(),
        });
        cni.reload(&dir).await;
        let (watcher, asker) = (cni.clone(), cni.clone());
        let tasks = [
            tokio::spawn(async move { watcher.follow(&dir).await }).abort_handle(),
            tokio::spawn(async move { asker.ask_status().await }).abort_handle(),
        ];
        cni.tasks.lock().unwrap_or_else(PoisonError::into_inner).extend(tasks);
        cni
    }

    /// Ends the plugins that a killed daemon was waiting for, of every pod whose ADD it has not seen to its end.
    ///
    /// # Errors
    /// Those of the directory of records.
    pub(crate) async fn end_strays(records: &Records) -> Result<(), NetworkError> {
        let unfinished = |record: &Record| matches!(&record.attachment, Attachment::Cni(attachment) if attachment.result.is_none());
        let records = records.all()?.into_iter();
        let pods: HashSet<_> =
            records.filter(|(_, record)| record.as_ref().is_ok_and(unfinished)).map(|(id, _)| id).collect();
        if !pods.is_empty() {
            let killed = tokio::task::spawn_blocking(move || strays::kill(&pods)).await.unwrap_or_default();
            tracing::info!(killed, "ended CNI plugins of a former daemon");
        }
        Ok(())
    }

    /// Ends the background tasks.
    pub(crate) fn stop(&self) {
        for task in self.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            task.abort();
        }
    }

    /// Who provides the network of the next pod.
    pub(crate) fn choice(&self) -> Choice {
        self.choice.borrow().clone()
    }

    /// Notices of a changed choice.
    pub(crate) fn changes(&self) -> channel::Receiver<Choice> {
        self.choice.subscribe()
    }

    /// Why the chosen network is not ready, by the last answer to STATUS; an old answer asks for a new one.
    pub(crate) fn trouble(&self) -> Option<String> {
        let health = self.health();
        if health.asked.is_none_or(|asked| asked.elapsed() > STATUS_AGE) {
            self.ask.notify_one();
        }
        health.trouble.clone()
    }

    /// ADD of every plugin of `list`, each with the result of the one before.
    ///
    /// # Errors
    /// What the first failing plugin said; DEL was run for all of them then.
    pub(crate) async fn setup(
        &self,
        records: &Records,
        list: Arc<NetworkList>,
        request: PodNetworkRequest,
    ) -> Result<PodNetwork, NetworkError> {
        let attachment = CniAttachment { list: (*list).clone(), result: None };
        let mut record = Record { request, network: None, attachment: Attachment::Cni(attachment.clone()) };
        // Before the first plugin: after a crash DEL must know what to run.
        records.write(&record)?;
        match self.add(&list, &record.request).await {
            Ok((result, network)) => {
                record.attachment = Attachment::Cni(CniAttachment { result: Some(result), ..attachment });
                record.network = Some(network.clone());
                records.write(&record)?;
                Ok(network)
            }
            Err(error) => {
                // The record stays if undoing fails, and gc tries again; the first error is the one to report.
                if let Err(undo) = self.teardown(records, &attachment, &record.request).await {
                    let (undo, id) = (&undo as &dyn std::error::Error, &record.request.id);
                    tracing::warn!(%id, error = undo, "undo a failed CNI ADD");
                }
                Err(error)
            }
        }
    }

    /// DEL of every plugin in reverse order, then forgets the pod. Also without a namespace: addresses must be given
    /// back even after a reboot took it (CNI spec: `CNI_NETNS` may be empty for DEL).
    ///
    /// # Errors
    /// What the first failing plugin said. As the spec has it the others are not run then: an address must not be free
    /// for the next pod while rules for it are still there. The record stays, and a repetition begins anew.
    pub(crate) async fn teardown(
        &self,
        records: &Records,
        attachment: &CniAttachment,
        request: &PodNetworkRequest,
    ) -> Result<(), NetworkError> {
        let list = &attachment.list;
        let capabilities = runtime::capabilities(request);
        let alive = husk_sys::netns::open(&request.netns).is_ok();
        let netns = if alive { request.netns.clone().into_os_string() } else { OsString::new() };
        let parameters = parameters(request, netns);
        let prev_result = attachment.result.as_ref().filter(|_| list.has_prev_result_for_del());
        for plugin in list.plugins.iter().rev() {
            let config = runtime::stdin(list, plugin, &capabilities, prev_result);
            let name = NetworkList::plugin_type(plugin);
            let run = self.runner.run(name, Verb::Del, &parameters, &config);
            phase(format!("CNI plugin {name} DEL"), run).await?;
        }
        records.remove(&request.id)
    }

    /// GC of the current network: plugins free what belongs to none of the recorded pods (since 1.1.0). All plugins
    /// are asked, also when one fails.
    ///
    /// # Errors
    /// What the first failing plugin said.
    pub(crate) async fn gc(&self, records: &Records) -> Result<(), NetworkError> {
        let Choice::Cni(list) = self.choice() else { return Ok(()) };
        if !list.has_status_and_gc() || list.disable_gc {
            return Ok(());
        }
        let mut valid = Vec::new();
        for (id, record) in records.all()? {
            // A record that cannot be read may well be of this network: nothing of its pod may be freed.
            let of_this = match record?.attachment {
                Attachment::Cni(attachment) => attachment.list.name == list.name,
                Attachment::Bridge(_) | Attachment::User(_) => false,
            };
            if of_this {
                valid.push(json!({"containerID": id, "ifname": INTERFACE}));
            }
        }
        let mut first = Ok(());
        for plugin in &list.plugins {
            let mut config = runtime::stdin(&list, plugin, &serde_json::Map::new(), None);
            config["cni.dev/valid-attachments"] = json!(valid);
            let name = NetworkList::plugin_type(plugin);
            let done = self.runner.run(name, Verb::Gc, &Parameters::default(), &config).await;
            first = first.and(done.map(drop));
        }
        first
    }

    async fn add(
        &self,
        list: &NetworkList,
        request: &PodNetworkRequest,
    ) -> Result<(Value, PodNetwork), NetworkError> {
        let capabilities = runtime::capabilities(request);
        let parameters = parameters(request, request.netns.clone().into_os_string());
        let mut result = None;
        let mut last = "";
        for plugin in &list.plugins {
            last = NetworkList::plugin_type(plugin);
            let config = runtime::stdin(list, plugin, &capabilities, result.as_ref());
            let run = self.runner.run(last, Verb::Add, &parameters, &config);
            result = phase(format!("CNI plugin {last} ADD"), run).await?;
        }
        let unusable =
            |reason| NetworkError::CniResult { plugin: last.to_owned(), command: Verb::Add.name(), reason };
        let result = result.ok_or_else(|| unusable("it is empty".to_owned()))?;
        let ips = result::addresses(&result, INTERFACE).map_err(unusable)?;
        let network = PodNetwork {
            ips,
            interface: INTERFACE.to_owned(),
            names: false,
            provider: Provider::Cni(list.name.clone()),
        };
        Ok((result, network))
    }

    async fn follow(&self, dir: &Path) {
        loop {
            let watch = Watch::new(dir);
            // What changed before the watch began.
            self.reload(dir).await;
            let changed = match watch {
                Ok(mut watch) => watch.changed().await,
                Err(error) => Err(error),
            };
            if let Err(error) = changed {
                let dir = dir.display();
                tracing::warn!(%dir, error = &error as &dyn std::error::Error, "watch the CNI directory");
                tokio::time::sleep(WATCH_RETRY).await;
            }
        }
    }

    async fn reload(&self, dir: &Path) {
        let path = dir.to_owned();
        let choice = match tokio::task::spawn_blocking(move || config::load_dir(&path)).await {
            Ok(Found::Nothing) => Choice::Embedded,
            Ok(Found::Network(list)) => Choice::Cni(Arc::new(*list)),
            Ok(Found::Invalid(reason)) => Choice::Broken(reason),
            Err(error) => Choice::Broken(error.to_string()),
        };
        self.choice.send_if_modified(|current| {
            if *current == choice {
                return false;
            }
            // Before anybody sees the choice, so that no answer about its predecessor is taken for its own.
            *self.health() = Health { trouble: self.first_trouble(&choice), asked: None };
            *current = choice;
            true
        });
        self.ask.notify_one();
    }

    /// What is known of a network before its plugins were asked.
    fn first_trouble(&self, choice: &Choice) -> Option<String> {
        let Choice::Cni(list) = choice else { return None };
        self.missing(list).or_else(|| {
            list.has_status_and_gc().then(|| "the plugins have not answered STATUS yet".to_owned())
        })
    }

    fn missing(&self, list: &NetworkList) -> Option<String> {
        let find = |plugin| self.runner.find(NetworkList::plugin_type(plugin)).err();
        list.plugins.iter().find_map(find).map(|error| chain(&error))
    }

    async fn ask_status(&self) {
        let runner = Runner { limit: self.runner.limit.min(STATUS_LIMIT), ..self.runner.clone() };
        loop {
            self.ask.notified().await;
            let Choice::Cni(list) = self.choice() else { continue };
            let mut trouble = self.missing(&list);
            if trouble.is_none() && list.has_status_and_gc() {
                trouble = status(&runner, &list).await.err().map(|error| chain(&error));
            }
            // The answer may have come after the question was out of date.
            if self.choice() == Choice::Cni(list) {
                *self.health() = Health { trouble, asked: Some(Instant::now()) };
            }
        }
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn status(runner: &Runner, list: &NetworkList) -> Result<(), NetworkError> {
    for plugin in &list.plugins {
        let config = runtime::stdin(list, plugin, &serde_json::Map::new(), None);
        let name = NetworkList::plugin_type(plugin);
        runner.run(name, Verb::Status, &Parameters::default(), &config).await?;
    }
    Ok(())
}

fn parameters(request: &PodNetworkRequest, netns: OsString) -> Parameters {
    Parameters {
        container_id: Some(request.id.to_string()),
        netns: Some(netns),
        interface: Some(INTERFACE.to_owned()),
        args: Some(runtime::args(request)),
    }
}
