//! What a pod costs. Prints figures and asserts none: run it alone, with the binary that ships:
//! `HUSK_TEST_PODMON=target/dist/husk-podmon cargo test -p husk-podmon --test pod -- --ignored --nocapture cost`

use std::{
    fs,
    time::{Duration, Instant},
};

use crate::world;

const PODS: usize = 20;

/// Kibibytes of a field of `/proc/<pid>/smaps_rollup`.
fn kib(pid: u32, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

fn report(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let (middle, tail) = (times[times.len() / 2], times[times.len() * 95 / 100]);
    println!("{name:<24} p50 {middle:>10.1?}   p95 {tail:>10.1?}");
}

#[tokio::test]
#[ignore = "prints figures"]
async fn memory_and_latency_of_a_pod() {
    let (mut pods, mut ids) = (Vec::new(), Vec::new());
    let [mut spawn, mut run, mut create, mut start, mut exec, mut stop, mut end] = [const { Vec::new() }; 7];
    let timed = |begin: Instant, into: &mut Vec<Duration>| into.push(begin.elapsed());
    for _ in 0..PODS {
        let begin = Instant::now();
        let Some(pod) = world::pod().await else { return };
        timed(begin, &mut spawn);
        let begin = Instant::now();
        pod.run().await;
        timed(begin, &mut run);
        let wish = pod.wish(&["sleep", "100000"]);
        let begin = Instant::now();
        pod.monitor.create_container(wish.request).await.unwrap();
        timed(begin, &mut create);
        let begin = Instant::now();
        pod.monitor.start_container(&wish.id).await.unwrap();
        timed(begin, &mut start);
        for _ in 0..20 {
            let begin = Instant::now();
            pod.monitor.exec_sync(&wish.id, vec!["true".into()], None).await.unwrap();
            timed(begin, &mut exec);
        }
        ids.push(wish.id);
        pods.push(pod);
    }
    if std::env::var_os("HUSK_TEST_SMAPS").is_some() {
        println!("{}", fs::read_to_string(format!("/proc/{}/smaps", pods[0].monitor.process().pid)).unwrap());
    }
    for field in ["Pss:", "Private_Dirty:", "Rss:"] {
        let sum: u64 = pods.iter().map(|pod| kib(pod.monitor.process().pid, field)).sum();
        println!("{field:<24} {} KiB per monitor", sum / PODS as u64);
    }
    for (pod, id) in pods.iter().zip(&ids) {
        let begin = Instant::now();
        pod.monitor.stop_container(id, None, Duration::ZERO).await.unwrap();
        timed(begin, &mut stop);
        let begin = Instant::now();
        pod.monitor.stop_sandbox().await.unwrap();
        timed(begin, &mut end);
        pod.finish().await;
    }
    for (name, times) in [
        ("spawn + hello", spawn),
        ("run sandbox", run),
        ("create container", create),
        ("start container", start),
        ("exec true", exec),
        ("stop container, no grace", stop),
        ("stop sandbox", end),
    ] {
        report(name, times);
    }
}

/// Ends beside two busy CPUs, with the CPU shares that the kubelet gives to containers that ask for none.
#[tokio::test]
#[ignore = "prints figures"]
async fn stops_on_a_busy_node() {
    let Some(pod) = world::pod().await else { return };
    pod.run().await;
    let spin = || std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
    let mut busy = [spin(), spin()];
    let mut stop = Vec::new();
    for _ in 0..150 {
        let args = ["sh", "-c", "sleep 1000 & sleep 1000 & echo ready; wait"];
        let mut wish = pod.wish(&args);
        wish.request.spec_json = world::spec(&args, r#"{"cpu":{"shares":2}}"#).into_bytes();
        let id = pod.start_container(wish).await;
        world::eventually("the container speaks", || !pod.log(&id).is_empty()).await;
        let begin = Instant::now();
        pod.monitor.stop_container(&id, None, Duration::ZERO).await.unwrap();
        stop.push(begin.elapsed());
        pod.monitor.remove_container(&id).await.unwrap();
    }
    for spinner in &mut busy {
        spinner.kill().unwrap();
        spinner.wait().unwrap();
    }
    println!("worst {:?}", stop.iter().max().unwrap());
    report("stop, two busy CPUs", stop);
    pod.finish().await;
}
