//! Probes of every kind, what their failure leads to, and their timeouts.

use std::time::Duration;

use husk_e2e::{NODE, eventually_every};
use serde_json::{Value, json};

use crate::{Day, Gates, manifest, merge, shell};

/// Runs until it is told to end.
const SERVE: &str = "trap 'exit 0' TERM; while :; do sleep 0.2; done";

/// A gRPC health service in a shell: HTTP/2 frames of a SERVING answer to the first call. They are sent again and again, since
/// a client ignores frames of a stream that it has not opened yet, and has closed already.
const GRPC: &str = r#"
cat > /tmp/serve <<'END'
#!/bin/sh
printf '\000\000\000\004\000\000\000\000\000'
for i in $(seq 100); do
  printf '\000\000\040\001\004\000\000\000\001\210\000\014content-type\020application/grpc'
  printf '\000\000\007\000\000\000\000\000\001\000\000\000\000\002\010\001'
  printf '\000\000\017\001\005\000\000\000\001\000\013grpc-status\0010'
  sleep 0.05
done
END
chmod 755 /tmp/serve
trap 'exit 0' TERM
nc -ll -p 9090 -e /tmp/serve &
wait
"#;

/// A probe every second that must answer within one and may fail once.
fn probe(kind: Value) -> Value {
    merge(json!({ "periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 1 }), kind)
}

fn probed(name: &str, script: &str, probes: Value) -> Value {
    manifest(name, json!({ "containers": [merge(shell("main", script), probes)] }))
}

fn ready_when(name: &str, script: &str, kind: Value) -> Value {
    probed(name, script, json!({ "readinessProbe": probe(kind) }))
}

/// A probe whose command or server answers only after its time.
fn late(name: &str, script: &str, kind: Value) -> Value {
    ready_when(name, script, kind)
}

fn pods() -> Vec<Value> {
    let httpd = "mkdir -p /tmp/www; echo fine > /tmp/www/health; exec httpd -f -p 8080 -h /tmp/www";
    vec![
        ready_when(
            "exec",
            &format!("touch /tmp/ready; {SERVE}"),
            json!({ "exec": { "command": ["cat", "/tmp/ready"] } }),
        ),
        ready_when("http", httpd, json!({ "httpGet": { "path": "/health", "port": 8080 } })),
        ready_when("tcp", "exec nc -ll -p 7000 -e true", json!({ "tcpSocket": { "port": 7000 } })),
        ready_when("grpc", GRPC, json!({ "grpc": { "port": 9090 } })),
        // Its liveness would kill it at once; the startup probe holds it back until it is up.
        probed(
            "slow-start",
            &format!("sleep 3; touch /tmp/up; {SERVE}"),
            json!({
                "startupProbe": merge(probe(json!({ "exec": { "command": ["cat", "/tmp/up"] } })), json!({ "failureThreshold": 60 })),
                "livenessProbe": probe(json!({ "exec": { "command": ["cat", "/tmp/up"] } })),
            }),
        ),
        // What a failing liveness probe of each kind does.
        probed(
            "dies-exec",
            SERVE,
            json!({ "livenessProbe": probe(json!({ "exec": { "command": ["false"] } })) }),
        ),
        probed(
            "dies-http",
            httpd,
            json!({ "livenessProbe": probe(json!({ "httpGet": { "path": "/missing", "port": 8080 } })) }),
        ),
        probed(
            "dies-tcp",
            SERVE,
            json!({ "livenessProbe": probe(json!({ "tcpSocket": { "port": 7001 } })) }),
        ),
        probed("dies-grpc", SERVE, json!({ "livenessProbe": probe(json!({ "grpc": { "port": 9091 } })) })),
        probed(
            "dies-late",
            SERVE,
            json!({ "livenessProbe": probe(json!({ "exec": { "command": ["sleep", "4343"] } })) }),
        ),
        probed(
            "dies-startup",
            SERVE,
            json!({ "startupProbe": probe(json!({ "exec": { "command": ["false"] } })) }),
        ),
        // A command that does not exist fails the probe, not the container.
        ready_when("no-command", SERVE, json!({ "exec": { "command": ["/no/such/probe"] } })),
        late("late-exec", SERVE, json!({ "exec": { "command": ["sleep", "4242"] } })),
        late(
            "late-http",
            "exec nc -ll -p 8081 -e sleep 10",
            json!({ "httpGet": { "path": "/", "port": 8081 } }),
        ),
    ]
}

/// How often a pod's readiness probe failed.
fn failures(day: &Day, pod: &str) -> f64 {
    let name = format!("pod=\"{pod}-{NODE}\"");
    day.metric("/metrics/probes", "prober_probe_total")
        .iter()
        .filter(|(labels, _)| {
            labels.contains(&name) && labels.contains("\"Readiness\"") && labels.contains("result=\"failed\"")
        })
        .map(|(_, count)| count)
        .sum()
}

#[test]
fn probes_of_every_kind_decide_over_readiness_and_restarts_and_keep_their_time() {
    for gates in Gates::BOTH {
        let day = Day::start(gates);
        day.apply_all(&pods());
        for pod in ["exec", "http", "tcp", "grpc", "slow-start"] {
            day.wait_ready(pod);
        }
        let slow = day.container("slow-start", "main").unwrap();
        assert_eq!((&slow["restartCount"], &slow["started"]), (&json!(0), &json!(true)), "{slow}");

        for pod in ["dies-exec", "dies-http", "dies-tcp", "dies-grpc", "dies-late", "dies-startup"] {
            let ended = day.wait_container("the kubelet restarted it", pod, "main", |status| {
                (status["restartCount"].as_u64()? >= 1).then(|| status["lastState"]["terminated"].clone())
            });
            let expected: &[i64] = if pod == "dies-http" { &[137, 143] } else { &[0] };
            assert!(expected.contains(&ended["exitCode"].as_i64().unwrap()), "{pod}: {ended}");
        }

        for pod in ["no-command", "late-exec", "late-http"] {
            // A command that does not exist is no failure to the kubelet: it knows nothing, and says so.
            let failed = || match pod {
                "no-command" => day.log().matches("cmd=[\"/no/such/probe\"]").count() >= 3,
                _ => failures(&day, pod) >= 3.0,
            };
            eventually_every(
                Duration::from_millis(100),
                &format!("the probe of {pod} failed three times"),
                Duration::from_secs(60),
                || failed().then_some(()),
            );
            let status = day.container(pod, "main").unwrap();
            assert_eq!(
                (&status["ready"], &status["restartCount"]),
                (&json!(false), &json!(0)),
                "{pod}: {status}"
            );
        }
        // A probe that is over its time does not run on: at most the present one is there.
        let processes = day.run("late-exec", "main", "ps");
        assert!(processes.matches("sleep 4242").count() <= 1, "{processes}");
        day.end();
    }
}
