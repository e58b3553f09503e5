//! Plugins that hang, break the protocol or go away: they cost their time limit, and nothing else.

use std::time::Instant;

use husk_nri::{Event, NriError};
use husk_proto::nri;

use crate::fake::{Does, LIMIT, Plugin, World, answer, except, frame, pod, well_behaved};

/// A sandbox is told of to a plugin that does `does`; returns how long it took.
async fn told(does: impl Fn() -> Does + Send + Sync + 'static) -> (World, Plugin, std::time::Duration) {
    let world = World::new().await;
    let plugin = world.plugin("00", "broken", except("RunPodSandbox", move |_| does())).await;
    let began = Instant::now();
    world.nri.tell(Event::RunPodSandbox, &pod(), None).await.expect("the request goes on");
    let took = began.elapsed();
    (world, plugin, took)
}

#[tokio::test]
async fn a_plugin_that_hangs_is_disconnected_and_does_not_stall_pods() {
    let (world, plugin, took) = told(|| Does::Nothing).await;
    assert!(took >= LIMIT && took < 5 * LIMIT, "{took:?}");
    world.until(false).await;
    world.nri.tell(Event::RunPodSandbox, &pod(), None).await.unwrap();
    assert_eq!(plugin.calls("RunPodSandbox"), 1);
}

#[tokio::test]
async fn garbage_an_oversize_frame_and_an_unknown_type_end_the_connection_at_once() {
    let garbage = frame(1, 1, 2, &[0xff; 40]);
    let huge_frame = [0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff].to_vec();
    let huge_message = [0, 0, 0, 1, 0, 0, 0, 10, 0x7f, 0, 0, 0, 0, 0, 0, 1, 2, 0].to_vec();
    let unknown = frame(1, 1, 7, b"");
    let answer_on_the_wrong_side = frame(2, 1, 2, b"");
    for bytes in [huge_frame, huge_message, unknown, answer_on_the_wrong_side] {
        let (world, _plugin, took) = told(move || Does::Writes(bytes.clone())).await;
        assert!(took < LIMIT, "{took:?}");
        world.until(false).await;
    }
    // An answer to a call that nobody made is passed over; the real one never comes.
    let (world, _plugin, took) = told(move || Does::Writes(garbage.clone())).await;
    assert!(took >= LIMIT, "{took:?}");
    world.until(false).await;
}

#[tokio::test]
async fn an_answer_that_cannot_be_decoded_ends_the_connection() {
    let (world, _plugin, took) = told(|| Does::Answers(vec![0xff; 3])).await;
    assert!(took < LIMIT, "{took:?}");
    world.until(false).await;
}

#[tokio::test]
async fn a_plugin_that_goes_away_in_a_call_does_not_fail_it() {
    let (world, _plugin, took) = told(|| Does::Closes).await;
    assert!(took < LIMIT, "{took:?}");
    world.until(false).await;
}

#[tokio::test]
async fn a_plugin_can_ask_to_be_kept_and_that_requests_fail() {
    let world = World::new().await;
    let policy = nri::FailurePolicy { fail_request: true, keep_connected: true };
    let plugin = world
        .plugin(
            "00",
            "strict",
            Box::new(move |method, payload| match method {
                "Configure" => answer(nri::ConfigureResponse { events: 0, failure_policy: Some(policy) }),
                "RunPodSandbox" => Does::Nothing,
                _ => well_behaved()(method, payload),
            }),
        )
        .await;
    for calls in [1, 2] {
        let error = world.nri.tell(Event::RunPodSandbox, &pod(), None).await.unwrap_err();
        assert!(matches!(error, NriError::NoAnswer { .. }), "{error}");
        assert_eq!(plugin.calls("RunPodSandbox"), calls);
    }
}

#[tokio::test]
async fn a_plugin_that_floods_the_runtime_with_calls_is_disconnected() {
    let world = World::new().await;
    let plugin = world.plugin("00", "flood", well_behaved()).await;
    // More than can be worked on at once, in one write: the runtime cannot answer in between.
    let call = frame(2, 3, 1, &[]);
    plugin.write(&call.repeat(20_000)).await;
    world.until(false).await;
}
