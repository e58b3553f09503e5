//! SIGHUP: the configuration is read again. What can change while pods run is changed, the rest is told to need a restart; a
//! configuration with a mistake changes nothing.

use std::{error::Error, sync::Arc};

use husk_config::{Change, Config, DoctorConfig};
use husk_images::ImageStore;
use husk_model::chain;
use husk_telemetry::LogHandle;
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::{cli::Cli, daemon, systemd};

/// What a reload reaches, and the configuration in force.
pub(crate) struct Reload {
    pub(crate) cli: Cli,
    pub(crate) config: Config,
    pub(crate) log: LogHandle,
    pub(crate) images: Arc<ImageStore>,
    pub(crate) doctor: watch::Sender<DoctorConfig>,
}

impl Reload {
    /// Reads the configuration again and tells systemd of the beginning and the end (`Type=notify-reload`).
    pub(crate) fn run(&mut self) {
        systemd::reloading();
        if let Err(error) = self.read() {
            error!("the configuration was not read again, nothing was changed");
            // A line a mistake: some logs keep the first line of a message only.
            chain(error.as_ref()).lines().for_each(|line| error!("{}", line.trim()));
        }
        systemd::notify(sd_notify::NotifyState::Ready);
    }

    fn read(&mut self) -> Result<(), Box<dyn Error>> {
        let wanted = self.cli.load()?;
        // Read again although the key may not have changed: it is the file that did.
        let registries = daemon::registries(&wanted)?;
        let changes = husk_config::changes(&self.config, &wanted);
        // The only value that is not checked by reading it, so it goes first.
        self.log.set(&wanted.log.level)?;
        let (changed, kept): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|change| self.apply(change, &wanted));
        let images = &self.config.images;
        let certs = images.registry_config_dir.clone();
        self.images.reconfigure(certs, registries, images.pull_progress_timeout);
        self.doctor.send_if_modified(|doctor| {
            let news = *doctor != self.config.doctor;
            doctor.clone_from(&self.config.doctor);
            news
        });
        for Change { key, from, to } in &changed {
            info!(key, from, to, "changed");
        }
        for Change { key, from, to } in &kept {
            warn!(key, from, to, "not changed: this key needs a restart of huskd");
        }
        let (changed, kept) = (changed.len(), kept.len());
        info!(changed, need_restart = kept, "the configuration was read again");
        Ok(())
    }

    /// Takes one value over into the configuration in force; `false` for what only a start can change.
    fn apply(&mut self, change: &Change, wanted: &Config) -> bool {
        match change.key {
            "log.level" => self.config.log.level.clone_from(&wanted.log.level),
            "doctor.interval" => self.config.doctor.interval = wanted.doctor.interval,
            "doctor.repair" => self.config.doctor.repair = wanted.doctor.repair,
            "images.registry_config_dir" => {
                self.config.images.registry_config_dir.clone_from(&wanted.images.registry_config_dir);
            }
            "images.registries_conf" => {
                self.config.images.registries_conf.clone_from(&wanted.images.registries_conf);
            }
            "images.pull_progress_timeout" => {
                self.config.images.pull_progress_timeout = wanted.images.pull_progress_timeout;
            }
            _ => return false,
        }
        true
    }
}
