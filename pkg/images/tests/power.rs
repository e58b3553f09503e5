//! Power cuts and full disks, on file systems of their own (ext4 on loop devices, in a mount namespace that nobody else
//! sees).
//!
//! A cut is a copy of the disk under the mounted file system while a process pulls, records and removes: what was not
//! written to the device by then is lost, as are writes that the journal does not cover. The copy is mounted, which
//! replays the journal, and opened under another boot id. Writes that the device itself reorders between two flushes are
//! not modelled: the journal's checksums are for these.

mod common;

use std::{
    env, fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use common::{Image, Tar, gzip, is_root, layer_dirs, registry::Registry, shown, store};
use husk_images::PullRequest;

const DRIVER: &str = "HUSK_POWER_DRIVER";
const ROOT: &str = "HUSK_POWER_ROOT";
const REFERENCE: &str = "HUSK_POWER_REFERENCE";
/// Copies of the disk that are looked at.
const CUTS: u64 = 24;

/// Runs a test of this file again in a mount namespace of its own.
fn in_a_namespace(name: &str) {
    if !is_root() {
        return;
    }
    let probe = "mkfs.ext4 -V 2>/dev/null && d=$(mktemp -d) && truncate -s 8M $d/i && mkfs.ext4 -qF $d/i && \
                 mkdir $d/m && mount -o loop $d/i $d/m; s=$?; umount $d/m; rm -r $d; exit $s";
    let usable = Command::new("unshare").args(["-m", "sh", "-c", probe]).stderr(Stdio::null()).status();
    if !usable.is_ok_and(|status| status.success()) {
        return husk_test_support::skip("mkfs.ext4 and loop devices");
    }
    let test = env::current_exe().unwrap();
    let mut command = Command::new("unshare");
    command.arg("-m").arg(test).args(["--exact", name, "--nocapture"]).env(DRIVER, "1");
    assert!(command.status().unwrap().success());
}

fn sh(script: &str) {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Makes a file system of `megabytes` in the file `disk` and mounts it at `place`.
fn disk(disk: &Path, place: &Path, megabytes: u32) {
    fs::create_dir_all(place).unwrap();
    let (disk, place) = (disk.display(), place.display());
    // Journal commits every second, so that there is more between nothing and all.
    sh(&format!(
        "truncate -s {megabytes}M {disk}; mkfs.ext4 -qF {disk}; mount -o loop,commit=1 {disk} {place}"
    ));
}

fn noise(seed: u32, length: u32) -> Vec<u8> {
    (0..length).map(|n| (n.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 13) as u8).collect()
}

/// An image whose layers are of all kinds: plain, implied directories, unpacked again through a link below.
fn image() -> Image {
    let mut plain = Tar::new().dir("usr", 0o755).dir("usr/lib", 0o755).symlink("lib", "usr/lib");
    for at in 0..40 {
        plain = plain.file(&format!("usr/lib/{at}"), 0o644, &noise(at, 20_000));
    }
    let implied = Tar::new().file("usr/share/doc/x", 0o644, &noise(1, 300_000));
    let through = Tar::new().file("lib/so", 0o644, &noise(2, 300_000)).hardlink("copy", "lib/3");
    Image::new(&[plain.bytes(), implied.bytes(), through.bytes()], gzip)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the process that works when the power of the test below goes"]
async fn powered_puller() {
    let (root, reference) = (env::var(ROOT).unwrap(), env::var(REFERENCE).unwrap());
    let store = store(Path::new(&root));
    loop {
        let id = store
            .pull(PullRequest { reference: reference.clone(), auth: None, platform: None })
            .await
            .unwrap();
        // A while recorded and not yet on the disk, a while on it: what a cut finds is a matter of how long each lasts.
        tokio::time::sleep(Duration::from_millis(100)).await;
        store.idle().await;
        tokio::time::sleep(Duration::from_millis(400)).await;
        store.remove(id.as_str()).await.unwrap();
    }
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

fn signal(child: &Killed, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_child(&child.0);
    rustix::process::kill_process(pid, signal).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_power_cut_images_are_whole_or_pulled_again() {
    if env::var_os(DRIVER).is_none() {
        return in_a_namespace("after_a_power_cut_images_are_whole_or_pulled_again");
    }
    let dir = tempfile::tempdir().unwrap();
    let (live, cut) = (dir.path().join("live"), dir.path().join("cut"));
    disk(&dir.path().join("disk"), &live, 64);
    let (image, registry) = (image(), Registry::with(|_| None).await);
    registry.push("r", "1", &image);
    let reference = format!("{}/r:1", registry.host());
    let test = env::current_exe().unwrap();
    let mut command = Command::new(test);
    command
        .args(["--exact", "powered_puller", "--ignored", "--nocapture"])
        .env_remove(DRIVER)
        .stdout(Stdio::null());
    let child = Killed(command.env(ROOT, &live).env(REFERENCE, &reference).spawn().unwrap());
    for at in 0..CUTS {
        // At odd moments: the point is that none matters.
        tokio::time::sleep(Duration::from_millis(40 + at * 37 % 400)).await;
        signal(&child, rustix::process::Signal::STOP);
        sh(&format!("cp --sparse=always {0}/disk {0}/cut-{at}", dir.path().display()));
        signal(&child, rustix::process::Signal::CONT);
    }
    drop(child);
    // The node has been rebooted.
    fs::write(dir.path().join("boot"), "00000000-1111-2222-3333-444444444444\n").unwrap();
    sh(&format!("mount --bind {}/boot /proc/sys/kernel/random/boot_id", dir.path().display()));
    fs::create_dir(&cut).unwrap();
    let (mut whole, mut dropped) = (0, 0);
    for at in 0..CUTS {
        sh(&format!("mount -o loop {}/cut-{at} {}", dir.path().display(), cut.display()));
        let store = store(&cut);
        let out = dir.path().join("out.tar");
        match store.list().as_slice() {
            [] => dropped += 1,
            [found] => {
                whole += 1;
                // Every byte is there.
                let exported = store.export(&[found.id.to_string()], &out, |_| {}).await;
                exported.unwrap_or_else(|error| panic!("cut {at}: {}", shown(&error)));
            }
            more => panic!("cut {at}: {more:?}"),
        }
        let pulled =
            store.pull(PullRequest { reference: reference.clone(), auth: None, platform: None }).await;
        let id = pulled.unwrap_or_else(|error| panic!("cut {at}: {}", shown(&error)));
        store.export(&[id.to_string()], &out, |_| {}).await.unwrap();
        store.idle().await;
        assert_eq!(layer_dirs(&cut), 3, "cut {at}");
        drop(store);
        sh(&format!("umount {}", cut.display()));
    }
    println!("{CUTS} cuts: {whole} images whole, {dropped} to be pulled again");
    sh(&format!("umount {}", live.display()));
    assert_eq!(whole + dropped, CUTS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_a_clear_error_and_no_more() {
    if env::var_os(DRIVER).is_none() {
        return in_a_namespace("a_full_disk_is_a_clear_error_and_no_more");
    }
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("live");
    disk(&dir.path().join("disk"), &place, 12);
    let registry = Registry::with(|_| None).await;
    let small = Image::new(&[Tar::new().file("small", 0o644, &noise(3, 100_000)).bytes()], gzip);
    let large = Image::new(&[Tar::new().file("large", 0o644, &noise(4, 14_000_000)).bytes()], gzip);
    let mut many = Tar::new();
    for at in 0..4000 {
        many = many.file(&format!("{at}"), 0o644, b"");
    }
    let many = Image::new(&[many.bytes()], gzip);
    let pull = |name: &str| PullRequest {
        reference: format!("{}/{name}:1", registry.host()),
        auth: None,
        platform: None,
    };
    for (name, image) in [("small", &small), ("large", &large), ("many", &many)] {
        registry.push(name, "1", image);
    }
    let first = store(&place);
    let id = first.pull(pull("small")).await.unwrap();
    for round in 0..2 {
        for name in ["large", "many"] {
            let error = shown(&first.pull(pull(name)).await.unwrap_err());
            let word = if error.contains("disk is almost full") { "full" } else { "No space left" };
            assert!(error.contains(word), "{round} {name}: {error}");
            first.idle().await;
            assert_eq!((first.list().len(), layer_dirs(&place)), (1, 1), "{round} {name}");
        }
    }
    // Full to the last byte by somebody else: what is here stays, and it all works again when there is room.
    let filler = place.join("filler");
    let _full = fs::write(&filler, vec![1; 64 << 20]).unwrap_err();
    first.pull(pull("large")).await.unwrap_err();
    first.idle().await;
    drop(first);
    match husk_images::ImageStore::open(&place, husk_images::ImagesConfig::default()) {
        Ok(full) => assert_eq!(full.list().len(), 1),
        Err(error) => assert!(shown(&error).contains("space"), "{}", shown(&error)),
    }
    fs::remove_file(&filler).unwrap();
    let second = store(&place);
    assert_eq!(second.list().len(), 1);
    second.export(&[id.to_string()], &dir.path().join("out.tar"), |_| {}).await.unwrap();
    second.remove(id.as_str()).await.unwrap();
    second.pull(pull("small")).await.unwrap();
    second.idle().await;
    assert_eq!(layer_dirs(&place), 1);
    drop(second);
    sh(&format!("umount {}", place.display()));
}
