//! Messages as JSON for programs.

use husk_proto::admin::{self as v1, account::Kind};
use serde_json::{Value, json};

use super::door;

/// A pod with its containers.
pub(super) fn pod(pod: &v1::Pod) -> Value {
    json!({
        "id": pod.id,
        "name": pod.name,
        "namespace": pod.namespace,
        "uid": pod.uid,
        "attempt": pod.attempt,
        "door": door(pod.door()),
        "state": if pod.ready { "ready" } else { "not-ready" },
        "created_at": pod.created_at,
        "ips": pod.ips,
        "labels": pod.labels,
        "annotations": pod.annotations,
        "message": pod.message,
        "containers": pod.containers.iter().map(container).collect::<Vec<_>>(),
    })
}

fn container(container: &v1::Container) -> Value {
    let state = match container.state() {
        v1::State::Created => "created",
        v1::State::Running => "running",
        v1::State::Exited => "exited",
        v1::State::Unknown | v1::State::Unspecified => "unknown",
    };
    json!({
        "id": container.id,
        "pod_id": container.pod_id,
        "name": container.name,
        "attempt": container.attempt,
        "image": container.image,
        "image_id": container.image_id,
        "state": state,
        "created_at": container.created_at,
        "started_at": container.started_at,
        "finished_at": container.finished_at,
        "exit_code": container.exit_code,
        "reason": container.reason,
        "message": container.message,
        "pid": container.pid,
        "labels": container.labels,
        "annotations": container.annotations,
        "log_path": container.log_path,
    })
}

/// An event.
pub(super) fn event(event: &v1::EventsResponse) -> Value {
    json!({
        "at": event.at,
        "what": event.what,
        "container_id": event.container_id,
        "pod": event.pod.as_ref().map(pod),
    })
}

/// What containers use.
pub(super) fn usages(answer: &v1::TopResponse) -> Value {
    let usage = |usage: &v1::Usage| {
        json!({
            "container_id": usage.container_id,
            "name": usage.name,
            "pod_id": usage.pod_id,
            "pod": usage.pod_name,
            "namespace": usage.namespace,
            "door": door(usage.door()),
            "millicores": usage.millicores,
            "memory": usage.memory,
            "memory_limit": usage.memory_limit,
            "processes": usage.processes,
            "read": usage.read,
            "written": usage.written,
        })
    };
    json!({ "at": answer.at, "containers": answer.usages.iter().map(usage).collect::<Vec<_>>() })
}

/// How things came to be.
pub(super) fn accounts(accounts: &[v1::Account]) -> Value {
    let phase = |phase: &v1::Phase| {
        json!({
            "name": phase.name,
            "depth": phase.depth,
            "began": phase.began,
            "took": phase.took,
            "going_on": phase.going_on,
            "failed": phase.failed,
        })
    };
    let account = |account: &v1::Account| {
        json!({
            "kind": kind(account.kind()),
            "id": account.id,
            "name": account.name,
            "door": door(account.door()),
            "state": account.state,
            "began": account.began,
            "up": account.up,
            "ended": account.ended,
            "cause": account.cause,
            "progress": account.progress,
            "phases": account.phases.iter().map(phase).collect::<Vec<_>>(),
            "asked_to_end": account
                .wishes
                .iter()
                .map(|wish| json!({ "at": wish.at, "what": wish.what }))
                .collect::<Vec<_>>(),
        })
    };
    Value::Array(accounts.iter().map(account).collect())
}

/// What it is, in one word.
pub(super) fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Unspecified => "object",
        Kind::Pod => "pod",
        Kind::Container => "container",
        Kind::Pull => "pull",
    }
}
