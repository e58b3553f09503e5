//! A node full of pods.

use std::time::Duration;

use husk_e2e::{Kubelet, eventually_every, v1};
use serde_json::json;

use crate::{Day, Gates, manifest, shell};

const PODS: usize = 100;

#[test]
fn a_hundred_pods_come_up_and_go_down() {
    let day = Day::start(Gates::On);
    let main = shell("main", "trap 'exit 0' TERM; sleep 1000000 & wait");
    for number in 0..PODS {
        day.apply(&manifest(&format!("pod-{number}"), json!({ "containers": [main] })));
    }
    // Each in its own time: a pod at a time costs a kubelet about a third of a second of CPU.
    eventually_every(Duration::from_millis(500), "every pod is ready", Duration::from_secs(420), || {
        let pods = day.get("/pods")?;
        let ready = pods["items"].as_array()?.iter().filter(|pod| Kubelet::is_ready(pod)).count();
        (ready == PODS).then_some(())
    });
    let running = day.runtime.cri().list_containers(v1::ListContainersRequest::default()).unwrap().containers;
    let running =
        running.iter().filter(|container| container.state() == v1::ContainerState::ContainerRunning).count();
    assert_eq!(running, PODS, "one container a pod");
    let addresses: std::collections::BTreeSet<String> = day.get("/pods").unwrap()["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pod| pod["status"]["podIP"].to_string())
        .collect();
    assert_eq!(addresses.len(), PODS, "one address a pod");
    day.end();
}
