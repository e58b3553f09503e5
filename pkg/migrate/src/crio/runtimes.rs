//! Runtime handlers: husk runs containers itself, and has the default handler alone.

use crate::{
    finding::Kind,
    job::{At, Job},
    rules::{Is, unless},
    words::{NVIDIA, SECCOMP},
};

const TOP: [&str; 3] = ["crio", "runtime", "runtimes"];

pub(super) fn settle(job: &mut Job) {
    driver(job);
    let at = job.get(&["crio", "runtime", "default_runtime"]);
    let default = at.and_then(|at| job.text(at)).filter(|name| !name.is_empty()).unwrap_or("crun").to_owned();
    if let Some(at) = at {
        job.settle(at, Kind::NotNeeded, "", "pods without a runtime class; husk runs them itself");
    }
    for name in job.names(&TOP) {
        for at in job.below(&[TOP[0], TOP[1], TOP[2], &name]) {
            let own: Vec<String> = job.leaf(at).path[TOP.len() + 1..].to_vec();
            let own: Vec<&str> = own.iter().map(String::as_str).collect();
            if name == default { default_handler(job, at, &own) } else { other_handler(job, at, &own, &name) }
        }
    }
}

/// CRI-O's own driver is systemd.
fn driver(job: &mut Job) {
    let Some(at) = job.get(&["crio", "runtime", "cgroup_manager"]) else {
        let origin =
            "CRI-O's default where no cgroup_manager is set; the kubelet's cgroupDriver must be the same";
        job.draft.set("cgroup.driver", "systemd".into(), origin.into());
        return;
    };
    let value = job.leaf(at).value.clone();
    job.take(at, "cgroup.driver", value, "the kubelet's cgroupDriver must be the same");
}

fn default_handler(job: &mut Job, at: At, own: &[&str]) {
    let text = job.text(at).unwrap_or_default().to_owned();
    match own {
        [] => job.settle(at, Kind::Default, "", ""),
        ["runtime_type"] if !matches!(text.as_str(), "" | "oci" | "pod") => {
            let means = "pods without a runtime class ran in virtual machines; with husk they are ordinary containers on the \
                         node's kernel";
            job.settle(at, Kind::Insecure, "", means);
        }
        ["runtime_path"] => program(job, at, &text),
        ["privileged_without_host_devices"] => {
            unless(
                job,
                at,
                &[Is::False],
                Kind::Insecure,
                "a privileged container gets all devices of the node",
            );
        }
        ["allowed_annotations"] => {
            let means =
                "husk honours none of CRI-O's annotations (*.crio.io); pods that set them run without";
            unless(job, at, &[Is::Empty], Kind::NoCounterpart, means);
        }
        ["seccomp_profile"] => unless(job, at, &[Is::Empty], Kind::NoCounterpart, SECCOMP),
        ["default_annotations", ..] => {
            unless(job, at, &[Is::Empty], Kind::NoCounterpart, "husk adds no annotations")
        }
        ["exec_cpu_affinity"] => {
            unless(job, at, &[Is::Empty], Kind::NoCounterpart, "an exec runs on all CPUs of its container");
        }
        [
            "runtime_type"
            | "runtime_root"
            | "runtime_config_path"
            | "monitor_path"
            | "monitor_cgroup"
            | "monitor_env"
            | "monitor_exec_cgroup"
            | "platform_runtime_paths"
            | "runtime_pull_image"
            | "container_min_memory"
            | "no_sync_log"
            | "inherit_default_runtime"
            | "stream_websockets"
            | "container_create_timeout",
            ..,
        ] => {
            job.settle(
                at,
                Kind::NotNeeded,
                "",
                "of the OCI runtime and its monitor, which husk does without",
            );
        }
        _ => {}
    }
}

fn program(job: &mut Job, at: At, text: &str) {
    match text.rsplit('/').next().unwrap_or_default() {
        "" => job.settle(at, Kind::Default, "", ""),
        "runc" | "crun" | "youki" => job.settle(at, Kind::NotNeeded, "", "husk runs containers itself"),
        name if name.contains("nvidia") => job.settle(at, Kind::NoCounterpart, "", NVIDIA),
        name => {
            let means = format!("containers are not run by {name}, and what it adds to them is missing");
            job.settle(at, Kind::NoCounterpart, "", means);
        }
    }
}

fn other_handler(job: &mut Job, at: At, own: &[&str], name: &str) {
    let means = match own {
        ["runtime_path" | "runtime_type"] | [] => format!(
            "husk has no runtime handlers: a pod whose RuntimeClass names {name} fails in RunPodSandbox with \
             INVALID_ARGUMENT. Take runtimeClassName away, or keep such pods on other nodes"
        ),
        _ => format!("of the handler {name}, which husk does not have"),
    };
    unless(job, at, &[Is::Empty].as_slice()[usize::from(own.is_empty())..], Kind::NoCounterpart, &means);
}
