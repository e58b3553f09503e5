//! Names, records, and who changes them at once.

use super::*;
use crate::example;

fn record(id: &str) -> Record {
    super::example(id)
}

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(dir.path().join("root"));
    (dir, store)
}

#[test]
fn a_name_is_taken_once_and_never_leads_out_of_the_root() {
    let (_dir, store) = store();
    store.claim(record("a")).unwrap();
    assert!(matches!(store.claim(record("a")), Err(Error::Exists(_))));
    for bad in ["..", ".", "a/b", "../a", "a\n", "", &"x".repeat(300)] {
        assert!(store.claim(record(bad)).is_err(), "{bad:?}");
        assert!(store.open(bad).is_err(), "{bad:?}");
        assert!(store.sweep(bad).is_err(), "{bad:?}");
    }
    assert_eq!(store.ids().unwrap(), ["a"]);
}

#[test]
fn what_is_written_is_what_is_read_and_a_creator_that_died_leaves_a_stopped_one() {
    let (_dir, store) = store();
    let made = store.claim(record("a")).unwrap();
    assert_eq!(made.status().unwrap(), Status::Creating);
    let mut read = store.open("a").unwrap();
    assert_eq!(read.record.config, example(false));
    read.record.creator.start_time += 1;
    assert_eq!(read.status().unwrap(), Status::Stopped);
    assert!(matches!(store.open("b"), Err(Error::NotFound(_))));
}

#[test]
fn changes_by_two_who_read_the_same_record_are_both_in_it() {
    let (_dir, store) = store();
    let mut one = store.claim(record("a")).unwrap();
    let mut other = store.open("a").unwrap();
    let change = |container: &mut Container, change: fn(&mut Record)| {
        container.amend(|container| {
            change(&mut container.record);
            Ok(())
        })
    };
    change(&mut one, |record| record.created = "now".to_owned()).unwrap();
    change(&mut other, |record| record.bundle = "/other".into()).unwrap();
    let read = store.open("a").unwrap().record;
    assert_eq!((read.created.as_str(), read.bundle), ("now", "/other".into()));
    let refused = one.amend(|container| -> Result<()> {
        container.record.created = "never".to_owned();
        Err(Error::NotRunning)
    });
    assert!(refused.is_err() && store.open("a").unwrap().record.created == "now");
}

#[test]
fn who_changes_a_record_waits_for_whoever_does_and_finds_the_container_that_it_meant() {
    let (_dir, store) = store();
    let mut one = store.claim(record("a")).unwrap();
    let lock = one.lock().unwrap();
    let mut other = store.open("a").unwrap();
    let (began, begins) = std::sync::mpsc::channel();
    let changes = std::thread::spawn(move || {
        began.send(()).unwrap();
        other.amend(|container| {
            container.record.created.push('2');
            Ok(())
        })
    });
    begins.recv().unwrap();
    one.record.created.push('1');
    one.save().unwrap();
    drop(lock);
    changes.join().unwrap().unwrap();
    assert_eq!(store.open("a").unwrap().record.created, "12");
    // One of the same name is another one.
    let lock = one.lock().unwrap();
    let mut other = store.open("a").unwrap();
    fs::rename(&one.dir, one.dir.with_file_name("b")).unwrap();
    drop(lock);
    assert!(matches!(other.amend(|_| Ok(())), Err(Error::NotFound(_))));
}

#[test]
fn a_directory_without_a_record_is_swept() {
    let (dir, store) = store();
    let made = store.claim(record("a")).unwrap();
    fs::remove_file(record_in(&made.dir)).unwrap();
    assert!(matches!(store.open("a"), Err(Error::NotFound(_))));
    assert!(store.sweep("a").unwrap());
    assert!(!store.sweep("a").unwrap());
    assert_eq!(fs::read_dir(dir.path().join("root")).unwrap().count(), 0);
}

#[test]
fn a_fifo_that_nobody_waits_at_is_no_created_container() {
    let (_dir, store) = store();
    let made = store.claim(record("a")).unwrap();
    let end = made.make_fifo().unwrap();
    assert!(made.waits());
    drop(end);
    assert!(!made.waits());
    assert!(matches!(made.open_fifo(), Err(Error::NotRunning)));
}

#[test]
fn the_state_for_hooks_carries_the_pid_unless_whoever_reads_it_is_to_put_it_in() {
    let of = |pid| -> serde_json::Value {
        serde_json::from_slice(&record("a").hook_state(Status::Created, pid)).unwrap()
    };
    assert_eq!((of(Some(4711))["pid"].as_u64(), of(None)["status"].as_str()), (Some(4711), Some("created")));
    assert_eq!(of(None).get("pid"), None);
}
