//! How something came to be, what it waits for, and what ended it.

use std::time::Duration;

use husk_model::{
    AskedEnd, ContainerState, ContainerStatus, Ending, Exit, ExitReason, History, Phase, PodState, PodStatus,
    UnixNanos,
};
use husk_pods::{AttemptView, Attempted, Engine};
use husk_proto::admin::{self as v1, account::Kind};

use crate::{
    convert::{door, door_name},
    error::{OperatorError, Result},
    find::{Found, Node, container_name, pod_name},
};

/// The exit code of a process that SIGKILL ended: 128 and the signal.
const KILLED: i32 = 137;
/// The last step of a pod's start.
const LAST_OF_START: &str = "plugins";
/// How much earlier than its grace a kill may be told: two clocks are read.
const CLOCKS: Duration = Duration::from_millis(50);

/// The accounts of what `name` means: of a pod its own, those of its pulls and containers and of what is being made in it; of a container
/// its own and that of its image's pull; else those of attempts with that name.
///
/// # Errors
/// Nothing or several things have the name.
pub(crate) fn accounts(engine: &Engine, name: &str, now: UnixNanos) -> Result<Vec<v1::Account>> {
    let (node, attempts) = (Node::of(engine), engine.attempts());
    let found = match node.find(name) {
        Ok(found) => found,
        Err(error @ OperatorError::Nothing { .. }) => {
            let of_name = attempts.iter().filter(|attempt| is_named(attempt, name));
            let accounts: Vec<_> = of_name.map(|attempt| of_attempt(attempt, now)).collect();
            return if accounts.is_empty() { Err(error) } else { Ok(accounts) };
        }
        Err(error) => return Err(error),
    };
    let pod = found.pod();
    let of_this_pod = |attempt: &&AttemptView| {
        attempt.pod.as_ref() == Some(&pod.config.metadata) && Some(pod.config.door) == attempt.door
    };
    let theirs = attempts.iter().filter(of_this_pod);
    Ok(match &found {
        Found::Pod(pod) => {
            let containers = node.of_pod(pod);
            let made = theirs.filter(|attempt| !matches!(attempt.what, Attempted::Pod(_)));
            std::iter::once(of_pod(pod, engine.pod_history(pod.id.as_str()).unwrap_or_default(), now))
                .chain(made.map(|attempt| of_attempt(attempt, now)))
                .chain(containers.map(|container| container_account(engine, pod, container, now)))
                .collect()
        }
        Found::Container(pod, container) => {
            let config = &container.config;
            let names = [&config.image, &config.user_specified_image, &container.image_name];
            let pulls = theirs
                .filter(|attempt| matches!(&attempt.what, Attempted::Pull(image) if names.contains(&image)));
            let mut accounts: Vec<_> = pulls.map(|attempt| of_attempt(attempt, now)).collect();
            accounts.push(container_account(engine, pod, container, now));
            accounts
        }
    })
}

fn container_account(
    engine: &Engine,
    pod: &PodStatus,
    container: &ContainerStatus,
    now: UnixNanos,
) -> v1::Account {
    let history = engine.container_history(container.id.as_str()).unwrap_or_default();
    of_container(pod, container, history, now)
}

/// Whether an attempt is what `name` means: by an id or its beginning, by its own name, its pod's, or its image's.
fn is_named(attempt: &AttemptView, name: &str) -> bool {
    let of_pod = attempt
        .pod
        .as_ref()
        .is_some_and(|pod| pod.name == name || name.split_once('/') == Some((&pod.namespace, &pod.name)));
    of_pod
        || match &attempt.what {
            Attempted::Pod(id) => id.as_str().starts_with(name),
            Attempted::Container(_, id, container) => id.as_str().starts_with(name) || container == name,
            Attempted::Pull(image) => image == name,
        }
}

// === the accounts ===

fn of_pod(status: &PodStatus, history: History, now: UnixNanos) -> v1::Account {
    let ready = status.state == PodState::Ready;
    let start = history.phases.iter().find(|phase| phase.depth == 0 && phase.name == LAST_OF_START);
    v1::Account {
        kind: Kind::Pod.into(),
        id: status.id.to_string(),
        name: pod_name(status),
        door: door(status.config.door).into(),
        state: if ready { "ready" } else { "not ready" }.to_owned(),
        began: status.created_at,
        up: start.and_then(end_of).unwrap_or_default(),
        ended: 0,
        cause: status.message.clone(),
        progress: String::new(),
        wishes: wishes(&history.asked),
        phases: phases(history.phases, now),
    }
}

