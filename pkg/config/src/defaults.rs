//! The default configuration, as the file that `huskd config default` prints.

/// Every key with its default and meaning. A test proves that it means the same as an empty file.
pub const DEFAULT_TOML: &str = r#"# The configuration of huskd. Every key is here with its default. Drop-ins in <this file>.d/*.toml and flags override it.
# SIGHUP takes over log.level, [doctor] and [images] but for max_parallel_layers (of registries.conf the files themselves too); the log
# says of every other key that changed that it needs a restart.

# Images and writable layers; survives a reboot.
root = "/var/lib/husk"
# Pods and their records; dies with the boot, so it belongs on a tmpfs.
state = "/run/husk"
# The socket for kubelet and crictl, mode 0660. With socket activation the inherited socket is used instead.
address = "/run/husk/husk.sock"

[network]
# As soon as a CNI configuration appears here, it replaces the embedded network.
cni_conf_dir = "/etc/cni/net.d"
cni_bin_dir = "/opt/cni/bin"
# The embedded network: a bridge with these addresses, masquerade and host ports in this nftables table.
bridge = "husk0"
# For example "10.88.0.0/16"; empty for one that nobody on the node has, which is chosen once and kept.
subnet = ""
# IPv6 addresses for dual stack, for example "fd00:88::/64"; empty for none.
subnet6 = ""
# MTU of bridge and pods; 0 takes that of the node's default route.
mtu = 0
nft_table = "husk"
# Network namespaces kept ready, about 270 KiB of kernel memory each.
netns_pool = 8

[images]
# Mirrors and registry settings: <host>/hosts.toml, in the format of containerd.
registry_config_dir = "/etc/husk/certs.d"
# A registries.conf as CRI-O and podman have it, with the drop-ins in <this file>.d: which locations are asked for an image, what is
# blocked, and what names without a registry mean. For example "/etc/containers/registries.conf"; empty for none. hosts.toml files then
# say how each location is reached.
registries_conf = ""
# Layers fetched and unpacked at once: of one pull, and of all together besides the first of each.
max_parallel_layers = 4
# A pull that receives nothing for this long fails.
pull_progress_timeout = "5m"
# Which images may be pulled, in the format of containers-policy.json(5), such as "/etc/containers/policy.json"; empty for all.
# Read anew with every pull.
signature_policy = ""
# Credentials for pulls that bring none, in the format of docker's config.json, such as "/etc/husk/auth.json"; empty for none.
# Those for one registry's mirrors can be beside its hosts.toml, as auth.json. Read anew with every pull.
auth_file = ""
# Where the docker-credential-* programs are that such a file names; empty looks in the PATH of huskd.
credential_helper_dir = ""
# Images that the kubelet shall not remove: names, "beginning*" or "*part*".
pinned_images = []

[cgroup]
# Who makes the cgroups of pods: "cgroupfs" (husk), "systemd" (a delegated scope per pod), or "auto": systemd where it is
# PID 1 and cgroup v2 is mounted. Must be the kubelet's cgroupDriver; kubelets since 1.34 ask husk.
driver = "auto"
# Parent of pods whose request names none (crictl's); empty is "/husk", or "husk.slice" with the systemd driver.
parent = ""

[log]
# A level, or a filter such as "husk_pods=debug,info".
level = "info"
# "text" or "json", on standard error.
format = "text"

[metrics]
# Prometheus metrics over HTTP, for example "127.0.0.1:9180"; empty for none.
address = ""

[tracing]
# The gRPC receiver (OTLP) of an OpenTelemetry collector that gets a span for each sampled call and its steps: "127.0.0.1:4317", or
# "https://collector:4317" for TLS; empty for none.
endpoint = ""
# Calls whose caller sends a trace (a kubelet with tracing does) are sampled if the caller's are; of the others, as many in a
# million.
sampling_rate_per_million = 0
# PEM file of the authorities that sign the collector's certificate; empty for the node's.
tls_ca = ""

[doctor]
# How often huskd looks for what belongs to nobody (processes, cgroups, links, addresses, layers...), beside at start: "10m";
# empty for never. `husk doctor` does it at once.
interval = "10m"
# Remove what is found; otherwise it is logged and counted only.
repair = true

[runtime]
# The monitor and the sandbox process; empty looks beside huskd, then in ../libexec/husk.
podmon = ""
pause = ""
# CDI specs, which device vendors install; of two that have the same device, the one in the later directory counts.
cdi_dirs = ["/etc/cdi", "/var/run/cdi"]
# Names that a RuntimeClass may have as its `handler`, such as "runc". Husk runs pods in one way, so all mean the same; a pod with
# another name is refused.
handlers = []
# Pods may bind ports below 1024 and ping without capabilities.
unprivileged_ports = true
unprivileged_icmp = true

[nri]
# Plugins of the Node Resource Interface that see and change pods and containers. Whoever can connect to the socket (mode
# 0600) is root on the node. --nri-socket PATH turns it on, too.
enabled = false
socket = "/var/run/nri/nri.sock"
# Executables named NN-name are launched in the order of NN, with <NN-name>.conf or <name>.conf as their configuration.
plugin_dir = "/opt/nri/plugins"
plugin_config_dir = "/etc/nri/conf.d"
# Time for each step of getting in: registration, configuration, synchronization.
registration_timeout = "5s"
# A plugin that has not answered for this long is disconnected, and the request goes on without it.
request_timeout = "2s"

[streaming]
# Where exec, attach and port-forward are served; port 0 takes a free one. Without TLS only on the loopback.
address = "127.0.0.1:0"
# HTTPS with these PEM files, which are read again when they change; with a client CA, clients must have a certificate of it.
tls_certificate = ""
tls_key = ""
tls_client_ca = ""
# A session on which nothing moves for this long ends.
idle_timeout = "4h"
# How long a client may take to open the streams of its session.
creation_timeout = "30s"
# Sessions at once, shared out among pods: one gets at most half, and the first of each pod is not counted against it.
max_sessions = 1000

[docker]
# The socket of the Docker Engine API, for example "/run/docker.sock"; empty for none. Whoever may connect to it is root on the node.
# --docker-address PATH sets it, too.
address = ""
# Who may connect besides root: a group by name or number; empty for the group docker where there is one, and root otherwise.
group = ""
mode = "0660"
# BuildKit's daemon, which builds images: a path, or a name that is looked for in the PATH of huskd. It is started with the first build.
buildkitd = "buildkitd"
"#;
