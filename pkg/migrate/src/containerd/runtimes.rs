//! Runtime handlers: husk runs containers itself, and has the default handler alone.

use crate::{
    finding::Kind,
    job::{At, Job},
    rules::{Is, unless},
    words::{NVIDIA, OVERLAY},
};

const TOP: [&str; 3] = ["cri", "containerd", "runtimes"];

pub(super) fn settle(job: &mut Job) {
    let default = job
        .get(&["cri", "containerd", "default_runtime_name"])
        .and_then(|at| job.text(at))
        .filter(|name| !name.is_empty())
        .unwrap_or("runc")
        .to_owned();
    driver(job, &default);
    for at in job.find("cri/containerd/default_runtime_name") {
        let means = "pods without a runtime class; husk runs them itself";
        job.settle(at, Kind::NotNeeded, "", means);
    }
    for name in job.names(&TOP) {
        let keys = job.below(&[TOP[0], TOP[1], TOP[2], &name]);
        for at in keys {
            let own: Vec<String> = job.leaf(at).path[TOP.len() + 1..].to_vec();
            if name == default { default_handler(job, at, &own) } else { other_handler(job, at, &own, &name) }
        }
    }
    // The form before containerd 1.3.
    for at in job.find("cri/containerd/default_runtime/**") {
        let own: Vec<String> = job.leaf(at).path[3..].to_vec();
        default_handler(job, at, &own);
    }
    for at in job.find("cri/containerd/untrusted_workload_runtime/**") {
        let own: Vec<String> = job.leaf(at).path[3..].to_vec();
        other_handler(job, at, &own, "untrusted");
    }
}

/// The cgroup driver of the default handler; containerd's own is cgroupfs.
fn driver(job: &mut Job, default: &str) {
    let current = [TOP[0], TOP[1], TOP[2], default, "options", "SystemdCgroup"];
    let former = ["cri", "containerd", "default_runtime", "options", "SystemdCgroup"];
    let old = job.get(&["cri", "systemd_cgroup"]);
    if let Some(at) = job.get(&current).or_else(|| job.get(&former)) {
        let driver = if job.is_true(at) { "systemd" } else { "cgroupfs" };
        job.take(at, "cgroup.driver", driver.into(), "the kubelet's cgroupDriver must be the same");
    } else if old.is_none_or(|at| !job.is_true(at)) {
        let origin =
            "containerd's default where no SystemdCgroup is set; the kubelet's cgroupDriver must be the same";
        job.draft.set("cgroup.driver", "cgroupfs".into(), origin.into());
    }
    if let Some(at) = old {
        match job.is_true(at) {
            true => {
                job.take(at, "cgroup.driver", "systemd".into(), "the kubelet's cgroupDriver must be the same")
            }
            false => job.settle(at, Kind::Default, "", ""),
        }
    }
}

/// A key of the handler that pods without a runtime class have.
fn default_handler(job: &mut Job, at: At, own: &[String]) {
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    let value = job.leaf(at).value.clone();
    let text = value.as_str().unwrap_or_default();
    match own.as_slice() {
        ["runtime_type"] => runtime_type(job, at, text),
        ["options", "BinaryName" | "Runtime"] | ["runtime_engine" | "runtime_path"] => program(job, at, text),
        ["privileged_without_host_devices"] => {
            let means = "a privileged container gets all devices of the node";
            unless(job, at, &[Is::False], Kind::Insecure, means);
        }
        ["base_runtime_spec"] => {
            let means = "husk has no base spec: what it adds (limits, mounts, capabilities) is missing. An \
                         NRI plugin can add it";
            unless(job, at, &[Is::Empty], Kind::NoCounterpart, means);
        }
        ["snapshotter"] => unless(job, at, &[Is::Empty, Is::Text("overlayfs")], Kind::NoCounterpart, OVERLAY),
        ["sandboxer"] => {
            let means = "husk has one kind of sandbox: namespaces";
            unless(job, at, &[Is::Empty, Is::Text("podsandbox")], Kind::NoCounterpart, means);
        }
        ["cni_conf_dir"] => {
            let means = "husk has one directory of CNI configurations, network.cni_conf_dir";
            unless(job, at, &[Is::Empty], Kind::NoCounterpart, means);
        }
        ["cgroup_writable"] => {
            let means = "cgroups are read-only in containers that are not privileged";
            unless(job, at, &[Is::False], Kind::NoCounterpart, means);
        }
        ["pod_annotations" | "container_annotations"] => {
            let means =
                "there is no OCI runtime that annotations could be passed on to; NRI plugins see them all";
            unless(job, at, &[Is::Empty], Kind::NoCounterpart, means);
        }
        ["options", "NoPivotRoot"] => {
            let means = "husk always pivots, so its root must not be the initial ramfs";
            unless(job, at, &[Is::False], Kind::NoCounterpart, means);
        }
        ["options", "NoNewKeyring"] => {
            let means = "every container has a session keyring of its own";
            unless(job, at, &[Is::False], Kind::NoCounterpart, means);
        }
        ["options", _] => {
            job.settle(at, Kind::NotNeeded, "", "of the shim and the OCI runtime, which husk does without")
        }
        [
            "privileged_without_host_devices_all_devices_allowed"
            | "io_type"
            | "cni_max_conf_num"
            | "disable_pause_image_pull"
            | "runtime_root"
            | "sandbox_mode",
        ] => {
            job.settle(at, Kind::NotNeeded, "", "of containerd's shims, which husk does without");
        }
        // Unknown ones are left for the end; a handler that is only named sets nothing.
        _ => {}
    }
}

