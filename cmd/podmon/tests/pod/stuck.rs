//! What cannot die: held by a v1 freezer that is none of the container's own, it stands for a process in uninterruptible sleep.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use husk_cgroup::{CgroupPath, Hierarchy};
use husk_monitor::PidNamespace;

use crate::world;

/// A group of the v1 freezer; whatever is in it thaws at the end, also after a failed assertion.
struct Freezer(PathBuf);

impl Freezer {
    /// `None` (said aloud) where there is no such freezer.
    fn new() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let v1 = |line: &&str| {
            line.split_once(" - cgroup ").is_some_and(|(_, options)| options.ends_with(",freezer"))
        };
        let Some(point) = mounts.lines().find(v1).and_then(|line| line.split(' ').nth(4)) else {
            husk_test_support::skip("cgroup v1");
            return None;
        };
        let dir = PathBuf::from(point).join(format!("husk-test-stuck-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        Some(Self(dir))
    }

    fn hold(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).unwrap();
        fs::write(self.0.join("freezer.state"), "FROZEN").unwrap();
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("freezer.state"), "THAWED");
        // Asserts nothing: this may be the end of a failed test, whose own words count.
        let deadline = Instant::now() + Duration::from_secs(10);
        while fs::remove_dir(&self.0).is_err() && Instant::now() < deadline {
            std::thread::yield_now();
        }
    }
}

/// How often a process has slept so far: once a turn of its loop.
fn turns(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches"));
    line.and_then(|line| line.split_ascii_whitespace().last()?.parse().ok()).unwrap()
}

fn is_command(pid: u32, line: &[u8]) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|found| found == line)
}

#[tokio::test]
async fn a_container_that_cannot_die_holds_up_nobody_and_goes_when_it_can() {
    let Some(pod) = world::pod().await else { return };
    let Some(freezer) = Freezer::new() else { return };
    pod.run().await;
    // In the pod's PID namespace: with one of its own the init would wait for the rest.
    let mut wish = pod.wish(&["sh", "-c", "sleep 345678 & wait"]);
    wish.request.pid = PidNamespace::Pod;
    let id = pod.start_container(wish).await;
    // Not the container's init, and not its child before that has executed: either has the script in its command line.
    let stuck =
        || world::processes("345678").into_iter().find(|pid| is_command(*pid, b"sleep\x00345678\x00"));
    world::eventually("the container's child runs", || stuck().is_some()).await;
    freezer.hold(stuck().unwrap());

    let monitor = pod.monitor.process().pid;
    let before = turns(monitor);
    let begin = Instant::now();
    let stop = async {
        let exit = pod.monitor.stop_container(&id, None, Duration::ZERO).await.unwrap();
        (exit, begin.elapsed())
    };
    let ask = async {
        let mut slowest = Duration::ZERO;
        for _ in 0..100 {
            let asked = Instant::now();
            pod.monitor.state().await.unwrap();
            slowest = slowest.max(asked.elapsed());
            // The calls are spread over the first seconds of the stop, which is what could hold them up.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        slowest
    };
    let ((exit, told), slowest) = tokio::join!(stop, ask);
    assert_eq!(exit.code, 137);
    assert!(told > Duration::from_secs(4), "an end is held back for a while: {told:?}");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    // One turn for each call, and a few dozen looks in its first milliseconds; then the kernel tells.
    let turns = turns(monitor) - before;
    assert!(turns < 250, "{turns}");
    assert!(pod.has_cgroup(id.as_str()), "something lives in it");

    drop(freezer);
    let begin = Instant::now();
    world::eventually("the group is gone", || !pod.has_cgroup(id.as_str())).await;
    let path = CgroupPath::parse(&format!("{}/{id}", pod.cgroup)).unwrap();
    assert!(Hierarchy::detect().unwrap().open(&path).is_err());
    assert!(begin.elapsed() < Duration::from_secs(5), "by the kernel's word, not by a look");
    pod.finish().await;
}
