//! RunPodSandbox: the steps that make a sandbox, and their undoing.
//!
//! ```text
//! claim the name → pod.json (being made) → network namespace ─┬─ network ──────────────────────┬─ files → pause goes on → ...
//!                                                             └─ monitor ∥ unit → pause, held ─┘
//! with a user namespace:  monitor ∥ unit → pause, held → network in its namespace ──────────────── files → pause goes on → ...
//! then:  plugins → pod.json (ready) → READY
//! ```
//! The unit is that of the systemd cgroup driver. A failure undoes what was made, in reverse; a kill in between leaves a
//! pod.json of a pod that is being made, for which start-up does the same.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use husk_life::{PodEvent, PodLife, Reach};
use husk_model::{PodConfig, PodSandboxId, Process, chain};
use husk_monitor::{Events, Monitor, Nursery, PodNetwork, SandboxRequest};
use husk_node::now;
use husk_systemd::Anchor;
use husk_telemetry::{
    phases::{phase, waiting},
    step,
};
use tracing::{Instrument, debug};

use super::{follow::Follow, undo::Undo};
use crate::{
    error::{PodsError, Result},
    facilities::Networked,
    node::{OfPod, Place, Security, files, make_log_directory},
    planning::{Settings, sandbox_request},
    records::PodFile,
    registry::{Afterwards, Attempted, Chronicle, Claim, NewPod, Pod, shown, shown_name},
};

/// What running needs.
#[derive(Clone)]
pub(crate) struct Run {
    pub(crate) follow: Follow,
    pub(crate) undo: Undo,
    pub(crate) monitors: Arc<Nursery>,
    pub(crate) security: Security,
    pub(crate) settings: Settings,
    /// Whether pods can have user namespaces; if not, why.
    pub(crate) user_namespaces: std::result::Result<(), Arc<str>>,
}

/// A sandbox that runs, or is about to.
struct Made {
    monitor: Monitor,
    process: Process,
    /// Holds the pod's unit until a process of the pod does.
    anchor: Option<Anchor>,
    network: Networked,
    /// From before there was anything that could end.
    events: Events,
}

impl Run {
    /// Makes a sandbox, or joins the attempt that makes the same one.
    pub(crate) async fn pod(&self, config: PodConfig) -> Result<PodSandboxId> {
        self.check_supported(&config)?;
        let config = Arc::new(config);
        let id = PodSandboxId::generate();
        let place = self.follow.cgroups.place(&id, &config)?;
        let registry = &self.follow.registry;
        let attempt = match registry.claim_pod(&config, &id)? {
            Claim::Joined(wait) => {
                let id = wait.outcome().await?;
                return if registry.pod(id.as_str()).is_ok_and(|pod| pod.is_ready()) {
                    Ok(id)
                } else {
                    let name = shown_name(&config.metadata, None);
                    Err(PodsError::NameTaken { what: "pod sandbox", name, id: id.to_string() })
                };
            }
            Claim::Mine(attempt) => attempt,
        };
        let wait = attempt.wait();
        let this = self.clone();
        let chronicle = Chronicle::default();
        let going = registry.attempts().begin(
            Attempted::Pod(id.clone()),
            Some(config.metadata.clone()),
            Some(config.door),
            chronicle.phases().clone(),
        );
        let work = async move {
            let build = Box::pin(this.build(&id, &config, &place, &chronicle));
            let outcome = chronicle.during(build).await;
            going.end(outcome.as_ref().err().map(|error| chain(error)), Afterwards::Forget);
            attempt.settle(outcome.map(|()| id));
            this.monitors.stand_by();
        };
        tokio::spawn(work.in_current_span());
        wait.outcome().await
    }

    /// What this node cannot do. Doing less than was asked for in silence would be worse.
    fn check_supported(&self, config: &PodConfig) -> Result<()> {
        match &self.user_namespaces {
            Err(reason) if config.namespaces().user.is_some() => Err(PodsError::Unsupported {
                field: "config.linux.security_context.namespace_options.userns_options",
                what: format!("pods cannot have user namespaces on this node: {reason}"),
            }),
            _ => Ok(()),
        }
    }

