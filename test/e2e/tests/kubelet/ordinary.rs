//! What a kubelet asks for on an ordinary day: a pod comes, is changed, and goes.

use std::{fs, time::Duration};

use husk_e2e::{eventually_every, v1};
use serde_json::{Value, json};

use crate::{Day, Gates, manifest, merge, mounts, shell};

/// A pod with what most pods have: an init container that prepares a volume, limits, a probe.
fn web(version: &str) -> Value {
    let data = [("data", "/data")];
    let init = mounts(shell("prepare", &format!("echo {version} > /data/version")), &data);
    let script = "trap 'echo stopping; exit 0' TERM; echo serving $(cat /data/version); touch /tmp/ready; while :; do sleep 0.2; done";
    let main = merge(
        mounts(shell("main", script), &data),
        json!({
            "resources": { "limits": { "cpu": "500m", "memory": "64Mi" }, "requests": { "cpu": "100m", "memory": "32Mi" } },
            "readinessProbe": { "exec": { "command": ["cat", "/tmp/ready"] }, "periodSeconds": 1 },
        }),
    );
    manifest(
        "web",
        json!({
            "terminationGracePeriodSeconds": 20,
            "volumes": [{ "name": "data", "emptyDir": {} }],
            "initContainers": [init],
            "containers": [main],
        }),
    )
}

#[test]
fn a_pod_comes_is_replaced_and_goes_with_its_grace() {
    let day = Day::start(Gates::Off);
    day.apply(&web("one"));
    day.wait_ready("web");
    assert!(day.logs("web", "main", "").contains("serving one"));
    let before = day.container("web", "main").unwrap();

    // A changed manifest replaces the pod.
    day.apply(&web("two"));
    let id = eventually_every(
        Duration::from_millis(100),
        "the pod was replaced",
        Duration::from_secs(120),
        || {
            let status = day.container("web", "main")?;
            let replaced = status["containerID"] != before["containerID"] && status["ready"] == json!(true);
            replaced.then(|| status["containerID"].as_str().unwrap().rsplit('/').next().unwrap().to_owned())
        },
    );
    assert!(day.logs("web", "main", "").contains("serving two"));

    // A removed one is stopped with its grace: the trap runs and the exit code is its own.
    let log = day.runtime.cri().container(&id).unwrap().log_path;
    day.delete("web");
    eventually_every(Duration::from_millis(50), "the pod was stopped", Duration::from_secs(60), || {
        let pods = day.runtime.cri().list_pod_sandbox(v1::ListPodSandboxRequest::default()).unwrap().items;
        pods.iter().all(|pod| pod.state() == v1::PodSandboxState::SandboxNotready).then_some(())
    });
    // The kubelet removes it in its own time.
    if let Ok(status) = day.runtime.cri().container(&id) {
        assert_eq!(status.exit_code, 0, "{status:?}");
        assert!(fs::read_to_string(&log).map_or(true, |log| log.contains("stopping")));
    }
    day.end();
}
