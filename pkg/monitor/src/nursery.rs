//! Where monitors come from: one stands by for the next pod.
//!
//! To start a process and let it look at the node takes two milliseconds, a good part of a pod's start. So one is started
//! ahead, when the last pod has its own, and waits. It is ours until it has a pod: it ends with this process, whatever ends
//! that, so a restart finds none and an upgrade starts its own.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tracing::debug;

use crate::{
    Monitor, MonitorConfig, MonitorError, Result,
    spawn::{Newborn, Seat},
};

/// As long as the name of a pod's directory, its id, and no id: nobody takes the monitor for a pod's.
const NO_ID: &str = "----------------------------------------------------------------";

/// How long nobody may have wanted a monitor before the next one is started: it would be in the way of a pod's containers, which
/// are made right after it.
const QUIET: Duration = Duration::from_millis(20);

/// Starts the monitors of pods whose directories are in one directory.
#[derive(Debug)]
pub struct Nursery {
    config: MonitorConfig,
    /// What a command line shows in the place of a pod's directory.
    placeholder: PathBuf,
    standby: Mutex<Standby>,
    /// How many were wanted.
    wanted: AtomicU64,
}

/// The monitor that waits for a pod.
#[derive(Debug, Default)]
enum Standby {
    #[default]
    Wanted,
    /// It is being started.
    Coming,
    Here(Box<Newborn>),
}

impl Nursery {
    /// For pods below `pods`. Nothing is started yet.
    pub fn new(config: MonitorConfig, pods: &Path) -> Arc<Self> {
        Arc::new(Self {
            config,
            placeholder: pods.join(NO_ID),
            standby: Mutex::default(),
            wanted: AtomicU64::new(0),
        })
    }

    /// How monitors are started.
    pub fn config(&self) -> &MonitorConfig {
        &self.config
    }

    /// Gives an existing, empty pod directory its monitor: the one that stands by, or a new one. One that ends before it has
    /// answered had done nothing for the pod yet.
    ///
    /// # Errors
    /// As [`Monitor::spawn`].
    pub async fn spawn(&self, pod_dir: &Path) -> Result<Monitor> {
        self.wanted.fetch_add(1, Ordering::Relaxed);
        let mut seat = Seat::prepare(pod_dir)?;
        // Its command line has place for a path of this length.
        let fits = pod_dir.as_os_str().len() == self.placeholder.as_os_str().len();
        if let Some(newborn) = fits.then(|| self.take()).flatten() {
            match newborn.adopt(&seat).await {
                Ok(()) => match Monitor::begin(newborn, seat).await {
                    Err(error @ MonitorError::Disconnected { .. }) => {
                        debug!(%error, "the monitor that stood by ended when it got a pod");
                        seat = Seat::prepare_again(pod_dir)?;
                    }
                    begun => return begun,
                },
                Err(error) => debug!(%error, "the monitor that stood by takes no pod"),
            }
        }
        Monitor::begin(Newborn::start_for(&self.config, &seat).await?, seat).await
    }

    /// Lets a monitor stand by, if none does, as soon as it is quiet. Returns at once; a failure shows again, and is told, when a
    /// pod needs a monitor.
    pub fn stand_by(self: &Arc<Self>) {
        let mut standby = self.standby();
        if !matches!(*standby, Standby::Wanted) {
            return;
        }
        *standby = Standby::Coming;
        drop(standby);
        let this = Arc::clone(self);
        tokio::spawn(async move {
            this.quiet().await;
            let came = this.start().await;
            *this.standby() = came.map_or(Standby::Wanted, |newborn| Standby::Here(Box::new(newborn)));
        });
    }

    /// Returns when nobody has wanted a monitor for a while.
    async fn quiet(&self) {
        loop {
            let wanted = self.wanted.load(Ordering::Relaxed);
            tokio::time::sleep(QUIET).await;
            if self.wanted.load(Ordering::Relaxed) == wanted {
                return;
            }
        }
    }

    async fn start(self: &Arc<Self>) -> Option<Newborn> {
        let this = Arc::clone(self);
        // The clone takes a millisecond.
        let started = tokio::task::spawn_blocking(move || Newborn::start(&this.config, &this.placeholder));
        let mut newborn =
            started.await.ok()?.inspect_err(|error| debug!(%error, "no monitor stands by")).ok()?;
        let ready = newborn.ready().await;
        ready.inspect_err(|error| debug!(%error, "the monitor that was to stand by ended")).ok()?;
        Some(newborn)
    }

    fn take(&self) -> Option<Newborn> {
        let mut standby = self.standby();
        match std::mem::take(&mut *standby) {
            Standby::Here(newborn) => Some(*newborn),
            other => {
                *standby = other;
                None
            }
        }
    }

    /// It is whole after every statement.
    fn standby(&self) -> MutexGuard<'_, Standby> {
        self.standby.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
