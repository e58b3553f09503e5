//! What becomes of CRI-O's keys, by name.
//!
//! Sources: crio.conf(5) and the `toml` tags of pkg/config, pkg/config/workloads.go and internal/config/nri of CRI-O 1.37,
//! with keys that are gone by now.

use husk_model::DEFAULT_CAPABILITIES;
use toml::Value;

use crate::{
    finding::Kind,
    job::{At, Job, texts},
    rules::{
        Does::{By, Dir, Flag, Lost, NotNeeded, Same, Text, Time, Weaker},
        Is, Rule, beside, cdi_dirs, first_dir, log_level, wrong,
    },
    words::{CHECKPOINT, SECCOMP},
};

const MONITOR: &str = "of conmon and the OCI runtime, which husk does without";
const UNTIMED: &str = "husk's directories of state are checked at every start";
const PERFORMANCE: &str = "husk leaves CPUs to the kubelet's managers: there are no sets or hooks of its own";
const USERNS: &str = "user namespaces are Kubernetes' own: hostUsers: false in the pod";

const fn rule(at: &'static str, does: crate::rules::Does) -> Rule {
    Rule { at, does }
}

/// The first that fits a key counts.
pub(super) const RULES: &[Rule] = &[
    rule("crio/root", By(|job, at| beside(job, at, "root", &["/var/lib/containers/storage"], "husk"))),
    rule(
        "crio/runroot",
        By(|job, at| {
            let usual = ["/var/run/containers/storage", "/run/containers/storage"];
            beside(job, at, "state", &usual, "husk");
        }),
    ),
    rule(
        "crio/imagestore",
        Lost(&[Is::Empty], "images and writable layers are below one root: mount a disk there"),
    ),
    rule(
        "crio/storage_driver",
        Lost(
            &[Is::Empty, Is::Text("overlay"), Is::Text("overlay2")],
            "husk has overlay alone: images are pulled anew",
        ),
    ),
    rule("crio/storage_option", By(storage_option)),
    rule("crio/log_dir", NotNeeded("the kubelet names the directory of each pod's logs")),
    rule("crio/version_file", NotNeeded(UNTIMED)),
    rule("crio/version_file_persist", NotNeeded(UNTIMED)),
    rule("crio/clean_shutdown_file", NotNeeded(UNTIMED)),
    rule("crio/internal_wipe", NotNeeded("pods of another boot are always cleared away, images stay")),
    rule("crio/internal_repair", NotNeeded(UNTIMED)),
    // crio.api
    rule(
        "crio/api/listen",
        By(|job, at| {
            beside(job, at, "address", &["/var/run/crio/crio.sock", "/run/crio/crio.sock"], "husk.sock");
        }),
    ),
    rule("crio/api/stream_idle_timeout", Time("streaming.idle_timeout", "husk always has a limit: 4h")),
    rule(
        "crio/api/tls_min_version",
        Weaker(&[Is::Empty, Is::Text("VersionTLS12")], "husk serves TLS 1.2 and 1.3"),
    ),
    rule(
        "crio/api/tls_cipher_suites",
        Lost(&[Is::Empty], "husk offers the suites of rustls: forward secret and authenticated ones alone"),
    ),
    rule("crio/api/grpc_max_send_msg_size", NotNeeded("husk bounds messages itself")),
    rule("crio/api/grpc_max_recv_msg_size", NotNeeded("husk bounds messages itself")),
    // crio.runtime
    rule(
        "crio/runtime/default_ulimits",
        Lost(
            &[Is::Empty],
            "containers have the limits of huskd's unit (LimitNOFILE= of husk.service), or what an NRI \
             plugin sets",
        ),
    ),
    rule(
        "crio/runtime/no_pivot",
        Lost(&[Is::False], "husk always pivots, so its root must not be the initial ramfs"),
    ),
    rule("crio/runtime/decryption_keys_path", NotNeeded("encrypted images are refused")),
    rule("crio/runtime/additional_artifact_stores", Lost(&[Is::Empty], "husk has no stores of artifacts")),
    rule("crio/runtime/conmon", NotNeeded(MONITOR)),
    rule("crio/runtime/conmon_cgroup", NotNeeded(MONITOR)),
    rule("crio/runtime/conmon_env", NotNeeded(MONITOR)),
    rule(
        "crio/runtime/default_env",
        Lost(&[Is::Empty], "husk adds no variables to containers: set them in pods"),
    ),
    rule(
        "crio/runtime/min_injected_gomaxprocs",
        Lost(&[Is::Number(0)], "husk adds no variables to containers: set GOMAXPROCS in pods"),
    ),
    rule(
        "crio/runtime/selinux",
        NotNeeded(
            "the node decides: where SELinux is on, containers are confined, and /var/lib/husk must be \
             labelled once",
        ),
    ),
    rule("crio/runtime/seccomp_profile", Lost(&[Is::Empty], SECCOMP)),
    rule(
        "crio/runtime/seccomp_use_default_when_empty",
        Weaker(
            &[Is::False],
            "a container without a profile is unconfined: set seccompDefault in the kubelet's configuration",
        ),
    ),
    rule(
        "crio/runtime/privileged_seccomp_profile",
        Weaker(&[Is::Empty], "privileged containers have no seccomp profile"),
    ),
    rule(
        "crio/runtime/apparmor_profile",
        Lost(
            &[Is::Empty, Is::Text("crio-default")],
            "the default profile is husk-default: name another one in pods (appArmorProfile)",
        ),
    ),
    rule("crio/runtime/blockio_config_file", Lost(&[Is::Empty], "husk has no block I/O classes")),
    rule("crio/runtime/blockio_reload", NotNeeded("husk has no block I/O classes")),
    rule("crio/runtime/irqbalance_config_file", NotNeeded(PERFORMANCE)),
    rule("crio/runtime/irqbalance_config_restore_file", NotNeeded(PERFORMANCE)),
    rule("crio/runtime/rdt_config_file", Lost(&[Is::Empty], "husk has no RDT classes")),
    rule(
        "crio/runtime/cdi_spec_dirs",
        By(|job, at| match texts(&job.leaf(at).value).is_empty() {
            true => job.settle(at, Kind::Default, "runtime.cdi_dirs", ""),
            false => cdi_dirs(job, at),
        }),
    ),
    rule("crio/runtime/default_capabilities", By(capabilities)),
    rule(
        "crio/runtime/add_inheritable_capabilities",
        Lost(
            &[Is::False],
            "husk gives no inheritable capabilities, since a program could pass them on (CVE-2022-24769)",
        ),
    ),
    rule("crio/runtime/default_sysctls", By(sysctls)),
    rule(
        "crio/runtime/allowed_devices",
        Lost(&[Is::Empty], "husk honours no device annotations: use a device plugin or CDI"),
    ),
    rule(
        "crio/runtime/additional_devices",
        Lost(&[Is::Empty], "husk adds no devices to containers: use a device plugin or CDI"),
    ),
    rule(
        "crio/runtime/device_ownership_from_security_context",
        Lost(
            &[Is::False],
            "devices keep the owner that they have on the node: a container that is not root may be unable \
             to open them",
        ),
    ),
    rule("crio/runtime/hooks_dir", By(hooks)),
    rule(
        "crio/runtime/default_mounts",
        Lost(
            &[Is::Empty],
            "containers get the mounts that their pods ask for: add a volume, or an NRI plugin that mounts \
             it",
        ),
    ),
    rule("crio/runtime/pids_limit", By(pids_limit)),
    rule(
        "crio/runtime/log_filter",
        Lost(&[Is::Empty], "husk filters by part, not by text: log.level = \"husk_pods=debug,info\""),
    ),
    rule("crio/runtime/log_level", By(log_level)),
    rule(
        "crio/runtime/log_size_max",
        Lost(&[Is::Number(-1)], "the kubelet rotates logs: containerLogMaxSize in its configuration"),
    ),
    rule(
        "crio/runtime/log_to_journald",
        Lost(&[Is::False], "containers' output goes to the kubelet's files alone"),
    ),
    rule("crio/runtime/container_exits_dir", NotNeeded(MONITOR)),
    rule("crio/runtime/container_attach_socket_dir", NotNeeded(MONITOR)),
    rule(
        "crio/runtime/bind_mount_prefix",
        Lost(&[Is::Empty], "huskd runs on the node itself: sources of mounts are the node's"),
    ),
    rule(
        "crio/runtime/read_only",
        Weaker(&[Is::False], "a root is read-only where the pod says so (readOnlyRootFilesystem)"),
    ),
    rule("crio/runtime/uid_mappings", Weaker(&[Is::Empty], USERNS)),
    rule("crio/runtime/gid_mappings", Weaker(&[Is::Empty], USERNS)),
    rule("crio/runtime/minimum_mappable_uid", NotNeeded(USERNS)),
    rule("crio/runtime/minimum_mappable_gid", NotNeeded(USERNS)),
    rule("crio/runtime/ctr_stop_timeout", NotNeeded("a container has the time that the kubelet says")),
    rule("crio/runtime/ctr_start_timeout", NotNeeded("a start has the time that the kubelet gives it")),
    rule(
        "crio/runtime/drop_infra_ctr",
        By(|job, at| match job.is_true(at) {
            true => job.settle(
                at,
                Kind::Default,
                "",
                "husk has no pause image; a process of some KiB holds the namespaces",
            ),
            false => job.settle(
                at,
                Kind::NotNeeded,
                "",
                "husk has no pause image; a process of some KiB holds the namespaces",
            ),
        }),
    ),
    rule("crio/runtime/infra_ctr_cpuset", Lost(&[Is::Empty], PERFORMANCE)),
    rule("crio/runtime/shared_cpuset", Lost(&[Is::Empty], PERFORMANCE)),
    rule("crio/runtime/namespaces_dir", NotNeeded("husk pins network namespaces below its state directory")),
    rule(
        "crio/runtime/manage_ns_lifecycle",
        NotNeeded("husk pins network namespaces below its state directory"),
    ),
    rule(
        "crio/runtime/manage_network_ns_lifecycle",
        NotNeeded("husk pins network namespaces below its state directory"),
    ),
    rule("crio/runtime/pinns_path", NotNeeded("husk needs no helper to pin namespaces")),
    rule(
        "crio/runtime/absent_mount_sources_to_reject",
        Weaker(
            &[Is::Empty],
            "a source that is absent is always made as a directory: use hostPath volumes with a type",
        ),
    ),
    rule("crio/runtime/enable_criu_support", Lost(&[Is::False], CHECKPOINT)),
    rule("crio/runtime/enable_pod_events", Same("events are always on")),
    rule(
        "crio/runtime/hostnetwork_disable_selinux",
        NotNeeded("the node decides about SELinux, and the pod about its label"),
    ),
    rule(
        "crio/runtime/disable_hostport_mapping",
        Lost(
            &[Is::False],
            "with CNI, the portmap plugin maps host ports or nobody does; husk's embedded network maps them",
        ),
    ),
    rule(
        "crio/runtime/timezone",
        Lost(&[Is::Empty], "containers have their image's time zone: set TZ in pods"),
    ),
    rule("crio/runtime/separate_pull_cgroup", Lost(&[Is::Empty], "pulls run in huskd's own cgroup")),
    rule("crio/image/separate_pull_cgroup", Lost(&[Is::Empty], "pulls run in huskd's own cgroup")),
    rule("crio/runtime/container_min_memory", NotNeeded(MONITOR)),
    rule(
        "crio/runtime/workloads/**",
        Lost(&[Is::Empty], "husk has no workloads: resources are what the kubelet asks for"),
    ),
    rule("crio/checkpoint_restore/container_level_enabled", Lost(&[Is::Text("none")], CHECKPOINT)),
    // crio.image
    rule(
        "crio/image/default_transport",
        Lost(&[Is::Empty, Is::Text("docker://")], "husk pulls from registries alone"),
    ),
    rule(
        "crio/image/namespaced_auth_dir",
        Lost(
            &[Is::Empty],
            "husk has no credentials by namespace: pull secrets, or the kubelet's credential providers",
        ),
    ),
    rule(
        "crio/image/pause_image",
        NotNeeded("husk has no pause image: nothing to pull, to pin or to mirror"),
    ),
    rule("crio/image/pause_image_auth_file", NotNeeded("husk has no pause image")),
    rule("crio/image/pause_command", NotNeeded("husk has no pause image")),
    rule("crio/image/pinned_images", By(pinned_images)),
    rule("crio/image/insecure_registries", By(insecure_registries)),
    rule(
        "crio/image/registries",
        Lost(
            &[Is::Empty],
            "a name without a host, such as busybox, is docker.io/library/busybox: name images in full",
        ),
    ),
    rule("crio/image/image_volumes", By(image_volumes)),
    rule(
        "crio/image/big_files_temporary_dir",
        NotNeeded("layers are unpacked as they arrive, below husk's root"),
    ),
    rule("crio/image/auto_reload_registries", Same("hosts.toml files are read anew with every pull")),
    rule(
        "crio/image/pull_progress_timeout",
        Time("images.pull_progress_timeout", "husk always has a limit: 5m without a byte"),
    ),
    rule(
        "crio/image/oci_artifact_mount_support",
        Lost(&[Is::False], "volumes of type image are images: OCI artifacts are refused"),
    ),
    rule("crio/image/short_name_mode", NotNeeded("husk never guesses: a short name is docker.io's")),
    // crio.network
    rule(
        "crio/network/cni_default_network",
        Lost(
            &[Is::Empty],
            "husk uses the first valid configuration by name: give that network's file the first name",
        ),
    ),
    rule("crio/network/network_dir", Dir("network.cni_conf_dir")),
    rule("crio/network/plugin_dirs", By(|job, at| first_dir(job, at, "network.cni_bin_dir"))),
    rule("crio/network/plugin_dir", Dir("network.cni_bin_dir")),
    rule(
        "crio/network/cni_status_grace_period",
        NotNeeded("the state of the network is asked for with every Status"),
    ),
    // The rest.
    rule("crio/metrics/metrics_collectors", NotNeeded("all metrics are served")),
    rule("crio/metrics/metrics_socket", Lost(&[Is::Empty], "metrics are served over TCP alone")),
    rule(
        "crio/metrics/metrics_cert",
        Weaker(
            &[Is::Empty],
            "metrics are served over plain HTTP: keep them on the loopback, behind a proxy with TLS",
        ),
    ),
    rule(
        "crio/metrics/metrics_key",
        Weaker(
            &[Is::Empty],
            "metrics are served over plain HTTP: keep them on the loopback, behind a proxy with TLS",
        ),
    ),
    rule("crio/tracing/enable_tracing", Lost(&[Is::False], "husk exports no traces")),
    rule("crio/tracing/*", NotNeeded("husk exports no traces")),
    rule("crio/stats/included_pod_metrics", NotNeeded("all metrics of pods are served")),
    rule("crio/stats/*", NotNeeded("statistics are read when they are asked for")),
    rule("crio/nri/enable_nri", Flag("nri.enabled")),
    rule("crio/nri/nri_plugin_dir", Dir("nri.plugin_dir")),
    rule("crio/nri/nri_plugin_config_dir", Dir("nri.plugin_config_dir")),
    rule("crio/nri/nri_listen", Text("nri.socket")),
    rule(
        "crio/nri/nri_disable_connections",
        Weaker(&[Is::False], "with nri.enabled, plugins may connect to the socket (mode 0600)"),
    ),
    rule(
        "crio/nri/nri_plugin_registration_timeout",
        Time("nri.registration_timeout", "husk always has a limit: 5s"),
    ),
    rule("crio/nri/nri_plugin_request_timeout", Time("nri.request_timeout", "husk always has a limit: 2s")),
    rule(
        "crio/nri/default_validator/nri_enable_default_validator",
        Weaker(&[Is::False], "husk has no validator of what NRI plugins change"),
    ),
    rule("crio/nri/default_validator/**", NotNeeded("of the validator that husk does not have")),
];

