//! Stops, kills, OOM, and what must be true before an exit is told.

use std::time::{Duration, Instant};

use husk_model::{Classify, ExitReason, Kind, Signal};
use husk_monitor::{Event, PidNamespace};

use crate::world::{self, exit_of, processes, spec};

/// Ignores SIGTERM, says so, and lives on.
const STUBBORN: &str = "trap '' TERM; echo ready; while :; do sleep 0.1; done";

#[tokio::test]
async fn a_stop_signals_first_and_kills_after_the_grace() {
    let Some(pod) = world::pod().await else { return };
    pod.run().await;
    let polite = pod.shell("trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done").await;
    world::eventually("the container speaks", || !pod.log(&polite).is_empty()).await;
    let exit = pod.monitor.stop_container(&polite, None, Duration::from_secs(60)).await.unwrap();
    assert_eq!(exit.code, 7);
    let again = pod.monitor.stop_container(&polite, None, Duration::from_secs(60)).await.unwrap();
    assert_eq!(again, exit);
    let stubborn = pod.shell(STUBBORN).await;
    world::eventually("the container speaks", || !pod.log(&stubborn).is_empty()).await;
    let exit = pod.monitor.stop_container(&stubborn, None, Duration::from_millis(200)).await.unwrap();
    assert_eq!((exit.code, exit.reason), (137, ExitReason::Error));
    pod.finish().await;
}

#[tokio::test]
async fn of_concurrent_stops_the_earliest_deadline_counts_for_all() {
    let Some(pod) = world::pod().await else { return };
    pod.run().await;
    let id = pod.shell(STUBBORN).await;
    world::eventually("the container speaks", || !pod.log(&id).is_empty()).await;
    let begin = Instant::now();
    let long = pod.monitor.stop_container(&id, None, Duration::from_secs(3600));
    let short = pod.monitor.stop_container(&id, None, Duration::from_millis(100));
    let (long, short) = tokio::join!(long, short);
    assert_eq!(long.unwrap(), short.unwrap());
    assert!(begin.elapsed() < Duration::from_secs(600));
    pod.finish().await;
}

#[tokio::test]
async fn a_dropped_stop_goes_on_and_a_dropped_caller_does_not_break_the_connection() {
    let Some(pod) = world::pod().await else { return };
    pod.run().await;
    let id = pod.shell(STUBBORN).await;
    world::eventually("the container speaks", || !pod.log(&id).is_empty()).await;
    let mut events = pod.monitor.events();
    let stop = pod.monitor.stop_container(&id, None, Duration::from_millis(300));
    assert!(tokio::time::timeout(Duration::from_millis(20), stop).await.is_err());
    assert_eq!(exit_of(&mut events, &id).await.code, 137);
    pod.monitor.state().await.unwrap();
    pod.finish().await;
}

#[tokio::test]
async fn realtime_and_chosen_signals_arrive() {
    let Some(pod) = world::pod().await else { return };
    pod.run().await;
    let mut wish = pod.wish(&["sh", "-c", "trap 'exit 9' 37; echo ready; while :; do sleep 0.1; done"]);
    wish.request.stop_signal = Signal(37);
    let id = pod.start_container(wish).await;
    world::eventually("the container speaks", || !pod.log(&id).is_empty()).await;
    let exit = pod.monitor.stop_container(&id, None, Duration::from_secs(60)).await.unwrap();
    assert_eq!(exit.code, 9);
    let id = pod.shell("trap 'echo usr1' USR1; echo ready; while :; do sleep 0.1; done").await;
    world::eventually("the container speaks", || !pod.log(&id).is_empty()).await;
    pod.monitor.signal(&id, Signal(10)).await.unwrap();
    world::eventually("two lines are logged", || pod.log(&id).len() == 2).await;
    assert!(pod.monitor.signal(&id, Signal(200)).await.is_err());
    pod.monitor.kill_container(&id).await.unwrap();
    pod.finish().await;
}

