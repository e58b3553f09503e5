//! How plugins get in, and that nothing is lost meanwhile.

use std::sync::Arc;

use husk_nri::Event;
use husk_proto::nri;
use prost::Message;

use crate::fake::{Does, LIMIT, Plugin, World, answer, container, except, fine, pod, well_behaved};

/// Lets every other task of this runtime go as far as it can. The driver of sockets gets its turn every 61st time.
async fn others_run() {
    for _ in 0..10 * 61 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_plugin_is_configured_and_told_of_everything() {
    let world = World::new().await;
    let pod = pod();
    *world.engine.containers.lock().unwrap() = vec![container(&pod, 0)];
    *world.engine.pods.lock().unwrap() = vec![pod];
    let plugin = world.plugin("42", "good", well_behaved()).await;
    let configure = nri::ConfigureRequest::decode(plugin.heard("Configure").await.as_slice()).unwrap();
    assert_eq!((configure.runtime_name.as_str(), configure.request_timeout), ("test", 300));
    let sync = nri::SynchronizeRequest::decode(plugin.heard("Synchronize").await.as_slice()).unwrap();
    assert_eq!(sync.pods[0].name, "web");
    assert_eq!(sync.pods[0].linux.clone().unwrap().cgroup_parent, "/kubepods");
    assert_eq!(sync.containers[0].name, "main");
    assert_eq!(sync.containers[0].args, ["sh"]);
}

#[tokio::test]
async fn nothing_is_created_between_the_list_and_the_first_event() {
    let world = World::new().await;
    let (release, wait) = tokio::sync::oneshot::channel();
    let wait = std::sync::Mutex::new(Some(wait));
    let answers = except("Synchronize", move |_| Does::Waits(wait.lock().unwrap().take().unwrap()));
    let plugin = Plugin::connect(&world, "00", "slow", answers).await;
    plugin.heard("Synchronize").await;
    assert!(world.nri.active(), "whoever creates something now must look for the turn");
    let nri = Arc::clone(&world.nri);
    let (entered, has_entered) = tokio::sync::watch::channel(false);
    let creation = tokio::spawn(async move {
        let _turn = nri.enter().await;
        entered.send_replace(true);
        nri.tell(Event::RunPodSandbox, &pod(), None).await
    });
    others_run().await;
    assert!(!*has_entered.borrow(), "a creation begins while a plugin is told what there is");
    release.send(()).unwrap();
    creation.await.unwrap().unwrap();
    assert_eq!(plugin.calls("RunPodSandbox"), 1, "it was not in the list, so it is an event");
}

#[tokio::test]
async fn a_creation_in_progress_ends_before_the_list_is_made() {
    let world = World::new().await;
    let turn = world.nri.enter().await;
    let plugin = Plugin::connect(&world, "00", "late", well_behaved()).await;
    plugin.heard("Configure").await;
    others_run().await;
    assert_eq!(plugin.calls("Synchronize"), 0);
    *world.engine.pods.lock().unwrap() = vec![pod()];
    drop(turn);
    let sync = nri::SynchronizeRequest::decode(plugin.heard("Synchronize").await.as_slice()).unwrap();
    assert_eq!(sync.pods.len(), 1);
}

#[tokio::test]
async fn a_large_node_is_told_of_in_several_messages() {
    let world = World::new().await;
    let pod = pod();
    *world.engine.containers.lock().unwrap() = (0..1000).map(|_| container(&pod, 10_000)).collect();
    *world.engine.pods.lock().unwrap() = vec![pod];
    let plugin = world.plugin("00", "good", well_behaved()).await;
    let messages = plugin.all_heard();
    let containers: usize = messages
        .iter()
        .filter(|(method, _)| method == "Synchronize")
        .map(|(_, payload)| nri::SynchronizeRequest::decode(payload.as_slice()).unwrap().containers.len())
        .sum();
    assert_eq!(containers, 1000);
    assert!(plugin.calls("Synchronize") >= 3);

    // One that takes the first message for the last would not know of all containers.
    let old = Plugin::connect(&world, "01", "old", except("Synchronize", |_| fine())).await;
    old.heard("Synchronize").await;
    drop(world.nri.enter().await);
    world.nri.tell(Event::RunPodSandbox, &self::pod(), None).await.unwrap();
    assert_eq!(old.calls("RunPodSandbox"), 0);
    assert_eq!(plugin.calls("RunPodSandbox"), 1);
}

#[tokio::test]
async fn names_that_are_none_are_refused_and_nobody_registers_twice() {
    let world = World::new().await;
    for (index, name) in [("0", "x"), ("ab", "x"), ("00", ""), ("00", "../x")] {
        let plugin = Plugin::connect(&world, index, name, well_behaved()).await;
        let status = plugin.answers(1).await[0].status.clone().expect("an error");
        assert_eq!(status.code, 3, "{index:?} {name:?}: {}", status.message);
        assert_eq!(plugin.calls("Configure"), 0);
    }
    let plugin = world.plugin("00", "good", well_behaved()).await;
    plugin.call(3, "RegisterPlugin", &nri::RegisterPluginRequest::default()).await;
    assert!(plugin.answers(2).await[1].status.is_some());
}

#[tokio::test]
async fn whoever_does_not_register_or_configure_is_let_go() {
    let world = World::new().await;
    let silent = Plugin::silent(&world, well_behaved()).await;
    let hanging = Plugin::connect(&world, "00", "hanging", except("Configure", |_| Does::Nothing)).await;
    let greedy = Plugin::connect(
        &world,
        "00",
        "greedy",
        except("Configure", |_| answer(nri::ConfigureResponse { events: i32::MAX, failure_policy: None })),
    )
    .await;
    greedy.heard("Configure").await;
    hanging.heard("Configure").await;
    for mut plugin in [silent, hanging, greedy] {
        plugin.is_let_go().await;
        assert_eq!(plugin.calls("Synchronize"), 0);
    }
    assert!(!world.nri.active());
}

#[tokio::test]
async fn a_synchronize_that_hangs_holds_up_creations_for_its_limit_only() {
    let world = World::new().await;
    let plugin = Plugin::connect(&world, "00", "hanging", except("Synchronize", |_| Does::Nothing)).await;
    plugin.heard("Synchronize").await;
    let began = std::time::Instant::now();
    drop(world.nri.enter().await);
    assert!(began.elapsed() < 4 * LIMIT);
    assert!(!world.nri.active());
}
