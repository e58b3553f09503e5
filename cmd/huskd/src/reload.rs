//! SIGHUP: the configuration is read again. What can change while pods run is changed, the rest is told to need a restart; a
//! configuration with a mistake changes nothing.

use std::{error::Error, sync::Arc};

use husk_config::{Change, Config, DoctorConfig};
use husk_images::ImageStore;
use husk_model::chain;
use husk_telemetry::LogHandle;
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::{
    cli::Cli,
    settings::{self, images_config},
    systemd,
};

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
        let images = images_config(&wanted)?;
        let changes = husk_config::changes(&self.config, &wanted);
        // Values that are not checked by reading them go first.
        settings::check(&wanted)?;
        self.log.set(&wanted.log.level)?;
        let (changed, kept): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|change| self.apply(change, &wanted));
        self.images.reconfigure(images);
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
        let (images, wanted_images) = (&mut self.config.images, &wanted.images);
        match change.key {
            "log.level" => self.config.log.level.clone_from(&wanted.log.level),
            "doctor.interval" => self.config.doctor.interval = wanted.doctor.interval,
            "doctor.repair" => self.config.doctor.repair = wanted.doctor.repair,
            "images.registry_config_dir" => {
                images.registry_config_dir.clone_from(&wanted_images.registry_config_dir);
            }
            "images.registries_conf" => {
                images.registries_conf.clone_from(&wanted_images.registries_conf);
            }
            "images.pull_progress_timeout" => {
                images.pull_progress_timeout = wanted_images.pull_progress_timeout;
            }
            "images.signature_policy" => images.signature_policy.clone_from(&wanted_images.signature_policy),
            "images.auth_file" => images.auth_file.clone_from(&wanted_images.auth_file),
            "images.credential_helper_dir" => {
                images.credential_helper_dir.clone_from(&wanted_images.credential_helper_dir);
            }
            "images.pinned_images" => images.pinned_images.clone_from(&wanted_images.pinned_images),
            _ => return false,
        }
        true
    }
}