/// Options of storage drivers. Those that only say what overlay does anyway are nothing.
fn storage_option(job: &mut Job, at: At) {
    let plain = |text: &String| {
        ["overlay.mountopt=nodev", "overlay.mountopt=nodev,metacopy=on", "overlay.override_kernel_check=1"]
            .contains(&text.as_str())
    };
    match texts(&job.leaf(at).value).iter().all(plain) {
        true => job.settle(at, Kind::NotNeeded, "", "husk chooses the options of its overlay mounts"),
        false => {
            let means = "husk chooses the options of its overlay mounts; quotas and other stores of layers \
                         are not there";
            job.settle(at, Kind::NoCounterpart, "", means);
        }
    }
}

fn capabilities(job: &mut Job, at: At) {
    let theirs: Vec<String> = texts(&job.leaf(at).value)
        .iter()
        .map(|name| name.to_ascii_uppercase().trim_start_matches("CAP_").to_owned())
        .collect();
    let missing: Vec<&str> =
        theirs.iter().map(String::as_str).filter(|name| !DEFAULT_CAPABILITIES.contains(name)).collect();
    let more: Vec<&str> = DEFAULT_CAPABILITIES
        .iter()
        .copied()
        .filter(|name| !theirs.iter().any(|theirs| theirs == name))
        .collect();
    if !missing.is_empty() {
        let means =
            format!("a container does not get {}: add it in the pods that need it", missing.join(", "));
        job.settle(at, Kind::NoCounterpart, "", means);
    } else if !more.is_empty() {
        let means =
            format!("a container gets {} too: drop them in pods that shall be without", more.join(", "));
        job.settle(at, Kind::Insecure, "", means);
    } else {
        job.settle(at, Kind::Default, "", "");
    }
}

