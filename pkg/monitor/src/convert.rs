//! From protocol messages to domain types.

use husk_model::{ContainerRecord, Exit, ExitReason, Phase, Process, ResolvedUser, SandboxRecord};
use husk_proto::podmon::{self, event, response};

use crate::{Event, MonitorError, RemoteError, Result, Snapshot};

/// A monitor of this version has three of a call. One that a container has taken over may send what it likes.
const STEPS_MAX: usize = 16;

pub(crate) type Answer = response::Result;

pub(crate) fn exit(record: podmon::ExitRecord) -> Exit {
    let reason = match record.reason() {
        podmon::ExitReason::Completed => ExitReason::Completed,
        podmon::ExitReason::Error => ExitReason::Error,
        podmon::ExitReason::OomKilled => ExitReason::OomKilled,
        podmon::ExitReason::StartError => ExitReason::StartError,
        podmon::ExitReason::Unspecified => ExitReason::Unknown,
    };
    Exit { code: record.code, finished_at: record.finished_at, reason, message: record.message }
}

pub(crate) fn user(user: Option<podmon::ResolvedUser>) -> ResolvedUser {
    user.map(|u| ResolvedUser { uid: u.uid, gid: u.gid, groups: u.groups }).unwrap_or_default()
}

/// The steps of a call, at most [`STEPS_MAX`].
pub(crate) fn steps(steps: Vec<podmon::Step>) -> Vec<Phase> {
    let phase = |step: podmon::Step| Phase {
        name: step.name.into(),
        depth: 0,
        began: step.began_at,
        took: Some(step.took),
        failed: false,
    };
    steps.into_iter().take(STEPS_MAX).map(phase).collect()
}

pub(crate) fn snapshot(call: &'static str, state: podmon::State) -> Result<Snapshot> {
    let containers = state.containers.into_iter().map(|c| container(call, c)).collect::<Result<_>>()?;
    Ok(Snapshot { sandbox: state.sandbox.map(sandbox), containers })
}

fn sandbox(state: podmon::SandboxState) -> SandboxRecord {
    SandboxRecord {
        process: Process { pid: state.pid, start_time: state.start_time },
        started_at: state.started_at,
        exit: state.exit.map(exit),
        stopped: state.stopped,
    }
}

fn container(call: &'static str, state: podmon::ContainerState) -> Result<ContainerRecord> {
    Ok(ContainerRecord {
        id: state.container_id.parse().map_err(|_| MonitorError::Protocol { call })?,
        process: Process { pid: state.pid, start_time: state.start_time },
        created_at: state.created_at,
        started_at: state.started_at,
        exit: state.exit.map(exit),
        user: user(state.user),
        cgroup_path: state.cgroup_path,
        log_dropped_bytes: state.log_dropped_bytes,
    })
}

/// `None` for an event of a newer monitor, or one without its data.
pub(crate) fn event(message: podmon::Event) -> Option<Event> {
    Some(match message.event? {
        event::Event::ContainerStarted(e) => {
            Event::ContainerStarted { id: e.container_id.parse().ok()?, at: e.started_at }
        }
        event::Event::ContainerExited(e) => {
            Event::ContainerExited { id: e.container_id.parse().ok()?, exit: exit(e.exit?) }
        }
        event::Event::SandboxExited(e) => Event::SandboxExited { exit: exit(e) },
    })
}

/// Turns an error answer into an error that says which call it belongs to.
pub(crate) fn success(call: &'static str, object: &str, answer: Answer) -> Result<Answer> {
    match answer {
        Answer::Error(error) => {
            // Full ids make a line unreadable and 13 characters are what every client shows.
            let short = object.get(..13).unwrap_or(object);
            let context = if short.is_empty() { call.to_owned() } else { format!("{call} {short}") };
            Err(RemoteError::new(context, error).into())
        }
        answer => Ok(answer),
    }
}
