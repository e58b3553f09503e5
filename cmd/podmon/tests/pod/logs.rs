//! Logs under load, rotation and a full disk.

use std::{fs, process::Command, time::Duration};

use crate::world::{self, exit_of};

#[tokio::test]
async fn a_flood_is_rotated_without_a_lost_or_doubled_line() {
    let Some(pod) = world::pod().await else { return };
    pod.run().await;
    let mut events = pod.monitor.events();
    let id = pod.shell("seq 300000").await;
    let path = pod.log_path(&id);
    let mut rotated = 0;
    let exit = loop {
        // As the kubelet does: rename, then ReopenContainerLog.
        let next = pod.logs.join(format!("rotated-{rotated:04}"));
        fs::rename(&path, &next).unwrap();
        rotated += 1;
        if pod.monitor.reopen_log(&id).await.is_err() {
            // It has ended meanwhile; what it wrote last is in the renamed file.
            fs::write(&path, "").unwrap();
            break exit_of(&mut events, &id).await;
        }
        assert!(path.exists(), "the new log exists when the call returns");
        if let Ok(exit) = tokio::time::timeout(Duration::from_millis(10), exit_of(&mut events, &id)).await {
            break exit;
        }
    };
    assert_eq!(exit.code, 0);
    let mut text = String::new();
    for number in 0..rotated {
        text.push_str(&fs::read_to_string(pod.logs.join(format!("rotated-{number:04}"))).unwrap());
    }
    text.push_str(&fs::read_to_string(&path).unwrap());
    let numbers = text.lines().map(|line| line.rsplit(' ').next().unwrap().parse::<u32>().unwrap());
    assert!(numbers.eq(1..=300_000), "{rotated} rotations");
    pod.finish().await;
}

#[tokio::test]
async fn a_full_disk_neither_blocks_nor_kills_the_container_and_what_is_written_stays_readable() {
    let Some(pod) = world::pod().await else { return };
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "none"]).arg(&pod.logs).status();
    if !mounted.is_ok_and(|status| status.success()) {
        husk_test_support::skip("mounts");
        return;
    }
    pod.run().await;
    let mut events = pod.monitor.events();
    let id = pod.shell("seq 200000; exit 2").await;
    let exit = exit_of(&mut events, &id).await;
    let log = pod.log(&id);
    let state = pod.monitor.state().await.unwrap();
    pod.monitor.stop_sandbox().await.unwrap();
    let unmounted = Command::new("umount").arg("-l").arg(&pod.logs).status();
    assert!(unmounted.is_ok_and(|status| status.success()));
    assert_eq!(exit.code, 2);
    assert!(state.containers[0].log_dropped_bytes > 0);
    for (at, (_, line)) in log.iter().enumerate().take(log.len() - 1) {
        assert_eq!(*line, (at + 1).to_string());
    }
    pod.finish().await;
}

#[tokio::test]
async fn long_lines_are_cut_and_join_again_exactly() {
    let Some(pod) = world::pod().await else { return };
    pod.run().await;
    let mut events = pod.monitor.events();
    let id = pod.shell("head -c 50000 /dev/zero | busybox tr '\\0' x; echo; echo short").await;
    exit_of(&mut events, &id).await;
    let expected = ["x".repeat(50_000), "short".to_owned()].map(|line| ("stdout".to_owned(), line));
    assert_eq!(pod.log(&id), expected);
    pod.finish().await;
}

/// A container that has its log directory as a volume plants a link, a pipe or a directory where the log is to be opened again.
#[tokio::test]
async fn a_log_is_not_opened_again_through_what_a_container_planted() {
    let Some(pod) = world::pod().await else { return };
    pod.run().await;
    let id = pod.shell("while read line; do echo $line; done; sleep 1000").await;
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("victim");
    std::fs::write(&victim, "untouched").unwrap();
    let log = pod.log_path(&id);
    let plants: [fn(&std::path::Path, &std::path::Path); 4] = [
        |log, victim| std::os::unix::fs::symlink(victim, log).unwrap(),
        |log, victim| std::os::unix::fs::symlink(victim.with_file_name("made"), log).unwrap(),
        |log, _| assert!(Command::new("mkfifo").arg(log).status().unwrap().success()),
        |log, _| std::fs::create_dir(log).unwrap(),
    ];
    for plant in plants {
        let rotated = log.with_extension("rotated");
        std::fs::rename(&log, &rotated).unwrap();
        plant(&log, &victim);
        assert!(pod.monitor.reopen_log(&id).await.is_err());
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "untouched");
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
        let removed = std::fs::remove_file(&log).or_else(|_| std::fs::remove_dir(&log));
        removed.unwrap();
        std::fs::rename(&rotated, &log).unwrap();
        pod.monitor.reopen_log(&id).await.unwrap();
    }
    pod.finish().await;
}
