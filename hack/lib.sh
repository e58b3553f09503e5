# shellcheck shell=bash
# Shared by hack/registry, critest, kubelet, cluster and bench: daemons of one's own in a directory of their own. Source it.
#
# Callers that start daemons first call `in_private_namespaces "$@"`: everything then runs under new mount, network and
# pid namespaces, so that two runs do not meet at a port, a bridge or a firewall table, and nothing outlives the run.

hack=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

die() {
    echo "${0##*/}: $*" >&2
    exit 1
}

# in_private_namespaces ARGS...: runs this script again with ARGS in namespaces of its own, unless it is there already; $private_flags
# may name further namespaces as unshare does.
in_private_namespaces() {
    local child status=0 pids=(--pid --mount-proc)
    [ "$(id -u)" -eq 0 ] || die "must run as root"
    if [ -n "${HUSK_HACK_INSIDE:-}" ]; then
        # How to get in from outside, for messages.
        # shellcheck disable=SC2034 # used by hack/kubelet
        enter="nsenter -a -t \$(pgrep -P \$(pgrep -P $HUSK_HACK_INSIDE unshare))"
        unset HUSK_HACK_INSIDE
        # The kubelet and mount propagation need a shared root; this one is only ours.
        mount --make-rshared /
        ip link set lo up
        return
    fi
    # systemd is told process ids, and must see the same processes by them.
    [ "${HUSK_CGROUP_DRIVER:-}" != systemd ] || pids=()
    HUSK_HACK_INSIDE=$$ unshare --mount --net --fork --kill-child "${pids[@]}" ${private_flags[@]+"${private_flags[@]}"} -- "$0" "$@" <&0 &
    child=$!
    # unshare itself ignores signals: they go to the script inside, which cleans up.
    trap 'pkill -TERM -P "$child"' INT TERM
    until wait "$child" || { status=$? && ! kill -0 "$child" 2>/dev/null; }; do :; done
    exit "$status"
}

