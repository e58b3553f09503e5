//! What becomes of containerd's keys, by name. Names are canonical: see [`super::canonical`].
//!
//! Sources: containerd-config.toml(5), docs/cri/config.md, and the `toml` tags of internal/cri/config, internal/nri and
//! plugins of containerd 2.4, with keys of 1.x that are gone by now.

use toml::Value;

use crate::{
    finding::Kind,
    job::{At, Job},
    rules::{
        Does::{By, Dir, Flag, Lost, NotNeeded, Same, Text, Time, Weaker},
        Is, Rule, beside, cdi_dirs, first_dir, log_level, wrong,
    },
    words::{CHECKPOINT, NVIDIA, OVERLAY},
};

const UNIT: &str = "of the daemon's process: the unit's business (systemctl edit husk)";
const NODE_DECIDES: &str = "the node decides";

const fn rule(at: &'static str, does: crate::rules::Does) -> Rule {
    Rule { at, does }
}

/// The first that fits a key counts.
pub(super) const RULES: &[Rule] = &[
    rule("version", NotNeeded("husk's configuration has no versions")),
    rule("imports", NotNeeded("the files are read here; husk's drop-ins are /etc/husk/husk.toml.d/*.toml")),
    rule("root", By(|job, at| beside(job, at, "root", &["/var/lib/containerd"], "husk"))),
    rule(
        "state",
        By(|job, at| beside(job, at, "state", &["/run/containerd", "/var/run/containerd"], "husk")),
    ),
    rule("grpc/address", By(socket)),
    rule("grpc/uid", Lost(&[Is::Number(0)], "the socket is root's, with mode 0660")),
    rule("grpc/gid", Lost(&[Is::Number(0)], "the socket is root's, with mode 0660")),
    rule("grpc/max_recv_message_size", NotNeeded("husk bounds messages itself")),
    rule("grpc/max_send_message_size", NotNeeded("husk bounds messages itself")),
    rule("grpc/tcp_address", Lost(&[Is::Empty], "husk serves the CRI on its unix socket alone")),
    rule("grpc/*", NotNeeded("the CRI is served on a unix socket alone")),
    rule("grpc-tcp/address", Lost(&[Is::Empty], "husk serves the CRI on its unix socket alone")),
    rule("grpc-tcp/*", NotNeeded("the CRI is served on a unix socket alone")),
    rule("ttrpc/**", NotNeeded("there are no shims that would call back")),
    rule("debug/level", By(log_level)),
    rule("debug/format", By(log_format)),
    rule("debug/address", Lost(&[Is::Empty], "husk has no debug socket")),
    rule("debug/log_trace_id", NotNeeded("husk exports no traces")),
    rule("debug/**", NotNeeded("husk has no debug socket")),
    rule("metrics/address", By(metrics_address)),
    rule("metrics/grpc_histogram", NotNeeded("latencies of calls are always histograms")),
    rule("oom_score", Lost(&[Is::Number(0)], "OOMScoreAdjust= of the unit husk.service, which has -999")),
    rule("cgroup/path", Lost(&[Is::Empty], UNIT)),
    rule("temp", NotNeeded("husk writes below its root alone")),
    rule("plugin_dir", Lost(&[Is::Empty], "husk has no plugins but NRI's and CNI's")),
    rule("disabled_plugins", By(disabled_plugins)),
    rule("required_plugins", NotNeeded("husk has no plugins to require")),
    rule("timeouts/**", NotNeeded("of shims and the metadata store; husk's deadlines are fixed")),
    rule(
        "proxy_plugins/*/type",
        Lost(
            &[],
            "a snapshotter, differ or content store of somebody else: husk has its own alone, so lazy \
             pulling is not there",
        ),
    ),
    rule("proxy_plugins/**", NotNeeded("of a plugin that husk cannot use")),
    rule(
        "stream_processors/*/accepts",
        Lost(&[], "husk reads gzip, zstd and plain layers; encrypted ones are refused"),
    ),
    rule("stream_processors/**", NotNeeded("of a processor that husk cannot use")),
    // The CRI: images.
    rule("cri/sandbox_image", NotNeeded("husk has no pause image: nothing to pull, to pin or to mirror")),
    rule(
        "cri/pinned_images/sandbox",
        NotNeeded("husk has no pause image: nothing to pull, to pin or to mirror"),
    ),
    rule(
        "cri/pinned_images/**",
        Lost(
            &[Is::Empty],
            "not taken over: name the image in images.pinned_images, or the kubelet may remove it",
        ),
    ),
    rule("cri/snapshotter", Lost(&[Is::Empty, Is::Text("overlayfs")], OVERLAY)),
    rule("cri/containerd/snapshotter", Lost(&[Is::Empty, Is::Text("overlayfs")], OVERLAY)),
    rule("cri/runtime_platforms/**", Lost(&[Is::Empty], OVERLAY)),
    rule("cri/runtime_platform/**", Lost(&[Is::Empty], OVERLAY)),
    rule("cri/disable_snapshot_annotations", NotNeeded("of lazy snapshotters")),
    rule("cri/containerd/disable_snapshot_annotations", NotNeeded("of lazy snapshotters")),
    rule("cri/discard_unpacked_layers", NotNeeded("husk keeps layers unpacked and no blobs")),
    rule("cri/containerd/discard_unpacked_layers", NotNeeded("husk keeps layers unpacked and no blobs")),
    rule("cri/max_concurrent_downloads", By(downloads)),
    rule("cri/concurrent_layer_fetch_buffer", NotNeeded("a layer is fetched in one request")),
    rule(
        "cri/image_pull_progress_timeout",
        Time("images.pull_progress_timeout", "husk always has a limit: 5m without a byte"),
    ),
    rule(
        "cri/image_pull_with_sync_fs",
        Same("an image that a power failure left half on the disk is dropped and pulled again"),
    ),
    rule("cri/use_local_image_pull", NotNeeded("there is one way to pull")),
    rule("cri/image_decryption/**", Lost(&[Is::Empty], "encrypted images are refused")),
    rule(
        "cri/registry/headers/**",
        Lost(&[Is::Empty], "husk sends headers to hosts that a hosts.toml names: put a [header] table there"),
    ),
    rule(
        "cri/registry/mirrors/*/rewrite/**",
        Lost(&[Is::Empty], "husk rewrites no paths: use a URL with a path and override_path in hosts.toml"),
    ),
    // The CRI: pods and containers.
    rule("cri/cni/bin_dirs", By(|job, at| first_dir(job, at, "network.cni_bin_dir"))),
    rule("cri/cni/bin_dir", Dir("network.cni_bin_dir")),
    rule("cri/cni/conf_dir", Dir("network.cni_conf_dir")),
    rule(
        "cri/cni/max_conf_num",
        Lost(
            &[Is::Number(1)],
            "husk uses the first valid configuration by name alone: for more networks a meta plugin such as \
             Multus",
        ),
    ),
    rule("cri/cni/setup_serially", NotNeeded("there is one network a pod")),
    rule(
        "cri/cni/conf_template",
        Lost(
            &[Is::Empty],
            "husk writes no CNI configuration. Without one, its embedded network takes the pod CIDR that \
             the kubelet tells",
        ),
    ),
    rule(
        "cri/cni/ip_pref",
        Lost(
            &[Is::Empty, Is::Text("ipv4"), Is::Text("cni")],
            "the pod's first address is the first of the CNI result",
        ),
    ),
    rule("cri/cni/use_internal_loopback", Same("husk brings lo up itself")),
    rule(
        "cri/enable_selinux",
        NotNeeded(
            "the node decides: where SELinux is on, containers are confined, and /var/lib/husk must be \
             labelled once",
        ),
    ),
    rule(
        "cri/selinux_category_range",
        Lost(&[Is::Number(0), Is::Number(1024)], "levels are chosen out of 1024 categories"),
    ),
    rule("cri/max_container_log_line_size", Lost(&[Is::Number(16384)], "lines of logs are cut at 16 KiB")),
    rule(
        "cri/disable_apparmor",
        Lost(&[Is::False], "the node decides: where AppArmor is on, containers run under husk-default"),
    ),
    rule("cri/restrict_oom_score_adj", Lost(&[Is::False], "husk sets the score that the kubelet asks for")),
    rule("cri/disable_cgroup", Lost(&[Is::False], "husk always makes cgroups")),
    rule("cri/disable_proc_mount", Lost(&[Is::False], "procMount of pods is honoured")),
    rule(
        "cri/unset_seccomp_profile",
        Weaker(
            &[Is::Empty, Is::Text("unconfined")],
            "a container without a profile is unconfined: set seccompDefault in the kubelet's configuration",
        ),
    ),
    rule("cri/tolerate_missing_hugetlb_controller", NotNeeded(NODE_DECIDES)),
    rule(
        "cri/disable_hugetlb_controller",
        NotNeeded("the node decides: limits of huge pages are set where the controller is"),
    ),
    rule(
        "cri/device_ownership_from_security_context",
        Lost(
            &[Is::False],
            "devices keep the owner that they have on the node: a container that is not root may be unable \
             to open them",
        ),
    ),
    rule(
        "cri/ignore_image_defined_volumes",
        Lost(
            &[Is::True],
            "VOLUME of an image makes no volume: its directory is in the container's writable layer. \
             Declare an emptyDir",
        ),
    ),
    rule(
        "cri/netns_mounts_under_state_dir",
        NotNeeded("husk pins network namespaces below its state directory"),
    ),
    rule("cri/enable_unprivileged_ports", Flag("runtime.unprivileged_ports")),
    rule("cri/enable_unprivileged_icmp", Flag("runtime.unprivileged_icmp")),
    rule("cri/enable_cdi", By(enable_cdi)),
    rule("cri/cdi_spec_dirs", By(cdi_dirs)),
    rule(
        "cri/drain_exec_sync_io_timeout",
        NotNeeded("ExecSync ends with its deadline, whoever holds its output open"),
    ),
    rule("cri/ignore_deprecation_warnings", NotNeeded("of containerd's own warnings")),
    rule("cri/stats_collect_period", NotNeeded("statistics are read when they are asked for")),
    rule("cri/stats_retention_period", NotNeeded("statistics are read when they are asked for")),
    rule("cri/enable_criu", Lost(&[Is::False], CHECKPOINT)),
    rule("cri/disable_tcp_service", Same("the CRI is served on a unix socket alone")),
    rule("cri/stream_idle_timeout", Time("streaming.idle_timeout", "husk always has a limit: 4h")),
    rule("cri/containerd/ignore_blockio_not_enabled_errors", NotNeeded("husk has no block I/O classes")),
    rule("cri/containerd/ignore_rdt_not_enabled_errors", NotNeeded("husk has no RDT classes")),
    rule(
        "cri/containerd/no_pivot",
        Lost(&[Is::False], "husk always pivots, so its root must not be the initial ramfs"),
    ),
    // Other plugins.
    rule("nri/disable", By(nri)),
    rule("nri/enable", Flag("nri.enabled")),
    rule("nri/socket_path", Text("nri.socket")),
    rule("nri/plugin_path", Dir("nri.plugin_dir")),
    rule("nri/plugin_config_path", Dir("nri.plugin_config_dir")),
    rule("nri/plugin_registration_timeout", Time("nri.registration_timeout", "husk always has a limit: 5s")),
    rule("nri/plugin_request_timeout", Time("nri.request_timeout", "husk always has a limit: 2s")),
    rule(
        "nri/disable_connections",
        Weaker(&[Is::False], "with nri.enabled, plugins may connect to the socket (mode 0600)"),
    ),
    rule("nri/config_file", NotNeeded("of NRI before 0.2")),
    rule(
        "nri/default_validator/enable",
        Weaker(&[Is::False], "husk has no validator of what NRI plugins change"),
    ),
    rule("nri/default_validator/**", NotNeeded("of the validator that husk does not have")),
    rule("transfer/max_concurrent_downloads", By(downloads)),
    rule("transfer/unpack_config/*/snapshotter", Lost(&[Is::Empty, Is::Text("overlayfs")], OVERLAY)),
    rule("transfer/**", NotNeeded("there is one way to pull")),
    rule("plugins/io.containerd.image-verifier.v1.bindir/*", NotNeeded("husk runs no image verifiers")),
    rule(
        "plugins/io.containerd.service.v1.tasks-service/blockio_config_file",
        Lost(&[Is::Empty], "husk has no block I/O classes"),
    ),
    rule(
        "plugins/io.containerd.service.v1.tasks-service/rdt_config_file",
        Lost(&[Is::Empty], "husk has no RDT classes"),
    ),
    rule(
        "plugins/io.containerd.runtime.v2.task/sched_core",
        Weaker(
            &[Is::False],
            "husk makes no core scheduling domains: containers may share the threads of a core",
        ),
    ),
    rule(
        "plugins/io.containerd.runtime.v1.linux/runtime",
        By(|job, at| match job.text(at) {
            Some(text) if text.contains("nvidia") => job.settle(at, Kind::NoCounterpart, "", NVIDIA),
            _ => job.settle(at, Kind::NotNeeded, "", "husk runs containers itself"),
        }),
    ),
    rule(
        "plugins/io.containerd.snapshotter.v1.overlayfs/mount_options",
        Lost(&[Is::Empty], "husk chooses the options of its overlay mounts"),
    ),
    rule(
        "plugins/io.containerd.snapshotter.v1.overlayfs/root_path",
        Lost(&[Is::Empty], "layers are below husk's root"),
    ),
    rule(
        "plugins/io.containerd.tracing.processor.v1.otlp/endpoint",
        Lost(&[Is::Empty], "husk exports no traces"),
    ),
    rule("plugins/io.containerd.internal.v1.opt/path", NotNeeded("husk installs no programs out of images")),
    rule("plugins/**", By(other_plugin)),
];