fn of_container(pod: &PodStatus, status: &ContainerStatus, history: History, now: UnixNanos) -> v1::Account {
    let (state, up, ended, cause) = match &status.state {
        ContainerState::Created => ("created; waits to be started", 0, 0, String::new()),
        ContainerState::Running { started_at } => ("running", *started_at, 0, String::new()),
        ContainerState::Exited { started_at, exit } => {
            ("exited", *started_at, exit.finished_at, cause(exit, &history.asked))
        }
        ContainerState::Unknown { reason } => ("unknown", 0, 0, reason.clone()),
    };
    let first = history.phases.first().map_or(status.created_at, |phase| phase.began);
    v1::Account {
        kind: Kind::Container.into(),
        id: status.id.to_string(),
        name: format!("{}/{}", pod_name(pod), container_name(pod, status)),
        door: door(pod.config.door).into(),
        state: state.to_owned(),
        began: first.min(status.created_at),
        up,
        ended,
        cause,
        progress: String::new(),
        wishes: wishes(&history.asked),
        phases: phases(history.phases, now),
    }
}

fn of_attempt(attempt: &AttemptView, now: UnixNanos) -> v1::Account {
    let pod = attempt.pod.as_ref().map(|pod| format!("{}/{}", pod.namespace, pod.name)).unwrap_or_default();
    let (kind, id, name, going_on) = match &attempt.what {
        Attempted::Pod(id) => (Kind::Pod, id.to_string(), pod, "being made"),
        Attempted::Container(_, id, name) => {
            (Kind::Container, id.to_string(), format!("{pod}/{name}"), "being made")
        }
        Attempted::Pull(image) => (Kind::Pull, String::new(), image.clone(), "being pulled"),
    };
    let state = match (attempt.ended, &attempt.error) {
        (None, _) => going_on,
        (Some(_), None) => "done",
        (Some(_), Some(_)) => "failed",
    };
    v1::Account {
        kind: kind.into(),
        id,
        name,
        door: attempt.door.map_or(v1::Door::Unspecified, door).into(),
        state: state.to_owned(),
        began: attempt.began,
        up: 0,
        ended: attempt.ended.unwrap_or_default(),
        cause: attempt.error.clone().unwrap_or_default(),
        progress: attempt.progress.clone(),
        phases: phases(attempt.phases.clone(), now),
        wishes: Vec::new(),
    }
}

fn phases(phases: Vec<Phase>, now: UnixNanos) -> Vec<v1::Phase> {
    let so_far = |began: UnixNanos| u64::try_from(now.saturating_sub(began)).unwrap_or(0);
    let message = |phase: Phase| v1::Phase {
        depth: phase.depth.into(),
        began: phase.began,
        took: phase.took.unwrap_or_else(|| so_far(phase.began)),
        going_on: phase.took.is_none(),
        failed: phase.failed,
        name: phase.name.into_owned(),
    };
    phases.into_iter().map(message).collect()
}

fn end_of(phase: &Phase) -> Option<UnixNanos> {
    Some(phase.began.saturating_add(i64::try_from(phase.took?).ok()?))
}

// === in words ===

fn wishes(asked: &[AskedEnd]) -> Vec<v1::Wish> {
    asked.iter().map(|asked| v1::Wish { at: asked.at, what: wish(&asked.what) }).collect()
}

fn wish(what: &Ending) -> String {
    let through = |door: &Option<husk_model::Door>| door.map_or("huskd", door_name);
    match what {
        Ending::Stop { door, grace } if grace.is_zero() => {
            format!("{} asked to end it at once", through(door))
        }
        Ending::Stop { door, grace } => {
            format!("{} asked to stop it, with {} to end by itself", through(door), seconds(*grace))
        }
        Ending::OfPod => "its pod was stopped or removed".to_owned(),
        Ending::Removal { door } => format!("{} asked to remove it", through(door)),
        Ending::Eviction { plugin, reason } if reason.is_empty() => {
            format!("NRI plugin {plugin} evicted it and gave no reason")
        }
        Ending::Eviction { plugin, reason } => format!("NRI plugin {plugin} evicted it: {reason}"),
        Ending::Cleanup { reason } => format!("huskd cleaned up: {reason}"),
    }
}

