//! `delete`: everything that a container has is given back. Each step may be repeated, since any of them may have been the last of a
//! process that was killed.

use husk_node::process;

use crate::{
    Container, Error, Result, Status, Store,
    group::{self, PATIENCE},
    hooks::{self, Point},
};

/// Deletes a container that does not run. One that was never started is ended first.
///
/// # Errors
/// [`Error::WrongState`] for one that runs, [`Error::NotFound`].
pub fn delete(store: &Store, id: &str) -> Result<()> {
    let container = open(store, id)?;
    match container.status()? {
        Status::Stopped | Status::Created => destroy(&container),
        other => {
            let text = format!("cannot delete container {id} that is not stopped: {}", other.as_str());
            Err(Error::WrongState(text))
        }
    }
}

/// Deletes a container whatever it does, and what a killed process left of one. One that is not there is fine.
///
/// # Errors
/// Something cannot be removed.
pub fn force_delete(store: &Store, id: &str) -> Result<()> {
    match open(store, id) {
        Ok(container) => destroy(&container),
        Err(Error::NotFound(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// A directory without a record is what is left of a creation that had hardly begun.
fn open(store: &Store, id: &str) -> Result<Container> {
    store.open(id).inspect_err(|error| {
        if matches!(error, Error::NotFound(_)) {
            // What cannot be removed is found again by the next one who asks.
            let _ = store.sweep(id);
        }
    })
}

/// Ends all of it, and removes cgroup and directory. The hooks for its end are run, and a failing one stops nothing.
///
/// # Errors
/// It does not end, or its cgroup cannot be removed; then its record stays.
pub(crate) fn destroy(container: &Container) -> Result<()> {
    let record = &container.record;
    if let Some(init) = record.init {
        process::kill(init).map_err(Error::io("kill", record.id.as_str()))?;
    }
    if let Some(group) = group::of(record.cgroup.as_deref())? {
        group.kill()?;
        if group.is_paused()? {
            group.resume()?;
        }
        group.wait_empty(PATIENCE)?;
        group.remove()?;
    }
    let hooked = hooks::run(Point::Poststop, record, Status::Stopped);
    container.forget();
    match hooked {
        // The container is gone all the same (runtime-spec, Lifecycle: a failing poststop hook is a warning).
        Err(Error::Hook(why)) => {
            eprintln!("warning: {why}");
            Ok(())
        }
        other => other,
    }
}
