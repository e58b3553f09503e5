//! The scopes of pods: made with the cgroups that husk needs inside, ended with the pod.

use std::{fs, path::PathBuf};

use husk_cgroup::Hierarchy;
use tracing::warn;

use crate::{Anchor, Error, PodScope, Result, Systemd};

/// Makes and ends the scopes of pods.
#[derive(Debug)]
pub struct PodUnits {
    systemd: Systemd,
    /// husk-podmon.
    anchor: PathBuf,
}

impl PodUnits {
    /// Scopes of this systemd. `anchor` is the program that a scope begins with: husk-podmon.
    pub fn new(systemd: Systemd, anchor: PathBuf) -> Self {
        Self { systemd, anchor }
    }

    /// systemd.
    pub fn systemd(&self) -> &Systemd {
        &self.systemd
    }

    /// Makes a pod's scope with the groups down to pause's. It lasts until the anchor is released, and from then on as long as
    /// the pod has a process.
    ///
    /// # Errors
    /// The step that failed. The unit may exist all the same, or come later: [`PodUnits::end`] it.
    pub async fn start(&self, hierarchy: &Hierarchy, scope: &PodScope) -> Result<Anchor> {
        let anchor = Anchor::start(&self.anchor)?;
        match self.build(hierarchy, scope, &anchor).await {
            Ok(()) => Ok(anchor),
            Err(error) => {
                anchor.release().await;
                Err(error)
            }
        }
    }

    async fn build(&self, hierarchy: &Hierarchy, scope: &PodScope, anchor: &Anchor) -> Result<()> {
        let gone = || misplaced(scope, String::new());
        let pid = anchor.pid().ok_or_else(gone)?;
        self.systemd.start_scope(scope, pid).await?;
        let found = cgroup_of(pid);
        if found != scope.path().as_str() {
            return Err(misplaced(scope, found));
        }
        let (hierarchy, unit, group) = (hierarchy.clone(), scope.path().clone(), scope.pause().clone());
        // Moving a process may wait for an RCU grace period.
        let adopted = tokio::task::spawn_blocking(move || hierarchy.adopt(&unit, &group, pid));
        Ok(adopted.await.map_err(|_| gone())??)
    }

    /// Ends a pod's scope, whose processes are dead. What cannot be done is logged and no more: an empty scope goes by itself.
    pub async fn end(&self, unit: &str) {
        if let Err(error) = self.systemd.stop_unit(unit).await {
            warn!(
                unit,
                error = &error as &dyn std::error::Error,
                "cannot end a pod's unit; it ends by itself once it is empty"
            );
        }
    }
}

fn misplaced(scope: &PodScope, found: String) -> Error {
    Error::Misplaced { unit: scope.unit().to_owned(), expected: scope.path().to_string(), found }
}

/// The v2 cgroup of a process; empty when it is gone. The line is `0::<path>` (cgroups(7)).
fn cgroup_of(pid: u32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default().to_owned()
}
