//! The kubelet, the runtime and the node go down and come back.

use std::{collections::BTreeMap, fs, time::Duration};

use husk_e2e::{NODE, eventually_every, v1};
use serde_json::{Value, json};

use crate::{Day, Gates, manifest, merge, mounts, shell};

const WAIT: &str = "trap 'exit 0' TERM; sleep 1000000 & wait";

fn keeper(name: &str) -> Value {
    let script = format!("echo started >> /data/starts; {WAIT}");
    let main = merge(
        mounts(shell("main", &script), &[("data", "/data"), ("memory", "/memory")]),
        json!({ "readinessProbe": { "exec": { "command": ["cat", "/data/starts"] }, "periodSeconds": 1 } }),
    );
    manifest(
        name,
        json!({
            "volumes": [{ "name": "data", "emptyDir": {} }, { "name": "memory", "emptyDir": { "medium": "Memory" } }],
            "containers": [main],
        }),
    )
}

fn ids(day: &Day, pods: &[&str]) -> Vec<(Value, Value)> {
    pods.iter()
        .map(|pod| {
            day.wait_ready(pod);
            let status = day.container(pod, "main").unwrap();
            (status["containerID"].clone(), status["restartCount"].clone())
        })
        .collect()
}

/// Running containers by pod: the promise is at most one.
fn running(day: &Day) -> BTreeMap<String, usize> {
    let mut count = BTreeMap::new();
    let list = day.runtime.cri().list_containers(v1::ListContainersRequest::default()).unwrap().containers;
    for container in list.iter().filter(|container| container.state() == v1::ContainerState::ContainerRunning)
    {
        *count.entry(container.labels["io.kubernetes.pod.name"].clone()).or_default() += 1;
    }
    count
}

#[test]
fn restarts_of_the_kubelet_and_of_the_runtime_restart_no_container() {
    for gates in Gates::BOTH {
        let mut day = Day::start(gates);
        let pods = ["one", "two"];
        day.apply_all(&pods.map(keeper));
        let before = ids(&day, &pods);

        day.kubelet.stop();
        day.kubelet.spawn();
        assert_eq!(ids(&day, &pods), before, "after the kubelet");
        day.runtime.kill();
        day.runtime.spawn();
        assert_eq!(ids(&day, &pods), before, "after the runtime");
        // Both away at once, and a pod's manifest removed and one added meanwhile.
        day.kubelet.stop();
        day.runtime.kill();
        day.kubelet.delete("two");
        day.kubelet.apply(&keeper("three"));
        day.runtime.spawn();
        day.kubelet.spawn();
        assert_eq!(ids(&day, &["one"])[0], before[0]);
        day.wait_ready("three");
        eventually_every(Duration::from_millis(50), "the removed pod ended", Duration::from_secs(60), || {
            (!running(&day).contains_key(&format!("two-{NODE}"))).then_some(())
        });
        assert_eq!(day.run("one", "main", "cat /data/starts"), "started\n");
        day.end();
    }
}

/// How far pods have come, in steps that a runtime can be killed at: sandboxes and containers that it lists.
fn steps(day: &Day) -> usize {
    let cri = day.runtime.cri();
    let sandboxes =
        cri.list_pod_sandbox(v1::ListPodSandboxRequest::default()).map_or(0, |list| list.items.len());
    let containers =
        cri.list_containers(v1::ListContainersRequest::default()).map_or(0, |list| list.containers.len());
    sandboxes + containers
}

#[test]
fn a_runtime_killed_again_and_again_while_pods_start_and_stop_loses_none_and_doubles_none() {
    let mut day = Day::start(Gates::On);
    let names: Vec<String> = (0..8).map(|number| format!("pod-{number}")).collect();
    for name in &names {
        day.apply(&keeper(name));
    }
    for step in [1, 3, 6, 10, 14] {
        eventually_every(Duration::from_millis(1), "pods come up", Duration::from_secs(90), || {
            (steps(&day) >= step).then_some(())
        });
        day.runtime.kill();
        day.runtime.spawn();
    }
    for name in &names {
        day.wait_ready(name);
    }
    let expected: BTreeMap<String, usize> = names.iter().map(|name| (format!("{name}-{NODE}"), 1)).collect();
    assert_eq!(running(&day), expected);

    for name in &names {
        day.delete(name);
    }
    for left in [7, 4, 1] {
        eventually_every(Duration::from_millis(1), "pods go down", Duration::from_secs(90), || {
            (running(&day).len() <= left).then_some(())
        });
        day.runtime.kill();
        day.runtime.spawn();
    }
    day.end();
}

#[test]
fn after_a_reboot_every_pod_is_back_with_its_volumes() {
    let mut day = Day::start(Gates::Off);
    let pods = ["one", "two"];
    day.apply_all(&pods.map(keeper));
    let before = ids(&day, &pods);
    day.run("one", "main", "touch /data/on-disk /memory/in-memory");

    day.kubelet.stop();
    day.runtime.reboot();
    assert_eq!(running(&day).len(), 0);
    day.kubelet.spawn();
    let after =
        eventually_every(Duration::from_millis(100), "they run again", Duration::from_secs(120), || {
            (running(&day).len() == pods.len()).then(|| ids(&day, &pods))
        });
    assert!(before.iter().zip(&after).all(|(before, after)| before.0 != after.0), "{after:?}");
    assert_eq!(day.run("one", "main", "cat /data/starts"), "started\nstarted\n");
    assert_eq!(day.run("one", "main", "find /data/on-disk /memory -type f"), "/data/on-disk\n");
    if day.runtime.is_husk() {
        let layers = fs::read_dir(day.runtime.path("root/containers")).unwrap().count();
        assert_eq!(layers, pods.len(), "the writable layers of the former boot are gone");
    }
    day.end();
}
