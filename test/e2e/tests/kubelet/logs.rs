//! Logs: every way to ask the kubelet for them, and rotation under a flood without a lost line.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read},
    path::Path,
};

use flate2::read::GzDecoder;
use serde_json::json;

use crate::{Day, Gates, manifest, merge, shell};

/// Lines of the flood: some 30 MB of log, more than one rotation at any speed that a container can write at.
const LINES: usize = 300_000;

#[test]
fn logs_are_told_in_every_way_the_kubelet_knows() {
    let day = Day::start(Gates::Off);
    let lines =
        "for i in 1 2 3 4 5; do echo line $i; done; echo to stderr >&2; printf unfinished; exec sleep 0.1";
    let spoken = "trap 'echo last words; exit 0' TERM; echo first words; while :; do sleep 0.1; done";
    let long = "head -c 40000 /dev/zero | tr '\\0' x; echo; echo after";
    day.apply_all(&[
        manifest("lines", json!({ "restartPolicy": "Never", "containers": [shell("main", lines), shell("long", long)] })),
        manifest("follow", json!({ "terminationGracePeriodSeconds": 30, "containers": [shell("main", spoken)] })),
        manifest("tty", json!({ "restartPolicy": "Never", "containers": [merge(shell("main", "test -t 1 && echo a terminal"), json!({ "tty": true }))] })),
    ]);

    let all = day.printed("lines", "main");
    for line in ["line 1\n", "line 5\n", "to stderr\n", "unfinished"] {
        assert!(all.contains(line), "{all}");
    }
    assert_eq!(day.logs("lines", "main", "?tailLines=2").lines().count(), 2);
    assert_eq!(day.logs("lines", "main", "?limitBytes=6"), all[..6]);
    let stamped = day.logs("lines", "main", "?timestamps=true");
    assert!(stamped.lines().all(|line| line.split(' ').next().unwrap().contains('T')), "{stamped}");
    assert_eq!(day.logs("lines", "main", "?sinceTime=2100-01-01T00:00:00Z"), "");
    // A line longer than the runtime's buffer is one line again for who reads it.
    let long = day.printed("lines", "long");
    let shown: Vec<&str> = long.lines().collect();
    assert_eq!((shown[0].len(), shown[1]), (40_000, "after"));
    // containerd drops the terminal's carriage return from its log; husk keeps what was written.
    assert_eq!(day.printed("tty", "main").trim_end(), "a terminal");

    // Following ends with the container, and has its last words.
    day.wait_ready("follow");
    let mut follower = day.follow("follow", "main");
    let mut lines = BufReader::new(follower.stdout.take().expect("its output"));
    let mut followed = String::new();
    // It follows before the pod is taken away: the kubelet has no log of a pod that it does not know any more.
    lines.read_line(&mut followed).expect("the first line");
    day.delete("follow");
    lines.read_to_string(&mut followed).expect("the rest");
    assert!(follower.wait().expect("the follower").success());
    assert_eq!(followed, "first words\nlast words\n");
    day.end();
}

/// The numbers of a container's lines in all its log files. The kubelet compresses what it rotated; a file that it was
/// killed at compressing (`.tmp`) is there uncompressed too.
fn numbers(directory: &Path) -> Vec<usize> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory).expect("read the log directory") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        if !name.ends_with(".tmp") {
            files.insert(name.trim_end_matches(".gz").to_owned(), name);
        }
    }
    let mut numbers = Vec::new();
    for name in files.values() {
        let path = directory.join(name);
        let mut text = String::new();
        let file = fs::File::open(&path).expect("open a log");
        if name.ends_with(".gz") {
            GzDecoder::new(file).read_to_string(&mut text).expect("decompress a log");
        } else {
            (&file).read_to_string(&mut text).expect("read a log");
        }
        assert!(text.is_empty() || text.ends_with('\n'), "{name} ends within a line");
        numbers.extend(text.lines().map(|line| {
            let word = line.split(' ').nth(4).unwrap_or_else(|| panic!("{name}: {line:?}"));
            word.parse::<usize>().unwrap_or_else(|_| panic!("{name}: {line:?}"))
        }));
    }
    numbers
}

#[test]
fn no_line_is_lost_while_logs_rotate_under_a_flood() {
    let config = json!({
        "containerLogMaxSize": "100Ki", "containerLogMaxFiles": 50,
        "containerLogMaxWorkers": 2, "containerLogMonitorInterval": "3s",
    });
    let mut day = Day::with(Gates::On, &config);
    // In gusts, so that there is something to write at every rotation for as long as it takes.
    let flood = format!(
        "n=0; while [ $n -lt {LINES} ]; do n=$((n + 1)); echo line $n of a flood that fills the log; \
            [ $((n % 1000)) != 0 ] || sleep 0.04; done"
    );
    day.kubelet.apply(&manifest(
        "flood",
        json!({ "restartPolicy": "Never", "containers": [shell("main", &flood)] }),
    ));
    day.wait_terminated("flood", "main");
    let pods = day.kubelet.dir().join("logs");
    let pod = fs::read_dir(pods)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.display().to_string().contains("flood"));
    let directory = pod.expect("the pod's logs").join("main");
    day.kubelet.stop();

    let files = fs::read_dir(&directory).unwrap().count();
    assert!(files >= 3, "the log was rotated at least twice: {files} files");
    let mut numbers = numbers(&directory);
    numbers.sort_unstable();
    let wrong = numbers.iter().copied().zip(1..).find(|(number, expected)| number != expected);
    assert_eq!((wrong, numbers.len()), (None, LINES), "every line is there once");
    day.kubelet.spawn();
    day.end();
}
