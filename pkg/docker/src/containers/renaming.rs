//! Another name for a container, by which others in its networks find it at once.

use std::sync::Arc;

use super::{
    container::Container,
    record::{Phase, Record},
    runs::note,
    store::Store,
};
use crate::error::{Failure, Result};

impl Store {
    /// Changes a name. Returns the former one.
    ///
    /// # Errors
    /// As [`Store::take_name`]; 409 for one that is being removed; those of the networks, and then it is called as before.
    pub(super) async fn rename(&self, container: &Arc<Container>, wanted: &str) -> Result<String> {
        let named = self.take_name(wanted, &container.id)?;
        let _turn = container.turn().await;
        let record = container.record();
        if record.state.phase == Phase::Removing || self.find(&container.id).is_err() {
            return Err(Failure::conflict(format!("container {} is marked for removal", container.id)));
        }
        let former = record.name.clone();
        let renamed = container.change(|record| record.name.clone_from(named.name()))?;
        if let Err(failure) = self.be_called_by_name(&renamed).await {
            note(&container.id, container.change(|record| record.name.clone_from(&former)).map(drop));
            return Err(failure);
        }
        self.give_name(named, &former);
        Ok(former)
    }

    /// Sees to it that a running container is called in its networks as it is on record: a rename may have been cut off.
    ///
    /// # Errors
    /// Those of the networks.
    pub(super) async fn be_called_by_name(&self, record: &Record) -> Result<()> {
        if let Some((pod, names)) = self.other_names(record) {
            self.0.shared.network.user().call(&pod, names).await?;
        }
        Ok(())
    }
}
