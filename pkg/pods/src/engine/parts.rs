//! Which verb gets what. Every part is a handle: cloning it costs a few counters.

use std::{path::PathBuf, sync::Arc};

use husk_cgroup::Version;
use husk_monitor::Nursery;
use husk_stats::Stats;
use tokio::sync::mpsc;

use super::config::EngineConfig;
use crate::{
    error::{PodsError, Result},
    facilities::{Images, PodNetworks},
    node::{Cgroups, Lookups, Networks, Security, Sources},
    observing::{Changes, Events, Measuring, Plugins},
    planning::Settings,
    records::Records,
    registry::{Container, Registry},
    verbs::{
        Adjust, Create, Doctor, Ends, Follow, Limits, Recover, Remove, Run, Stop, Undo, Updating, Wishes,
    },
};

/// The engine's parts.
pub(super) struct Parts {
    pub(super) registry: Arc<Registry>,
    pub(super) records: Arc<Records>,
    pub(super) events: Arc<Events>,
    pub(super) plugins: Plugins,
    pub(super) cgroups: Cgroups,
    pub(super) security: Security,
    pub(super) measuring: Measuring,
    pub(super) run: Run,
    pub(super) create: Create,
    pub(super) stop: Stop,
    pub(super) remove: Remove,
    pub(super) updating: Updating,
    pub(super) doctor: Doctor,
    pub(super) recover: Recover,
}

impl Parts {
    /// Puts them together. The other end gets the containers whose end is to be told to plugins.
    ///
    /// # Errors
    /// The directories or the cgroup hierarchy cannot be used.
    pub(super) async fn new(
        config: &EngineConfig,
        images: Arc<dyn Images>,
        network: Arc<dyn PodNetworks>,
    ) -> Result<(Self, mpsc::UnboundedReceiver<Arc<Container>>)> {
        let records = Arc::new(Records::open(&config.root, &config.state)?);
        let cgroups = Cgroups::find(config.cgroup_driver.clone(), &config.cgroup_parent)?;
        let user_namespaces =
            config.monitor.probe_user_namespaces(&config.root).await.map_err(Arc::<str>::from);
        if let Err(reason) = &user_namespaces {
            tracing::info!(reason = &**reason, "pods cannot have user namespaces on this node");
        }
        let mountpoint = config.root.display().to_string();
        let stats = Stats::new(cgroups.hierarchy().clone(), mountpoint).map_err(PodsError::Stats)?;
        let (plugins, ends_to_tell) = Plugins::new(Arc::clone(&records));
        let (registry, events, security) =
            (Arc::<Registry>::default(), Arc::new(Events::new()), Security::default());
        let changes =
            Changes::new(Arc::clone(&registry), Arc::clone(&records), Arc::clone(&events), plugins.clone());
        let follow = Follow {
            registry: Arc::clone(&registry),
            records: Arc::clone(&records),
            changes: changes.clone(),
            cgroups: cgroups.clone(),
        };
        let networks = Networks { facility: network, records: Arc::clone(&records) };
        let limits = Limits { registry: Arc::clone(&registry), records: Arc::clone(&records) };
        let ends = Ends { plugins: plugins.clone(), limits: limits.clone() };
        let stop = Stop { follow: follow.clone(), ends, networks: networks.clone(), hang: config.hang };
        let wishes = Wishes { registry: Arc::clone(&registry), limits, stop: stop.clone() };
        let undo = Undo { records: Arc::clone(&records), cgroups: cgroups.clone(), networks };
        let lookups = Lookups {
            security: security.clone(),
            sources: Arc::new(Sources::default()),
            cdi_dirs: Arc::<[PathBuf]>::from(config.cdi_dirs.as_slice()),
        };
        let parts = Self {
            measuring: Measuring { registry: Arc::clone(&registry), stats: stats.clone() },
            run: Run {
                follow: follow.clone(),
                undo: undo.clone(),
                monitors: Nursery::new(config.monitor.clone(), &records.pods()),
                security: security.clone(),
                settings: Settings {
                    unprivileged_ports: config.unprivileged_ports,
                    unprivileged_icmp: config.unprivileged_icmp,
                },
                user_namespaces,
            },
            create: Create {
                follow: follow.clone(),
                images: Arc::clone(&images),
                adjust: Adjust { plugins: plugins.clone(), lookups, wishes: wishes.clone() },
                cgroup_v2: cgroups.hierarchy().version() == Version::V2,
            },
            remove: Remove { stop: stop.clone(), stats },
            updating: Updating { changes, plugins: plugins.clone(), wishes },
            doctor: Doctor::new(Arc::clone(&registry), undo.clone(), config.monitor.podmon_path.clone()),
            recover: Recover { follow, undo, images, security: security.clone() },
            stop,
            registry,
            records,
            events,
            plugins,
            cgroups,
            security,
        };
        Ok((parts, ends_to_tell))
    }
}
