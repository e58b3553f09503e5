//! Requests and limits in the kernel's files by quality of service, and what is counted of them.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use husk_e2e::{NODE, eventually_every};
use serde_json::{Value, json};

use crate::{Day, Gates, manifest, merge, mounts, shell};

/// Uses some of everything that is counted.
const WORK: &str = "trap 'exit 0' TERM; dd if=/dev/zero of=/written bs=64k count=16 2>/dev/null; \
    dd if=/dev/zero of=/data/written bs=64k count=16 2>/dev/null; dd if=/dev/zero of=/memory/written bs=64k count=16 2>/dev/null; \
    echo working; while :; do : $((n = n + 1)); [ $((n % 20000)) != 0 ] || sleep 0.1; done";

fn working(name: &str, resources: Value) -> Value {
    let volumes = [("data", "/data"), ("memory", "/memory")];
    let main = merge(mounts(shell("main", WORK), &volumes), json!({ "resources": resources }));
    manifest(
        name,
        json!({
            "volumes": [{ "name": "data", "emptyDir": {} }, { "name": "memory", "emptyDir": { "medium": "Memory" } }],
            "containers": [main],
        }),
    )
}

fn pods() -> [Value; 3] {
    [
        working("guaranteed", json!({ "limits": { "cpu": "250m", "memory": "64Mi" } })),
        working(
            "burstable",
            json!({ "requests": { "cpu": "100m", "memory": "16Mi" }, "limits": { "memory": "48Mi" } }),
        ),
        working("besteffort", json!({})),
    ]
}

/// The directory with `name` in its name somewhere below another.
fn below(directory: &Path, name: &str) -> Option<PathBuf> {
    let folders =
        fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
    let named = |path: &Path| path.file_name().is_some_and(|found| found.to_string_lossy().contains(name));
    let mut folders: Vec<PathBuf> = folders.collect();
    // The pod's own cgroup may carry the id of what is in it.
    folders.sort();
    folders.iter().find_map(|path| if named(path) { Some(path.clone()) } else { below(path, name) })
}

/// A file of a container's cgroup, or with "pod:" in front of its pod's, from whichever hierarchy has it.
fn cgroup_file(day: &Day, class: &str, pod: &str, file: &str) -> Option<String> {
    // A static pod's cgroup is named by the hash of its manifest, not by the UID of its API object.
    let hash = day.pod(pod)?["metadata"]["annotations"]["kubernetes.io/config.hash"].as_str()?.to_owned();
    let id = day.container(pod, "main")?["containerID"].as_str()?.rsplit('/').next()?.to_owned();
    let of_pod = day.pod_cgroups().into_iter().filter(|path| path.display().to_string().contains(&hash));
    of_pod.filter(|path| path.display().to_string().contains(class)).find_map(|of_pod| {
        let path = match file.strip_prefix("pod:") {
            Some(file) => of_pod.join(file),
            None => below(&of_pod, &id)?.join(file),
        };
        Some(fs::read_to_string(path).ok()?.trim().to_owned())
    })
}

fn unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// Files of cgroup v1 and v2 with what they must say: (class, pod, file, value).
fn expected() -> Vec<(&'static str, &'static str, &'static str, &'static str)> {
    if unified() {
        return vec![
            ("", "guaranteed", "cpu.max", "25000 100000"),
            ("", "guaranteed", "memory.max", "67108864"),
            ("", "guaranteed", "pod:memory.max", "67108864"),
            ("burstable", "burstable", "cpu.max", "max 100000"),
            ("burstable", "burstable", "memory.max", "50331648"),
            ("besteffort", "besteffort", "memory.max", "max"),
            ("besteffort", "besteffort", "cpu.weight", "1"),
            ("besteffort", "besteffort", "pod:pids.max", "512"),
        ];
    }
    vec![
        ("", "guaranteed", "cpu.cfs_quota_us", "25000"),
        ("", "guaranteed", "cpu.cfs_period_us", "100000"),
        ("", "guaranteed", "cpu.shares", "256"),
        ("", "guaranteed", "memory.limit_in_bytes", "67108864"),
        ("", "guaranteed", "pod:memory.limit_in_bytes", "67108864"),
        ("burstable", "burstable", "cpu.cfs_quota_us", "-1"),
        ("burstable", "burstable", "cpu.shares", "102"),
        ("burstable", "burstable", "memory.limit_in_bytes", "50331648"),
        ("burstable", "burstable", "pod:cpu.shares", "102"),
        ("besteffort", "besteffort", "cpu.shares", "2"),
        ("besteffort", "besteffort", "memory.limit_in_bytes", "9223372036854771712"),
        ("besteffort", "besteffort", "pod:pids.max", "512"),
    ]
}

