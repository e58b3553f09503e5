//! A container: what is known of it now, and who waits for what of it.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use husk_images::ImageLease;
use tokio::sync::{Notify, watch};

use super::{
    health::Health,
    record::{Phase, Record, State},
    streams::Waiting,
};
use crate::error::{Failure, Result};

/// A container. What is done to it one after the other is done under its turn; what is asked reads a copy of the record.
#[derive(Debug)]
pub(crate) struct Container {
    /// Its id.
    pub(crate) id: String,
    /// Its directory.
    pub(crate) dir: PathBuf,
    record: Mutex<Arc<Record>>,
    /// Start, end, removal: one after the other.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// How often it ended, and whether it is gone.
    ends: watch::Sender<Ends>,
    /// Clients that attached before it was started.
    waiting: Mutex<Vec<Waiting>>,
    /// What its health check says, while it runs.
    health: Mutex<Option<Health>>,
    /// Its image's layers stay while it does.
    _image: ImageLease,
    /// Somebody does not want to wait for the next restart.
    pub(crate) no_restart: Notify,
    /// Memory knows more of its state than the disk.
    unwritten: watch::Sender<bool>,
    /// So many requests end it to start it again.
    restarting: AtomicUsize,
}

/// While this is there, an end of the container is that of a restart, with which none goes.
#[derive(Debug)]
pub(super) struct Kept<'a>(&'a Container);

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        self.0.restarting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What waiters wait for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ends {
    /// How often it ended, in this daemon's time.
    pub(crate) count: u64,
    /// The code of the last end.
    pub(crate) code: i32,
    /// It runs.
    pub(crate) running: bool,
    /// It was removed.
    pub(crate) gone: bool,
}

impl Container {
    pub(super) fn new(dir: PathBuf, record: Record, image: ImageLease) -> Self {
        let ends =
            Ends { running: record.state.is_running(), code: record.state.exit_code, ..Ends::default() };
        Self {
            id: record.id.clone(),
            dir,
            record: Mutex::new(Arc::new(record)),
            turn: Arc::default(),
            ends: watch::Sender::new(ends),
            waiting: Mutex::default(),
            health: Mutex::default(),
            _image: image,
            no_restart: Notify::new(),
            unwritten: watch::Sender::new(false),
            restarting: AtomicUsize::new(0),
        }
    }

    /// What is known of it now.
    pub(crate) fn record(&self) -> Arc<Record> {
        Arc::clone(&self.lock())
    }

    /// Its turn: who has it changes the life of the container.
    pub(crate) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// As [`Self::turn`], to be kept beside the container.
    pub(crate) async fn own_turn(&self) -> tokio::sync::OwnedMutexGuard<()> {
        Arc::clone(&self.turn).lock_owned().await
    }

