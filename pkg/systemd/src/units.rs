//! The scopes of pods: made with the cgroups that husk needs inside, ended with the pod.

use std::{fs, path::PathBuf};

use husk_cgroup::Hierarchy;
use husk_model::Process;
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
        if let Err(error) = self.begin(scope, anchor.process()).await {
            anchor.release().await;
            return Err(error);
        }
        let (hierarchy, unit, group) = (hierarchy.clone(), scope.path().clone(), scope.pause().clone());
        // Moving a process may wait for an RCU grace period. The anchor goes along: if nobody waits for the move any more, the
        // number that is moved stays the anchor's all the same.
        let moving = tokio::task::spawn_blocking(move || {
            let adopted = hierarchy.adopt(&unit, &group, anchor.process());
            (anchor, adopted)
        });
        let (anchor, adopted) = moving.await.map_err(|_| misplaced(scope, String::new()))?;
        match adopted {
            Ok(()) => Ok(anchor),
            Err(error) => {
                anchor.release().await;
                Err(error.into())
            }
        }
    }

    async fn begin(&self, scope: &PodScope, first: Process) -> Result<()> {
        self.systemd.start_scope(scope, first).await?;
        let found = cgroup_of(first);
        if found == scope.path().as_str() { Ok(()) } else { Err(misplaced(scope, found)) }
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

/// The v2 cgroup of an anchor, which is not reaped; empty when it has ended. The line is `0::<path>` (cgroups(7)).
fn cgroup_of(first: Process) -> String {
    let text = fs::read_to_string(format!("/proc/{}/cgroup", first.pid)).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default().to_owned()
}
