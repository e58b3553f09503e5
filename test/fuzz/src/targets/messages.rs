//! Messages between husk's own processes, and of NRI plugins.

use husk_proto::{nri, podmon};
use oci_spec::runtime::Spec;
use prost::Message as _;

use super::input::{block_on, choice};

/// What a container's first process says: ready, a successor, a failure.
pub(super) fn child_messages() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for tag in 1..=3u8 {
        let numbers = [1000u32, 1000, 2, 10, 20].map(u32::to_le_bytes).concat();
        let texts =
            [&2u32.to_le_bytes()[..], b"/x", &1u32.to_le_bytes(), &2u32.to_le_bytes(), b"ab"].concat();
        seeds.push([&[tag][..], &numbers, &texts].concat());
        seeds.push([&[tag, 3][..], &texts, &texts].concat());
    }
    seeds
}

/// A message that is read and written is read as the same again.
pub(super) fn child(bytes: &[u8]) {
    if let Some(written) = husk_runtime::fuzzing::child_message(bytes) {
        let again = husk_runtime::fuzzing::child_message(&written);
        assert_eq!(again, Some(written), "a message changes by being written");
    }
    let words = String::from_utf8_lossy(bytes);
    husk_runtime::fuzzing::mount_options(&words.split(',').map(str::to_owned).collect::<Vec<_>>());
}

fn framed(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_le_bytes()[..], body].concat()
}

/// A monitor's answers and events, and its client's requests.
pub(super) fn monitor_talks() -> Vec<Vec<u8>> {
    let exit =
        podmon::ExitRecord { code: 137, finished_at: 5, message: "killed".into(), ..Default::default() };
    let state = podmon::State {
        sandbox: Some(podmon::SandboxState { pid: 7, exit: Some(exit.clone()), ..Default::default() }),
        containers: vec![podmon::ContainerState {
            container_id: "a".repeat(64),
            pid: 9,
            ..Default::default()
        }],
    };
    let error = podmon::Error { detail: "no".into(), ..Default::default() };
    let answers = [podmon::response::Result::State(state), podmon::response::Result::Error(error)];
    let frames = answers.map(|answer| {
        let response = podmon::Response { id: 1, result: Some(answer) };
        podmon::ServerFrame { frame: Some(podmon::server_frame::Frame::Response(response)) }
    });
    let exited = podmon::ContainerExited { container_id: "b".repeat(64), exit: Some(exit) };
    let event = podmon::Event { event: Some(podmon::event::Event::ContainerExited(exited)) };
    let event = podmon::ServerFrame { frame: Some(podmon::server_frame::Frame::Event(event)) };
    let talk: Vec<u8> =
        frames.iter().chain([&event]).flat_map(|frame| framed(&frame.encode_to_vec())).collect();
    let call = podmon::request::Call::StartContainer(podmon::StartContainer { container_id: "c".into() });
    let request = podmon::Request { id: 3, call: Some(call) };
    vec![[b"\0", &talk[..]].concat(), [b"\x01", &framed(&request.encode_to_vec())[..]].concat()]
}

/// Frames both ways: huskd reads a monitor's, a monitor a client's, which in pieces are the same as at once.
pub(super) fn monitor(bytes: &[u8]) {
    let (way, talk) = choice(bytes);
    if way % 2 == 0 {
        block_on(husk_monitor::fuzzing::frames(talk));
        return;
    }
    let whole = crate::podmon::requests(talk, talk.len());
    assert_eq!(whole, crate::podmon::requests(talk, 3), "the size of reads decides");
}

/// A plugin's registration, and an answer that changes a container.
pub(super) fn nri_talks() -> Vec<Vec<u8>> {
    let linux = nri::LinuxContainerAdjustment {
        oom_score_adj: Some(nri::OptionalInt { value: 5 }),
        cgroups_path: "/x".into(),
        ..Default::default()
    };
    let adjust = nri::ContainerAdjustment {
        annotations: [("a".to_owned(), "b".to_owned()), ("-c".to_owned(), String::new())].into(),
        mounts: vec![nri::Mount {
            destination: "/m".into(),
            source: "/s".into(),
            r#type: "bind".into(),
            options: vec!["ro".into()],
        }],
        env: vec![nri::KeyValue { key: "K".into(), value: "v".into() }],
        linux: Some(linux),
        ..Default::default()
    };
    let answer = nri::CreateContainerResponse { adjust: Some(adjust), ..Default::default() }.encode_to_vec();
    let message = [&(answer.len() as u32).to_be_bytes()[..], &1u32.to_be_bytes(), &[2, 0], &answer].concat();
    let trunk = [&1u32.to_be_bytes()[..], &(message.len() as u32).to_be_bytes(), &message].concat();
    vec![[b"\0", &trunk[..]].concat(), [b"\x01", &answer[..]].concat()]
}

/// A trunk's messages are themselves once they are written; an answer changes a spec or is refused.
pub(super) fn nri(bytes: &[u8]) {
    let (what, talk) = choice(bytes);
    if what % 2 == 1 {
        husk_nri::fuzzing::adjust(talk, Spec::default());
        return;
    }
    for content in block_on(husk_nri::fuzzing::trunk(talk)) {
        husk_nri::fuzzing::adjust(&content, Spec::default());
    }
}
