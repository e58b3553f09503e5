//! StartContainer.

use std::sync::Arc;

use husk_nri::Event;
use husk_telemetry::step;

use super::follow::Follow;
use crate::{error::Result, registry::Container};

/// Opens the gate.
pub(crate) async fn start(follow: &Follow, container: &Arc<Container>) -> Result<()> {
    container.check_created()?;
    let plugins = follow.changes.plugins();
    let turn = step!("plugins", plugins.admit_start(container)).await?;
    let monitor = container.pod().monitor()?;
    let started_at = step!("exec", monitor.start_container(container.id())).await?;
    follow.started(container, started_at);
    drop(turn);
    plugins.tell_of(Event::PostStartContainer, container).await;
    Ok(())
}