/// Two of them are switches of husk's; others are the pod's.
fn sysctls(job: &mut Job, at: At) {
    let mut left = Vec::new();
    for text in texts(&job.leaf(at).value) {
        let (name, value) = text.split_once('=').unwrap_or((&text, ""));
        let words: Vec<&str> = value.split_whitespace().collect();
        match (name.trim(), words.as_slice()) {
            ("net.ipv4.ping_group_range", ["0", _]) | ("net.ipv4.ip_unprivileged_port_start", ["0"]) => {}
            (name, _) => left.push(name.to_owned()),
        }
    }
    match left.is_empty() {
        true => job.settle(at, Kind::Default, "runtime.unprivileged_ports", "husk sets it for every pod"),
        false => {
            let means =
                format!("husk sets no {}: name it in pods (securityContext.sysctls)", left.join(", "));
            job.settle(at, Kind::NoCounterpart, "", means);
        }
    }
}

fn hooks(job: &mut Job, at: At) {
    let usual = ["/usr/share/containers/oci/hooks.d", "/etc/containers/oci/hooks.d"];
    let dirs: Vec<String> = texts(&job.leaf(at).value).iter().map(|dir| crate::rules::dir(dir)).collect();
    match dirs.iter().all(|dir| usual.contains(&dir.as_str())) {
        true => job.settle(at, Kind::NotNeeded, "", "husk runs no OCI hooks; look whether there are any"),
        false => job.settle(
            at,
            Kind::NoCounterpart,
            "",
            "husk runs no OCI hooks: what they did has to be an NRI plugin or CDI",
        ),
    }
}