# make_work_dir: sets $work. Its name is short, because sockets lie in it; it is on disk, but for work/run, where the
# daemons have their state, which is a tmpfs as /run is. `finish` runs at the end.
make_work_dir() {
    work=$(mktemp -d "${HUSK_WORK:-/var/tmp}/h.XXXXXX")
    chmod 0711 "$work" # a pod with a user namespace passes through it
    mkdir "$work/run"
    mount -t tmpfs -o mode=0755 husk-hack "$work/run"
    cgroup_parent=husk-hack-${work##*.}
    # Dashes would nest.
    [ "${HUSK_CGROUP_DRIVER:-}" != systemd ] || cgroup_parent=huskhack${work##*.}.slice
    sockets=() daemons=() finishing=''
    trap finish EXIT
    trap 'exit 130' INT TERM
}

# make_cgroup_root NAME: a parent for a kubelet's pods in every hierarchy, so that two kubelets do not share /kubepods.
make_cgroup_root() {
    local controller file
    if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
        mkdir -p "/sys/fs/cgroup/$1"
        sed 's/[a-z]\+/+&/g' /sys/fs/cgroup/cgroup.controllers >"/sys/fs/cgroup/cgroup.subtree_control"
        return
    fi
    for controller in /sys/fs/cgroup/*/; do
        mkdir -p "$controller$1"
        for file in cpuset.cpus cpuset.mems; do
            [ ! -e "$controller$file" ] || cat "$controller$file" >"$controller$1/$file"
        done
    done
}

# remove_cgroup NAME: what is empty of /NAME, in every hierarchy.
remove_cgroup() {
    local group
    for group in /sys/fs/cgroup/"$1" /sys/fs/cgroup/*/"$1"; do
        [ ! -d "$group" ] || find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || true
    done
}

# finish: removes every pod, ends the daemons, and removes the work directory unless $keep is set.
finish() {
    local socket pid
    [ -z "$finishing" ] || return
    finishing=1
    trap '' INT TERM
    set +e
    for socket in "${sockets[@]}"; do
        crictl_at "$socket" rmp --all --force >>"$work/finish.log" 2>&1 || echo "${0##*/}: pods remain: see $work/finish.log" >&2
    done
    for pid in "${daemons[@]}"; do
        kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null
    done
    [ "${HUSK_CGROUP_DRIVER:-}" != systemd ] || systemctl stop "$cgroup_parent" 2>/dev/null
    # The parents of pods, which a runtime leaves: ours, and containerd's fixed one when no other containerd uses it.
    remove_cgroup "$cgroup_parent"
    remove_cgroup k8s.io
    umount "$work/run" 2>/dev/null || umount -l "$work/run"
    if [ -n "${keep:-}" ]; then
        echo "${0##*/}: kept $work" >&2
    else
        rm -rf --one-file-system "$work"
    fi
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# Processes are known by pid and start time, so that a number which is another's by now is left alone. `remember FILE PID` writes both.
start_time() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }
remember() { echo "$2 $(start_time "$2")" >"$1"; }

# recall FILE: the pid in it, if that process lives.
recall() {
    local pid started
    [ -s "$1" ] || return 1
    read -r pid started <"$1"
    [ -n "$started" ] && [ "$(start_time "$pid")" = "$started" ] && echo "$pid"
}

# wait_for WHAT SECONDS COMMAND...: until COMMAND succeeds; fails early when the daemon $daemon_pid has ended. Emulated
# processors get $HUSK_E2E_PATIENCE times as long.
wait_for() {
    local what=$1 deadline=$((SECONDS + $2 * ${HUSK_E2E_PATIENCE:-1}))
    shift 2
    until "$@" >/dev/null 2>&1; do
        if ! kill -0 "$daemon_pid" 2>/dev/null || [ $SECONDS -ge $deadline ]; then
            [ ! -s "$daemon_log" ] || tail -n 20 "$daemon_log" >&2
            die "$what did not come up; its log is $daemon_log"
        fi
        sleep 0.05
    done
}

# write_registry_config STORE PORT FILE [HTPASSWD]
write_registry_config() {
    cat >"$3" <<EOF
version: 0.1
log: { level: warn, accesslog: { disabled: true } }
storage:
  filesystem: { rootdirectory: $1 }
  cache: { blobdescriptor: inmemory }
  # The store is a cache that all runs share.
  maintenance: { readonly: { enabled: true } }
http: { addr: "127.0.0.1:$2", secret: none }
EOF
    [ -z "${4:-}" ] || printf 'auth:\n  htpasswd: { realm: husk, path: %s }\n' "$4" >>"$3"
}

# write_certs_d DIRECTORY PORT [HOST...]: hosts.toml files that send these hosts, or the three of the test images, to the registry.
write_certs_d() {
    local host directory=$1 port=$2
    shift 2
    [ $# -gt 0 ] || set -- registry.k8s.io gcr.io k8s.gcr.io
    for host in "$@"; do
        mkdir -p "$directory/$host"
        printf 'server = "https://%s"\n\n[host."http://127.0.0.1:%s"]\n  capabilities = ["pull", "resolve"]\n' "$host" "$port" \
            >"$directory/$host/hosts.toml"
    done
}

# start_registry STORE: in $work; sets $registry_port and writes $work/certs.d.
start_registry() {
    registry_port=$(free_port)
    write_registry_config "$1" "$registry_port" "$work/registry.yml"
    daemon_log=$work/registry.log
    OTEL_TRACES_EXPORTER=none "$("$hack/tools/path" registry)" serve "$work/registry.yml" >"$daemon_log" 2>&1 &
    daemon_pid=$!
    daemons+=("$daemon_pid")
    wait_for "the registry" 20 curl -fsS "http://127.0.0.1:$registry_port/v2/"
    write_certs_d "$work/certs.d" "$registry_port"
}

# with_our_digest BINARY STORE COPY: cri-tools' suites name one image by its digest, which nobody can rebuild; ours of that
# name has another.
with_our_digest() {
    local published=9700f9a2f5bf2c45f2f605a0bd3bce7cf37420ec9d3ed50ac2758413308766bf ours
    ours=$(sed -n 's/.*test-image-digest:test": "sha256:\([0-9a-f]*\)".*/\1/p' "$2/digests.json")
    sed "s/$published/$ours/g" "$1" >"$3"
    chmod +x "$3"
}

# write_conflist DIRECTORY BRIDGE SUBNET DATADIR: containerd's usual bridge network.
write_conflist() {
    mkdir -p "$1"
    cat >"$1/10-bridge.conflist" <<EOF
{
  "cniVersion": "1.0.0",
  "name": "$2",
  "plugins": [
    {
      "type": "bridge", "bridge": "$2", "isGateway": true, "ipMasq": true, "promiscMode": true,
      "ipam": {
        "type": "host-local", "dataDir": "$4",
        "ranges": [[{ "subnet": "$3" }]], "routes": [{ "dst": "0.0.0.0/0" }]
      }
    },
    { "type": "portmap", "capabilities": { "portMappings": true } }
  ]
}
EOF
}

# start_containerd NAME: the peer, in $work/NAME, under the command $supervisor if there is one; sets $socket, $nri_socket, $daemon_pid and $daemon_log. With $crun, the path of
# a crun, pods of the handler "crun" have it. $oci is what all others run on instead of the pinned runc.
start_containerd() {
    local dir=$work/$1 bin cri="plugins.'io.containerd.cri.v1"
    bin=$(dirname "$("$hack/tools/path" containerd)")
    mkdir -p "$dir" "$work/run/$1"
    write_conflist "$dir/cni" "$1" 10.87.0.0/16 "$dir/ipam"
    socket=$work/run/$1/c.sock
    # shellcheck disable=SC2034 # used by hack/critest
    nri_socket=$work/run/$1/nri.sock
    cat >"$dir/config.toml" <<EOF
version = 4
root = '$dir/root'
state = '$work/run/$1/state'
imports = []

[$cri.images'.registry]
config_path = '$work/certs.d'

[$cri.runtime']
# As the node does without CAP_SYS_RESOURCE; without effect where it has it and no pod asks for less than the daemon.
restrict_oom_score_adj = true
[$cri.runtime'.cni]
bin_dirs = ['$("$hack/tools/path" cni)']
conf_dir = '$dir/cni'
[$cri.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
[$cri.runtime'.containerd.runtimes.runc.options]
BinaryName = '${oci:-$("$hack/tools/path" runc)}'
Root = '$work/run/$1/runc'

[plugins.'io.containerd.internal.v1.opt']
path = '$dir/opt'
[plugins.'io.containerd.nri.v1.nri']
socket_path = '$nri_socket'
[plugins.'io.containerd.server.v1.grpc']
address = '$socket'
EOF
    [ -z "${crun:-}" ] || cat >>"$dir/config.toml" <<EOF
[$cri.runtime'.containerd.runtimes.crun]
runtime_type = 'io.containerd.runc.v2'
[$cri.runtime'.containerd.runtimes.crun.options]
BinaryName = '$crun'
Root = '$work/run/$1/crun'
EOF
    [ -z "${handler:-}" ] || cat >>"$dir/config.toml" <<EOF
[$cri.runtime'.containerd.runtimes.$handler]
runtime_type = 'io.containerd.runc.v2'
[$cri.runtime'.containerd.runtimes.$handler.options]
BinaryName = '$("$hack/tools/path" runc)'
Root = '$work/run/$1/runc'
EOF
    daemon_log=$dir/log
    PATH=$bin:$PATH ${supervisor[@]+"${supervisor[@]}"} "$bin/containerd" --config "$dir/config.toml" >"$daemon_log" 2>&1 &
    daemon_pid=$!
    daemons+=("$daemon_pid")
    wait_for containerd 30 crictl_at "$socket" version
    sockets+=("$socket")
}

# start_crio NAME: the other peer, with runc and Debian's conmon, in $work/NAME; sets $socket, $daemon_pid and $daemon_log. It writes
# nothing outside: each of these paths has a default on the node.
start_crio() {
    local dir=$work/$1 run=$work/run/$1 bin host
    bin=$(dirname "$("$hack/tools/path" crio)")
    command -v conmon >/dev/null || die "CRI-O needs conmon (hack/install-deps)"
    mkdir -p "$dir/drop-ins" "$dir/hooks" "$run"
    write_conflist "$dir/cni" "$1" 10.85.0.0/16 "$dir/ipam"
    socket=$run/c.sock
    echo '{"default": [{"type": "insecureAcceptAnything"}]}' >"$dir/policy.json"
    for host in registry.k8s.io gcr.io k8s.gcr.io; do
        printf '[[registry]]\nlocation = "%s"\n[[registry.mirror]]\nlocation = "127.0.0.1:%s"\ninsecure = true\n' "$host" "$registry_port"
    done >"$dir/registries.conf"
    cat >"$dir/crio.conf" <<EOF
[crio]
root = '$dir/storage'
runroot = '$run/storage'
storage_driver = 'overlay'
log_dir = '$dir/pods'
version_file = '$run/version'
clean_shutdown_file = '$dir/clean.shutdown'

[crio.api]
listen = '$socket'

[crio.runtime]
default_runtime = 'runc'
cgroup_manager = 'cgroupfs'
namespaces_dir = '$run/ns'
pinns_path = '$bin/pinns'
container_exits_dir = '$run/exits'
container_attach_socket_dir = '$run'
hooks_dir = ['$dir/hooks']
log_level = 'warn'
[crio.runtime.runtimes.runc]
runtime_path = '$("$hack/tools/path" runc)'
runtime_root = '$run/runc'
monitor_path = '$(command -v conmon)'
monitor_cgroup = 'pod'

[crio.image]
pause_image = 'registry.k8s.io/pause:3.10.2'
signature_policy = '$dir/policy.json'
signature_policy_dir = '$dir/policies'

[crio.network]
network_dir = '$dir/cni'
plugin_dirs = ['$("$hack/tools/path" cni)']

[crio.nri]
enable_nri = false
EOF
    daemon_log=$dir/log
    "$bin/crio" --config "$dir/crio.conf" --config-dir "$dir/drop-ins" \
        --registries-conf "$dir/registries.conf" --registries-conf-dir "$dir/registries.conf.d" >"$daemon_log" 2>&1 &
    daemon_pid=$!
    daemons+=("$daemon_pid")
    wait_for CRI-O 30 crictl_at "$socket" version
    sockets+=("$socket")
}

# start_husk NAME [cni]: huskd in $work/NAME on its embedded network, or on the CNI plugins; sets what start_containerd sets.
# With $nri it serves NRI, with $docker_socket Docker's API there; with $handler a RuntimeClass can name that; $HUSK_CGROUP_DRIVER chooses its cgroup driver.
start_husk() {
    local dir=$work/$1 huskd=${HUSKD:-${HUSK_DIST:-$hack/../target/dist}/huskd}
    [ -x "$huskd" ] || die "no huskd at $huskd: run 'make build', or set HUSKD"
    mkdir -p "$dir/cni" "$work/run/$1"
    [ "${2:-}" != cni ] || write_conflist "$dir/cni" "$1" 10.86.0.0/16 "$dir/ipam"
    socket=$work/run/$1/h.sock
    # shellcheck disable=SC2034 # used by hack/critest
    nri_socket=$work/run/$1/nri.sock
    # Nothing that a second huskd, here or on the machine, has too.
    cat >"$dir/husk.toml" <<EOF
[network]
bridge = "$1-e"
subnet = "10.$((100 + ${#sockets[@]})).0.0/16"
nft_table = "$1"
[cgroup]
parent = "/$cgroup_parent"
${HUSK_CGROUP_DRIVER:+driver = '$HUSK_CGROUP_DRIVER'}
${handler:+[runtime]
handlers = ['$handler']}
EOF
    daemon_log=$dir/log
    ${supervisor[@]+"${supervisor[@]}"} "$huskd" --config "$dir/husk.toml" --root "$dir/root" --state "$work/run/$1/s" --address "$socket" --cni-conf-dir "$dir/cni" \
        --cni-bin-dir "$("$hack/tools/path" cni)" --registry-config-dir "$work/certs.d" ${nri:+--nri-socket "$nri_socket"} \
        ${docker_socket:+--docker-address "$docker_socket"} >"$daemon_log" 2>&1 &
    daemon_pid=$!
    daemons+=("$daemon_pid")
    wait_for huskd 30 crictl_at "$socket" version
    sockets+=("$socket")
}

# crictl_at SOCKET ARGS...
crictl_at() {
    local endpoint=unix://$1
    shift
    "$("$hack/tools/path" crictl)" --runtime-endpoint "$endpoint" --image-endpoint "$endpoint" --timeout 60s "$@"
}