/// The socket: husk has its own beside it, since a node may have both runtimes for a while.
fn socket(job: &mut Job, at: At) {
    let usual = ["/run/containerd/containerd.sock", "/var/run/containerd/containerd.sock"];
    beside(job, at, "address", &usual, "husk.sock");
}

fn log_format(job: &mut Job, at: At) {
    match job.text(at) {
        Some("") => job.settle(at, Kind::Default, "log.format", ""),
        Some("text" | "json") => {
            let value = job.leaf(at).value.clone();
            job.take(at, "log.format", value, "");
        }
        _ => wrong(job, at, "text or json"),
    }
}

fn metrics_address(job: &mut Job, at: At) {
    let text = job.text(at).unwrap_or_default().replace("localhost:", "127.0.0.1:");
    // Go listens everywhere where no host is named.
    let text = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text };
    job.take(
        at,
        "metrics.address",
        text.into(),
        "the names of metrics are husk's: docs/events-and-metrics.md",
    );
}

fn disabled_plugins(job: &mut Job, at: At) {
    let is_cri = |name: &String| matches!(name.as_str(), "cri" | "io.containerd.grpc.v1.cri");
    if crate::job::texts(&job.leaf(at).value).iter().any(is_cri) {
        let means = "the CRI plugin was off, so this containerd served no kubelet: is this the \
                     configuration that you mean?";
        return job.settle(at, Kind::NoCounterpart, "", means);
    }
    job.settle(at, Kind::NotNeeded, "", "husk has none of containerd's plugins");
}

