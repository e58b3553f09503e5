//! Taking back what an attempt to make a pod may have made: after a failure, and after a kill at the next start.

use std::sync::Arc;

use husk_model::chain;
use husk_monitor::Monitor;
use tracing::warn;

use crate::{
    node::{Cgroups, Networks},
    records::{PodFile, Records},
};

/// What undoing needs.
#[derive(Debug, Clone)]
pub(crate) struct Undo {
    pub(crate) records: Arc<Records>,
    pub(crate) cgroups: Cgroups,
    pub(crate) networks: Networks,
}

impl Undo {
    /// Takes back everything that an attempt may have made. Each step is tried whatever the others do; what fails is logged
    /// and found again by the next start.
    pub(crate) async fn pod(&self, file: &PodFile) {
        let dir = self.records.pod(&file.id);
        match Monitor::await_started(&dir).await {
            Ok(Some(monitor)) => {
                if let Err(error) = monitor.stop_sandbox().await {
                    warn!(pod = %file.id, %error, "cannot stop a pod that failed to start");
                }
                if let Err(error) = monitor.end().await {
                    warn!(pod = %file.id, error = chain(&error), "the monitor of a pod that failed to start did not end; it was killed");
                }
            }
            Ok(None) => {}
            Err(error) => {
                warn!(pod = %file.id, %error, "cannot reach the monitor of a pod that failed to start");
            }
        }
        let cgroup = self.cgroups.recorded_place(file);
        let steps = [
            ("remove its cgroup", self.cgroups.kill(&cgroup).await),
            ("take back its network", self.networks.tear_down(&file.id, &file.config).await),
            ("remove its directory", self.records.discard(&dir)),
        ];
        for (step, result) in steps {
            if let Err(error) = result {
                warn!(pod = %file.id, error = chain(&error), "undoing a pod that failed to start: cannot {step}");
            }
        }
        self.cgroups.end_unit(&cgroup);
    }
}