    async fn build(
        &self,
        id: &PodSandboxId,
        config: &Arc<PodConfig>,
        place: &Place,
        chronicle: &Chronicle,
    ) -> Result<()> {
        let records = &self.follow.records;
        let selinux = self.security.of_pod(config)?;
        let mut file = PodFile::new(records.boot_id(), id, config, now());
        file.cgroup_path.clone_from(&place.cgroup);
        file.selinux_level = selinux.level.as_ref().map(|level| level.level().to_owned());
        records.create_pod(id)?;
        match self.build_recorded(file.clone(), place, selinux, chronicle).await {
            Ok((pod, events)) => {
                self.follow.go_on(&pod, events);
                Ok(())
            }
            Err(error) => {
                waiting("undo", Box::pin(self.undo.pod(&file))).await;
                Err(error)
            }
        }
    }

    async fn build_recorded(
        &self,
        mut file: PodFile,
        place: &Place,
        selinux: OfPod,
        chronicle: &Chronicle,
    ) -> Result<(Arc<Pod>, Events)> {
        let (records, config) = (&self.follow.records, Arc::clone(&file.config));
        records.write_pod(&file)?;
        if !config.log_directory.is_empty() {
            phase("log directory", make_log_directory(config.log_directory.clone().into())).await?;
        }
        let netns = records.netns(&file.id);
        let request = sandbox_request(&config, self.settings, &place.cgroup, netns, selinux.labels);
        let Made { monitor, process, anchor, network, events } = self.make(&file, place, request).await?;
        if let Some(anchor) = anchor {
            anchor.release().await;
        }
        file.ips = network.ips;
        let pod = Pod::new(NewPod {
            file,
            life: PodLife::Making,
            process: Some(process),
            reach: Reach::Attended(monitor),
            selinux_level: selinux.level,
            chronicle: chronicle.clone(),
        });
        Ok((self.publish(Arc::new(pod), process).await?, events))
    }

    /// Asks plugins before the pod counts as made: one that is killed over a hook is undone at the next start.
    async fn publish(&self, pod: Arc<Pod>, process: Process) -> Result<Arc<Pod>> {
        let (changes, cgroup) = (&self.follow.changes, pod.cgroup_path());
        let file = pod.file_as(&PodLife::Making);
        let ready = || shown(&file, &PodLife::Ready, Some(process));
        // Held until the pod is seen.
        let _turn = step!("plugins", changes.plugins().admit_pod(ready(), &cgroup)).await?;
        match changes.pod(&pod, &PodEvent::Made) {
            Ok(_) => Ok(pod),
            Err(error) => {
                changes.plugins().take_back_pod(ready(), &cgroup).await;
                Err(error)
            }
        }
    }

    /// The network and what runs in it do not need each other but for the namespace: that is made first, unless pause brings
    /// it.
    async fn make(&self, file: &PodFile, place: &Place, request: SandboxRequest) -> Result<Made> {
        let (networks, began) = (&self.undo.networks, Instant::now());
        let brings_network = request.network == PodNetwork::OwnedByUserNamespace;
        let (network, held) = if brings_network {
            let held = self.hold(file, place, request).await?;
            networks.adopt(file, husk_monitor::network_namespace(held.process)?).await?;
            (step!("network", networks.set_up(file)).await?, held)
        } else {
            step!("network namespace", networks.make(file)).await?;
            let network = timed(step!("network", networks.set_up(file)));
            let ((network, took), held) = tokio::join!(network, self.hold(file, place, request));
            debug!(pod = %file.id, ?took, "set up its network");
            // Both have run to their end, so that the undoing finds all there is.
            (network?, held?)
        };
        files::write(&self.follow.records.pod(&file.id), &file.config, &network)?;
        let held_after = began.elapsed();
        let process = step!("release pause", held.monitor.release_sandbox()).await?;
        debug!(pod = %file.id, ?held_after, whole = ?began.elapsed(), "made a sandbox");
        Ok(Made { process, network, ..held })
    }

    /// Makes pause, which waits until it is released. Its addresses are not known yet.
    async fn hold(&self, file: &PodFile, place: &Place, request: SandboxRequest) -> Result<Made> {
        let dir = self.follow.records.pod(&file.id);
        let ((monitor, monitor_took), (anchor, unit_took)) = tokio::join!(
            timed(step!("monitor", self.monitors.spawn(&dir))),
            timed(step!("unit", self.follow.cgroups.start_unit(place))),
        );
        let (monitor, anchor) = (monitor?, anchor?);
        let events = monitor.events();
        let (process, pause_took) = timed(step!("pause", monitor.run_sandbox(request))).await;
        debug!(pod = %file.id, ?monitor_took, ?unit_took, ?pause_took, "made pause");
        Ok(Made { process: process?, monitor, anchor, network: Networked::default(), events })
    }
}

/// How long work took, for those who ask why a pod starts slowly.
async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let began = Instant::now();
    (work.await, began.elapsed())
}