/// The kubelet's summary of a pod, once it counts what was used.
fn counted(day: &Day, gates: Gates, pod: &str) -> Value {
    let name = json!(format!("{pod}-{NODE}"));
    let deadline = Instant::now() + Duration::from_secs(90);
    eventually_every(
        Duration::from_millis(200),
        &format!("the summary has all of {pod}"),
        Duration::from_secs(120),
        || {
            let summary = day.get("/stats/summary")?;
            let found = summary["pods"].as_array()?.iter().find(|found| found["podRef"]["name"] == name)?;
            let counted =
                if gates == Gates::On { &COUNTED[..] } else { &COUNTED[..COUNTED.len() - FROM_CRI] };
            let missing: Vec<&str> = counted
                .iter()
                .copied()
                .filter(|path| found.pointer(path).and_then(Value::as_u64) < Some(1))
                .collect();
            assert!(Instant::now() < deadline, "{missing:?} not counted: {found}");
            // What was written to the root is there by the megabyte.
            let written = found.pointer("/containers/0/rootfs/usedBytes")?.as_u64()? >= 1 << 20;
            (missing.is_empty() && written).then(|| found.clone())
        },
    )
}

/// How many of the following only the runtime can tell: the kubelet's own counting (cAdvisor) learns a pod's network and
/// processes from nobody but a containerd or a CRI-O at its usual socket.
const FROM_CRI: usize = 2;

/// What the summary counts of a pod with one container, by JSON pointer.
const COUNTED: [&str; 11] = [
    "/containers/0/cpu/usageCoreNanoSeconds",
    "/containers/0/cpu/usageNanoCores",
    "/containers/0/memory/workingSetBytes",
    "/containers/0/memory/rssBytes",
    "/containers/0/rootfs/usedBytes",
    "/containers/0/logs/usedBytes",
    "/cpu/usageCoreNanoSeconds",
    "/memory/workingSetBytes",
    "/ephemeral-storage/usedBytes",
    "/network/rxBytes",
    "/process_stats/process_count",
];

#[test]
fn requests_and_limits_are_in_the_kernels_files_and_use_is_counted() {
    for gates in Gates::BOTH {
        let day = Day::with(gates, &json!({ "podPidsLimit": 512 }));
        day.apply_all(&pods());
        for pod in ["guaranteed", "burstable", "besteffort"] {
            day.wait_ready(pod);
        }
        for (class, pod, file, value) in expected() {
            assert_eq!(cgroup_file(&day, class, pod, file).as_deref(), Some(value), "{pod}: {file}");
        }
        let score =
            |pod: &str| day.run(pod, "main", "cat /proc/1/oom_score_adj").trim().parse::<i64>().unwrap();
        assert_eq!(score("besteffort"), 1000);
        assert!((2..1000).contains(&score("burstable")));
        assert!(score("guaranteed") <= 0);
        for pod in ["guaranteed", "burstable", "besteffort"] {
            let counted = counted(&day, gates, pod);
            let name = if gates == Gates::On { json!("eth0") } else { Value::Null };
            assert_eq!(counted["network"]["name"], name, "{counted}");
        }
        let cpu = day.metric("/metrics/resource", "container_cpu_usage_seconds_total");
        for pod in ["guaranteed", "burstable", "besteffort"] {
            let label = format!("pod=\"{pod}-{NODE}\"");
            assert!(
                cpu.iter().any(|(labels, value)| labels.contains(&label) && *value > 0.0),
                "{pod}: {cpu:?}"
            );
        }
        day.end();
    }
}
