//! What a layer may spend: depth, inodes, bytes, memory and time, each by a layer of kilobytes that asks for more.

mod common;

use std::{
    env, fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use common::{
    Image, PATIENCE, Tar, is_root, layer_dirs, nothing_is_left, registry::Registry, stack, store, unpack,
};
use husk_images::PullRequest;
use husk_test_support::eventually_with;
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};

/// Links that multiply: `s0 -> a/a/...`, `s1 -> s0/a/a/...`: each lets the next members begin 1000 levels deeper.
fn deep_by_links() -> Vec<u8> {
    let (mut tar, mut at) = (Tar::new(), String::new());
    for link in 0..8 {
        let target = format!("{at}{}a", "a/".repeat(1000));
        tar = tar.pax(&[("linkpath", target.as_bytes())]).symlink(&format!("s{link}"), "x");
        tar = tar.file(&format!("s{link}/f"), 0o644, b"");
        at = format!("s{link}/");
    }
    tar.bytes()
}

/// Deep by the ends of long names alone.
fn deep_by_name() -> Vec<u8> {
    Tar::new()
        .pax(&[("path", "a/".repeat(2040).as_bytes()), ("linkpath", b"")])
        .dir("x", 0o755)
        .symlink("l", &"a/".repeat(45))
        .pax(&[("path", format!("l/{}x", "b/".repeat(2020)).as_bytes())])
        .file("x", 0o644, b"")
        .bytes()
}

#[tokio::test]
async fn no_layer_is_deeper_than_a_path_can_name() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    for (name, layer) in [("links", deep_by_links()), ("name", deep_by_name())] {
        let error = unpack(&store, root.path(), layer).await.expect_err(name);
        assert!(error.contains("deeper than a path can name"), "{name}: {error}");
        nothing_is_left(&store, root.path(), name).await;
    }
    // The deepest that can be named is taken, and goes again.
    let deepest = format!("{}f", "a/".repeat(2046));
    let layer = Tar::new().pax(&[("path", deepest.as_bytes())]).file("x", 0o644, b"deep").bytes();
    let path = unpack(&store, root.path(), layer).await.unwrap();
    rustix::process::chdir(&path).unwrap();
    assert_eq!(fs::read(&deepest).unwrap(), b"deep");
    store.export(&["x:1".to_owned()], &root.path().join("out.tar"), |_| {}).await.unwrap();
    store.remove("x:1").await.unwrap();
    nothing_is_left(&store, root.path(), "deepest").await;
}

#[tokio::test]
async fn a_start_deletes_what_an_older_version_left_however_deep() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    drop(store(root.path()));
    let leftover = root.path().join("images/layers/zz");
    fs::create_dir(&leftover).unwrap();
    let directory = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut at = openat(CWD, &leftover, directory, Mode::empty()).unwrap();
    for _ in 0..20_000 {
        mkdirat(&at, "a", Mode::RWXU).unwrap();
        at = openat(&at, "a", directory, Mode::empty()).unwrap();
    }
    drop(at);
    let store = store(root.path());
    store.idle().await;
    assert_eq!(layer_dirs(root.path()), 0);
}

/// 1 GiB of zeros in a zstd frame of some KiB, `times`.
fn zeros(times: usize) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    let block = vec![0; 1 << 20];
    for _ in 0..1024 {
        encoder.write_all(&block).unwrap();
    }
    encoder.finish().unwrap().repeat(times)
}

#[tokio::test]
async fn what_follows_the_end_of_an_archive_is_bounded() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let registry = Registry::with(|_| None).await;
    let archive = Tar::new().file("f", 0o644, b"x").bytes();
    // Padding as archivers write it is fine.
    let padded = [&archive[..], &vec![0; 1 << 20]].concat();
    unpack(&store, root.path(), padded).await.unwrap();
    store.remove("x:1").await.unwrap();
    let trailer = zeros(64);
    let image = Image::new(&[archive], |layer| [&common::zstd(layer)[..], &trailer].concat());
    registry.push("r", "1", &image);
    let request = PullRequest { reference: format!("{}/r:1", registry.host()), auth: None, platform: None };
    let error = common::shown(&store.pull(request).await.unwrap_err());
    assert!(error.contains("follow the end of the archive"), "{error}");
    nothing_is_left(&store, root.path(), "trailer").await;
}

/// Threads of this process that unpack.
fn unpackers() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.trim() == "husk-unpack").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_that_nobody_waits_for_ends_on_every_thread() {
    if !is_root() || env::var_os(CHILD).is_none() {
        // Alone in a process, because it counts threads.
        return alone("a_pull_that_nobody_waits_for_ends_on_every_thread");
    }
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let registry = Registry::with(|_| None).await;
    // A file of 64 GiB, of which everything is here long before it is unpacked.
    let head = Tar::new().pax(&[("size", b"68719476736")]).file("f", 0o644, b"").bytes();
    let head = head[..head.len() - 1024].to_vec();
    let content = zeros(64);
    let image = Image::new(&[head], |layer| [&common::zstd(layer)[..], &content].concat());
    registry.push("r", "1", &image);
    let request = PullRequest { reference: format!("{}/r:1", registry.host()), auth: None, platform: None };
    let pull = tokio::spawn({
        let store = std::sync::Arc::clone(&store);
        async move { store.pull(request).await }
    });
    eventually_with(tokio::time::sleep, "a thread unpacks", PATIENCE, || {
        assert!(!pull.is_finished(), "nothing has to be unpacked");
        (unpackers() > 0).then_some(())
    })
    .await;
    pull.abort();
    // Milliseconds; the whole layer takes minutes.
    let over = || (unpackers() == 0).then_some(());
    eventually_with(tokio::time::sleep, "every thread has ended", Duration::from_secs(10), over).await;
    nothing_is_left(&store, root.path(), "cancelled").await;
}

