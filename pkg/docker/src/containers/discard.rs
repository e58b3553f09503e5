//! Removal of a container that does not run.

use std::sync::Arc;

use super::{
    container::Container,
    record::{Phase, Record},
    store::Store,
};
use crate::error::{Failure, Result};

/// What the names of holders of images begin with that are containers.
const HOLDER: &str = "docker:";

/// Who holds a container's image.
pub(super) fn holder(id: &str) -> String {
    format!("{HOLDER}{id}")
}

impl Store {
    /// The container's turn is the caller's.
    pub(super) async fn remove_now(&self, container: &Arc<Container>, volumes: bool) -> Result<()> {
        let record = container.record();
        if self.find(&container.id).is_err() {
            return Ok(());
        }
        if record.state.is_running() {
            return Err(Failure::conflict(format!("container {} was started meanwhile", record.name)));
        }
        container.change_state(|state| state.phase = Phase::Removing)?;
        self.undo_run(container).await?;
        // While its record is there, so that a killed huskd finds it again.
        self.release_image(container).await;
        self.bury(&container.dir).map_err(Failure::io(format!("remove container {}", record.name)))?;
        self.forget(container);
        if volumes {
            self.remove_volumes(&record);
        }
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

    /// Those that were made up and nobody else has.
    fn remove_volumes(&self, record: &Record) {
        let volumes = &self.0.shared.volumes;
        for point in record.mounts.iter().filter(|point| point.kind == "volume") {
            if volumes.get(&point.name).is_ok_and(|volume| volume.anonymous) {
                let users = |name: &str| self.ids_of_volume(name);
                let _ = volumes.remove(&point.name, users);
            }
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