fn runtime_type(job: &mut Job, at: At, text: &str) {
    match text {
        "" | "io.containerd.runc.v2" | "io.containerd.runc.v1" | "io.containerd.runtime.v1.linux" => {
            job.settle(at, Kind::NotNeeded, "", "husk runs containers itself");
        }
        other => {
            let means = format!(
                "pods without a runtime class ran in {other}; with husk they are ordinary containers on the \
                 node's kernel"
            );
            job.settle(at, Kind::Insecure, "", means);
        }
    }
}

fn program(job: &mut Job, at: At, text: &str) {
    let name = text.rsplit('/').next().unwrap_or_default();
    match name {
        "" => job.settle(at, Kind::Default, "", ""),
        "runc" | "crun" | "youki" => job.settle(at, Kind::NotNeeded, "", "husk runs containers itself"),
        name if name.contains("nvidia") => job.settle(at, Kind::NoCounterpart, "", NVIDIA),
        name => {
            let means = format!("containers are not run by {name}, and what it adds to them is missing");
            job.settle(at, Kind::NoCounterpart, "", means);
        }
    }
}

/// A key of a handler that pods ask for by its name.
fn other_handler(job: &mut Job, at: At, own: &[String], name: &str) {
    if [Is::Empty, Is::False, Is::Number(0)].iter().any(|is| is.is(&job.leaf(at).value)) && !own.is_empty() {
        return job.settle(at, Kind::Default, "", "");
    }
    let named = match own.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["runtime_type"] | [] => format!(
            "husk has no runtime handlers: a pod whose RuntimeClass names {name} fails in RunPodSandbox with \
             INVALID_ARGUMENT. Take runtimeClassName away, or keep such pods on other nodes"
        ),
        ["options", "BinaryName"]
            if job.leaf(at).value.as_str().is_some_and(|text| text.contains("nvidia")) =>
        {
            NVIDIA.to_owned()
        }
        _ => format!("of the handler {name}, which husk does not have"),
    };
    job.settle(at, Kind::NoCounterpart, "", named);
}

#[cfg(test)]
mod tests {
    use toml::Value;

    use super::*;

    #[test]
    fn programs_that_only_run_containers_are_not_needed() {
        for (name, kind) in [
            ("/usr/bin/runc", Kind::NotNeeded),
            ("crun", Kind::NotNeeded),
            ("/usr/bin/nvidia-container-runtime", Kind::NoCounterpart),
            ("", Kind::Default),
        ] {
            let mut job = Job::default();
            let path = vec!["x".to_owned()];
            job.put(crate::leaf::plain("/f".as_ref(), "x".into(), path, Value::String(name.into())));
            let at = job.get(&["x"]).unwrap();
            program(&mut job, at, name);
            assert_eq!(job.findings[0].kind, kind, "{name}");
        }
    }
}
