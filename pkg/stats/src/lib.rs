//! CPU, memory, filesystem and network statistics of pods and containers.
//!
//! [`Stats::sample`] is cheap enough for an RPC: it reads about ten small kernel files through descriptors that stay
//! open, and takes the size of the writable layer from a cache that a background thread fills at a bounded rate
//! (containerd walks every layer every ten seconds; on a node with millions of files that is what its disk does all
//! day). Nothing here runs on the async executor; every call is synchronous and short.
#![forbid(unsafe_code)]

mod error;
mod filesystem;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod network;
mod processes;
mod sampler;
mod target;
mod usage;
mod volume;
mod walker;

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, RwLock},
    time::Duration,
};

use husk_cgroup::{CgroupStats, Hierarchy};
use husk_model::{ContainerId, FilesystemStats, Process, ResourceStats, UnixNanos};
use husk_node::now;

pub use error::{Error, Result};
pub use filesystem::filesystem;
pub use network::Interfaces;
pub use processes::Processes;
pub use target::{Target, TargetId};
pub use usage::{Usage, disk_usage};
pub use volume::{DeviceNames, Volume, volume};

use sampler::Sampler;
use walker::Walker;

/// Everything that is known of a container's use, for metrics.
#[derive(Debug, Clone, Default)]
pub struct Detail {
    /// When it was read.
    pub timestamp: UnixNanos,
    /// Its group's counters.
    pub cgroup: CgroupStats,
    /// Its writable layer, as in [`Stats::sample`].
    pub layer: Option<Usage>,
    /// Its processes.
    pub processes: Processes,
    /// How many descriptors its init may open.
    pub open_files_limit: Option<u64>,
}

/// The statistics of all containers. A cheap handle: clones share the samples.
#[derive(Debug, Clone)]
pub struct Stats(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    hierarchy: Hierarchy,
    /// Directory that names the filesystem of the writable layers to clients.
    mountpoint: String,
    samplers: RwLock<HashMap<TargetId, Arc<Sampler>>>,
    walker: Walker,
}

impl Stats {
    /// Starts measuring. `mountpoint` is what clients are told as the filesystem of the writable layers, and the same
    /// as the container filesystem's of ImageFsInfo.
    ///
    /// # Errors
    /// The background thread can't be started.
    pub fn new(hierarchy: Hierarchy, mountpoint: impl Into<String>) -> Result<Self> {
        Ok(Self(Arc::new(Inner {
            hierarchy,
            mountpoint: mountpoint.into(),
            samplers: RwLock::default(),
            walker: Walker::spawn()?,
        })))
    }

    /// Starts to know a container: takes the first CPU sample, so that the first question has a rate to answer with, and
    /// puts its layer in the queue. Optional; [`Stats::sample`] does it when it was not done.
    ///
    /// # Errors
    /// As [`Stats::sample`].
    pub fn add(&self, target: &Target) -> Result<()> {
        self.sample(target).map(drop)
    }

    /// Measures now. The rate of CPU use is that since an earlier sample at least half a second old, and the writable
    /// layer's size the last one the background thread found (`None` before the first).
    ///
    /// # Errors
    /// [`Error::Gone`] when the group does not exist, [`Error::Read`] when a file of it can't be read.
    pub fn sample(&self, target: &Target) -> Result<ResourceStats> {
        let sampler = self.sampler(target);
        let mut stats = match sampler.sample(now()) {
            Ok(stats) => stats,
            Err(err) => {
                if matches!(err, Error::Gone { .. }) {
                    self.forget(&target.id);
                }
                return Err(err);
            }
        };
        stats.writable_layer = self.layer(target).map(|(usage, timestamp)| FilesystemStats {
            timestamp,
            mountpoint: self.0.mountpoint.clone(),
            used_bytes: usage.bytes,
            inodes_used: usage.inodes,
        });
        Ok(stats)
    }

