//! Pulls from registries that are out of order, and pulls that nobody waits for any more.

use std::{
    fs,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use husk_e2e::{
    Daemon, FakeRegistry, Layer, Odd, Options, busybox_archive, dist, eventually, eventually_every, v1,
};
use serde_json::json;
use tonic::{Code, Status};

fn request(registry: &FakeRegistry) -> v1::PullImageRequest {
    let image = format!("{}/some/image:1", registry.host());
    v1::PullImageRequest { image: Some(v1::ImageSpec { image, ..Default::default() }), ..Default::default() }
}

fn pull(husk: &Daemon, registry: &FakeRegistry) -> Result<v1::PullImageResponse, Status> {
    husk.cri().pull_image(request(registry))
}

/// Begins a pull and leaves after `patience`, as a client does whose context is cancelled.
fn pull_and_leave(husk: &Daemon, registry: &FakeRegistry, patience: Duration) {
    let mut images = husk.cri().images();
    // Whether it failed or was left does not matter here.
    let _ = husk
        .cri()
        .block_on(async { tokio::time::timeout(patience, images.pull_image(request(registry))).await });
}

fn configuration(diff_ids: &[String]) -> Vec<u8> {
    json!({ "architecture": "amd64", "os": "linux", "config": {}, "rootfs": { "type": "layers", "diff_ids": diff_ids } })
        .to_string()
        .into_bytes()
}

fn layer() -> Layer {
    Layer::new(&["d"], &[("d/file", 0o644, &[7; 100_000])], &[])
}

fn without_image() -> Daemon {
    Daemon::with(Options { without_image: true, ..Options::default() })
}

fn nothing_is_left(husk: &Daemon) {
    eventually("no layer is left", Duration::from_secs(10), || {
        (fs::read_dir(husk.path("root/images/layers")).map_or(0, Iterator::count) == 0).then_some(())
    });
}

#[test]
fn a_download_ends_with_the_client_that_waits_for_it() {
    let husk = without_image();
    let blob = layer().0;
    let half = [
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", blob.len()).as_bytes(),
        &blob[..blob.len() / 2],
    ]
    .concat();
    let odd = move |path: &str| path.ends_with(&blob_path()).then(|| Odd::Silence(half.clone()));
    let config = configuration(&[layer().diff_id()]);
    let registry = FakeRegistry::serve_blobs("some/image", "1", &config, vec![blob], |_| {}, odd);
    pull_and_leave(&husk, &registry, Duration::from_secs(1));
    // The registry's own clock is the limit that husk would otherwise wait for: five minutes.
    eventually("the registry is left, too", Duration::from_secs(20), || (registry.left() == 1).then_some(()));
    nothing_is_left(&husk);
}

#[test]
fn a_download_ends_with_the_husk_image_pull_that_waits_for_it() {
    let husk = without_image();
    let blob = layer().0;
    let half = [
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", blob.len()).as_bytes(),
        &blob[..blob.len() / 2],
    ]
    .concat();
    let begun = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&begun);
    let odd = move |path: &str| {
        let is_blob = path.ends_with(&blob_path());
        asked.fetch_or(is_blob, Ordering::Relaxed);
        is_blob.then(|| Odd::Silence(half.clone()))
    };
    let config = configuration(&[layer().diff_id()]);
    let registry = FakeRegistry::serve_blobs("some/image", "1", &config, vec![blob], |_| {}, odd);
    let mut command = Command::new(dist("husk"));
    command.arg("--address").arg(husk.address()).args(["image", "pull"]);
    let mut client = command.arg(format!("{}/some/image:1", registry.host())).spawn().unwrap();
    eventually("the layer comes", Duration::from_secs(10), || begun.load(Ordering::Relaxed).then_some(()));
    client.kill().unwrap();
    client.wait().unwrap();
    eventually("the registry is left, too", Duration::from_secs(20), || (registry.left() == 1).then_some(()));
    nothing_is_left(&husk);
}

#[test]
fn husk_image_pull_says_what_it_brought_and_why_it_did_not() {
    let husk = without_image();
    let registry = FakeRegistry::serve("some/image", "1", &busybox_archive(), |_| {});
    let image = format!("{}/some/image:1", registry.host());
    let id = husk.husk(&["image", "pull", &image]).success();
    let image = Some(v1::ImageSpec { image, ..Default::default() });
    let request = v1::ImageStatusRequest { image, ..Default::default() };
    assert_eq!(husk.cri().image_status(request).unwrap().image.unwrap().id, id.trim());
    let absent = husk.husk(&["image", "pull", &format!("{}/some/image:2", registry.host())]);
    assert!(!absent.is_success() && absent.stderr.contains("/some/image:2"), "{absent:?}");
    let bad = husk.husk(&["image", "pull", "No Image"]);
    assert!(!bad.is_success() && bad.stderr.contains("No Image"), "{bad:?}");
    let alone = husk.husk(&["image", "pull", "--username", "me", "x"]);
    assert!(!alone.is_success() && alone.stderr.contains("--password-stdin"), "{alone:?}");
}