const CHILD: &str = "HUSK_LIMITS_CHILD";
const ROOT: &str = "HUSK_LIMITS_ROOT";

/// Runs a test of this file in a process of its own.
fn alone(name: &str) {
    if !is_root() {
        return;
    }
    let mut command = Command::new(env::current_exe().unwrap());
    let status = command.args(["--exact", name, "--nocapture"]).env(CHILD, "1").status().unwrap();
    assert!(status.success());
}

/// Members that each use a directory chain of their own, none described.
fn implied(members: usize) -> Vec<u8> {
    let tail = "d/".repeat(1500);
    let mut tar = Tar::new();
    for member in 0..members {
        tar = tar.pax(&[("path", format!("{member}/{tail}f").as_bytes())]).file("x", 0o644, b"");
    }
    tar.bytes()
}

fn bombs() -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let plain = |name, layer: Vec<u8>| (name, layer.clone(), common::zstd(&layer));
    let attributes: Vec<(String, Vec<u8>)> =
        (0..20_000).map(|at| (format!("SCHILY.xattr.user.{at}"), b"v".to_vec())).collect();
    let attributes: Vec<(&str, &[u8])> = attributes.iter().map(|(k, v)| (k.as_str(), v.as_slice())).collect();
    let mut headers = Tar::new();
    for _ in 0..15 {
        headers = headers.pax(&[("comment", &vec![b'c'; 1_000_000])]);
    }
    let map: String = (0..200_000).map(|at| format!("{at}\n0\n")).collect();
    let map = format!("200000\n{map}");
    let mut map = map.into_bytes();
    map.resize(map.len().next_multiple_of(512), 0);
    let sparse = Tar::new()
        .pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0"), ("GNU.sparse.realsize", b"1000000")])
        .file("sparse", 0o644, &map);
    let large = Tar::new().file("zeros", 0o644, &vec![0; 160 << 20]).bytes();
    let mut window = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    window.long_distance_matching(true).unwrap();
    window.window_log(27).unwrap();
    window.write_all(&large).unwrap();
    vec![
        plain("implied directories", implied(20)),
        plain("attributes", Tar::new().pax(&attributes).file("x", 0o644, b"").bytes()),
        plain("headers", headers.file("x", 0o644, b"").bytes()),
        plain("sparse map", sparse.bytes()),
        ("window", large, window.finish().unwrap()),
    ]
}

/// Memory that huskd may need for pulls on top of what it has, whatever the layers are: `docs/security.md` says so.
const BOUND: u64 = 384 << 20;

fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the process that the test below measures"]
async fn measured_puller() {
    let (root, references) = (env::var(ROOT).unwrap(), env::var("HUSK_LIMITS_REFERENCES").unwrap());
    let store = store(Path::new(&root));
    let before = peak();
    let pulls = references.split(' ').map(|reference| {
        let store = std::sync::Arc::clone(&store);
        let request = PullRequest { reference: reference.to_owned(), auth: None, platform: None };
        tokio::spawn(async move { store.pull(request).await.map(drop) })
    });
    for (reference, pull) in references.split(' ').zip(pulls.collect::<Vec<_>>()) {
        println!("{reference}: {:?}", pull.await.unwrap().map_err(|error| common::shown(&error)));
    }
    let used = peak() - before;
    store.idle().await;
    println!("{} MiB at most", used >> 20);
    assert!(used < BOUND, "{used}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_bounded_whatever_the_layers_are() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::with(|_| None).await;
    let mut references = Vec::new();
    for (at, (name, layer, blob)) in bombs().into_iter().enumerate() {
        println!("{name}: {} bytes, {} compressed", layer.len(), blob.len());
        let image = Image::new(&[layer], |_| blob.clone());
        registry.push("r", &at.to_string(), &image);
        references.push(format!("{}/r:{at}", registry.host()));
    }
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "measured_puller", "--ignored", "--nocapture"])
        .env(ROOT, root.path())
        .env("HUSK_LIMITS_REFERENCES", references.join(" "))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = tokio::task::spawn_blocking(|| child.wait_with_output()).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    assert!(output.status.success(), "{text}");
    assert!(text.contains("MiB at most"), "{text}");
}

#[tokio::test]
async fn many_layers_of_kilobytes_are_no_burden() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let store = store(root.path());
    let layers: Vec<Vec<u8>> =
        (0..120).map(|at| Tar::new().file(&format!("d/{at}"), 0o644, b"x").bytes()).collect();
    let mut all = vec![Tar::new().symlink("d", "real").bytes()];
    all.extend(layers);
    let paths = stack(&store, root.path(), all).await.unwrap();
    assert_eq!(paths.len(), 121);
    assert_eq!(fs::read(paths[0].join("real/119")).unwrap(), b"x");
}
