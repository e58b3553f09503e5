//! Removal of a container.
//!
//! That it goes, and whether its volumes go with it, is on record first; its directory goes last. So a removal that fails goes on with
//! the next request, and one that was killed with the next start.

use std::{path::Path, sync::Arc, time::Duration};

use super::{
    container::Container,
    making,
    record::{Phase, Record},
    runs::note,
    store::Store,
};
use crate::error::{Failure, Result};

/// What the names of holders of images begin with that are containers.
const HOLDER: &str = "docker:";

/// Who holds a container's image.
pub(super) fn holder(id: &str) -> String {
    format!("{HOLDER}{id}")
}

/// Before the second attempt to remove one that goes with its end; each following one takes twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

impl Store {
    /// Removes a container; with `force` one that runs, too; with `volumes` also the volumes that were made up for it.
    ///
    /// # Errors
    /// 409 when it runs.
    pub(super) async fn remove(&self, container: &Arc<Container>, force: bool, volumes: bool) -> Result<()> {
        let state = container.record().state.clone();
        match state.phase {
            Phase::Removing => {
                // One that could not be finished goes on with the next who asks for it.
                let Some(_turn) = container.turn_if_free() else {
                    return Err(Failure::conflict(format!(
                        "removal of container {} is already in progress",
                        container.id
                    )));
                };
                return self.remove_now(container, volumes).await;
            }
            Phase::Running | Phase::Restarting if !force => {
                return Err(Failure::conflict(format!(
                    "cannot remove container \"/{}\": container is {}: stop the container before removing or force remove",
                    container.record().name,
                    state.status()
                )));
            }
            Phase::Running | Phase::Restarting => match self.stop(container, Some(0), None).await {
                // It may have ended, and been removed, by itself.
                Err(failure) if failure.status() != 304 => return Err(failure),
                _ => {}
            },
            Phase::Created | Phase::Exited => {}
        }
        let _turn = container.turn().await;
        self.remove_now(container, volumes).await
    }

    /// Removes one that goes with its end, if that has come. True when it goes. The container's turn is the caller's.
    pub(super) async fn go_if_over(&self, container: &Arc<Container>) -> bool {
        let record = container.record();
        let goes = record.host.auto_remove && record.state.is_over() && !container.is_kept();
        if goes {
            self.go(container).await;
        }
        goes
    }

    /// Removes one that goes with its end, now or later: nobody asks for it a second time. The container's turn is the caller's.
    pub(super) async fn go(&self, container: &Arc<Container>) {
        let gone = self.remove_now(container, true).await;
        if gone.is_ok() {
            return;
        }
        note(&container.id, gone);
        let (store, container) = (self.clone(), Arc::clone(container));
        tokio::spawn(async move {
            let mut pause = FIRST_PAUSE;
            loop {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = store.0.shared.closed() => return,
                }
                pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
                let _turn = container.turn().await;
                if store.remove_now(&container, true).await.is_ok() {
                    return;
                }
            }
        });
    }

    /// The container's turn is the caller's.
    pub(super) async fn remove_now(&self, container: &Arc<Container>, volumes: bool) -> Result<()> {
        let record = container.record();
        if self.find(&container.id).is_err() {
            return Ok(());
        }
        if record.state.is_running() {
            return Err(Failure::conflict(format!("container {} was started meanwhile", record.name)));
        }
        self.take_in(container, |record| {
            record.state.phase = Phase::Removing;
            record.state.with_volumes |= volumes;
        });
        self.undo_run(container).await?;
        // While its record is there, so that a killed huskd finds it again.
        self.release_image(container).await;
        if container.record().state.with_volumes {
            self.remove_volumes(&record);
        }
        self.bury(&container.dir).map_err(Failure::io(format!("remove container {}", record.name)))?;
        self.forget(container);
        self.publish(&record, "destroy", []);
        Ok(())
    }

    /// Nobody keeps its image for it any more.
    pub(super) async fn release_image(&self, container: &Container) {
        let released = self.0.shared.images.release(&container.record().image, &holder(&container.id)).await;
        if let Err(error) = released {
            tracing::warn!(
                container = container.id,
                error = &error as &dyn std::error::Error,
                "the image of a removed container stays until the next start"
            );
        }
    }

    /// Releases what is held for containers that are not there any more.
    pub(crate) async fn release_strays(&self) {
        for (image, name) in self.0.shared.images.holders() {
            if let Some(id) = name.strip_prefix(HOLDER)
                && self.find(id).is_err()
                && let Err(error) = self.0.shared.images.release(&image, &name).await
            {
                tracing::warn!(%image, error = &error as &dyn std::error::Error, "an image stays that is held for nobody");
            }
        }
    }

    /// Goes on with a removal that a former daemon began. Its pod belongs to nobody any more, and goes with those.
    pub(super) fn finish_removal(&self, dir: &Path, record: &Record) {
        if record.state.with_volumes {
            self.remove_volumes(record);
        }
        self.bury_or_tell(dir);
    }

    /// Undoes what a former daemon made of a container that never was on record.
    pub(super) fn undo_making(&self, dir: &Path) {
        for volume in making::volumes(dir) {
            self.remove_made_up(&volume, "");
        }
        self.bury_or_tell(dir);
    }

    fn bury_or_tell(&self, dir: &Path) {
        self.bury(dir).unwrap_or_else(
            |error| tracing::warn!(path = %dir.display(), %error, "cannot remove what is left of a container"),
        );
    }

    /// Those that were made up and nobody else has.
    fn remove_volumes(&self, record: &Record) {
        for point in record.mounts.iter().filter(|point| point.kind == "volume") {
            self.remove_made_up(&point.name, &record.id);
        }
    }

    /// Removes a volume if its name was made up and no container but `own` has it.
    fn remove_made_up(&self, volume: &str, own: &str) {
        let volumes = &self.0.shared.volumes;
        if !volumes.get(volume).is_ok_and(|volume| volume.anonymous) {
            return;
        }
        let users = |name: &str| self.ids_of_volume(name).into_iter().filter(|id| id != own).collect();
        match volumes.remove(volume, users) {
            // Another container has it.
            Err(failure) if failure.status() == 409 => {}
            removed => note(own, removed.map(drop)),
        }
    }

    /// Ids of the containers that have a volume.
    pub(super) fn ids_of_volume(&self, volume: &str) -> Vec<String> {
        let has = |record: &Record| {
            record.mounts.iter().any(|point| point.kind == "volume" && point.name == volume)
        };
        self.all()
            .iter()
            .map(|container| container.record())
            .filter(|record| has(record))
            .map(|record| record.id.clone())
            .collect()
    }
}