/// The CRI's number counts unless it is the default; then it is the transfer service's (`CheckLocalImagePullConfigs`).
fn downloads(job: &mut Job, at: At) {
    const HUSK: &str = "images.max_parallel_layers";
    let Some(number) = job.leaf(at).value.as_integer() else { return wrong(job, at, "a number") };
    let other = job.get(&["transfer", "max_concurrent_downloads"]).filter(|other| *other != at);
    if number == 3 && other.is_some() {
        return job.settle(
            at,
            Kind::Overridden,
            "",
            "the transfer service's max_concurrent_downloads counts",
        );
    }
    // No limit to containerd is zero, and husk's highest is 64.
    let value = if number <= 0 { 64 } else { number.min(64) };
    job.take(at, HUSK, value.into(), "");
    if let Some(other) = other {
        job.settle(other, Kind::Overridden, "", "the CRI plugin's max_concurrent_downloads counts");
    }
}

fn enable_cdi(job: &mut Job, at: At) {
    match job.leaf(at).value.as_bool() {
        Some(true) => job.settle(at, Kind::Default, "runtime.cdi_dirs", ""),
        Some(false) => {
            job.take(
                at,
                "runtime.cdi_dirs",
                Value::Array(Vec::new()),
                "without a directory there are no devices",
            );
            for at in job.find("cri/cdi_spec_dirs") {
                job.settle(at, Kind::NotNeeded, "", "enable_cdi is false");
            }
        }
        None => wrong(job, at, "true or false"),
    }
}

fn nri(job: &mut Job, at: At) {
    let enabled = !job.is_true(at);
    job.take(at, "nri.enabled", enabled.into(), "");
}

/// Plugins of containerd that are no business of the CRI; a name that is none of its is unknown.
fn other_plugin(job: &mut Job, at: At) {
    let leaf = job.leaf(at);
    let is_plugin = leaf.path.get(1).is_some_and(|id| {
        let known = ["bolt", "cgroups", "linux", "opt", "restart", "scheduler", "task", "diff-service"];
        id.starts_with("io.containerd.") || known.contains(&id.as_str())
    });
    if is_plugin {
        job.settle(at, Kind::NotNeeded, "", "of a plugin of containerd; husk has no such part");
    }
}