    /// Reads the counters of a group alone, through the same open files.
    ///
    /// # Errors
    /// As [`Stats::sample`].
    pub fn counters(&self, target: &Target) -> Result<CgroupStats> {
        self.sampler(target).detail().map(|(counters, _)| counters).inspect_err(|error| {
            if matches!(error, Error::Gone { .. }) {
                self.forget(&target.id);
            }
        })
    }

    /// Reads everything there is of a container and its init, through the same open files. Asks procfs about each
    /// process and descriptor for `patience` at most, so this belongs on a thread that may block.
    ///
    /// # Errors
    /// As [`Stats::sample`].
    pub fn detail(&self, target: &Target, init: Option<Process>, patience: Duration) -> Result<Detail> {
        let (cgroup, pids) = self.sampler(target).detail().inspect_err(|error| {
            if matches!(error, Error::Gone { .. }) {
                self.forget(&target.id);
            }
        })?;
        Ok(Detail {
            timestamp: now(),
            cgroup,
            layer: self.layer(target).map(|(usage, _)| usage),
            processes: processes::count(&pids, patience),
            open_files_limit: init.and_then(processes::open_files_limit),
        })
    }

    /// What writable layers take together, as far as they have been measured; those whose size is old are measured in the
    /// background. Constant time for each, whatever they hold.
    pub fn layers<'t>(
        &self,
        layers: impl IntoIterator<Item = (&'t ContainerId, &'t Path)>,
    ) -> FilesystemStats {
        let mut sum = FilesystemStats {
            timestamp: now(),
            mountpoint: self.0.mountpoint.clone(),
            ..FilesystemStats::default()
        };
        for (usage, _) in layers.into_iter().filter_map(|(id, upper)| self.0.walker.usage(id, upper)) {
            sum.used_bytes += usage.bytes;
            sum.inodes_used += usage.inodes;
        }
        sum
    }

    /// The filesystem that holds the writable layers.
    ///
    /// # Errors
    /// It does not answer.
    pub fn volume(&self) -> Result<Volume> {
        volume(Path::new(&self.0.mountpoint))
    }

    fn layer(&self, target: &Target) -> Option<(Usage, UnixNanos)> {
        match &target.id {
            TargetId::Container(id) => self.0.walker.usage(id, target.upper.as_ref()?),
            TargetId::Pod(_) => None,
        }
    }

    /// Measures many, in order; those that are gone or can't be read are left out.
    pub fn sample_all<'t>(
        &self,
        targets: impl IntoIterator<Item = &'t Target>,
    ) -> Vec<(&'t Target, ResourceStats)> {
        targets
            .into_iter()
            .filter_map(|target| match self.sample(target) {
                Ok(stats) => Some((target, stats)),
                Err(Error::Gone { .. }) => None,
                Err(err) => {
                    tracing::warn!(
                        id = %target.id,
                        error = &err as &dyn std::error::Error,
                        "statistics left out"
                    );
                    None
                }
            })
            .collect()
    }

    /// Drops what is kept for a removed container: descriptors, samples and the layer's size.
    pub fn forget(&self, id: &TargetId) {
        self.0.samplers.write().unwrap_or_else(std::sync::PoisonError::into_inner).remove(id);
        if let TargetId::Container(id) = id {
            self.0.walker.forget(id);
        }
    }

    fn sampler(&self, target: &Target) -> Arc<Sampler> {
        // The map's lock is held for a look-up or an insertion, never while a file is read.
        let read = self.0.samplers.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(sampler) = read.get(&target.id) {
            return Arc::clone(sampler);
        }
        drop(read);
        let reader = |path| self.0.hierarchy.stats_reader(path);
        let above = target.limited_by.as_ref().map(reader);
        let sampler = Arc::new(Sampler::new(reader(&target.cgroup), above, target));
        let mut write = self.0.samplers.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        Arc::clone(write.entry(target.id.clone()).or_insert(sampler))
    }
}