/// CRI-O's own limit was 1024 for long, and none (-1, 0) since.
fn pids_limit(job: &mut Job, at: At) {
    match job.leaf(at).value.as_integer() {
        Some(number) if number <= 0 => job.settle(at, Kind::Default, "", ""),
        Some(_) => {
            let means = "a container may have as many processes as its pod: podPidsLimit in the kubelet's \
                         configuration";
            job.settle(at, Kind::NoCounterpart, "", means);
        }
        None => wrong(job, at, "a number"),
    }
}

/// The same patterns, but that CRI-O's `beginning*` may begin anywhere in a name.
fn pinned_images(job: &mut Job, at: At) {
    match &job.leaf(at).value {
        Value::Array(list) => {
            let list = Value::Array(list.clone());
            job.take(at, "images.pinned_images", list, "");
        }
        _ => wrong(job, at, "a list"),
    }
}

/// Of no effect in CRI-O today; in older versions it was.
fn insecure_registries(job: &mut Job, at: At) {
    match &job.leaf(at).value {
        Value::Array(list) if list.is_empty() => job.settle(at, Kind::Default, "", ""),
        _ => {
            let means =
                "CRI-O itself reads it no more: a hosts.toml with skip_verify for a registry that needs it";
            job.settle(at, Kind::NoCounterpart, "", means);
        }
    }
}

fn image_volumes(job: &mut Job, at: At) {
    match job.text(at) {
        // The directory is made in the writable layer (mkdir), or is what the image has (ignore).
        Some("" | "mkdir" | "ignore") => job.settle(at, Kind::Default, "", ""),
        _ => {
            let means = "VOLUME of an image makes no volume: its directory is in the container's writable \
                         layer. Declare an emptyDir";
            job.settle(at, Kind::NoCounterpart, "", means);
        }
    }
}
