//! One look at everything that may be left behind.

use std::{path::PathBuf, sync::Arc};

use tokio::sync::Mutex;

use super::{
    directories, groups,
    known::Known,
    networks, processes,
    search::{Decide, Finding, Search},
};
use crate::{registry::Registry, verbs::undo::Undo};

/// What looking for leftovers needs.
#[derive(Debug, Clone)]
pub(crate) struct Doctor {
    undo: Undo,
    known: Known,
    /// The monitors' program.
    podmon: PathBuf,
    /// Held by whoever looks.
    turn: Arc<Mutex<()>>,
}

impl Doctor {
    pub(crate) fn new(registry: Arc<Registry>, undo: Undo, podmon: PathBuf) -> Self {
        let known = Known { registry, records: Arc::clone(&undo.records) };
        Self { undo, known, podmon, turn: Arc::default() }
    }

    /// Takes away what belongs to nobody. Before anybody asks for anything: what a new pod could meet, which is of the network
    /// (addresses, host ports, links). The rest is in nobody's way, and on a full node takes longer than all else of a start, so
    /// it is looked for behind the start. Directories of pods and containers are start-up's own, and some are still being undone.
    pub(crate) async fn examine_at_start(&self) {
        let everything: Decide = Arc::new(|_, _| true);
        let mut search = Search::new(Arc::clone(&everything));
        networks::search(&self.undo.networks, &self.known, &mut search).await;
        search.finish();
        // Whoever looks from here on waits for this.
        let (this, turn) = (self.clone(), Arc::clone(&self.turn).lock_owned().await);
        tokio::spawn(async move {
            let _turn = turn;
            let mut search = Search::new(everything);
            this.things(&mut search).await;
            search.finish();
        });
    }

    /// One look at everything that may be left behind, taking away what `decide` agrees to. Safe while pods come and go; what
    /// is about to end by itself may be reported, though, so a caller that only wants to know looks twice.
    pub(crate) async fn examine(&self, decide: Decide) -> Vec<Finding> {
        let _turn = self.turn.lock().await;
        let mut search = Search::new(decide);
        self.things(&mut search).await;
        networks::search(&self.undo.networks, &self.known, &mut search).await;
        directories::search(&self.undo, &self.known, &mut search).await;
        // What could not be deleted before is tried again.
        self.undo.records.take_out_trash();
        search.finish()
    }

    /// All but networks, and the directories that name the rest.
    async fn things(&self, search: &mut Search) {
        // A monitor before its pod's cgroup: it would keep its pod alive.
        processes::search(&self.podmon, &self.known, search).await;
        groups::search(&self.undo.cgroups, &self.known, search).await;
        directories::writable_layers(&self.known, search);
    }
}