#[tokio::test]
async fn the_rest_of_a_container_dies_with_its_init_and_its_last_words_are_logged() {
    let Some(pod) = world::pod().await else { return };
    pod.run().await;
    let mut events = pod.monitor.events();
    // In the pod's PID namespace the kernel does not do it.
    let mut wish = pod.wish(&["sh", "-c", "sleep 987654 & echo started; exit 0"]);
    wish.request.pid = PidNamespace::Pod;
    let id = wish.id.clone();
    pod.start_container(wish).await;
    let exit = exit_of(&mut events, &id).await;
    assert_eq!((exit.code, exit.reason), (0, ExitReason::Completed));
    assert_eq!(processes("987654"), [0u32; 0]);
    assert_eq!(pod.log(&id), [("stdout".to_owned(), "started".to_owned())]);
    pod.finish().await;
}

#[tokio::test]
async fn a_container_killed_for_memory_says_so() {
    let Some(pod) = world::pod().await else { return };
    pod.run().await;
    let mut events = pod.monitor.events();
    let hog = ["sh", "-c", "x=$(yes | head -c 200000000); echo survived"];
    let mut wish = pod.wish(&hog);
    let limit = r#"{"memory":{"limit":33554432,"swap":33554432}}"#;
    wish.request.spec_json = spec(&hog, limit).into_bytes();
    let id = wish.id.clone();
    pod.start_container(wish).await;
    let exit = exit_of(&mut events, &id).await;
    assert_eq!((exit.code, exit.reason), (137, ExitReason::OomKilled));
    pod.finish().await;
}

#[tokio::test]
async fn a_memory_limit_below_what_the_setup_needs_is_told_and_leaves_nothing() {
    let Some(pod) = world::pod().await else { return };
    pod.run().await;
    let mut wish = pod.wish(&["true"]);
    wish.request.spec_json = spec(&["true"], r#"{"memory":{"limit":4096}}"#).into_bytes();
    let id = wish.id.clone();
    match pod.monitor.create_container(wish.request).await {
        Err(error) => {
            println!("{error}");
            assert_eq!(error.kind(), Kind::InvalidArgument);
            assert!(!pod.has_cgroup(id.as_str()));
        }
        // The setup got by on memory charged elsewhere; then the command cannot.
        Ok(_) => assert!(pod.monitor.start_container(&id).await.is_err()),
    }
    pod.finish().await;
}

#[tokio::test]
async fn a_container_removed_while_it_runs_or_waits_is_killed() {
    let Some(pod) = world::pod().await else { return };
    pod.run().await;
    let running = pod.shell("sleep 876543").await;
    let waiting = pod.wish(&["sleep", "876543"]);
    let waiting_id = waiting.id.clone();
    pod.monitor.create_container(waiting.request).await.unwrap();
    let (first, second) =
        tokio::join!(pod.monitor.remove_container(&running), pod.monitor.remove_container(&waiting_id));
    first.unwrap();
    second.unwrap();
    assert_eq!(processes("876543"), [0u32; 0]);
    assert!(pod.monitor.state().await.unwrap().containers.is_empty());
    pod.finish().await;
}

#[tokio::test]
async fn a_container_killed_at_the_gate_ends_and_is_never_told_to_have_started() {
    let Some(pod) = world::pod().await else { return };
    pod.run().await;
    let mut events = pod.monitor.events();
    let wish = pod.wish(&["true"]);
    pod.monitor.create_container(wish.request).await.unwrap();
    pod.monitor.kill_container(&wish.id).await.unwrap();
    let first = events.next().await;
    assert!(matches!(&first, Some(Event::ContainerExited { exit, .. }) if exit.code == 137), "{first:?}");
    assert_eq!(pod.monitor.state().await.unwrap().containers[0].started_at, 0);
    pod.finish().await;
}

#[tokio::test]
async fn stopping_the_sandbox_ends_everything_and_keeps_the_exits() {
    let Some(pod) = world::pod().await else { return };
    pod.run().await;
    for _ in 0..3 {
        pod.shell("sleep 765432").await;
    }
    pod.monitor.stop_sandbox().await.unwrap();
    assert_eq!(processes("765432"), [0u32; 0]);
    let state = pod.monitor.state().await.unwrap();
    assert_eq!(state.containers.len(), 3);
    assert!(state.containers.iter().all(|container| container.exit.as_ref().is_some_and(|e| e.code == 137)));
    assert!(state.sandbox.is_some_and(|sandbox| sandbox.stopped && sandbox.exit.is_some()));
    pod.finish().await;
}
