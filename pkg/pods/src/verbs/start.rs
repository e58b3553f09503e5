//! StartContainer.

use std::sync::Arc;

use husk_nri::Event;

use super::follow::Follow;
use crate::{error::Result, registry::Container};

/// Opens the gate.
pub(crate) async fn start(follow: &Follow, container: &Arc<Container>) -> Result<()> {
    container.check_created()?;
    let plugins = follow.changes.plugins();
    let turn = plugins.admit_start(container).await?;
    let started_at = container.pod().monitor()?.start_container(container.id()).await?;
    follow.started(container, started_at);
    drop(turn);
    plugins.tell_of(Event::PostStartContainer, container).await;
    Ok(())
}
