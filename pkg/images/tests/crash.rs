//! `kill -9` at every stage of a pull: the next start shows whole images only, and deletes the rest.

mod common;

use std::{
    env,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use common::{Image, Tar, gzip, is_root, layer_dirs, registry::Registry, store};
use husk_images::PullRequest;
use tokio::sync::watch;

const ROOT: &str = "HUSK_CRASH_ROOT";
const REFERENCE: &str = "HUSK_CRASH_REFERENCE";

#[tokio::test]
#[ignore = "the process that the test below starts and kills"]
async fn killed_puller() {
    let (root, reference) = (env::var(ROOT).unwrap(), env::var(REFERENCE).unwrap());
    store(Path::new(&root)).pull(PullRequest { reference, auth: None, platform: None }).await.unwrap();
    // Pulled before the signal came; the parent kills this process all the same.
    std::future::pending().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_pull_leaves_whole_images_or_nothing() {
    if !is_root() {
        return;
    }
    let noise: Vec<u8> = (0u32..2_000_000).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let layers: Vec<Vec<u8>> = (0..3)
        .map(|at| Tar::new().file(&format!("layer-{at}"), 0o644, &noise[at * 1000..]).bytes())
        .collect();
    let image = Image::new(&layers, gzip);
    let root = tempfile::tempdir().unwrap();
    // Requests of a pull: manifest, configuration, three layers; 6 means after the last.
    for stage in 1..=6 {
        let requests = Arc::new(AtomicUsize::new(0));
        let (reached, mut wait) = watch::channel(false);
        let registry = Registry::with({
            let requests = Arc::clone(&requests);
            move |_| {
                let _same_value = reached.send(requests.fetch_add(1, Ordering::SeqCst) + 1 >= stage);
                None
            }
        })
        .await;
        registry.push("r", "1", &image);
        let reference = format!("{}/r:1", registry.host());
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "killed_puller", "--ignored", "--nocapture"])
            .env(ROOT, root.path())
            .env(REFERENCE, &reference)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        if stage < 6 {
            wait.wait_for(|reached| *reached).await.unwrap();
        } else {
            // Killed about when the image is recorded, a moment of the other process that nothing announces.
            while requests.load(Ordering::SeqCst) < 5 {
                tokio::task::yield_now().await;
            }
            tokio::time::sleep(std::time::Duration::from_millis(60)).await;
        }
        child.kill().unwrap();
        let signal = child.wait().unwrap().signal();
        assert_eq!(signal, Some(9), "stage {stage}: it was not there any more to be killed");
        let store = store(root.path());
        store.idle().await;
        match store.list().as_slice() {
            [] => assert_eq!(layer_dirs(root.path()), 0, "stage {stage}"),
            [found] => {
                assert_eq!((found.id.to_string(), layer_dirs(root.path())), (image.id(), 3), "stage {stage}");
                // Every byte is there.
                let output = root.path().join("out.tar");
                store.export(&[found.id.to_string()], &output, |_| {}).await.unwrap();
            }
            more => panic!("{more:?}"),
        }
        store.pull(PullRequest { reference, auth: None, platform: None }).await.unwrap();
        store.remove(&image.id()).await.unwrap();
        store.idle().await;
        assert_eq!(layer_dirs(root.path()), 0, "stage {stage}");
    }
}
