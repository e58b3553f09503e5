//! A worker that pulls, finds and removes an image, over and over.

use std::sync::atomic::Ordering;

use husk_e2e::{Archive, FakeRegistry, Layer, v1};
use serde_json::json;

use crate::{
    client::{Client, Shared},
    random::Random,
};

/// An image of three layers that is nothing to run but takes a while to write.
pub fn registry(seed: u64) -> FakeRegistry {
    let layer = |number: u64| {
        let mut random = Random::new(seed, 100 + number);
        let content: Vec<u8> = (0..100_000).map(|_| random.below(256) as u8).collect();
        let names: Vec<String> = (0..40).map(|file| format!("d{number}/file{file}")).collect();
        let mut files: Vec<(&str, u32, &[u8])> =
            names.iter().map(|name| (name.as_str(), 0o644, &content[..1000])).collect();
        files.push(("large", 0o644, &content));
        Layer::new(&[&format!("d{number}")], &files, &[])
    };
    let archive = Archive {
        tags: Vec::new(),
        config: json!({ "Cmd": ["nothing"] }),
        layers: (0..3).map(layer).collect(),
    };
    FakeRegistry::serve("kill/image", "1", &archive, |_| {})
}

/// Works until the lottery is over.
pub fn work(shared: &Shared, registry: &FakeRegistry) {
    let client = Client::new(shared);
    let image = v1::ImageSpec { image: format!("{}/kill/image:1", registry.host()), ..Default::default() };
    let is_there = || {
        let request = v1::ImageStatusRequest { image: Some(image.clone()), verbose: false };
        let answer = client.call(|cri| cri.image_status(request.clone())).expect("status of the image");
        answer.image.is_some()
    };
    while !shared.over.load(Ordering::SeqCst) {
        let request = v1::PullImageRequest { image: Some(image.clone()), ..Default::default() };
        client.call(|cri| cri.pull_image(request.clone())).expect("pull the image");
        assert!(is_there(), "an image whose pull was acknowledged is gone");
        let request = v1::RemoveImageRequest { image: Some(image.clone()) };
        client.call(|cri| cri.remove_image(request.clone())).expect("remove the image");
        assert!(!is_there(), "an image whose removal was acknowledged is there");
        shared.count("images pulled and removed", 1);
    }
}
