//! Several plugins together: their order, refusals, and what they ask for.

use husk_model::Resources;
use husk_nri::{Event, NriError};
use husk_proto::nri;
use prost::Message;

use crate::fake::{Answers, Does, World, answer, container, except, fine, pod, well_behaved};

fn sets(key: &'static str, value: &'static str) -> Answers {
    except("CreateContainer", move |_| {
        let env = vec![nri::KeyValue { key: key.to_owned(), value: value.to_owned() }];
        let adjust = nri::ContainerAdjustment { env, ..Default::default() };
        answer(nri::CreateContainerResponse { adjust: Some(adjust), ..Default::default() })
    })
}

fn shares(container: &str, shares: u64) -> nri::ContainerUpdate {
    let cpu = nri::LinuxCpu { shares: Some(nri::OptionalUInt64 { value: shares }), ..Default::default() };
    let resources = nri::LinuxResources { cpu: Some(cpu), ..Default::default() };
    nri::ContainerUpdate {
        container_id: container.to_owned(),
        linux: Some(nri::LinuxContainerUpdate { resources: Some(resources) }),
        ignore_failure: false,
    }
}

#[tokio::test]
async fn plugins_are_asked_in_the_order_of_their_indices_and_see_what_was_changed_before() {
    let world = World::new().await;
    let last = world.plugin("20", "last", sets("B", "2")).await;
    let first = world.plugin("10", "first", sets("A", "1")).await;
    let pod = pod();
    let adjusted =
        world.nri.create_container(&pod, &container(&pod, 0)).await.unwrap().expect("two plugins care");
    assert_eq!(adjusted.spec.process().clone().unwrap().env().clone().unwrap(), ["A=1", "B=2"]);
    let seen = |payload: Vec<u8>| {
        nri::CreateContainerRequest::decode(payload.as_slice()).unwrap().container.unwrap().env
    };
    assert!(seen(first.heard("CreateContainer").await).is_empty());
    assert_eq!(seen(last.heard("CreateContainer").await), ["A=1"]);
}

#[tokio::test]
async fn when_one_refuses_those_that_agreed_are_told_and_the_others_are_not_asked() {
    let world = World::new().await;
    let first = world.plugin("10", "first", well_behaved()).await;
    let second = world
        .plugin(
            "20",
            "second",
            Box::new(|method, payload| match method {
                "CreateContainer" | "RunPodSandbox" => Does::Fails(2, "not today"),
                _ => well_behaved()(method, payload),
            }),
        )
        .await;
    let third = world.plugin("30", "third", well_behaved()).await;
    let pod = pod();
    let error = world.nri.create_container(&pod, &container(&pod, 0)).await.unwrap_err();
    assert_eq!(error.to_string(), "NRI plugin 20-second refused CreateContainer: not today");
    let error = world.nri.tell(Event::RunPodSandbox, &pod, None).await.unwrap_err();
    assert!(matches!(error, NriError::Refused { .. }));
    for gone in ["RemoveContainer", "RemovePodSandbox"] {
        assert_eq!((first.calls(gone), second.calls(gone), third.calls(gone)), (1, 0, 0), "{gone}");
    }
    assert_eq!(third.calls("CreateContainer") + third.calls("RunPodSandbox"), 0);
}

#[tokio::test]
async fn a_conflict_fails_the_creation_and_is_taken_back_everywhere() {
    let world = World::new().await;
    let first = world.plugin("10", "first", sets("A", "1")).await;
    let second = world.plugin("20", "second", sets("A", "2")).await;
    let pod = pod();
    let error = world.nri.create_container(&pod, &container(&pod, 0)).await.unwrap_err();
    assert!(matches!(error, NriError::Conflict { .. }), "{error}");
    assert_eq!((first.calls("RemoveContainer"), second.calls("RemoveContainer")), (1, 1));
}

#[tokio::test]
async fn a_plugin_of_an_older_nri_is_told_by_state_changes() {
    let world = World::new().await;
    let plugin = world.plugin("00", "old", except("RunPodSandbox", |_| Does::Fails(12, "unknown"))).await;
    for calls in [1, 2] {
        world.nri.tell(Event::RunPodSandbox, &pod(), None).await.unwrap();
        assert_eq!((plugin.calls("RunPodSandbox"), plugin.calls("StateChange")), (1, calls));
    }
    let change = nri::StateChangeEvent::decode(plugin.heard("StateChange").await.as_slice()).unwrap();
    assert_eq!(change.event(), nri::Event::RunPodSandbox);
}

