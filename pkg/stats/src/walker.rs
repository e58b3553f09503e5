//! The threads that measure writable layers.
//!
//! A layer is measured when somebody asked for it and its last size is older than [`MAX_AGE`] (or than twenty times what
//! the measuring took: a layer with a million files is not walked all the time). Nobody asks, nobody walks. The
//! pace is bounded: a burst of entries, then a pause, so that the disk and a core stay free for the workloads. Layers that
//! turn out to be large are measured on a thread of their own, so that only other large ones wait for them.

use std::{
    collections::{HashMap, VecDeque},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use husk_model::{ContainerId, UnixNanos};
use husk_node::now;

use crate::{Error, Result, Usage, disk_usage};

/// A size is good for this long at least. The kubelet asks every ten seconds.
const MAX_AGE: Duration = Duration::from_secs(9);
/// Entries between pauses; a small layer has fewer and is measured at once.
const BURST: u32 = 1024;
/// The pause. 1024 entries in 1-3 ms, then 50 ms: a few per cent of one core.
const PAUSE: Duration = Duration::from_millis(50);

/// Entries from which on a layer is large: what the pace allows in five seconds.
const LARGE: u32 = 100 * BURST;

/// Handle on the threads; dropping it ends them.
#[derive(Debug)]
pub(crate) struct Walker(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    layers: HashMap<ContainerId, Layer>,
    /// By size.
    queues: [VecDeque<ContainerId>; 2],
    stopped: bool,
}

#[derive(Debug)]
struct Layer {
    upper: PathBuf,
    measured: Option<Measured>,
    queued: bool,
    size: Size,
}

/// Which thread measures a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    Small = 0,
    Large = 1,
}

#[derive(Debug, Clone, Copy)]
struct Measured {
    usage: Usage,
    timestamp: UnixNanos,
    stale_at: Instant,
}

impl Walker {
    pub(crate) fn spawn() -> Result<Self> {
        let shared = Arc::new(Shared::default());
        for size in [Size::Small, Size::Large] {
            let of_thread = Arc::clone(&shared);
            std::thread::Builder::new()
                .name("layer-usage".to_owned())
                // A level of the walk needs less than a KiB, and there are at most 256.
                .stack_size(512 * 1024)
                .spawn(move || of_thread.run(size))
                .map_err(Error::Thread)?;
        }
        Ok(Self(shared))
    }

    /// The last known size; asks for a new one if that is old. Never waits for the disk.
    pub(crate) fn usage(&self, id: &ContainerId, upper: &Path) -> Option<(Usage, UnixNanos)> {
        let mut state = self.0.state();
        let layer = state.layers.entry(id.clone()).or_insert_with(|| Layer {
            upper: upper.to_owned(),
            measured: None,
            queued: false,
            size: Size::Small,
        });
        let measured = layer.measured;
        if !layer.queued && measured.is_none_or(|measured| measured.stale_at <= Instant::now()) {
            layer.queued = true;
            let size = layer.size;
            state.queues[size as usize].push_back(id.clone());
            self.0.changed.notify_all();
        }
        measured.map(|measured| (measured.usage, measured.timestamp))
    }

    pub(crate) fn forget(&self, id: &ContainerId) {
        self.0.state().layers.remove(id);
    }
}

impl Drop for Walker {
    fn drop(&mut self) {
        self.0.state().stopped = true;
        self.0.changed.notify_all();
    }
}

impl Shared {
    /// Held for moments only, and every change is complete when it ends, so a poisoned lock is as good as any.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, size: Size) {
        while let Some((id, upper)) = self.next(size) {
            let started = Instant::now();
            let mut entries = 0u32;
            let result = disk_usage(&upper, || {
                entries = entries.wrapping_add(1);
                if size == Size::Small && entries == LARGE {
                    return false;
                }
                !entries.is_multiple_of(BURST) || self.pause(&id)
            });
            if size == Size::Small && entries == LARGE {
                self.hand_over(&id);
            } else {
                self.finish(&id, result, started.elapsed());
            }
        }
    }

    /// Gives a layer to the other thread, for good.
    fn hand_over(&self, id: &ContainerId) {
        let mut state = self.state();
        if let Some(layer) = state.layers.get_mut(id) {
            layer.size = Size::Large;
            state.queues[Size::Large as usize].push_back(id.clone());
            self.changed.notify_all();
        }
    }

    /// The next layer to measure; `None` when the handle was dropped.
    fn next(&self, size: Size) -> Option<(ContainerId, PathBuf)> {
        let mut state = self.state();
        loop {
            if state.stopped {
                return None;
            }
            let Some(id) = state.queues[size as usize].pop_front() else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            // Forgotten since it was queued.
            let Some(layer) = state.layers.get(&id) else { continue };
            let upper = layer.upper.clone();
            return Some((id, upper));
        }
    }

    /// `false` when there is no use in going on.
    fn pause(&self, id: &ContainerId) -> bool {
        let until = Instant::now() + PAUSE;
        let mut state = self.state();
        loop {
            if state.stopped || !state.layers.contains_key(id) {
                return false;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn finish(&self, id: &ContainerId, result: Result<Option<Usage>>, took: Duration) {
        let mut state = self.state();
        let Some(layer) = state.layers.get_mut(id) else { return };
        layer.queued = false;
        let stale_at = Instant::now() + MAX_AGE.max(took * 20);
        match result {
            Ok(Some(usage)) => layer.measured = Some(Measured { usage, timestamp: now(), stale_at }),
            Ok(None) => {}
            Err(err) => {
                // The last size stays, and the next attempt is not at once.
                if let Some(measured) = &mut layer.measured {
                    measured.stale_at = stale_at;
                }
                let gone =
                    matches!(&err, Error::File { source, .. } if source.kind() == io::ErrorKind::NotFound);
                if !gone {
                    tracing::warn!(%id, error = &err as &dyn std::error::Error, "writable layer not measured");
                }
            }
        }
    }
}
