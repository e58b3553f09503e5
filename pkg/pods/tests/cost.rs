//! What the steps of a pod's life cost, for people: `cargo test --release -p husk-pods --test cost -- --ignored --nocapture`.
//! Monitors are those of the profile under test; the network is an empty namespace.

mod common;

use std::time::{Duration, Instant};

use common::{Node, ready, shell};

const PODS: usize = 60;

#[test]
#[ignore = "prints figures and proves nothing"]
fn cost_of_a_pod() {
    if !ready() {
        return;
    }
    let node = Node::start();
    let steps = ["run pod", "create", "start", "exec", "stop", "stop pod", "remove pod"];
    let mut times = vec![Vec::new(); steps.len()];
    for number in 0..PODS {
        let engine = node.engine();
        let mut step = 0;
        let mut lap = Instant::now();
        let mut done = || {
            times[step].push(lap.elapsed());
            step += 1;
            lap = Instant::now();
        };
        let pod = node.wait(engine.run_pod_sandbox(node.pod_config(&format!("cost-{number}")))).unwrap();
        let pod = pod.as_str();
        done();
        let id = node.wait(engine.create_container(pod, shell("main", "sleep 1000"))).unwrap();
        let id = id.as_str();
        done();
        node.wait(engine.start_container(id)).unwrap();
        done();
        node.wait(engine.exec_sync(id, vec!["true".into()], None)).unwrap();
        done();
        node.wait(engine.stop_container(id, Duration::ZERO)).unwrap();
        done();
        node.wait(engine.stop_pod_sandbox(pod)).unwrap();
        done();
        node.wait(engine.remove_pod_sandbox(pod)).unwrap();
        done();
    }
    for (step, times) in steps.iter().zip(&mut times) {
        times.sort();
        println!("{step:<12} p50 {:>8.2?}  p95 {:>8.2?}", times[PODS / 2], times[PODS * 95 / 100]);
    }
    node.assert_nothing_left();
}
