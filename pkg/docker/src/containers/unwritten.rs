//! What is so although it cannot be written down.
//!
//! On a full disk containers must end, be stopped and go more than ever. What became of one, and that somebody wants it to end, is
//! therefore seen by all whether it could be written or not; the disk learns of it as soon as it can. A huskd that is killed before
//! finds the older record and asks the engine, which is why the pod of such an end stays until then.

use std::{sync::Arc, time::Duration};

use tracing::{info, warn};

use super::{
    container::{Container, short},
    record::Record,
    store::Store,
};

/// Between two attempts; no kernel tells when there is room again.
const AGAIN: Duration = Duration::from_secs(1);

impl Store {
    /// Takes in what has become of a container, or that somebody wants it to end. False when the disk does not know it yet.
    pub(super) fn take_in(&self, container: &Arc<Container>, change: impl FnOnce(&mut Record)) -> bool {
        let Err((error, is_first)) = container.change_anyway(change) else { return true };
        if is_first {
            warn!(
                container = short(&container.id),
                %error,
                "what became of a container cannot be written down yet; it is seen all the same"
            );
            let (store, container) = (self.clone(), Arc::clone(container));
            tokio::spawn(async move { store.write_later(&container).await });
        }
        false
    }

    async fn write_later(&self, container: &Container) {
        let mut ends = container.ends();
        loop {
            tokio::select! {
                () = tokio::time::sleep(AGAIN) => {}
                _ = ends.wait_for(|ends| ends.gone) => return,
                () = self.0.shared.closed() => return,
            }
            if container.write_again().is_ok() {
                return info!(
                    container = short(&container.id),
                    "what became of a container is written down now"
                );
            }
        }
    }
}
