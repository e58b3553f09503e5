//! A real kubelet drives husk: what it asks for on an ordinary day.

use std::{fs, time::Duration};

use husk_e2e::{BUSYBOX, Daemon, Kubelet, NODE, eventually, v1};
use serde_json::{Value, json};

fn shell(name: &str, script: &str) -> Value {
    json!({ "name": name, "image": BUSYBOX, "imagePullPolicy": "Never", "command": ["sh", "-c", script] })
}

fn manifest(name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": "default" }, "spec": spec })
}

/// A pod with what most pods have: an init container that prepares a volume, limits, a probe.
fn web(version: &str) -> Value {
    let mut init = shell("prepare", &format!("echo {version} > /data/version"));
    init["volumeMounts"] = json!([{ "name": "data", "mountPath": "/data" }]);
    let mut main = shell(
        "main",
        "trap 'echo stopping; exit 0' TERM; echo serving $(cat /data/version); touch /tmp/ready; while :; do sleep 0.2; done",
    );
    main["volumeMounts"] = json!([{ "name": "data", "mountPath": "/data" }]);
    main["resources"] = json!({ "limits": { "cpu": "500m", "memory": "64Mi" }, "requests": { "cpu": "100m", "memory": "32Mi" } });
    main["readinessProbe"] = json!({ "exec": { "command": ["cat", "/tmp/ready"] }, "periodSeconds": 1 });
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

fn restarts(status: &Value) -> u64 {
    status["restartCount"].as_u64().unwrap_or_default()
}

#[test]
fn a_kubelets_ordinary_day() {
    let mut husk = Daemon::start();
    let mut kubelet = Kubelet::start(&husk);

    // A pod becomes ready; its log and its statistics come through the kubelet.
    kubelet.apply(&web("one"));
    kubelet.wait_ready("web");
    let log = kubelet.text(&format!("/containerLogs/default/web-{NODE}/main"));
    assert!(log.contains("serving one"), "{log}");
    eventually("the summary has the pod's memory", Duration::from_secs(90), || {
        let summary = kubelet.get("/stats/summary")?;
        let pod = summary["pods"]
            .as_array()?
            .iter()
            .find(|pod| pod["podRef"]["name"] == json!(format!("web-{NODE}")))?
            .clone();
        (pod["containers"][0]["memory"]["workingSetBytes"].as_u64()? > 0).then_some(())
    });

    // A crashing container is restarted, with back-off.
    kubelet.apply(&manifest("crash", json!({ "containers": [shell("main", "echo crash; exit 3")] })));
    let crashed = eventually("the container was restarted and waits", Duration::from_secs(120), || {
        let status = kubelet.container("crash", "main")?;
        let backing_off = status["state"]["waiting"]["reason"] == json!("CrashLoopBackOff");
        (restarts(&status) >= 1 && backing_off).then_some(status)
    });
    assert_eq!(crashed["lastState"]["terminated"]["exitCode"], json!(3));
    kubelet.delete("crash");

    // Restarting huskd or the kubelet restarts no container.
    let before = kubelet.container("web", "main").unwrap();
    husk.kill();
    husk.spawn();
    kubelet.stop();
    kubelet.spawn();
    kubelet.wait_ready("web");
    let after = kubelet.container("web", "main").unwrap();
    assert_eq!(before["containerID"], after["containerID"]);
    assert_eq!(restarts(&before), restarts(&after));

    // A changed manifest replaces the pod.
    kubelet.apply(&web("two"));
    eventually("the pod was replaced", Duration::from_secs(120), || {
        let status = kubelet.container("web", "main")?;
        (status["containerID"] != before["containerID"] && status["ready"] == json!(true)).then_some(())
    });
    let log = kubelet.text(&format!("/containerLogs/default/web-{NODE}/main"));
    assert!(log.contains("serving two"), "{log}");

    // A removed one is stopped with its grace: the trap runs and the exit code is its own.
    let id = kubelet.container("web", "main").unwrap()["containerID"]
        .as_str()
        .unwrap()
        .rsplit('/')
        .next()
        .unwrap()
        .to_owned();
    let log_path = husk.cri().container(&id).unwrap().log_path;
    kubelet.delete("web");
    eventually("the pod was stopped", Duration::from_secs(60), || {
        let pods = husk.cri().list_pod_sandbox(v1::ListPodSandboxRequest::default()).unwrap().items;
        pods.iter().all(|pod| pod.state() == v1::PodSandboxState::SandboxNotready).then_some(())
    });
    if let Ok(status) = husk.cri().container(&id) {
        assert_eq!(status.exit_code, 0, "{status:?}");
        assert!(fs::read_to_string(&log_path).unwrap().contains("stopping"));
    }
    kubelet.stop();
}