/// The blob's name: it is not compressed, so that is its diff id.
fn blob_path() -> String {
    format!("/blobs/{}", layer().diff_id())
}

/// Clock ticks that the daemon's threads have used.
fn ticks(husk: &Daemon) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", husk.pid())).expect("its statistics");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    // proc(5): utime and stime are the 14th and 15th, the first after the name is the 3rd.
    fields[11..13].iter().map(|field| field.parse::<u64>().expect("ticks")).sum()
}

#[test]
fn the_processors_rest_when_a_pull_of_zeros_without_end_is_left() {
    let husk = without_image();
    // 64 GiB in a few MiB: frames of zstd can follow each other.
    let zeros = zstd::encode_all(&vec![0u8; 64 << 20][..], 1).expect("compress");
    let mut blob = zstd::encode_all(&layer().0[..], 1).expect("compress");
    for _ in 0..1024 {
        blob.extend_from_slice(&zeros);
    }
    let config = configuration(&[layer().diff_id()]);
    let registry = FakeRegistry::serve_blobs("some/image", "1", &config, vec![blob], |_| {}, |_| None);
    pull_and_leave(&husk, &registry, Duration::from_secs(2));
    let mut before = ticks(&husk);
    // Two busy threads would use 200 ticks of 10 ms in each second.
    eventually_every(Duration::from_secs(1), "the daemon is idle", Duration::from_secs(10), || {
        let now = ticks(&husk);
        let used = now - std::mem::replace(&mut before, now);
        (used < 20).then_some(())
    });
    nothing_is_left(&husk);
}

#[test]
fn faults_of_a_registry_are_told_in_words_and_end_with_the_fault() {
    let husk = without_image();
    let blob = layer().0;
    let whole = |head: &str, body: &[u8]| {
        Odd::Raw(
            [format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat(),
        )
    };
    let mut changed = blob.clone();
    changed[600] ^= 1;
    let (manifest, layer_path) = ("/manifests/".to_owned(), blob_path());
    let faults = [
        (
            &manifest,
            whole("503 Busy\r\nRetry-After: 0", b""),
            Code::Unknown,
            "RegistryUnavailable: manifest of ",
        ),
        (&manifest, whole("429 Slow\r\nRetry-After: 0", b""), Code::Unknown, "too many requests"),
        (&manifest, Odd::Raw(b"nonsense\r\n\r\n".to_vec()), Code::Unknown, "RegistryUnavailable: "),
        (&manifest, whole("200 OK", b"<html>"), Code::DataLoss, "not a manifest"),
        (
            &manifest,
            whole("302 Found\r\nLocation: http://169.254.169.254/", b""),
            Code::FailedPrecondition,
            "link-local",
        ),
        (
            &manifest,
            whole("302 Found\r\nLocation: file:///etc/shadow", b""),
            Code::FailedPrecondition,
            "redirect refused",
        ),
        (
            &manifest,
            whole("401 No\r\nWWW-Authenticate: Basic realm=x", b""),
            Code::Unauthenticated,
            "pull secret",
        ),
        (&manifest, whole("403 No", b""), Code::PermissionDenied, "access denied"),
        (&manifest, whole("404 No", b""), Code::NotFound, "not found"),
        (&layer_path, whole("200 OK", &blob[1..]), Code::DataLoss, "were declared"),
        (&layer_path, whole("200 OK", &changed), Code::DataLoss, "sha256:"),
        (
            &layer_path,
            Odd::Raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_vec()),
            Code::Unknown,
            "layer sha256:",
        ),
    ];
    let is_well = Arc::new(AtomicBool::new(false));
    for (at, (part, odd, code, words)) in faults.into_iter().enumerate() {
        is_well.store(false, Ordering::SeqCst);
        let (well, part, shown) = (Arc::clone(&is_well), part.clone(), format!("{at}: {words}"));
        let odd =
            move |path: &str| (path.contains(&part) && !well.load(Ordering::SeqCst)).then(|| odd.clone());
        let config = configuration(&[layer().diff_id()]);
        let registry = FakeRegistry::serve_blobs("some/image", "1", &config, vec![blob.clone()], |_| {}, odd);
        let status = pull(&husk, &registry).expect_err(&shown);
        assert_eq!(status.code(), code, "{shown}: {status}");
        assert!(
            status.message().contains(words) && status.message().contains("some/image:1"),
            "{shown}: {status}"
        );
        nothing_is_left(&husk);
        is_well.store(true, Ordering::SeqCst);
        let image =
            v1::ImageSpec { image: pull(&husk, &registry).expect(&shown).image_ref, ..Default::default() };
        husk.cri().remove_image(v1::RemoveImageRequest { image: Some(image) }).expect("remove");
        nothing_is_left(&husk);
    }
}
