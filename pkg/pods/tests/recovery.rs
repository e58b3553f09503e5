//! What a killed daemon leaves, and what the next one makes of it. Needs root.

mod common;

use std::{
    fs,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use common::{Node, eventually, ready, shell};
use husk_model::{Classify, ContainerState, Kind, PodState};
use husk_pods::Hang;
use rustix::process::{Pid, Signal, kill_process};

const SLEEP: &str = "while :; do sleep 0.02; done";

fn monitor_pid(node: &Node, pod: &str) -> Pid {
    let path = node.state().join("pods").join(pod).join("monitor.json");
    let record: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    Pid::from_raw(record["pid"].as_i64().unwrap() as i32).unwrap()
}

#[test]
fn a_monitor_stands_by_for_the_next_pod_and_ends_with_its_daemon() {
    if !ready() {
        return;
    }
    let mut node = Node::start();
    let mut number = 0;
    // That it is there is seen a moment before it is ready.
    let pod = eventually("a pod takes the monitor that stood by", || {
        let standbys =
            eventually("a monitor stands by", || Some(node.standbys()).filter(|all| !all.is_empty()));
        number += 1;
        let pod = node.pod(&format!("next-{number}"));
        standbys.contains(&monitor_pid(&node, &pod).as_raw_nonzero().get().cast_unsigned()).then_some(pod)
    });
    assert!(node.processes().iter().any(|line| line.contains(&pod)), "its command line says whose it is");

    let standby = eventually("another one stands by", || node.standbys().first().copied());
    kill_process(Pid::from_raw(standby.cast_signed()).unwrap(), Signal::KILL).unwrap();
    node.pod("unaided");
    eventually("a third one stands by", || node.standbys().first().copied());
    node.kill_engine();
    eventually("it has ended with its daemon", || node.standbys().is_empty().then_some(()));
    node.start_engine();
    assert_eq!(node.engine().pod_status(&pod).unwrap().state, PodState::Ready);
    node.remove_all();
}

#[test]
fn a_monitor_that_ends_when_it_gets_its_pod_is_replaced() {
    if !ready() {
        return;
    }
    let node = Node::start();
    let standby = eventually("a monitor stands by", || node.standbys().first().copied());
    let standby = Pid::from_raw(standby.cast_signed()).unwrap();
    // It has its pod, and cannot answer.
    kill_process(standby, Signal::STOP).unwrap();
    let engine = Arc::clone(node.engine());
    let config = node.pod_config("inherited");
    let pod = node.spawn(async move { engine.run_pod_sandbox(config).await });
    let pods = node.state().join("pods");
    eventually("the pod has a socket for its monitor", || {
        let mut dirs = fs::read_dir(&pods).ok()?.flatten();
        dirs.find(|dir| dir.path().join("monitor.sock").exists()).map(drop)
    });
    kill_process(standby, Signal::KILL).unwrap();
    let pod = node.wait(pod).unwrap().expect("the pod has another monitor");
    assert_eq!(node.engine().pod_status(pod.as_str()).unwrap().state, PodState::Ready);
    node.remove_all();
}

#[test]
fn everything_is_found_again_with_exits_that_happened_meanwhile() {
    if !ready() {
        return;
    }
    let mut node = Node::start();
    let pod = node.pod("found");
    let running = node.run(&pod, "running", SLEEP);
    let created = node.create(&pod, shell("created", "exit 6"));
    let ended = node.run(&pod, "ended", "exit 3");
    let before = node.wait_exit(&ended);
    let fading = node.run(&pod, "fading", "while [ ! -e /go ]; do sleep 0.01; done; exit 42");
    let started = node.state_of(&running);
    let process = node.engine().container_status(&running).unwrap().process;
    // Through the container's own root: overlayfs does not look at what others do to its upper directory.
    let inside =
        format!("/proc/{}/root/go", node.engine().container_status(&fading).unwrap().process.unwrap().pid);
    node.kill_engine();
    fs::write(inside, "").unwrap();
    let record = node.state().join("pods").join(&pod).join("containers").join(&fading).join("state.json");
    eventually("the exit is recorded", || {
        fs::read_to_string(&record).ok()?.contains("\"code\":42").then_some(())
    });
    node.start_engine();

    let status = node.engine().pod_status(&pod).unwrap();
    assert_eq!((status.state, status.ips.len()), (PodState::Ready, 1));
    assert!(status.process.is_some());
    assert_eq!(node.state_of(&running), started);
    assert_eq!(node.engine().container_status(&running).unwrap().process, process);
    assert_eq!(node.state_of(&created), ContainerState::Created);
    assert!(matches!(node.state_of(&ended), ContainerState::Exited { exit, .. } if exit == before));
    let ContainerState::Exited { started_at, exit } = node.state_of(&fading) else {
        panic!("{:?}", node.state_of(&fading))
    };
    assert_eq!(exit.code, 42);
    assert!(exit.finished_at > started_at && started_at > 0);
    assert_eq!(node.images.leases.load(std::sync::atomic::Ordering::SeqCst), 4, "images are leased again");
    // Names too.
    assert_eq!(node.wait(node.engine().run_pod_sandbox(node.pod_config("found"))).unwrap().as_str(), pod);
    assert_eq!(node.create(&pod, shell("created", "exit 6")), created);
    node.wait(node.engine().start_container(&created)).unwrap();
    assert_eq!(node.wait_exit(&created).code, 6);
    let output = node.wait(node.engine().exec_sync(&running, vec!["true".into()], None)).unwrap();
    assert_eq!(output.exit_code, 0);
    node.remove_all();
}

#[test]
fn a_stopped_pod_stays_stopped() {
    if !ready() {
        return;
    }
    let mut node = Node::start();
    let pod = node.pod("stopped");
    let id = node.run(&pod, "main", SLEEP);
    node.wait(node.engine().stop_pod_sandbox(&pod)).unwrap();
    node.restart();
    assert_eq!(node.engine().pod_status(&pod).unwrap().state, PodState::NotReady);
    assert_eq!(node.wait_exit(&id).code, 137);
    let refused = node.wait(node.engine().create_container(&pod, shell("late", "true"))).unwrap_err();
    assert_eq!(refused.kind(), Kind::FailedPrecondition);
    node.wait(node.engine().stop_pod_sandbox(&pod)).unwrap();
    node.remove_all();
}

#[test]
fn a_stop_that_failed_half_way_is_a_state_from_which_a_retry_goes_on() {
    if !ready() {
        return;
    }
    let mut node = Node::start();
    let pod = node.pod("half");
    let id = node.run(&pod, "main", SLEEP);
    node.network.holds.store(true, Ordering::SeqCst);
    let stop = |node: &Node| node.wait(node.engine().stop_pod_sandbox(&pod));
    let error = stop(&node).unwrap_err();
    assert!(husk_model::chain(&error).contains("tear-down was told to fail"), "{error:?}");
    let half = |node: &Node| {
        assert_eq!(node.engine().pod_status(&pod).unwrap().state, PodState::NotReady);
        assert!(matches!(node.state_of(&id), ContainerState::Exited { .. }), "what was done stays done");
        let refused = node.wait(node.engine().create_container(&pod, shell("late", SLEEP))).unwrap_err();
        assert_eq!(refused.kind(), Kind::FailedPrecondition);
    };
    half(&node);
    // It is on record.
    node.restart();
    half(&node);
    stop(&node).unwrap_err();
    node.network.holds.store(false, Ordering::SeqCst);
    stop(&node).unwrap();
    assert!(node.engine().pod_status(&pod).unwrap().ips.is_empty());
    node.remove_all();
    node.assert_nothing_left();
}

#[test]
fn a_dead_monitor_takes_its_pod_along() {
    if !ready() {
        return;
    }
    let mut node = Node::start();
    // Once while the daemon watches, once while it does not.
    for watched in [true, false] {
        let pod = node.pod("orphan");
        let running = node.run(&pod, "running", SLEEP);
        let ended = node.run(&pod, "ended", "exit 3");
        node.wait_exit(&ended);
        let pid = monitor_pid(&node, &pod);
        if watched {
            kill_process(pid, Signal::KILL).unwrap();
        } else {
            node.kill_engine();
            kill_process(pid, Signal::KILL).unwrap();
            node.start_engine();
        }
        let exit = node.wait_exit(&running);
        assert_eq!(exit.code, 255, "an exit that nobody saw has no code of its own");
        assert_eq!(node.wait_exit(&ended).code, 3, "one that was recorded counts");
        eventually("the pod is not ready", || {
            (node.engine().pod_status(&pod).unwrap().state == PodState::NotReady).then_some(())
        });
        let refused = node.wait(node.engine().exec_sync(&running, vec!["true".into()], None)).unwrap_err();
        assert_eq!(refused.kind(), Kind::FailedPrecondition);
        node.wait(node.engine().stop_pod_sandbox(&pod)).unwrap();
        node.remove_all();
    }
}

#[test]
fn a_pause_that_dies_makes_the_pod_not_ready() {
    if !ready() {
        return;
    }
    let node = Node::start();
    let pod = node.pod("nopause");
    let id = node.run(&pod, "main", SLEEP);
    let pid = node.engine().pod_status(&pod).unwrap().process.unwrap().pid;
    kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
    eventually("the pod is not ready", || {
        (node.engine().pod_status(&pod).unwrap().state == PodState::NotReady).then_some(())
    });
    // Pause was PID 1 of the pod's PID namespace, so the kernel has killed the container.
    assert_eq!(node.wait_exit(&id).code, 137);
    node.remove_all();
}

/// Well above the bound of an ending that a monitor hangs in (10 s), and below the deadlines of its calls (30 s and more).
const HUNG: Duration = Duration::from_secs(25);

/// Long enough for a monitor that lives on a busy node.
const SOON: Hang = Hang { pause: Duration::from_millis(100), silence: Duration::from_secs(2) };

#[test]
fn a_pod_whose_monitor_hangs_ends_soon_and_can_be_removed() {
    if !ready() {
        return;
    }
    let node = Node::start_with(SOON);
    let pod = node.pod("hung");
    let id = node.run(&pod, "main", SLEEP);
    kill_process(monitor_pid(&node, &pod), Signal::STOP).unwrap();
    let began = Instant::now();
    node.wait(node.engine().stop_pod_sandbox(&pod)).unwrap();
    assert!(began.elapsed() < HUNG, "{:?}", began.elapsed());
    assert_eq!(node.wait_exit(&id).code, 255);
    node.remove_all();
}

#[test]
fn a_pod_whose_monitor_hangs_in_a_creation_or_after_the_stop_can_be_removed_soon() {
    if !ready() {
        return;
    }
    let node = Node::start_with(SOON);
    let (stopped, creating) = (node.pod("stopped"), node.pod("creating"));
    node.run(&stopped, "main", SLEEP);
    node.wait(node.engine().stop_pod_sandbox(&stopped)).unwrap();
    for pod in [&stopped, &creating] {
        kill_process(monitor_pid(&node, pod), Signal::STOP).unwrap();
    }
    let began = Instant::now();
    node.wait(async {
        let create = node.engine().create_container(&creating, shell("main", SLEEP));
        let first = node.engine().remove_pod_sandbox(&stopped);
        let second = node.engine().remove_pod_sandbox(&creating);
        let (created, first, second) = tokio::join!(create, first, second);
        created.unwrap_err();
        first.unwrap();
        second.unwrap();
    });
    assert!(began.elapsed() < 2 * HUNG, "{:?}", began.elapsed());
    node.remove_all();
}

#[test]
fn records_that_cannot_be_read_are_reported_and_can_be_removed() {
    if !ready() {
        return;
    }
    let mut node = Node::start();
    let whole = node.pod("whole");
    let id = node.run(&whole, "main", SLEEP);
    let broken = node.pod("broken");
    let inside = node.run(&broken, "main", SLEEP);
    // One that nobody monitors any more, under a parent that only its lost record named.
    let mut config = node.pod_config("lost");
    config.cgroup_parent = format!("{}/elsewhere", node.cgroup_parent);
    let lost = node.wait(node.engine().run_pod_sandbox(config)).unwrap().to_string();
    node.run(&lost, "main", SLEEP);
    node.kill_engine();
    let pods = node.state().join("pods");
    kill_process(monitor_pid(&node, &lost), Signal::KILL).unwrap();
    fs::write(pods.join(&lost).join("pod.json"), "[]").unwrap();
    fs::write(pods.join(&whole).join("containers").join(&id).join("container.json"), "{ not json").unwrap();
    fs::write(pods.join(&broken).join("pod.json"), "").unwrap();
    node.start_engine();
    assert!(
        matches!(node.state_of(&id), ContainerState::Unknown { reason } if reason.contains("container.json"))
    );
    assert_eq!(node.engine().pod_status(&whole).unwrap().state, PodState::Ready);
    let status = node.engine().pod_status(&broken).unwrap();
    assert_eq!(status.state, PodState::NotReady);
    assert!(status.message.contains("pod.json"), "{}", status.message);
    assert!(node.engine().container_status(&inside).is_ok());
    node.wait(node.engine().stop_pod_sandbox(&broken)).unwrap();
    node.wait(node.engine().remove_container(&id)).unwrap();
    for pod in node.engine().list_pods() {
        node.wait(node.engine().remove_pod_sandbox(pod.id.as_str())).unwrap();
    }
    // The parents are the kubelet's business.
    for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let _ = fs::remove_dir(hierarchy.path().join(format!("{}/elsewhere", &node.cgroup_parent[1..])));
    }
    node.assert_nothing_left();
}