/// What ended a container.
fn cause(exit: &Exit, asked: &[AskedEnd]) -> String {
    let how = match (exit.reason, exit.code) {
        (ExitReason::OomKilled, code) => {
            format!("the kernel killed a process of it for lack of memory (exit code {code})")
        }
        (ExitReason::StartError, _) => "its command could not be executed".to_owned(),
        (ExitReason::Unknown, _) => "nobody saw its end".to_owned(),
        (_, code @ 129..=192) => format!("signal {} ended it", signal(code - 128)),
        (_, code) => format!("its command ended by itself with exit code {code}"),
    };
    let mut words = how;
    if let Some(asked) = asked.iter().rev().find(|asked| asked.at <= exit.finished_at) {
        let waited = exit.finished_at.saturating_sub(asked.at);
        let waited = Duration::from_nanos(u64::try_from(waited).unwrap_or(0));
        words = match &asked.what {
            Ending::Stop { grace, .. }
                if !grace.is_zero() && exit.code == KILLED && waited + CLOCKS >= *grace =>
            {
                format!("{words}: it did not end within the {} that its stop gave it", seconds(*grace))
            }
            what => format!("{words}, {} after {}", seconds(waited), wish(what)),
        };
    }
    if !exit.message.is_empty() {
        words = format!("{words}: {}", exit.message);
    }
    words
}

fn signal(number: i32) -> String {
    let name = match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        _ => return number.to_string(),
    };
    format!("{number} ({name})")
}

fn seconds(time: Duration) -> String {
    match time.as_millis() {
        0..1000 => format!("{} ms", time.as_millis()),
        _ => format!("{} s", (time.as_secs_f64() * 10.0).round() / 10.0),
    }
}

#[cfg(test)]
mod tests {
    use husk_model::Door;

    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn exit(code: i32, reason: ExitReason) -> Exit {
        Exit { code, finished_at: 100 * SECOND, reason, message: String::new() }
    }

    fn stop(at: i64, grace: u64) -> AskedEnd {
        AskedEnd { at, what: Ending::Stop { door: Some(Door::Cri), grace: Duration::from_secs(grace) } }
    }

    #[test]
    fn an_end_is_told_with_who_asked_for_it() {
        let told = |code, reason, asked: &[AskedEnd]| cause(&exit(code, reason), asked);
        assert_eq!(told(3, ExitReason::Error, &[]), "its command ended by itself with exit code 3");
        assert_eq!(told(139, ExitReason::Error, &[]), "signal 11 (SIGSEGV) ended it");
        let oom = told(137, ExitReason::OomKilled, &[]);
        assert!(oom.contains("lack of memory"), "{oom}");
        let killed = told(137, ExitReason::Error, &[stop(98 * SECOND, 2)]);
        assert_eq!(
            killed,
            "signal 9 (SIGKILL) ended it: it did not end within the 2 s that its stop gave it"
        );
        let in_time = told(143, ExitReason::Error, &[stop(100 * SECOND - SECOND / 4, 30)]);
        assert!(in_time.contains("SIGTERM") && in_time.contains("250 ms after the CRI"), "{in_time}");
        // Whoever asked for the end of what had ended did not end it.
        assert_eq!(
            told(0, ExitReason::Completed, &[stop(101 * SECOND, 2)]),
            "its command ended by itself with exit code 0"
        );
        let cleanup = Ending::Cleanup { reason: "its monitor died".to_owned() };
        let lost = told(255, ExitReason::Unknown, &[AskedEnd { at: 100 * SECOND, what: cleanup }]);
        assert!(lost.contains("nobody saw") && lost.contains("its monitor died"), "{lost}");
    }

    #[test]
    fn a_phase_that_goes_on_takes_until_now() {
        let phase = |took| Phase { name: "network".into(), depth: 0, began: SECOND, took, failed: false };
        let told = phases(vec![phase(Some(5)), phase(None)], 3 * SECOND);
        assert_eq!((told[0].took, told[0].going_on), (5, false));
        assert_eq!((told[1].took, told[1].going_on), (2 * SECOND as u64, true));
    }
}
