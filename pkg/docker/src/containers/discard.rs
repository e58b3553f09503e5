//! Removal of a container that does not run.

use std::sync::Arc;

use super::{
    container::Container,
    record::{Phase, Record},
    store::Store,
};
use crate::error::{Failure, Result};

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
        self.bury(&container.dir).map_err(Failure::io(format!("remove container {}", record.name)))?;
        self.forget(container);
        if volumes {
            self.remove_volumes(&record);
        }
        self.publish(&record, "destroy", []);
        Ok(())
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
