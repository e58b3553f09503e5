//! Monitors whose pod is gone.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use husk_model::PodSandboxId;
use rustix::{
    fd::OwnedFd,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use super::{
    known::Known,
    search::{Leak, Search},
};

/// A monitor of ours.
struct Found {
    pid: i32,
    pod: PodSandboxId,
    pidfd: OwnedFd,
}

pub(super) async fn search(podmon: &Path, known: &Known, search: &mut Search) {
    let (pods, podmon, attended) = (known.records.pods(), podmon.to_owned(), known.monitors());
    let looked = tokio::task::spawn_blocking(move || monitors(&pods, &podmon, &attended));
    let looked = looked.await.unwrap_or_default();
    let known = known.pods();
    for Found { pid, pod, pidfd } in looked.into_iter().filter(|found| !known.contains(&found.pod)) {
        let object = format!("husk-podmon {pid} of pod {pod}");
        let outcome = search.wants(Leak::Process, &object).then(|| {
            pidfd_send_signal(&pidfd, Signal::KILL).map_err(|errno| format!("send SIGKILL: {errno}"))
        });
        search.note(Leak::Process, object, outcome);
    }
}

/// All of them but those that the daemon has: on a full node there are hundreds, and each takes a tenth of a millisecond. A number
/// that changed hands a moment ago is looked at the next time.
fn monitors(pods: &Path, podmon: &Path, attended: &BTreeSet<u32>) -> Vec<Found> {
    let Ok(namespace) = fs::read_link("/proc/self/ns/mnt") else { return Vec::new() };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| !attended.contains(&pid.unsigned_abs()))
        .filter_map(|pid| {
            let dir = PathBuf::from(format!("/proc/{pid}"));
            // Most processes are none: this is the cheapest look that says so.
            pod_of(&fs::read(dir.join("cmdline")).ok()?, pods)?;
            // From here on it is this very process that is looked at, or none.
            let pidfd = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
            let pod = pod_of(&fs::read(dir.join("cmdline")).ok()?, pods)?;
            let ours = fs::metadata(&dir).ok()?.uid() == rustix::process::geteuid().as_raw()
                && fs::read_link(dir.join("ns/mnt")).ok()? == namespace
                && is_program(&dir, podmon);
            ours.then_some(Found { pid, pod, pidfd })
        })
        .collect()
}

/// `husk-podmon [--lent] [--standby] --state-dir <pods>/<id> --pause …`. One that stands by for a pod has no id there.
fn pod_of(cmdline: &[u8], pods: &Path) -> Option<PodSandboxId> {
    let words = cmdline.split(|byte| *byte == 0).skip(1);
    let mut words = words.skip_while(|word| matches!(*word, b"--lent" | b"--standby"));
    if words.next()? != b"--state-dir" {
        return None;
    }
    let dir = Path::new(std::ffi::OsStr::from_bytes(words.next()?));
    if words.next()? != b"--pause" || dir.parent()? != pods {
        return None;
    }
    dir.file_name()?.to_str()?.parse().ok()
}

/// Whether the process at `dir` runs the monitor's binary: the very file, or an older one that an upgrade replaced.
fn is_program(dir: &Path, podmon: &Path) -> bool {
    let exe = dir.join("exe");
    let file = |path: &Path| fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino())).ok();
    if file(&exe).is_some_and(|file_of_it| Some(file_of_it) == file(podmon)) {
        return true;
    }
    let name = fs::read_link(exe).unwrap_or_default();
    let comm = fs::read_to_string(dir.join("comm")).unwrap_or_default();
    is_older(&name.to_string_lossy(), comm.trim_end(), podmon)
}

/// By the name of its file; one that was lent from a mount of its own, or as a sealed copy, has none but what the kernel calls it.
fn is_older(exe: &str, comm: &str, podmon: &Path) -> bool {
    match exe.strip_suffix(" (deleted)").unwrap_or(exe) {
        "/" | "/memfd:husk-program" => comm == "husk-podmon",
        name => exe.ends_with(" (deleted)") && Path::new(name) == podmon,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_command_line_of_a_monitor_names_its_pod() {
        let (pods, id) = (Path::new("/run/husk/pods"), "ab".repeat(32));
        let line = |words: &[&str]| words.join("\0").into_bytes();
        let dir = format!("/run/husk/pods/{id}");
        let found = |words: &[&str]| pod_of(&line(words), pods).map(|pod| pod.to_string());
        assert_eq!(found(&["podmon", "--state-dir", &dir, "--pause", "/p", ""]), Some(id.clone()));
        assert_eq!(found(&["1", "--lent", "--state-dir", &dir, "--pause", "/p"]), Some(id.clone()));
        assert_eq!(
            found(&["1", "--lent", "--standby", "--state-dir", &dir, "--pause", "/p"]),
            Some(id.clone())
        );
        let nobodys = format!("/run/husk/pods/{}", "-".repeat(64));
        assert_eq!(found(&["1", "--lent", "--standby", "--state-dir", &nobodys, "--pause", "/p"]), None);
        for other in
            [format!("/run/other/pods/{id}"), format!("/run/husk/pods/{id}/x"), "/run/husk/pods/x".into()]
        {
            assert_eq!(found(&["podmon", "--state-dir", &other, "--pause", "/p"]), None, "{other}");
        }
        assert_eq!(found(&["podmon", "--state-dir", &dir]), None);
        assert_eq!(found(&["grep", &dir]), None);
    }

    #[test]
    fn an_older_monitor_is_known_by_what_is_left_of_its_name() {
        let older = |exe: &str, comm: &str| is_older(exe, comm, Path::new("/usr/libexec/husk/husk-podmon"));
        assert!(older("/usr/libexec/husk/husk-podmon (deleted)", "husk-podmon"));
        assert!(older("/", "husk-podmon") && older("/memfd:husk-program (deleted)", "husk-podmon"));
        assert!(!older("/memfd:husk-program (deleted)", "sleep") && !older("/", "1"));
        for exe in ["/usr/bin/sleep", "/tmp/husk-podmon", "/husk-podmon (deleted)"] {
            assert!(!older(exe, "husk-podmon"), "{exe}");
        }
    }
}
