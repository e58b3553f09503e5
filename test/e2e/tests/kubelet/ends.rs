//! How containers end: exit codes, signals, memory, deadlines, messages, and what cannot be started at all.

use husk_e2e::eventually_every;
use serde_json::{Value, json};
use std::time::Duration;

use crate::{Day, Gates, manifest, merge, shell};

fn once(name: &str, containers: Value) -> Value {
    manifest(name, json!({ "restartPolicy": "Never", "containers": containers }))
}

/// Exit codes, and signals that a container is not shielded from as PID 1: its pod shares PIDs.
fn codes() -> Value {
    let spec = json!({
        "restartPolicy": "Never",
        "shareProcessNamespace": true,
        "containers": [
            shell("zero", "exit 0"),
            shell("seven", "exit 7"),
            shell("last", "exit 255"),
            shell("killed", "kill -KILL $$"),
            shell("told", "kill -TERM $$"),
            shell("aborted", "kill -ABRT $$"),
        ],
    });
    manifest("codes", spec)
}

fn messages() -> Value {
    let message = |name: &str, script: &str, more: Value| merge(shell(name, script), more);
    once(
        "messages",
        json!([
            message("file", "echo from the file > /dev/termination-log; exit 1", json!({})),
            message("path", "printf elsewhere > /tmp/why", json!({ "terminationMessagePath": "/tmp/why" })),
            message(
                "user",
                "echo by a user > /dev/termination-log",
                json!({ "securityContext": { "runAsUser": 1000 } })
            ),
            message(
                "read-only",
                "echo on a read-only root > /dev/termination-log",
                json!({ "securityContext": { "readOnlyRootFilesystem": true } })
            ),
            message(
                "log",
                "echo first; echo the reason; exit 5",
                json!({ "terminationMessagePolicy": "FallbackToLogsOnError" })
            ),
            message(
                "fine",
                "echo nothing to tell",
                json!({ "terminationMessagePolicy": "FallbackToLogsOnError" })
            ),
            message(
                "both",
                "echo log; echo file > /dev/termination-log; exit 5",
                json!({ "terminationMessagePolicy": "FallbackToLogsOnError" })
            ),
        ]),
    )
}

fn greedy() -> Value {
    let main = merge(
        shell("main", "exec tail /dev/zero"),
        json!({ "resources": { "limits": { "memory": "32Mi" } } }),
    );
    once("greedy", json!([main]))
}

fn wrong() -> Vec<Value> {
    let image = |image: &str, policy: &str| {
        merge(shell("main", "true"), json!({ "image": image, "imagePullPolicy": policy }))
    };
    vec![
        once("no-command", json!([merge(shell("main", ""), json!({ "command": ["/no/such/program"] }))])),
        once("no-directory", json!([merge(shell("main", "pwd"), json!({ "workingDir": "/made/for/it" }))])),
        once("no-image", json!([image("registry.example/husk/absent:e2e", "Never")])),
        once("no-registry", json!([image("127.0.0.1:1/husk/absent:e2e", "IfNotPresent")])),
    ]
}

fn waiting(day: &Day, pod: &str, reasons: &[&str]) -> Value {
    day.wait_container("it waits with its reason", pod, "main", |status| {
        let waiting = status["state"].get("waiting")?;
        reasons.contains(&waiting["reason"].as_str()?).then(|| waiting.clone())
    })
}