#[tokio::test]
async fn only_what_was_subscribed_to_is_sent() {
    let world = World::new().await;
    let events = 1 << (nri::Event::RunPodSandbox as i32 - 1);
    let plugin = world
        .plugin(
            "00",
            "modest",
            except("Configure", move |_| answer(nri::ConfigureResponse { events, failure_policy: None })),
        )
        .await;
    let pod = pod();
    world.nri.tell(Event::RunPodSandbox, &pod, None).await.unwrap();
    world.nri.tell(Event::StopPodSandbox, &pod, None).await.unwrap();
    assert!(world.nri.create_container(&pod, &container(&pod, 0)).await.unwrap().is_none());
    assert_eq!((plugin.calls("RunPodSandbox"), plugin.calls("StopPodSandbox")), (1, 0));
    assert_eq!(plugin.calls("CreateContainer"), 0);
}

#[tokio::test]
async fn a_validator_sees_who_wants_what_and_can_reject_it() {
    let world = World::new().await;
    let _first = world.plugin("10", "first", sets("A", "1")).await;
    let judge = world
        .plugin(
            "90",
            "judge",
            except("ValidateContainerAdjustment", |_| {
                answer(nri::ValidateContainerAdjustmentResponse { reject: true, reason: "no A".to_owned() })
            }),
        )
        .await;
    let pod = pod();
    let error = world.nri.create_container(&pod, &container(&pod, 0)).await.unwrap_err();
    assert!(matches!(&error, NriError::Rejected { reason, .. } if reason == "no A"), "{error}");
    let payload = judge.heard("ValidateContainerAdjustment").await;
    let request = nri::ValidateContainerAdjustmentRequest::decode(payload.as_slice()).unwrap();
    assert_eq!(request.adjust.unwrap().env[0].key, "A");
    let owners = request.owners.unwrap();
    let env = &owners.owners.values().next().unwrap().compound[&(nri::Field::Env as i32)];
    assert_eq!(env.owners["A"], "10-first");
}

#[tokio::test]
async fn a_validator_that_does_not_answer_is_not_got_around() {
    let world = World::new().await;
    let _judge = world.plugin("90", "judge", except("ValidateContainerAdjustment", |_| Does::Closes)).await;
    let pod = pod();
    let error = world.nri.create_container(&pod, &container(&pod, 0)).await.unwrap_err();
    assert!(matches!(error, NriError::NoAnswer { .. }), "{error}");
}

#[tokio::test]
async fn an_update_is_changed_by_plugins_and_may_change_others() {
    let world = World::new().await;
    let pod = pod();
    let container = container(&pod, 0);
    let id = container.status.id.to_string();
    let updates = vec![shares(&id, 512), shares("other", 64)];
    let _plugin = world
        .plugin(
            "00",
            "balancer",
            except("UpdateContainer", move |_| {
                answer(nri::UpdateContainerResponse { update: updates.clone(), evict: Vec::new() })
            }),
        )
        .await;
    let change = Resources { cpu_shares: Some(2), memory_limit: Some(1 << 20), ..Default::default() };
    let updated = world.nri.update_container(&pod, &container, &change).await.unwrap().unwrap();
    assert_eq!(updated.limits.common.cpu_shares, Some(512));
    assert_eq!(updated.limits.common.memory_limit, Some(1 << 20));
    assert_eq!(updated.updates.len(), 1);
    assert_eq!(updated.updates[0].container, "other");
}

#[tokio::test]
async fn a_plugin_may_ask_by_itself_for_updates_and_evictions() {
    let world = World::new().await;
    let plugin = world.plugin("00", "active", except("RunPodSandbox", |_| fine())).await;
    let mut unsupported = shares("c1", 1);
    let linux = unsupported.linux.as_mut().unwrap().resources.as_mut().unwrap();
    linux.rdt_class = Some(nri::OptionalString { value: "gold".to_owned() });
    let request = nri::UpdateContainersRequest {
        update: vec![shares("c1", 100), shares("missing", 1), unsupported],
        evict: vec![nri::ContainerEviction { container_id: "c2".to_owned(), reason: "full".to_owned() }],
    };
    plugin.call(3, "UpdateContainers", &request).await;
    let answers = plugin.answers(2).await;
    let response = nri::UpdateContainersResponse::decode(answers[1].payload.as_slice()).unwrap();
    let failed: Vec<&str> = response.failed.iter().map(|update| update.container_id.as_str()).collect();
    assert_eq!(failed, ["missing", "c1"]);
    assert_eq!(world.engine.updates.lock().unwrap()[0].limits.common.cpu_shares, Some(100));
    assert_eq!(world.engine.evictions.lock().unwrap()[0].reason, "full");
}
