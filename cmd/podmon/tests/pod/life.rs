//! From RunSandbox to Shutdown.

use husk_model::{Classify, ExitReason, Kind};
use husk_monitor::{Event, MonitorError, PodNetwork, SandboxRequest};
use husk_node::process::is_alive;
use husk_proto::podmon::MAX_REQUEST;

use crate::world::{self, exit_of, spec};

#[tokio::test]
async fn a_container_is_created_started_logged_and_its_exit_is_told_and_kept() {
    let Some(pod) = world::pod().await else { return };
    pod.run().await;
    let mut events = pod.monitor.events();
    let wish = pod.wish(&["sh", "-c", "echo out; echo err >&2; printf rest; exit 3"]);
    let id = wish.id.clone();
    let created = pod.monitor.create_container(wish.request).await.unwrap();
    assert!(is_alive(created.process));
    assert!(!pod.log_path(&id).exists(), "the log belongs to the start");
    let started_at = pod.monitor.start_container(&id).await.unwrap();
    assert!(pod.log_path(&id).exists(), "CRI: the log file exists before StartContainer returns");
    assert!(matches!(events.next().await, Some(Event::ContainerStarted { at, .. }) if at == started_at));
    let exit = exit_of(&mut events, &id).await;
    assert_eq!((exit.code, exit.reason), (3, ExitReason::Error));
    assert!(exit.finished_at >= started_at);
    let mut log = pod.log(&id);
    log.sort();
    let expected = [("stderr", "err"), ("stdout", "out"), ("stdout", "rest")];
    assert_eq!(log, expected.map(|(stream, line)| (stream.to_owned(), line.to_owned())));
    assert!(!pod.has_cgroup(id.as_str()), "its cgroup is gone before its exit is told");
    let state = pod.monitor.state().await.unwrap();
    assert_eq!(state.containers[0].exit.as_ref(), Some(&exit));
    assert_eq!(husk_monitor::read_records(&pod.dir).unwrap(), state, "disk and memory tell the same");
    pod.monitor.remove_container(&id).await.unwrap();
    pod.monitor.remove_container(&id).await.unwrap();
    assert!(pod.monitor.state().await.unwrap().containers.is_empty());
    pod.finish().await;
}

#[tokio::test]
async fn errors_name_the_step_and_the_object_and_leave_nothing() {
    let Some(pod) = world::pod().await else { return };
    pod.run().await;
    let mut wish = pod.wish(&["true"]);
    let id = wish.id.clone();
    let json = spec(&["true"], "{}").replace(
        r#""mounts":["#,
        r#""mounts":[{"destination":"/data","type":"bind","source":"/nope","options":["rbind"]},"#,
    );
    wish.request.spec_json = json.into_bytes();
    let error = pod.monitor.create_container(wish.request).await.unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with(&format!("create container {}: ", &id.as_str()[..13])), "{text}");
    assert!(text.contains("/nope") && text.contains("No such file or directory"), "{text}");
    assert_eq!(error.kind(), Kind::FailedPrecondition);
    assert!(!pod.has_cgroup(id.as_str()));
    assert!(pod.monitor.state().await.unwrap().containers.is_empty());

    let error = pod.monitor.start_container(&id).await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    let mut wish = pod.wish(&["true"]);
    wish.request.log_path = Some("../escape.log".into());
    let error = pod.monitor.create_container(wish.request).await.unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidArgument);
    let mut wish = pod.wish(&["true"]);
    wish.request.spec_json = b"{".to_vec();
    let error = pod.monitor.create_container(wish.request).await.unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidArgument);
    pod.finish().await;
}

#[tokio::test]
async fn a_command_that_cannot_be_executed_is_an_error_of_start_and_an_exit_of_128() {
    let Some(pod) = world::pod().await else { return };
    pod.run().await;
    let mut events = pod.monitor.events();
    let wish = pod.wish(&["/bin/absent"]);
    let id = wish.id.clone();
    pod.monitor.create_container(wish.request).await.unwrap();
    let error = pod.monitor.start_container(&id).await.unwrap_err();
    assert!(error.to_string().contains("/bin/absent"), "{error}");
    assert_eq!(error.kind(), Kind::InvalidArgument);
    let exit = exit_of(&mut events, &id).await;
    assert_eq!((exit.code, exit.reason), (128, ExitReason::StartError));
    assert!(exit.message.contains("/bin/absent"), "{}", exit.message);
    pod.finish().await;
}