#[test]
fn every_end_is_told_as_it_was() {
    for gates in Gates::BOTH {
        let day = Day::start(gates);
        day.apply_all(&[codes(), messages(), greedy()]);
        day.apply_all(&wrong());
        let sleeper = shell("main", "trap 'exit 0' TERM; while :; do sleep 0.1; done");
        day.apply_all(&[
            manifest("deadline", json!({ "activeDeadlineSeconds": 2, "containers": [sleeper] })),
            manifest(
                "on-failure",
                json!({ "restartPolicy": "OnFailure", "containers": [shell("main", "exit 0")] }),
            ),
            manifest("crash", json!({ "containers": [shell("main", "echo attempt $$; sleep 5; exit 3")] })),
        ]);

        for (name, code, reason) in [
            ("zero", 0, "Completed"),
            ("seven", 7, "Error"),
            ("last", 255, "Error"),
            ("killed", 137, "Error"),
            ("told", 143, "Error"),
            ("aborted", 134, "Error"),
        ] {
            let end = day.wait_terminated("codes", name);
            assert_eq!((&end["exitCode"], &end["reason"]), (&json!(code), &json!(reason)), "{name}: {end}");
            assert!(end["startedAt"].as_str() <= end["finishedAt"].as_str(), "{name}: {end}");
        }
        for (name, message) in [
            ("file", Some("from the file\n")),
            ("path", Some("elsewhere")),
            ("user", Some("by a user\n")),
            ("read-only", Some("on a read-only root\n")),
            ("log", Some("first\nthe reason\n")),
            ("fine", None),
            ("both", Some("file\n")),
        ] {
            let end = day.wait_terminated("messages", name);
            assert_eq!(end["message"].as_str(), message, "{name}: {end}");
        }
        let end = day.wait_terminated("greedy", "main");
        assert_eq!((&end["exitCode"], &end["reason"]), (&json!(137), &json!("OOMKilled")), "{end}");

        let end = day.wait_terminated("no-command", "main");
        assert_eq!((&end["exitCode"], &end["reason"]), (&json!(128), &json!("StartError")), "{end}");
        assert!(end["message"].as_str().is_some_and(|text| text.contains("/no/such/program")), "{end}");
        assert_eq!(day.printed("no-directory", "main"), "/made/for/it\n");
        waiting(&day, "no-image", &["ErrImageNeverPull"]);
        let refused =
            waiting(&day, "no-registry", &["RegistryUnavailable", "ErrImagePull", "ImagePullBackOff"]);
        assert!(refused["message"].as_str().is_some_and(|text| text.contains("127.0.0.1:1")), "{refused}");

        let late = day.wait_phase("deadline", "Failed");
        assert_eq!(late["status"]["reason"], json!("DeadlineExceeded"), "{late}");
        let done = day.wait_phase("on-failure", "Succeeded");
        assert_eq!(done["status"]["containerStatuses"][0]["restartCount"], json!(0));

        // While an attempt runs, the one before is the newest of the dead, which the kubelet keeps.
        let crashed = day.wait_container("it runs again", "crash", "main", |status| {
            let runs_again =
                status["restartCount"].as_u64()? >= 1 && status["state"].get("running").is_some();
            runs_again.then(|| status.clone())
        });
        assert!(
            day.logs("crash", "main", "?previous=true").starts_with("attempt"),
            "the log of the attempt before"
        );
        // The log, not the status: kubelet 1.37 tells that a container waits only from the end of the wait until it sees the
        // next start, which may be ten milliseconds.
        let backing_off = "back-off 10s restarting failed container=main pod=crash";
        eventually_every(
            Duration::from_millis(100),
            "it waits longer and longer",
            Duration::from_secs(60),
            || day.log().contains(backing_off).then_some(()),
        );
        assert_eq!(crashed["lastState"]["terminated"]["exitCode"], json!(3), "{crashed}");
        if gates == Gates::On {
            told_by_events(&day);
        }
        day.end();
    }
}

/// With EventedPLEG the kubelet hears of ends, and finds nothing wrong with what it hears.
fn told_by_events(day: &Day) {
    eventually_every(
        Duration::from_millis(100),
        "the kubelet heard an event",
        Duration::from_secs(30),
        || {
            let heard = day.metric("/metrics", "kubelet_evented_pleg_connection_latency_seconds_count");
            (heard.values().sum::<f64>() > 0.0).then_some(())
        },
    );
    let failed: f64 = day.metric("/metrics", "kubelet_evented_pleg_connection_error_count").values().sum();
    assert_eq!(failed, 0.0, "the stream of events broke");
    assert!(!day.log().contains("ContainerEventResponse with nil"), "an event without its pod");
}
