//! Records on disk (`husk_model::record` has their formats): written whole and renamed, never synced.

use std::{io, path::Path, time::Duration};

use husk_model::{Exit, ExitReason};
use husk_node::file::{self, Outlives};
use husk_proto::podmon;
use rustix::process::WaitStatus;
use serde::Serialize;

/// How long after a failure a record is written again: the disk is full, most likely, and the monitor holds all it knows.
pub const RETRY: Duration = Duration::from_secs(1);

/// Writes `value` to `dir/name`. A reader sees the old file or the new one.
pub fn write(dir: &Path, name: &str, value: &impl Serialize) -> io::Result<()> {
    let bytes = serde_json::to_vec(value)?;
    file::replace(&dir.join(name), &bytes, Outlives::Process)
}

/// As shells count: the exit code, or 128 plus the signal.
pub fn exit_code(status: WaitStatus) -> i32 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 255,
    }
}

/// The protocol's form of an exit.
pub fn to_proto(exit: &Exit) -> podmon::ExitRecord {
    let reason = match exit.reason {
        ExitReason::Completed => podmon::ExitReason::Completed,
        ExitReason::Error => podmon::ExitReason::Error,
        ExitReason::OomKilled => podmon::ExitReason::OomKilled,
        ExitReason::StartError => podmon::ExitReason::StartError,
        ExitReason::Unknown => podmon::ExitReason::Unspecified,
    };
    podmon::ExitRecord {
        code: exit.code,
        finished_at: exit.finished_at,
        reason: reason.into(),
        message: exit.message.clone(),
    }
}
