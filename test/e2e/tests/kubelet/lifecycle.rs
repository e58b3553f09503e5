//! The order of a pod's life: init containers, sidecars, hooks, grace and termination messages.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use husk_e2e::eventually_every;
use serde_json::{Value, json};

use crate::{Day, Gates, manifest, merge, mounts, shell};

/// Tells the journal, which all containers of the theme share, and runs until it is told to end.
fn stage(pod: &str, name: &str) -> Value {
    let script = format!(
        "trap 'echo {name} ends >> /journal/{pod}; exit 0' TERM; echo {name} starts >> /journal/{pod}; while :; do sleep 0.1; done"
    );
    mounts(shell(name, &script), &[("journal", "/journal")])
}

fn init(pod: &str, name: &str) -> Value {
    mounts(shell(name, &format!("echo {name} runs >> /journal/{pod}")), &[("journal", "/journal")])
}

/// A restartable init container: the next one starts when its startup probe has passed.
fn sidecar(pod: &str, name: &str) -> Value {
    let started = json!({ "exec": { "command": ["grep", format!("{name} starts"), format!("/journal/{pod}")] }, "periodSeconds": 1 });
    merge(stage(pod, name), json!({ "restartPolicy": "Always", "startupProbe": started }))
}

fn pod(journal: &Path, name: &str, spec: Value) -> Value {
    let volumes = json!({ "volumes": [{ "name": "journal", "hostPath": { "path": journal } }] });
    manifest(name, merge(volumes, spec))
}

fn in_order(journal: &Path) -> Value {
    pod(
        journal,
        "order",
        json!({
            "terminationGracePeriodSeconds": 30,
            "initContainers": [init("order", "one"), sidecar("order", "logger"), init("order", "two"), sidecar("order", "proxy")],
            "containers": [merge(stage("order", "main"), json!({ "lifecycle": {
                "postStart": { "exec": { "command": ["sh", "-c", "until grep 'main starts' /journal/order; do sleep 0.1; done; echo main is up >> /journal/order"] } },
                "preStop": { "exec": { "command": ["sh", "-c", "sleep 1; echo main is warned >> /journal/order"] } },
            } }))],
        }),
    )
}

/// A job: its sidecar goes when the work is done.
fn job(journal: &Path) -> Value {
    pod(
        journal,
        "job",
        json!({
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 30,
            "initContainers": [sidecar("job", "helper")],
            "containers": [init("job", "work")],
        }),
    )
}

/// Hooks that are not commands: an HTTP request to the pod itself, and a sleep.
fn hooked(journal: &Path) -> Vec<Value> {
    let server = "printf '#!/bin/sh\\nread request; echo $request >> /journal/http; printf \"HTTP/1.0 200 OK\\\\r\\\\n\\\\r\\\\n\"' > /tmp/answer; \
        chmod 755 /tmp/answer; trap 'echo told >> /journal/http; exit 0' TERM; nc -ll -p 8080 -e /tmp/answer & wait";
    let http = merge(
        mounts(shell("main", server), &[("journal", "/journal")]),
        json!({
            "readinessProbe": { "tcpSocket": { "port": 8080 }, "periodSeconds": 1 },
            "lifecycle": { "preStop": { "httpGet": { "path": "/goodbye", "port": 8080 } } },
        }),
    );
    let nap =
        merge(stage("nap", "main"), json!({ "lifecycle": { "preStop": { "sleep": { "seconds": 2 } } } }));
    let refused = merge(
        stage("refused", "main"),
        json!({ "lifecycle": { "postStart": { "exec": { "command": ["false"] } } } }),
    );
    vec![
        pod(journal, "http", json!({ "terminationGracePeriodSeconds": 30, "containers": [http] })),
        pod(journal, "nap", json!({ "terminationGracePeriodSeconds": 30, "containers": [nap] })),
        pod(journal, "refused", json!({ "containers": [refused] })),
    ]
}

/// Does not end when it is told to: the grace ends it.
fn deaf(journal: &Path) -> Value {
    let script = "trap 'echo told >> /journal/deaf' TERM; echo deaf starts >> /journal/deaf; while :; do sleep 0.1; done";
    let main = mounts(shell("main", script), &[("journal", "/journal")]);
    pod(journal, "deaf", json!({ "terminationGracePeriodSeconds": 3, "containers": [main] }))
}

fn lines(journal: &Path, pod: &str) -> Vec<String> {
    let text = fs::read_to_string(journal.join(pod)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn wait_line(journal: &Path, pod: &str, line: &str) {
    eventually_every(
        Duration::from_millis(20),
        &format!("{pod} wrote {line:?}"),
        Duration::from_secs(90),
        || lines(journal, pod).iter().any(|found| found.starts_with(line)).then_some(()),
    );
}

#[test]
fn a_pod_starts_and_stops_in_its_order_with_hooks_and_grace() {
    for gates in Gates::BOTH {
        let day = Day::start(gates);
        let journal = day.shared("journal");
        day.apply_all(&[in_order(&journal), job(&journal), deaf(&journal)]);
        day.apply_all(&hooked(&journal));

        // A failing postStart hook costs the container its life.
        day.wait_container("it was restarted", "refused", "main", |status| {
            (status["restartCount"].as_u64()? >= 1).then_some(())
        });
        for name in ["order", "http", "nap", "deaf"] {
            day.wait_ready(name);
        }
        let started = ["one runs", "logger starts", "two runs", "proxy starts", "main starts", "main is up"];
        assert_eq!(lines(&journal, "order"), started);
        day.wait_phase("job", "Succeeded");
        assert_eq!(lines(&journal, "job"), ["helper starts", "work runs", "helper ends"]);

        wait_line(&journal, "deaf", "deaf starts");
        wait_line(&journal, "nap", "main starts");
        let deleted = Instant::now();
        for name in ["order", "http", "nap", "deaf"] {
            day.delete(name);
        }
        wait_line(&journal, "nap", "main ends");
        assert!(deleted.elapsed() >= Duration::from_secs(2), "TERM comes after preStop's sleep");
        wait_line(&journal, "order", "logger ends");
        // Sidecars end after the main containers, the last one first.
        let stopped = ["main is warned", "main ends", "proxy ends", "logger ends"];
        assert_eq!(lines(&journal, "order")[started.len()..], stopped);
        wait_line(&journal, "http", "told");
        // The readiness probe connects and says nothing.
        let said: Vec<String> = lines(&journal, "http").into_iter().filter(|line| !line.is_empty()).collect();
        assert!(said.len() == 2 && said[0].starts_with("GET /goodbye") && said[1] == "told", "{said:?}");

        day.drain();
        assert!(deleted.elapsed() >= Duration::from_secs(3), "the grace was kept");
        assert_eq!(lines(&journal, "deaf"), ["deaf starts", "told"]);
        day.end();
    }
}