#[test]
fn what_another_boot_left_is_taken_away() {
    if !ready() {
        return;
    }
    let mut node = Node::start();
    let pod = node.pod("old");
    node.run(&pod, "main", SLEEP);
    node.kill_engine();
    // As after a reboot: no process, and records that name another boot.
    kill_process(monitor_pid(&node, &pod), Signal::KILL).unwrap();
    for name in ["pod.json", "monitor.json"] {
        let path = node.state().join("pods").join(&pod).join(name);
        let mut record: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        record["boot_id"] = "another".into();
        fs::write(path, record.to_string()).unwrap();
    }
    node.start_engine();
    node.assert_nothing_left();
}

/// Moments at which the daemon is killed.
const ROUNDS: u32 = 32;

fn life(node: &Node, name: &str) -> impl Future<Output = husk_pods::Result<()>> + Send + use<> {
    let (engine, config) = (node.engine().clone(), node.pod_config(name));
    async move {
        let pod = engine.run_pod_sandbox(config).await?.to_string();
        let id = engine.create_container(&pod, shell("main", SLEEP)).await?.to_string();
        engine.start_container(&id).await?;
        engine.stop_container(&id, Duration::ZERO).await?;
        engine.remove_container(&id).await?;
        engine.stop_pod_sandbox(&pod).await?;
        engine.remove_pod_sandbox(&pod).await
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the moment of the kill is what is tested")]
fn the_daemon_can_be_dropped_at_evenly_spread_moments_of_a_pods_life() {
    if !ready() {
        return;
    }
    let mut node = Node::start();
    // The moments cover a whole life, however long it takes here.
    let whole = std::time::Instant::now();
    node.wait(life(&node, "whole")).unwrap();
    let step = whole.elapsed() / ROUNDS;
    for round in 0..ROUNDS {
        let life = node.spawn(life(&node, &format!("moment-{round}")));
        std::thread::sleep(step * round);
        drop(life);
        node.restart();
        for container in node.engine().list_containers() {
            assert!(
                !matches!(container.state, ContainerState::Unknown { .. }),
                "round {round}: {:?}",
                container.state
            );
        }
        for pod in node.engine().list_pods() {
            if pod.state == PodState::Ready {
                let id = node.run(pod.id.as_str(), "after", "exit 9");
                assert_eq!(node.wait_exit(&id).code, 9, "round {round}: a pod that is ready works");
            }
        }
        node.remove_all();
    }
}