#[tokio::test]
async fn a_sandbox_is_made_once_and_a_dead_pause_is_told() {
    let Some(pod) = world::pod().await else { return };
    let error = pod.monitor.create_container(pod.wish(&["true"]).request).await.unwrap_err();
    assert_eq!(error.kind(), Kind::FailedPrecondition);
    let pause = pod.monitor.run_sandbox(pod.sandbox()).await.unwrap();
    let error = pod.monitor.run_sandbox(pod.sandbox()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::AlreadyExists);
    assert_eq!(pod.monitor.release_sandbox().await.unwrap(), pause);
    assert_eq!(pod.monitor.release_sandbox().await.unwrap_err().kind(), Kind::FailedPrecondition);
    assert_eq!(pod.monitor.shutdown().await.unwrap_err().kind(), Kind::FailedPrecondition);
    let mut events = pod.monitor.events();
    let pid = rustix::process::Pid::from_raw(pause.pid as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    assert!(matches!(events.next().await, Some(Event::SandboxExited { exit }) if exit.code == 137));
    let error = pod.monitor.create_container(pod.wish(&["true"]).request).await.unwrap_err();
    assert_eq!(error.kind(), Kind::FailedPrecondition);
    pod.finish().await;
}

#[tokio::test]
async fn a_failed_sandbox_leaves_no_cgroup_and_can_be_tried_again() {
    let Some(pod) = world::pod().await else { return };
    let request =
        SandboxRequest { network: PodNetwork::Pinned("/nonexistent/netns".into()), ..pod.sandbox() };
    pod.monitor.run_sandbox(request).await.unwrap();
    let error = pod.monitor.release_sandbox().await.unwrap_err();
    assert!(error.to_string().contains("/nonexistent/netns"), "{error}");
    assert!(!pod.has_cgroup(""));
    pod.run().await;
    pod.finish().await;
}

#[tokio::test]
async fn a_held_pause_runs_nothing_and_takes_the_files_that_are_there_when_it_is_released() {
    let Some(pod) = world::pod().await else { return };
    let pause = pod.monitor.run_sandbox(pod.sandbox()).await.unwrap();
    let error = pod.monitor.create_container(pod.wish(&["true"]).request).await.unwrap_err();
    assert_eq!(error.kind(), Kind::FailedPrecondition);
    std::fs::write(pod.dir.join("hosts"), "192.0.2.7 test-pod\n").unwrap();
    assert_eq!(pod.monitor.release_sandbox().await.unwrap(), pause);
    let files = std::path::PathBuf::from(format!("/proc/{}/root/files", pause.pid));
    assert_eq!(std::fs::read_to_string(files.join("hosts")).unwrap(), "192.0.2.7 test-pod\n");
    assert!(!files.join("resolv.conf").exists(), "nobody wrote it");
    pod.finish().await;
}

#[tokio::test]
async fn a_request_beyond_the_limit_is_refused_without_being_sent() {
    let Some(pod) = world::pod().await else { return };
    let mut wish = pod.wish(&["true"]);
    wish.request.spec_json = vec![b' '; MAX_REQUEST];
    let error = pod.monitor.create_container(wish.request).await.unwrap_err();
    assert!(matches!(error, MonitorError::TooLarge { .. }));
    assert!(pod.monitor.is_connected());
    pod.finish().await;
}

#[tokio::test]
async fn limits_are_set_and_updated() {
    let Some(pod) = world::pod().await else { return };
    pod.run().await;
    let mut wish = pod.wish(&["sleep", "1000"]);
    wish.request.spec_json =
        spec(&["sleep", "1000"], r#"{"memory":{"limit":67108864},"pids":{"limit":50}}"#).into_bytes();
    let id = pod.start_container(wish).await;
    let update = br#"{"memory":{"limit":134217728}}"#.to_vec();
    pod.monitor.update_resources(Some(&id), update).await.unwrap();
    let error = pod.monitor.update_resources(Some(&id), b"{".to_vec()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::InvalidArgument);
    let path = husk_cgroup::CgroupPath::parse(&format!("{}/{id}", pod.cgroup)).unwrap();
    let stats = husk_cgroup::Hierarchy::detect().unwrap().open(&path).unwrap().stats().unwrap();
    assert_eq!(stats.memory.map(|memory| memory.limit), Some(Some(134_217_728)));
    pod.finish().await;
}
