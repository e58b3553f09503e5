//! The daemon goes away and comes back; the monitor goes away.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
};

use husk_model::{Classify, Kind};
use husk_monitor::{Event, Monitor};
use husk_proto::podmon;

use crate::world::{self, eventually, exit_of};

#[tokio::test]
async fn an_exit_while_nobody_is_connected_is_known_to_the_next_daemon() {
    let Some(pod) = world::pod().await else { return };
    pod.run().await;
    let lives = pod.shell("while :; do echo tick; sleep 0.05; done").await;
    let ends = pod.shell("sleep 0.3; echo bye; exit 11").await;
    // What the kernel does to the sockets of a killed daemon.
    let world::Pod { monitor, dir, .. } = &pod;
    let old = monitor.clone();
    let record = dir.join("containers").join(ends.as_str()).join("state.json");
    drop(old);
    eventually("the exit is recorded", || {
        std::fs::read_to_string(&record).is_ok_and(|text| text.contains("\"code\":11"))
    })
    .await;
    let next = Monitor::connect(dir).await.unwrap();
    assert_eq!(next.process(), monitor.process());
    let mut events = next.events();
    let state = next.state().await.unwrap();
    let of = |id| state.containers.iter().find(|container| container.id == id).unwrap();
    if of(ends.clone()).exit.is_none() {
        assert_eq!(exit_of(&mut events, &ends).await.code, 11);
    } else {
        assert_eq!(of(ends.clone()).exit.as_ref().unwrap().code, 11);
    }
    assert!(of(lives.clone()).exit.is_none());
    let seen = pod.log(&lives).len();
    eventually("the log goes on", || pod.log(&lives).len() > seen).await;
    let output = next.exec_sync(&lives, vec!["echo".into(), "hi".into()], None).await.unwrap();
    assert_eq!(output.stdout, b"hi\n");
    pod.finish().await;
}

#[tokio::test]
async fn garbage_closes_its_own_connection_only() {
    let Some(pod) = world::pod().await else { return };
    pod.run().await;
    let mut garbage = UnixStream::connect(pod.dir.join("monitor.sock")).unwrap();
    garbage.write_all(&[0xff; 64]).unwrap();
    assert_eq!(garbage.read(&mut [0; 8]).unwrap_or(0), 0);
    let mut half = UnixStream::connect(pod.dir.join("monitor.sock")).unwrap();
    half.write_all(&[200, 0, 0, 0, 1]).unwrap();
    drop(half);
    pod.monitor.state().await.unwrap();
    pod.finish().await;
}

#[tokio::test]
async fn a_call_of_a_newer_daemon_is_answered_with_unimplemented() {
    let Some(pod) = world::pod().await else { return };
    let mut newer = UnixStream::connect(pod.dir.join("monitor.sock")).unwrap();
    // Request { id: 7, <field 999>: {} }
    let body = [0x08, 7, 0xba, 0x3e, 0];
    newer.write_all(&[&5u32.to_le_bytes()[..], &body].concat()).unwrap();
    let mut header = [0; 4];
    newer.read_exact(&mut header).unwrap();
    let mut frame = vec![0; u32::from_le_bytes(header) as usize];
    newer.read_exact(&mut frame).unwrap();
    let frame: podmon::ServerFrame = prost::Message::decode(frame.as_slice()).unwrap();
    let Some(podmon::server_frame::Frame::Response(response)) = frame.frame else { panic!("{frame:?}") };
    let Some(podmon::response::Result::Error(error)) = &response.result else { panic!("{response:?}") };
    assert_eq!((response.id, error.code()), (7, podmon::error::Code::Unimplemented));
    pod.finish().await;
}

#[tokio::test]
async fn sigterm_does_not_end_the_monitor_and_its_death_is_noticed_and_proved() {
    let Some(pod) = world::pod().await else { return };
    pod.run().await;
    let id = pod.shell("sleep 321098").await;
    let process = pod.monitor.process();
    let pid = rustix::process::Pid::from_raw(process.pid as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    pod.monitor.state().await.unwrap();
    let mut events = pod.monitor.events();
    let pending = pod.monitor.exec_sync(&id, vec!["sleep".into(), "1000".into()], None);
    let (result, ()) = tokio::join!(pending, async {
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    });
    assert_eq!(result.unwrap_err().kind(), Kind::Unavailable);
    while let Some(event) = events.next().await {
        assert_eq!(event, Event::Disconnected);
    }
    assert!(!pod.monitor.is_connected());
    assert_eq!(pod.monitor.state().await.unwrap_err().kind(), Kind::Unavailable);
    eventually("the monitor is gone", || !husk_node::process::is_alive(process)).await;
    let error = Monitor::connect(&pod.dir).await.unwrap_err();
    assert!(error.is_gone(), "{error}");
    let records = husk_monitor::read_records(&pod.dir).unwrap();
    assert_eq!(records.containers.len(), 1);
    // What a daemon does with the rest of such a pod.
    let path = husk_cgroup::CgroupPath::parse(&pod.cgroup).unwrap();
    let cgroup = husk_cgroup::Hierarchy::detect().unwrap().open(&path).unwrap();
    cgroup.kill().unwrap();
    cgroup.remove().unwrap();
}

#[tokio::test]
async fn a_deep_state_directory_does_not_break_the_socket() {
    let Some(_) = world::pod().await else { return };
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("d".repeat(100)).join("e".repeat(100));
    std::fs::create_dir_all(&dir).unwrap();
    let config = husk_monitor::MonitorConfig {
        podmon_path: env!("CARGO_BIN_EXE_husk-podmon").into(),
        pause_path: "/bin/true".into(),
        nofile_soft: None,
    };
    let monitor = Monitor::spawn(&config, &dir).await.unwrap();
    let again = Monitor::connect(&dir).await.unwrap();
    assert_eq!(again.process(), monitor.process());
    monitor.shutdown().await.unwrap();
}
