//! Calls, jobs and connections.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use husk_model::{PodSandboxId, Process};
use husk_systemd::{Error, PodScope, Route, Slice, Systemd};
use tokio::sync::mpsc::unbounded_channel;
use zbus::connection::Builder;

use crate::{
    bus::Bus,
    manager::{Manager, Start, World, removed},
};

/// The fake moves nobody.
const FIRST: Process = Process { pid: 42, start_time: 0 };

fn scope() -> PodScope {
    PodScope::new(Slice::parse("test.slice").unwrap(), &PodSandboxId::generate()).unwrap()
}

fn world(start: Start) -> Arc<Mutex<World>> {
    Arc::new(Mutex::new(World { start, ..World::default() }))
}

/// A client and a fake that starts units in this way.
async fn pair(bus: &Bus, start: Start) -> (Systemd, Manager) {
    let manager = Manager::on_bus(&bus.address(), world(start)).await;
    (Systemd::at(Route::Bus(bus.address())), manager)
}

#[tokio::test]
async fn a_pods_scope_is_delegated_unlimited_and_leaves_no_failed_unit() {
    let Some(bus) = Bus::start() else { return };
    let (systemd, manager) = pair(&bus, Start::Works).await;
    let scope = scope();
    systemd.start_scope(&scope, FIRST).await.unwrap();
    let world = manager.world.lock().unwrap();
    let properties = &world.started[scope.unit()];
    let shown = |name: &str| format!("{:?}", properties[name]);
    assert!(shown("Delegate").contains("true"));
    assert!(shown("Slice").contains("test.slice"));
    assert!(shown("PIDs").contains("42"));
    assert!(shown("TasksMax").contains(&u64::MAX.to_string()));
    assert!(shown("CollectMode").contains("inactive-or-failed"));
}

#[tokio::test]
async fn a_job_that_ends_before_the_call_is_answered_is_not_missed() {
    let Some(bus) = Bus::start() else { return };
    let (systemd, _manager) = pair(&bus, Start::EndsEarly).await;
    systemd.start_scope(&scope(), FIRST).await.unwrap();
}

#[tokio::test]
async fn many_units_at_once_each_hear_of_their_own_job() {
    let Some(bus) = Bus::start() else { return };
    let (systemd, manager) = pair(&bus, Start::Works).await;
    let systemd = Arc::new(systemd);
    let mut starts = tokio::task::JoinSet::new();
    // More than the queue of a stream that nobody reads would hold.
    for _ in 0..200 {
        let systemd = Arc::clone(&systemd);
        starts.spawn(async move { systemd.start_scope(&scope(), FIRST).await });
    }
    for outcome in starts.join_all().await {
        outcome.unwrap();
    }
    assert_eq!(manager.world.lock().unwrap().started.len(), 200);
}

#[tokio::test]
async fn what_systemd_refuses_or_fails_is_told_with_its_reason() {
    let Some(bus) = Bus::start() else { return };
    let (systemd, manager) = pair(&bus, Start::Fails).await;
    let failed = systemd.start_scope(&scope(), FIRST).await.unwrap_err();
    assert!(failed.to_string().contains("result \"failed\""), "{failed}");
    manager.world.lock().unwrap().start = Start::Refused;
    let refused = systemd.start_scope(&scope(), FIRST).await.unwrap_err();
    let Error::Call { source, .. } = &refused else { panic!("{refused}") };
    assert!(source.to_string().contains("it is there already"), "{source}");
}

#[tokio::test]
async fn a_systemd_that_does_not_answer_is_given_up_after_the_deadline_with_the_step() {
    let Some(bus) = Bus::start() else { return };
    let (systemd, manager) = pair(&bus, Start::Silent).await;
    let systemd = systemd.with_patience(Duration::from_millis(200));
    let late = systemd.start_scope(&scope(), FIRST).await.unwrap_err();
    assert!(late.to_string().starts_with("StartTransientUnit husk-"), "{late}");
    assert!(matches!(late, Error::Deadline { .. }), "{late:?}");
    // It recovers: the next call is on a new connection.
    manager.world.lock().unwrap().start = Start::Works;
    systemd.start_scope(&scope(), FIRST).await.unwrap();
}

#[tokio::test]
async fn another_client_of_the_bus_cannot_end_a_job() {
    let Some(bus) = Bus::start() else { return };
    let (systemd, manager) = pair(&bus, Start::NeverEnds).await;
    let stranger = Builder::address(bus.address().as_str()).build().await.unwrap();
    let scope = scope();
    let (heard, mut hears) = unbounded_channel();
    manager.world.lock().unwrap().heard = Some(heard);
    let start = systemd.start_scope(&scope, FIRST);
    let meddle = async {
        hears.recv().await.unwrap();
        removed(&stranger, 1, scope.unit(), "failed").await;
        removed(&manager.connection, 7, scope.unit(), "canceled").await;
        removed(&manager.connection, 1, scope.unit(), "done").await;
    };
    let (outcome, ()) = tokio::join!(start, meddle);
    outcome.unwrap();
}

#[tokio::test]
async fn a_restarted_bus_is_connected_to_again() {
    let Some(mut bus) = Bus::start() else { return };
    let (systemd, manager) = pair(&bus, Start::Works).await;
    systemd.start_scope(&scope(), FIRST).await.unwrap();
    drop(manager);
    bus.restart();
    let manager = Manager::on_bus(&bus.address(), world(Start::Works)).await;
    systemd.start_scope(&scope(), FIRST).await.unwrap();
    assert_eq!(manager.world.lock().unwrap().started.len(), 1);
}

#[tokio::test]
async fn a_connection_that_breaks_while_a_job_is_waited_for_ends_the_wait() {
    let Some(mut bus) = Bus::start() else { return };
    let (systemd, manager) = pair(&bus, Start::NeverEnds).await;
    let (heard, mut hears) = unbounded_channel();
    manager.world.lock().unwrap().heard = Some(heard);
    let pod = scope();
    let start = systemd.start_scope(&pod, FIRST);
    let broken = async {
        hears.recv().await.unwrap();
        bus.end();
    };
    let (outcome, ()) = tokio::join!(start, broken);
    let error = outcome.unwrap_err();
    assert!(matches!(error, Error::Lost { .. } | Error::Call { .. }), "{error:?}");
    let error = systemd.start_scope(&pod, FIRST).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error:?}");
    assert!(error.to_string().contains(&bus.address()), "{error}");
}

#[tokio::test]
async fn ending_a_unit_that_is_gone_is_fine() {
    let Some(bus) = Bus::start() else { return };
    let (systemd, _manager) = pair(&bus, Start::Works).await;
    systemd.stop_unit("husk-0.scope").await.unwrap();
}