    /// Its turn, if nobody has it.
    pub(super) fn turn_if_free(&self) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        self.turn.try_lock().ok()
    }

    /// Keeps it over the end that a restart brings. To be dropped with the container's turn in hand: whatever that end brings with it
    /// has come to pass then.
    pub(super) fn keep(&self) -> Kept<'_> {
        self.restarting.fetch_add(1, Ordering::Relaxed);
        Kept(self)
    }

    /// Whether an end of it is that of a restart.
    pub(super) fn is_kept(&self) -> bool {
        self.restarting.load(Ordering::Relaxed) > 0
    }

    /// Changes what is on record, first on disk.
    ///
    /// # Errors
    /// It cannot be written; then nothing has changed.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Record)) -> Result<Arc<Record>> {
        self.change_and(change, Record::write)
    }

    /// As [`Self::change`], of its state.
    ///
    /// # Errors
    /// As [`Self::change`].
    pub(crate) fn change_state(&self, change: impl FnOnce(&mut State)) -> Result<Arc<Record>> {
        self.change_and(|record| change(&mut record.state), Record::write_state)
    }

    /// As [`Self::change_state`], of what is so whatever the disk says: it is seen also when it cannot be written.
    /// [`Store::take_in`](super::store::Store::take_in) sees to it that it is written later.
    ///
    /// # Errors
    /// It could not be written: why, and whether that is the first since it could be.
    pub(super) fn change_anyway(&self, change: impl FnOnce(&mut Record)) -> Result<(), (io::Error, bool)> {
        let mut record = self.lock();
        let mut next = Record::clone(&record);
        change(&mut next);
        let written = next.write_state(&self.dir);
        let was_unwritten = self.unwritten.send_replace(written.is_err());
        self.see(&mut record, next);
        written.map_err(|error| (error, !was_unwritten))
    }

    /// Writes the state that the disk does not know yet, if there is one.
    ///
    /// # Errors
    /// It still cannot be written.
    pub(super) fn write_again(&self) -> io::Result<()> {
        let record = self.lock();
        if *self.unwritten.borrow() {
            record.write_state(&self.dir)?;
            self.unwritten.send_replace(false);
        }
        Ok(())
    }

    /// Resolves when the disk knows as much as memory.
    pub(super) async fn written(&self) {
        // An error is the end of the container itself.
        let _ = self.unwritten.subscribe().wait_for(|unwritten| !unwritten).await;
    }

    fn change_and(
        &self,
        change: impl FnOnce(&mut Record),
        write: impl FnOnce(&Record, &Path) -> io::Result<()>,
    ) -> Result<Arc<Record>> {
        let mut record = self.lock();
        let mut next = Record::clone(&record);
        change(&mut next);
        write(&next, &self.dir).map_err(Failure::io(format!("write down container {}", short(&self.id))))?;
        // Both ways of writing write the state.
        self.unwritten.send_replace(false);
        Ok(self.see(&mut record, next))
    }

    /// The one place where it becomes another.
    fn see(&self, record: &mut Arc<Record>, next: Record) -> Arc<Record> {
        *record = Arc::new(next);
        let state = &record.state;
        self.ends.send_if_modified(|ends| {
            let ended = ends.running && !state.is_running();
            ends.count += u64::from(ended);
            ends.running = state.is_running();
            ends.code = state.exit_code;
            ended
        });
        Arc::clone(record)
    }

    /// It is no more.
    pub(super) fn gone(&self) {
        self.ends.send_modify(|ends| ends.gone = true);
        self.waiting().clear();
    }

    /// Tells waiters of an end that no change of phase shows: it could not be started.
    pub(super) fn ended_at_once(&self, code: i32) {
        self.ends.send_modify(|ends| {
            ends.count += 1;
            ends.code = code;
        });
    }

    /// For those who wait for its end.
    pub(crate) fn ends(&self) -> watch::Receiver<Ends> {
        self.ends.subscribe()
    }

    /// Clients that are attached with the next start.
    pub(crate) fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What its health check says; `None` without one.
    pub(crate) fn health(&self) -> Option<Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says how it is.
    pub(super) fn set_health(&self, health: Option<Health>) {
        *self.health.lock().unwrap_or_else(PoisonError::into_inner) = health;
    }

    /// The engine's container of this run.
    ///
    /// # Errors
    /// 409 when it does not run.
    pub(crate) fn running(&self) -> Result<(Arc<Record>, husk_model::ContainerId)> {
        let record = self.record();
        let run = record.state.run.as_ref().and_then(|run| run.container.clone());
        match (record.state.phase, run) {
            (Phase::Running, Some(id)) => Ok((record, id)),
            (Phase::Restarting, _) => Err(Failure::conflict(format!(
                "Container {} is restarting, wait until the container is running",
                self.id
            ))),
            _ => Err(Failure::conflict(format!("container {} is not running", self.id))),
        }
    }

    /// As [`Self::running`], and nothing in it is frozen.
    ///
    /// # Errors
    /// 409.
    pub(crate) fn going(&self) -> Result<(Arc<Record>, husk_model::ContainerId)> {
        let (record, id) = self.running()?;
        match record.state.paused {
            true => Err(Failure::conflict(format!(
                "Container {} is paused, unpause the container before this operation",
                record.name
            ))),
            false => Ok((record, id)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Record>> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The beginning of an id, by which people name it.
pub(crate) fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
